// INSERT: rows go where their keys say. One row is a route by key; several rows are split.
#include <algorithm>

#include "catalog/hashing.h"
#include "plan/function_traits.h"
#include "plan/planning.h"
#include "plan/types.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;
using Placement = Instance::Placement;

namespace {

// Everything about one INSERT while it is planned.
class InsertPlanner {
 public:
  InsertPlanner(Planning& planning, const PgQuery__InsertStmt* insert)
      : p_(planning), s_(planning.statement), insert_(insert), select_(as<PgQuery__SelectStmt>(insert->select_stmt)) {}

  void run();

 private:
  bool find_columns();
  bool conflict_changes_key();
  void into_sharded();
  void values_into_sharded();
  void select_into_sharded();
  void into_reference();
  bool leaves_default();
  bool pulls();
  bool key_of_row(const PgQuery__List* row, KeyTuple& key);
  bool key_source(const Node* value, int column, KeySource& source);
  bool asked() const {
    const catalog::Colocation* shards = p_.context.database->colocation(s_.instance(target_).table->colocation);
    return shards != nullptr && (shards->by_partition || shards->computed);
  }
  bool missing_key(int column, KeySource& source);
  bool slice_rows(InsertSplit& split);
  void refuse(std::string message, std::string hint) { p_.plan = unsupported(std::move(message), std::move(hint)); }

