// INSERT whose values are computed by one PostgreSQL first (plan::Fill).
//
// before: INSERT INTO t (v) VALUES ('a'), ('b')            -- t.id is serial, t.made is DEFAULT now()
// ask:    VALUES (nextval(16400)::text, (now())::timestamptz::text), (nextval(16400)::text, (now())::timestamptz::text)
// run:    INSERT INTO t (v, id, made) VALUES ('a', '1', '2026-…'), ('b', '2', '2026-…')
#include <algorithm>
#include <array>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/planning.h"
#include "plan/types.h"
#include "sql/deparse.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::Column;
using catalog::TableKind;

namespace {

bool is_moment(catalog::Oid type) { return type == oid::date || type == oid::timestamp || type == oid::timestamptz; }

bool is_text(catalog::Oid type) { return type == oid::text || type == oid::varchar || type == oid::bpchar; }

// Types whose text is the same under every setting of a session. Others are written as the session wants to see them.
bool exact_text(catalog::Oid type) {
  constexpr std::array<catalog::Oid, 10> kExact{16, 20, 21, 23, 25, 1042, 1043, 1700, 2950, 19};
  return is_moment(type) || std::find(kExact.begin(), kExact.end(), type) != kExact.end();
}

// Columns whose text of a whole number begins with it. (A numeric may be rounded.)
bool shows_number(const Column& column) {
  const catalog::Oid type = column.base_type;
  return type == oid::int2 || type == oid::int4 || type == oid::int8 || is_text(type);
}

// An expression as text of the column's type. JSON's dates are ISO's under every DateStyle.
std::string written_value(const std::string& expression, const Column& column, const PlanContext& context) {
  const std::string value = "(" + expression + ")::" + column.type_name;
  if (context.comparable_output || !is_moment(column.base_type)) return value + "::pg_catalog.text";
  return "(pg_catalog.to_json(" + value + ") OPERATOR(pg_catalog.#>>) '{}')";
}

bool calls_home_only(const Node* expression, const catalog::Database* database) {
  bool found = false;
  walk(expression, [&](const Message* message) {
    auto* call = as<PgQuery__FuncCall>(message);
    found = found || (call != nullptr && function_traits(call, database).home_only);
    return !found;
  });
  return found;
}

// Whether the home can compute it by itself. A function of the user's may read tables, whose rows are elsewhere.
bool stands_alone(const Node* expression, const catalog::Database* database) {
  bool alone = true;
  walk(expression, [&](const Message* message) {
    if (auto* call = as<PgQuery__FuncCall>(message)) {
      const FunctionTraits traits = function_traits(call, database);
      alone = alone && !traits.user_defined && !traits.reads_tables;
    }
    alone = alone && as<PgQuery__SubLink>(message) == nullptr && as<PgQuery__ColumnRef>(message) == nullptr &&
            as<PgQuery__SetToDefault>(message) == nullptr;
    return alone;
  });
  return alone;
}

std::string default_text(const Column& column, const PlanContext& context) {
  if (column.identity != Column::Identity::none)
    return "pg_catalog.pgmosaic_next_identity(" + std::to_string(column.sequence) + ")";
  if (column.sequence != 0)
    return "pg_catalog.nextval(" + std::to_string(column.sequence) + "::pg_catalog.oid::pg_catalog.regclass)";
  return asking_expression(column.default_sql, context);
}

class FillPlanner {
 public:
  FillPlanner(std::string_view sql, const PgQuery__InsertStmt* insert, const catalog::Table& table,
              const PlanContext& context, bool keys)
      : insert_(insert),
        select_(as<PgQuery__SelectStmt>(insert->select_stmt)),
        table_(table),
        context_(context),
        keys_(keys),
        rows_(select_ == nullptr ? 1 : select_->n_values_lists) {
    fill_.mark = "pgmosaic:fill:";
    while (sql.find(fill_.mark) != std::string_view::npos) fill_.mark += ':';
    fill_.numbers_alone = true;
  }

  std::optional<Plan> run();

 private:
  enum class Asked : uint8_t { no, default_value, expression };
  bool read_columns();
  bool read_values(std::vector<std::vector<const Node*>>& values) const;
  bool keys_stand_alone(const std::vector<std::vector<const Node*>>& values) const;
  bool is_key(int column) const {
    return std::find(table_.key_columns.begin(), table_.key_columns.end(), column) != table_.key_columns.end();
  }
  bool differs() const { return rows_ > 1 || table_.kind == TableKind::reference; }
  bool asks_default(int column) const;
  Asked asks(int column, const Node* value) const;
  void note_draws(int column, const Node* value, Asked asked, std::size_t row, std::size_t number);
  std::optional<std::string> text(const Column& column, const Node* value, Asked asked) const;
  Plan made(std::vector<Node*> rows, bool overriding);