  Planning& p_;
  Statement& s_;
  const PgQuery__InsertStmt* insert_;
  const PgQuery__SelectStmt* select_;
  Level* level_ = nullptr;   // of the target, ON CONFLICT and RETURNING
  Level* source_ = nullptr;  // of INSERT … SELECT
  int target_ = -1;
  std::vector<int> columns_;  // table column of each value
};

void InsertPlanner::run() {
  level_ = s_.new_level(nullptr, nullptr);
  level_->ctes = s_.bind_with(insert_->with_clause, nullptr, nullptr);
  Instance& target = s_.add_table(level_, insert_->relation, -1);
  target_ = target.id;
  auto leaf = std::make_unique<FromNode>();
  leaf->instance = target_;
  level_->from.push_back(std::move(leaf));
  // The target is written where the rows' keys say: it does not take part in pruning as a table that is read.
  std::erase(s_.sharded, target_);
  bool values = select_ != nullptr && select_->n_values_lists > 0;
  if (values) {
    for (const Node* row : each(select_->n_values_lists, select_->values_lists))
      if (auto* list = as<PgQuery__List>(row))
        for (const Node* value : each(list->n_items, list->items)) s_.bind_expression(level_, value);
  } else if (select_ != nullptr) {
    source_ = s_.bind_select(select_, nullptr, level_->ctes);
  }
  if (auto* conflict = insert_->on_conflict_clause) {
    for (const Node* node : each(conflict->n_target_list, conflict->target_list))
      if (auto* assignment = as<PgQuery__ResTarget>(node)) s_.bind_expression(level_, assignment->val);
    s_.bind_expression(level_, conflict->where_clause);
  }
  s_.bind_targets(level_, insert_->n_returning_list, insert_->returning_list);
  p_.plan.command = "INSERT";
  p_.plan.effects.writes = true;
  p_.plan.returns_rows = insert_->n_returning_list > 0;
  p_.distribution.run(level_);
  if (source_ != nullptr) p_.distribution.run(source_);

  if (s_.reference_write_in_cte)
    return refuse("a write to a reference table in WITH", "Run it as a statement of its own.");
  switch (target.placement) {
    case Placement::sharded: return into_sharded();
    case Placement::reference: return into_reference();
    case Placement::sharded_view:
      return refuse("INSERT into a view over a sharded table", "Insert into the table itself.");
    default: break;
  }
  if (!s_.sharded.empty())
    return refuse("INSERT into the local table \"" + target.display + "\" from sharded tables",
                  "Make the target a sharded or reference table, or insert the rows with statements of their own.");
  choose_target(p_);
  p_.plan.target.kind = Target::Kind::home;
  set_cacheable(p_);
}

bool InsertPlanner::find_columns() {
  const catalog::Table* table = s_.instance(target_).table;
  if (insert_->n_cols == 0) {
    for (size_t i = 0; i < table->columns.size(); ++i) columns_.push_back(static_cast<int>(i));
    return true;
  }
  for (const Node* node : each(insert_->n_cols, insert_->cols)) {
    auto* column = as<PgQuery__ResTarget>(node);
    columns_.push_back(column == nullptr ? -1 : table->column_index(text_of(column->name)));
  }
  return true;
}

// ON CONFLICT DO UPDATE SET k = …, other than k = k or k = excluded.k
bool InsertPlanner::conflict_changes_key() {
  auto* conflict = insert_->on_conflict_clause;
  if (conflict == nullptr) return false;
  const catalog::Table* table = s_.instance(target_).table;
  for (const Node* node : each(conflict->n_target_list, conflict->target_list)) {
    auto* assignment = as<PgQuery__ResTarget>(node);
    if (assignment == nullptr) continue;
    int column = table->column_index(text_of(assignment->name));
    if (std::find(table->key_columns.begin(), table->key_columns.end(), column) == table->key_columns.end()) continue;
    auto* same = as<PgQuery__ColumnRef>(assignment->val);
    bool excluded = same != nullptr && same->n_fields == 2 && string_value(same->fields[0]) == "excluded" &&
                    string_value(same->fields[1]) == text_of(assignment->name);
    if (excluded || (same != nullptr && s_.resolve(same, level_) == Var{target_, column})) continue;
    refuse("ON CONFLICT DO UPDATE that changes the distribution column \"" + table->columns[column].name + "\"",
           "Leave the distribution column out of SET.");
    return true;
  }
  return false;
}

bool InsertPlanner::missing_key(int column, KeySource& source) {
  const catalog::Column& key = s_.instance(target_).table->columns[column];
  if (key.has_default) {
    refuse("INSERT without a value for the distribution column \"" + key.name + "\", which has a default",
           "Write the value of the distribution column in the statement.");
    return false;
  }
  source.kind = KeySource::Kind::null_value;
  return true;
}

bool InsertPlanner::key_source(const Node* value, int column, KeySource& source) {
  const catalog::Column& key = s_.instance(target_).table->columns[column];
  if (as<PgQuery__SetToDefault>(value) != nullptr) return missing_key(column, source);
  catalog::Oid type = key.base_type != 0 ? key.base_type : key.type;
  ConstValue constant;
  const bool read = s_.read_constant(value, constant);
  // What such a literal means only a PostgreSQL knows, which is asked for the row's shard.
  const bool as_written = read && constant.type == 0 && !catalog::hashable_key_type(type) &&
                          constant.written != ConstValue::Written::parameter && asked();
  if (!read || (!as_written && !s_.comparable(constant, Var{target_, column}))) {
    p_.key_expression = true;
    refuse("INSERT whose value for the distribution column \"" + key.name + "\" is an expression",
           "Give a constant of the column's type or a parameter; compute the value first.");
    return false;
  }
  if (!s_.parameter_type_certain(constant, type)) {
    p_.key_expression = true;
    refuse("a parameter for the distribution column \"" + key.name + "\" that is used in several places",
           "Declare its type, or use a parameter of its own for each place.");
    return false;
  }
  source = constant.source;
  if (constant.written == ConstValue::Written::null) source.kind = KeySource::Kind::null_value;
  source.type = type;
  source.typmod = key.typmod;
  return true;
}

bool InsertPlanner::key_of_row(const PgQuery__List* row, KeyTuple& key) {
  for (int column : s_.instance(target_).table->key_columns) {
    KeySource& source = key.emplace_back();
    source.type = s_.column(Var{target_, column})->type;
    auto position = std::find(columns_.begin(), columns_.end(), column) - columns_.begin();
    bool given = row != nullptr && position < static_cast<std::ptrdiff_t>(std::min(columns_.size(), row->n_items));
    if (given ? !key_source(row->items[position], column, source) : !missing_key(column, source)) return false;
  }
  return true;
}

// Byte ranges of the rows behind VALUES.
bool InsertPlanner::slice_rows(InsertSplit& split) {
  const std::string& text = s_.text;
  TokenScanner scanner(text);
  int depth = 0;
  Token token = scanner.next();
  for (; token.kind != Token::Kind::end && token.kind != Token::Kind::broken; token = scanner.next()) {
    if (scanner.is_symbol(token, '(')) ++depth;
    if (scanner.is_symbol(token, ')')) --depth;
    if (depth == 0 && scanner.is_word(token, "values")) break;
  }
  for (InsertSplit::Row& row : split.rows) {
    Token open = scanner.next();
    if (!scanner.is_symbol(open, '(')) return false;
    Token close = skip_parentheses(scanner);
    if (close.kind != Token::Kind::symbol) return false;
    row.begin = open.begin;
    row.end = close.end;
    if (&row != &split.rows.back()) scanner.next();  // the comma
  }
  split.prefix = text.substr(0, split.rows.front().begin);
  split.suffix = text.substr(split.rows.back().end);
  return true;
}

void InsertPlanner::into_sharded() {
  find_columns();
  if (conflict_changes_key()) return;
  if (source_ != nullptr && (!s_.home_tables.empty() || !p_.home_only_function.empty()) && pulls()) return;
  if (!s_.home_tables.empty())
    return refuse("INSERT into a sharded table that reads the local table \"" + s_.home_tables[0] + "\"",
                  "Make it a reference table: CREATE TABLE ... WITH (table_type = 'reference').");
  if (!p_.home_only_function.empty())
    return refuse("the function " + p_.home_only_function + "() in an INSERT into a sharded table",
                  "Call it in a statement of its own and pass its result on.");
  if (leaves_default()) {
    if (source_ != nullptr) (void)pulls();
    return;
  }
  if (source_ != nullptr) return select_into_sharded();
  values_into_sharded();
}

void InsertPlanner::values_into_sharded() {
  Plan& plan = p_.plan;
  const catalog::Table* table = s_.instance(target_).table;
  size_t rows = select_ == nullptr ? 1 : select_->n_values_lists;
  for (size_t i = 1; i < rows; ++i) {
    auto *first = as<PgQuery__List>(select_->values_lists[0]), *row = as<PgQuery__List>(select_->values_lists[i]);
    if (first == nullptr || row == nullptr || first->n_items == row->n_items) continue;
    plan.target.kind = Target::Kind::any;  // PostgreSQL says that VALUES lists must all be the same length
    return;
  }
  // What types the parameters get from the columns they stand at.
  for (size_t i = 0; select_ != nullptr && i < rows; ++i) {
    auto* row = as<PgQuery__List>(select_->values_lists[i]);
    for (size_t j = 0; row != nullptr && j < row->n_items && j < columns_.size(); ++j) {
      ConstValue value;
      if (columns_[j] >= 0 && as<PgQuery__ParamRef>(row->items[j]) != nullptr && s_.read_constant(row->items[j], value))
        s_.comparable(value, Var{target_, columns_[j]});
    }
  }
  InsertSplit split;
  split.colocation = table->colocation;
  for (size_t i = 0; i < rows; ++i) {
    auto* row = select_ == nullptr ? nullptr : as<PgQuery__List>(select_->values_lists[i]);
    InsertSplit::Row& slice = split.rows.emplace_back();
    if (!key_of_row(row, slice.key)) return;
  }
  bool reads_sharded = !s_.sharded.empty();
  if (reads_sharded || s_.dml_in_cte) {
    choose_target(p_);
    if (plan.kind == PlanKind::unsupported) return;
    if (plan.target.kind != Target::Kind::keys || plan.target.colocation != table->colocation)
      return refuse("INSERT ... VALUES with a sub-query over a sharded table",
                    "Run the sub-query first, or pin its tables to the key of the row.");
    for (InsertSplit::Row& row : split.rows) plan.target.keys.push_back(row.key);
    forbid_several_groups(p_, "INSERT ... VALUES with a sub-query over a sharded table");
    return set_cacheable(p_);
  }
  if (table->has_statement_triggers)
    forbid_several_groups(p_, "statement-level triggers on \"" + table->name + "\"",
                          "They would fire once per group: insert rows of one key per statement.");
  if (!p_.user_function.empty() && rows > 1)
    forbid_several_groups(p_, "the function " + p_.user_function + "(), which may read tables");
  plan.target = Target{Target::Kind::keys, table->colocation, {}};
  if (rows == 1) {
    plan.target.keys.push_back(split.rows[0].key);
    return set_cacheable(p_);
  }
  if (!slice_rows(split))
    return refuse("this form of INSERT ... VALUES", "Write VALUES (...), (...) without parentheses around it.");
  plan.kind = PlanKind::insert_split;
  plan.insert_split = std::move(split);
  set_cacheable(p_);
  plan.cacheable = false;
}

// Rows stay where they are read: their new key must be the key of the row they come from.
void InsertPlanner::select_into_sharded() {
  Plan& plan = p_.plan;
  const catalog::Table* table = s_.instance(target_).table;
  const char* hint =
      "Select the distribution column of a co-located table for the distribution column, or read the rows first.";
  Distribution source = p_.distribution.result_of(source_);
  bool together = source.kind == Distribution::Kind::partitioned && source.colocation == table->colocation &&
                  source.keys.size() == table->key_columns.size() && source_->outputs_known;
  KeyTuple constants;
  bool all_constant = source_->outputs_known && !source_->set_operation();
  for (size_t i = 0; i < table->key_columns.size(); ++i) {
    int column = table->key_columns[i];
    auto position = static_cast<int>(std::find(columns_.begin(), columns_.end(), column) - columns_.begin());
    bool given = position < static_cast<int>(std::min(columns_.size(), source_->outputs.size()));
    const catalog::Column& key = table->columns[column];
    KeySource constant;
    constant.type = key.base_type != 0 ? key.base_type : key.type;
    if (!given) {
      together = false;
      if (!missing_key(column, constant)) return;
      constants.push_back(constant);
      continue;
    }
    const OutputColumn& out = source_->outputs[position];
    if (together) {
      together = type_family(out.type) == type_family(constant.type) && (key.typmod < 0 || key.typmod == out.typmod) &&
                 std::any_of(source.keys[i].begin(), source.keys[i].end(),
                             [&](const KeyVar& var) { return var.strict && var.var.column == position; });
    }
    ConstValue value;
    all_constant = all_constant && out.expr != nullptr && s_.read_constant(out.expr, value) &&
                   s_.comparable(value, Var{target_, column}) && s_.parameter_type_certain(value, constant.type);
    KeySource literal = value.source;
    literal.type = constant.type;
    literal.typmod = key.typmod;
    constants.push_back(literal);
  }
  if (s_.sharded.empty()) {
    if (!all_constant && pulls()) return;
    if (!all_constant)
      return refuse("INSERT ... SELECT into a sharded table of rows that are not those of a co-located table", hint);
    plan.target = Target{Target::Kind::keys, table->colocation, {constants}};
    return set_cacheable(p_);
  }
  choose_target(p_);
  if (plan.kind == PlanKind::unsupported) return;
  check_several_groups(p_, source);
  if (table->has_statement_triggers)
    forbid_several_groups(p_, "statement-level triggers on \"" + table->name + "\"", "They would fire once per group.");
  if (together) return set_cacheable(p_);
  if (!all_constant || plan.target.kind != Target::Kind::keys || plan.target.colocation != table->colocation)
    return refuse("INSERT ... SELECT into a sharded table of rows that are not those of a co-located table", hint);
  plan.target.keys.push_back(constants);
  forbid_several_groups(p_, "INSERT ... SELECT from another key than it inserts", hint);
  set_cacheable(p_);
}

// Rows of an INSERT … SELECT that the groups cannot compute for themselves, and the home can. True: they are asked for.
bool InsertPlanner::pulls() {
  const std::size_t given = insert_->n_cols > 0      ? insert_->n_cols
                            : source_->outputs_known ? source_->outputs.size()
                                                     : 0;
  if (source_ == nullptr || !s_.sharded.empty() || s_.dml_in_cte || s_.row_locks || given == 0) return false;
  p_.pulled_columns = given;
  return true;
}

// INSERT … SELECT and ON CONFLICT … SET leave a default to the groups that they cannot compute. True: refused.
bool InsertPlanner::leaves_default() {
  const catalog::Table* table = s_.instance(target_).table;
  std::vector<int> given = columns_;
  if (source_ != nullptr && insert_->n_cols == 0)
    given.resize(source_->outputs_known ? std::min(given.size(), source_->outputs.size()) : 0);
  std::string column = source_ == nullptr ? "" : left_to_home(*table, given, p_.context);
  bool is_default = false;
  if (auto* conflict = insert_->on_conflict_clause)
    for (const Node* node : each(conflict->n_target_list, conflict->target_list))
      walk(node, [&](const Message* message) {
        is_default = is_default || as<PgQuery__SetToDefault>(message) != nullptr;
        return true;
      });
  if (is_default) column = left_to_home(*table, {}, p_.context);
  if (column.empty()) return false;
  refuse("an INSERT that leaves column \"" + column + "\" to its default, which the groups cannot compute",
         "Give the column a value: list it, and select its value.");
  return true;
}

void InsertPlanner::into_reference() {
  Plan& plan = p_.plan;
  if (s_.instance(target_).table->kind != catalog::TableKind::reference)
    return refuse("INSERT into a view over a reference table", "Insert into the table itself.");
  find_columns();
  if (leaves_default()) {
    if (source_ != nullptr) (void)pulls();
    return;
  }
  if (source_ != nullptr && !s_.home_tables.empty() && pulls()) return;
  if (!s_.sharded.empty() || !s_.home_tables.empty())
    return refuse("INSERT into a reference table from sharded or local tables",
                  "Read the rows first and insert them with a statement of their own.");
  bool same = immutable_expression(p_.root, p_.context.database) && !s_.dml_in_cte && !s_.row_locks &&
              (source_ == nullptr || p_.distribution.result_of(source_).kind == Distribution::Kind::replicated);
  if (!same && source_ != nullptr && pulls()) return;
  if (!same)
    return refuse("a write to a reference table with an expression that may differ between groups",
                  "Compute the value first (SELECT now(), random(), ...) and pass it as a parameter.");
  if (source_ != nullptr && !source_->instances.empty() && insert_->on_conflict_clause != nullptr)
    return refuse("INSERT ... SELECT ... ON CONFLICT into a reference table",
                  "Groups may meet the rows in another order: insert VALUES, or filter out the conflicts.");
  plan.target = Target{Target::Kind::everywhere, 0, {}};
  plan.reference_write = true;
  set_reference_cacheable(p_);
}

}  // namespace

void plan_insert(Planning& p, const PgQuery__InsertStmt* insert) { InsertPlanner(p, insert).run(); }

}  // namespace pgmosaic::plan