  const PgQuery__InsertStmt* insert_;
  const PgQuery__SelectStmt* select_;
  const catalog::Table& table_;
  const PlanContext& context_;
  const bool keys_;
  const std::size_t rows_;
  std::vector<int> columns_;  // table column of each value
  std::vector<int> added_;    // columns behind them
  std::vector<int> order_;    // table column of each column of the question
  std::string inexact_;       // a column whose value the session's settings would change on its way
  Arena arena_;
  Fill fill_;
};

// False: PostgreSQL will say what is wrong.
bool FillPlanner::read_columns() {
  if (insert_->n_cols == 0) {
    auto* first = select_ == nullptr || rows_ == 0 ? nullptr : as<PgQuery__List>(select_->values_lists[0]);
    const std::size_t given = first == nullptr ? 0 : first->n_items;
    for (std::size_t i = 0; i < given; ++i) columns_.push_back(static_cast<int>(i));
    if (given > table_.columns.size()) return false;
  }
  for (const Node* node : each(insert_->n_cols, insert_->cols)) {
    auto* column = as<PgQuery__ResTarget>(node);
    columns_.push_back(column == nullptr ? -1 : table_.column_index(text_of(column->name)));
    if (columns_.back() < 0 || column->n_indirection > 0) return false;
  }
  return true;
}

bool FillPlanner::asks_default(int index) const {
  const Column& column = table_.columns[static_cast<std::size_t>(index)];
  if (is_key(index) && !column.generated && column.has_default) return true;
  return default_asks_home(column, differs(), context_);
}

FillPlanner::Asked FillPlanner::asks(int index, const Node* value) const {
  const Column& column = table_.columns[static_cast<std::size_t>(index)];
  const bool user_value_ignored = insert_->override == PG_QUERY__OVERRIDING_KIND__OVERRIDING_USER_VALUE &&
                                  column.identity != Column::Identity::none;
  if (value == nullptr || as<PgQuery__SetToDefault>(value) != nullptr || user_value_ignored)
    return asks_default(index) ? Asked::default_value : Asked::no;
  auto* constant = as<PgQuery__AConst>(value);
  if (constant != nullptr && constant->val_case == PG_QUERY__A__CONST__VAL_SVAL && is_text(column.base_type))
    return Asked::no;  // 'today' is a word there
  if (!stands_alone(value, context_.database)) return Asked::no;
  const bool wanted = calls_home_only(value, context_.database) || (keys_ && is_key(index)) ||
                      (differs() && !immutable_expression(value, context_.database));
  return wanted ? Asked::expression : Asked::no;
}

// The value asked for is a number of a sequence, or may draw some unseen.
void FillPlanner::note_draws(int index, const Node* value, Asked asked, std::size_t row, std::size_t number) {
  const Column& column = table_.columns[static_cast<std::size_t>(index)];
  const bool own = asked == Asked::default_value && column.sequence != 0;
  const catalog::Sequence* named = asked == Asked::expression ? drawn_from(value, context_) : nullptr;
  const catalog::Oid sequence = own ? column.sequence : named != nullptr ? named->oid : 0;
  fill_.numbers_alone = fill_.numbers_alone && own && greatest_number(column) > 0;
  if (sequence != 0 && !shows_number(column)) {
    fill_.draws_unseen.sequences.insert(sequence);
  } else if (sequence != 0) {
    fill_.draws.push_back({.sequence = sequence,
                           .row = static_cast<uint32_t>(row),
                           .column = static_cast<uint32_t>(number),
                           .most = greatest_number(column),
                           .identity = own && column.identity != Column::Identity::none});
  } else if (asked == Asked::expression) {
    fill_.draws_unseen.add(draws_of(value, context_));
  } else if (auto tree = ParseTree::parse("SELECT " + column.default_sql); tree.ok()) {
    fill_.draws_unseen.add(draws_of(tree->statement(), context_));
  }
}

// nullopt: it cannot be written down.
std::optional<std::string> FillPlanner::text(const Column& column, const Node* value, Asked asked) const {
  if (asked == Asked::no) return "NULL::pg_catalog.text";
  std::string expression;
  if (asked == Asked::default_value) {
    expression = default_text(column, context_);
  } else {
    auto written = deparse_expression(value);
    if (!written) return std::nullopt;
    expression = std::move(*written);
  }
  return written_value(expression, column, context_);
}

// False: PostgreSQL will say what is wrong.
bool FillPlanner::read_values(std::vector<std::vector<const Node*>>& values) const {
  // A value for GENERATED ALWAYS AS IDENTITY is PostgreSQL's to refuse; ours would need OVERRIDING, and hide it.
  const bool may_override = insert_->override != PG_QUERY__OVERRIDING_KIND__OVERRIDING_NOT_SET;
  for (std::size_t row = 0; row < rows_; ++row) {
    auto* list = select_ == nullptr ? nullptr : as<PgQuery__List>(select_->values_lists[row]);
    if (list != nullptr && list->n_items != columns_.size()) return false;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      values[row].push_back(list == nullptr ? nullptr : list->items[i]);
      const Column& column = table_.columns[static_cast<std::size_t>(columns_[i])];
      const bool given = values[row].back() != nullptr && as<PgQuery__SetToDefault>(values[row].back()) == nullptr;
      if (column.identity == Column::Identity::always && given && !may_override) return false;
    }
  }
  return true;
}

bool FillPlanner::keys_stand_alone(const std::vector<std::vector<const Node*>>& values) const {
  return std::all_of(values.begin(), values.end(), [this](const std::vector<const Node*>& row) {
    for (std::size_t i = 0; i < columns_.size(); ++i)
      if (row[i] != nullptr && is_key(columns_[i]) && asks(columns_[i], row[i]) == Asked::no &&
          as<PgQuery__AConst>(row[i]) == nullptr && as<PgQuery__SetToDefault>(row[i]) == nullptr)
        return false;
    return true;
  });
}

std::optional<Plan> FillPlanner::run() {
  if (!read_columns()) return std::nullopt;
  if (select_ != nullptr && rows_ == 0) return std::nullopt;  // SELECT: see plan_pull()
  std::vector<std::vector<const Node*>> values(rows_);
  if (!read_values(values)) return std::nullopt;
  if (keys_ && !keys_stand_alone(values)) return std::nullopt;  // no answer would tell them: the refusal stands
  for (std::size_t i = 0; i < table_.columns.size(); ++i) {
    const int column = static_cast<int>(i);
    if (std::find(columns_.begin(), columns_.end(), column) == columns_.end() && asks_default(column))
      added_.push_back(column);
  }
  // The columns of the question: those of which some row needs a value.
  std::vector<std::size_t> asked_positions;
  for (std::size_t i = 0; i < columns_.size(); ++i)
    if (std::any_of(values.begin(), values.end(),
                    [&](const auto& row) { return asks(columns_[i], row[i]) != Asked::no; }))
      asked_positions.push_back(i);
  if (asked_positions.empty() && added_.empty()) return std::nullopt;

  bool overriding = false;
  std::vector<Node*> rows;
  for (std::size_t row = 0; row < rows_; ++row) {
    std::vector<Node*> items;
    std::string question;
    for (const Node* value : values[row]) items.push_back(const_cast<Node*>(value));
    auto ask = [&](int index, const Node* value, Asked asked, std::size_t number) {
      const Column& column = table_.columns[static_cast<std::size_t>(index)];
      const auto written = text(column, value, asked);
      if (!written) return false;
      question += (question.empty() ? "(" : ", ") + *written;
      if (row == 0) order_.push_back(index);
      if (asked == Asked::no) return true;
      note_draws(index, value, asked, row, number);
      if (!context_.comparable_output && !exact_text(column.base_type)) inexact_ = column.name;
      fill_.expressions = fill_.expressions || asked == Asked::expression;
      overriding = overriding || column.identity != Column::Identity::none;
      Node* constant =
          arena_.string_constant("/*" + fill_.mark + std::to_string(row) + ":" + std::to_string(number) + "*/");
      const auto given = std::find(columns_.begin(), columns_.end(), index);
      if (given == columns_.end()) {
        items.push_back(constant);
      } else {
        items[static_cast<std::size_t>(given - columns_.begin())] = constant;
      }
      return true;
    };
    std::size_t number = 0;
    for (std::size_t position : asked_positions) {
      const int index = columns_[position];
      if (!ask(index, values[row][position], asks(index, values[row][position]), number++)) return std::nullopt;
    }
    for (int index : added_)
      if (!ask(index, nullptr, Asked::default_value, number++)) return std::nullopt;
    fill_.columns = number;
    fill_.question += (row == 0 ? "VALUES " : ", ") + question + ")";
    auto* list = arena_.make<PgQuery__List>();
    list->n_items = items.size();
    list->items = arena_.list(items);
    rows.push_back(arena_.node(list));
  }
  if (!inexact_.empty())
    return unsupported("an INSERT whose value for column \"" + inexact_ + "\" is computed first, with these settings",
                       "RESET IntervalStyle, extra_float_digits and bytea_output, or give the value.");
  return made(std::move(rows), overriding);
}

// The statement with its markers, and the plan around it.
Plan FillPlanner::made(std::vector<Node*> rows, bool overriding) {
  auto* insert = arena_.shallow(insert_);
  std::vector<Node*> columns;
  auto add = [&](int index) {
    auto* column = arena_.make<PgQuery__ResTarget>();
    column->name = arena_.string(table_.columns[static_cast<std::size_t>(index)].name);
    columns.push_back(arena_.node(column));
  };
  for (std::size_t i = 0; i < columns_.size(); ++i)
    insert_->n_cols == 0 ? add(columns_[i]) : columns.push_back(insert_->cols[i]);
  for (int index : added_) add(index);
  insert->n_cols = columns.size();
  insert->cols = arena_.list(columns);
  auto* values = select_ == nullptr ? arena_.make<PgQuery__SelectStmt>() : arena_.shallow(select_);
  if (select_ == nullptr) {
    values->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
    values->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
  }
  values->n_values_lists = rows.size();
  values->values_lists = arena_.list(rows);
  insert->select_stmt = arena_.node(values);
  if (overriding) insert->override = PG_QUERY__OVERRIDING_KIND__OVERRIDING_SYSTEM_VALUE;
  auto statement = deparse_statement(arena_.node(insert));
  if (!statement) return unsupported(statement.error());
  fill_.statement = std::move(*statement);
  // lastval() is of the last: PostgreSQL computes the values of a single row in the order of the table's columns.
  if (rows_ == 1)
    std::stable_sort(fill_.draws.begin(), fill_.draws.end(),
                     [this](const Fill::Draw& a, const Fill::Draw& b) { return order_[a.column] < order_[b.column]; });
  Plan plan;
  plan.kind = PlanKind::fill;
  plan.fill = std::move(fill_);
  return plan;
}

}  // namespace

// What the client is told of its columns and parameters is of the statement as it is.
static Plan around_fill(Plan plan, const PgQuery__InsertStmt* insert, const Node* root, const PlanContext& context) {
  Planning p("", context, root);
  scan_functions(p, p.root);
  plan.kind = PlanKind::fill;
  plan.command = "INSERT";
  plan.returns_rows = insert->n_returning_list > 0;
  plan.effects = p.plan.effects;
  plan.effects.writes = true;
  plan.parameter_count = p.statement.parameter_count();
  if (plan.returns_rows) {
    Level* level = p.statement.new_level(nullptr, nullptr);
    p.statement.add_table(level, insert->relation, -1);
    plan.result_signature = result_signature(p);
  }
  return plan;
}

// INSERT … SELECT of rows that only the home can compute: it is asked for the rows, which then are inserted as VALUES.
//
// before: INSERT INTO t (id, v) SELECT g, 'x' FROM generate_series(1, 3) g RETURNING id
// ask:    SELECT (c1)::int8::text, (c2)::text::text FROM (SELECT g, 'x' FROM generate_series(1, 3) g) AS s(c1, c2)
// run:    INSERT INTO t (id, v) VALUES ('1', 'x'), ('2', 'x'), ('3', 'x') RETURNING id
Plan plan_pull(std::string_view sql, const PgQuery__InsertStmt* insert, const PlanContext& context, std::size_t count) {
  const catalog::Table& table = *lookup(context, insert->relation);
  Fill fill;
  fill.pulls = fill.expressions = true;
  fill.columns = count;
  fill.mark = "pgmosaic:fill:";
  while (sql.find(fill.mark) != std::string_view::npos) fill.mark += ':';
  Arena arena;
  std::string targets, aliases;
  std::vector<Node*> columns, marks;
  for (std::size_t i = 0; i < count; ++i) {
    auto* given = insert->n_cols > 0 ? as<PgQuery__ResTarget>(insert->cols[i]) : nullptr;
    const int index = given != nullptr ? table.column_index(text_of(given->name)) : static_cast<int>(i);
    if (index < 0 || static_cast<std::size_t>(index) >= table.columns.size() ||
        (given != nullptr && given->n_indirection > 0))
      return unsupported("INSERT ... SELECT into a part of a column", "Insert VALUES.");
    const Column& column = table.columns[static_cast<std::size_t>(index)];
    if (!context.comparable_output && !exact_text(column.base_type))
      return unsupported("INSERT ... SELECT of rows that are read first, with these settings",
                         "RESET IntervalStyle, extra_float_digits and bytea_output.");
    const std::string name = "c" + std::to_string(i + 1);
    targets += (i == 0 ? "" : ", ") + written_value(name, column, context);
    aliases += (i == 0 ? "" : ", ") + name;
    auto* target = arena.make<PgQuery__ResTarget>();
    target->name = arena.string(column.name);
    columns.push_back(arena.node(target));
    marks.push_back(arena.string_constant("/*" + fill.mark + "0:" + std::to_string(i) + "*/"));
  }
  auto* select = arena.shallow(as<PgQuery__SelectStmt>(insert->select_stmt));
  if (insert->with_clause != nullptr && select->with_clause == nullptr) select->with_clause = insert->with_clause;
  auto rows = deparse_statement(arena.node(select));
  if (!rows) return unsupported(rows.error());
  fill.draws_unseen = draws_of(arena.node(select), context);
  fill.question = "SELECT " + targets + " FROM (" + *rows + ") AS s(" + aliases + ")";
  auto* written = arena.shallow(insert);
  written->with_clause = nullptr;
  written->n_cols = columns.size();
  written->cols = arena.list(columns);
  auto* list = arena.make<PgQuery__List>();
  list->n_items = marks.size();
  list->items = arena.list(marks);
  auto* values = arena.make<PgQuery__SelectStmt>();
  values->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  values->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
  values->n_values_lists = 1;
  values->values_lists = arena.list({arena.node(list)});
  written->select_stmt = arena.node(values);
  auto statement = deparse_statement(arena.node(written));
  if (!statement) return unsupported(statement.error());
  fill.statement = std::move(*statement);
  Plan plan;
  plan.fill = std::move(fill);
  return around_fill(std::move(plan), insert, arena.node(const_cast<PgQuery__InsertStmt*>(insert)), context);
}

int64_t greatest_number(const Column& column) {
  if (column.type == oid::int2) return INT16_MAX;
  if (column.type == oid::int4) return INT32_MAX;
  return column.type == oid::int8 ? INT64_MAX : 0;
}

// Expressions of the moment (now(), current_user) have one value for all rows, those that roll dice or read the clock
// (gen_random_uuid(), clock_timestamp()) one for each. Others would need the moment of the transaction for each row.
std::optional<CopyIn::Filled> filled_column(const Column& column, const PlanContext& context) {
  CopyIn::Filled filled;
  filled.name = column.name;
  filled.sequence = column.sequence;
  filled.identity = column.identity != Column::Identity::none;
  filled.most = greatest_number(column);
  if (column.sequence != 0) return filled;
  auto tree = ParseTree::parse("SELECT " + column.default_sql);
  if (!tree.ok() || !stands_alone(tree->statement(), context.database)) return std::nullopt;
  bool home_only = false, of_moment = names_a_moment(tree->statement());
  walk(tree->statement(), [&](const Message* message) {
    of_moment = of_moment || as<PgQuery__SQLValueFunction>(message) != nullptr;
    auto* call = as<PgQuery__FuncCall>(message);
    if (call == nullptr) return true;
    const FunctionTraits traits = function_traits(call, context.database);
    home_only = home_only || traits.home || traits.home_only || traits.own_of_group || traits.writes;
    filled.of_each_row = filled.of_each_row || traits.is_volatile;
    of_moment = of_moment || (!traits.is_volatile && !traits.immutable);
    return true;
  });
  if (home_only || (filled.of_each_row && of_moment)) return std::nullopt;
  if (!context.comparable_output && !exact_text(column.base_type)) return std::nullopt;
  filled.expression = written_value(default_text(column, context), column, context);
  return filled;
}

bool default_asks_home(const Column& column, bool differs, const PlanContext& context) {
  if (column.sequence != 0) return true;
  if (column.generated || column.default_sql.empty()) return false;
  auto tree = ParseTree::parse("SELECT " + column.default_sql);
  if (!tree) return differs;
  if (calls_home_only(tree->statement(), context.database)) return true;
  return differs && !immutable_expression(tree->statement(), context.database);
}

std::optional<Plan> plan_fill(std::string_view sql, const Node* root, const PlanContext& context, bool keys) {
  auto* insert = as<PgQuery__InsertStmt>(root);
  const catalog::Table* table = insert == nullptr ? nullptr : lookup(context, insert->relation);
  if (table == nullptr || (table->kind != TableKind::sharded && table->kind != TableKind::reference))
    return std::nullopt;
  auto plan = FillPlanner(sql, insert, *table, context, keys).run();
  if (!plan || plan->kind != PlanKind::fill) return plan;
  return around_fill(std::move(*plan), insert, root, context);
}

}  // namespace pgmosaic::plan
