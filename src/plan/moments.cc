#include "plan/moments.h"

#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/naming.h"
#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

enum class Kind : uint8_t { none, transaction, statement, age, value };

Kind kind_of(const Message* message, const catalog::Database* database) {
  using enum Kind;
  if (auto* value = as<PgQuery__SQLValueFunction>(message))
    return value->op < PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_ROLE ? Kind::value : none;
  auto* call = as<PgQuery__FuncCall>(message);
  if (call == nullptr || !calls_builtin(call, database)) return none;
  const std::string_view name = last_name(call->n_funcname, call->funcname);
  if (call->n_args == 0 && (name == "now" || name == "transaction_timestamp")) return transaction;
  if (call->n_args == 0 && name == "statement_timestamp") return statement;
  if (call->n_args != 1 || name != "age") return none;
  // The age of a transaction is another function.
  auto* column = as<PgQuery__ColumnRef>(call->args[0]);
  const bool of_row = column != nullptr && string_value(column->fields[column->n_fields - 1]).ends_with("xmin");
  return of_row ? none : age;
}

}  // namespace

bool names_moment(const Node* root, const catalog::Database* database) {
  bool found = false;
  walk(root, [&](const Message* message) {
    found = found || kind_of(message, database) != Kind::none;
    return !found;
  });
  return found;
}

namespace {

bool default_names_moment(const catalog::Column& column, const catalog::Database* database) {
  if (column.generated || column.sequence != 0 || column.default_sql.empty()) return false;
  auto tree = ParseTree::parse("SELECT " + column.default_sql);
  return tree.ok() && names_moment(tree->statement(), database);
}

// The types that SQL's value functions give.
std::string_view type_of(const PgQuery__SQLValueFunction* value) {
  switch (value->op) {
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE: return "date";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME_N: return "timetz";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME_N: return "time";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N: return "timestamp";
    default: return "timestamptz";
  }
}

bool has_precision(const PgQuery__SQLValueFunction* value) {
  switch (value->op) {
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME_N:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP_N:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME_N:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N: return true;
    default: return false;
  }
}

// The copy of a statement with constants in it.
class MomentWriter {
 public:
  MomentWriter(Arena& arena, const Moment& moment, const PlanContext& context)
      : arena_(arena), moment_(moment), context_(context) {}

  Result<std::string> write(const Node* root) {
    Node* written = copy(root);
    if (in_from_)
      return make_error("0A000", "not supported over several groups: now() as a table in FROM",
                        "Call it in the SELECT list or in a sub-query: FROM (SELECT now()) AS x.");
    return deparse_statement(written);
  }

 private:
  Node* copy(const Node* node) {
    return arena_.copy(node, [this](const Node* inner) { return replaced(inner); });
  }
  Kind kind(const Node* node) const { return kind_of(inner(node), context_.database); }
  Node* cast(Node* node, std::string_view type) { return arena_.cast(node, {"pg_catalog", std::string(type)}); }
  Node* constant(const std::string& text) { return cast(arena_.string_constant(text), "timestamptz"); }

  Node* value_of(const PgQuery__SQLValueFunction* value) {
    const std::string_view type = type_of(value);
    Node* node = constant(moment_.transaction);
    if (type != "timestamptz" || has_precision(value)) node = cast(node, type);
    if (!has_precision(value)) return node;
    auto* written = as<PgQuery__TypeCast>(node)->type_name;
    written->n_typmods = 1;
    written->typmods = arena_.list({arena_.integer(value->typmod)});
    return node;
  }

  // age(x) counts from today.
  Node* age_of(const PgQuery__FuncCall* call) {
    auto* counted = arena_.shallow(call);
    counted->n_args = 2;
    counted->args = arena_.list({cast(constant(moment_.transaction), "date"), copy(call->args[0])});
    return arena_.node(counted);
  }

  Node* replaced(const Node* node) {
    switch (kind(node)) {
      case Kind::transaction: return constant(moment_.transaction);
      case Kind::statement: return constant(moment_.statement);
      case Kind::age: return age_of(as<PgQuery__FuncCall>(node));
      case Kind::value: return value_of(as<PgQuery__SQLValueFunction>(node));
      case Kind::none: break;
    }
    if (auto* function = as<PgQuery__RangeFunction>(node)) {
      for (const Node* item : each(function->n_functions, function->functions)) {
        auto* list = as<PgQuery__List>(item);
        in_from_ = in_from_ || (list != nullptr && list->n_items > 0 && kind(list->items[0]) != Kind::none);
      }
    }
    auto* target = as<PgQuery__ResTarget>(node);
    if (target == nullptr || !text_of(target->name).empty() || target->val == nullptr ||
        !names_moment(target->val, context_.database))
      return nullptr;
    auto* named = arena_.shallow(target);  // a column is called like the function
    named->name = arena_.string(result_column_name(target->val));
    named->val = copy(target->val);
    return arena_.node(named);
  }

  Arena& arena_;
  const Moment& moment_;
  const PlanContext& context_;
  bool in_from_ = false;
};

bool has_star(const PgQuery__SelectStmt* select) {
  for (const Node* node : each(select->n_target_list, select->target_list)) {
    auto* target = as<PgQuery__ResTarget>(node);
    auto* column = target == nullptr ? nullptr : as<PgQuery__ColumnRef>(target->val);
    if (column != nullptr && as<PgQuery__AStar>(column->fields[column->n_fields - 1]) != nullptr) return true;
  }
  return false;
}

// Puts a column's default where the statement leaves it to the table and the moment decides it.
class DefaultGiver {
 public:
  DefaultGiver(Arena& arena, const PlanContext& context) : arena_(arena), context_(context) {}

  const Node* give(const Node* root) {
    auto* insert = as<PgQuery__InsertStmt>(root);
    auto* update = as<PgQuery__UpdateStmt>(root);
    const PgQuery__RangeVar* range = insert != nullptr   ? insert->relation
                                     : update != nullptr ? update->relation
                                                         : nullptr;
    table_ = range == nullptr ? nullptr : lookup(context_, range);
    if (table_ == nullptr) return root;
    return insert != nullptr ? in_insert(root, insert) : in_update(update);
  }
  bool gave() const { return !keep_.empty(); }

 private:
  Node* default_of(const catalog::Column* column) {
    if (column == nullptr || !default_names_moment(*column, context_.database)) return nullptr;
    keep_.push_back(*ParseTree::parse("SELECT " + column->default_sql));
    return as<PgQuery__ResTarget>(as<PgQuery__SelectStmt>(keep_.back().statement())->target_list[0])->val;
  }

  const catalog::Column* column_of(std::string_view name) const {
    const int index = table_->column_index(name);
    return index < 0 ? nullptr : &table_->columns[static_cast<std::size_t>(index)];
  }

  const Node* in_update(const PgQuery__UpdateStmt* update) {
    auto* copy = arena_.shallow(update);
    std::vector<Node*> targets;
    for (Node* node : each(update->n_target_list, update->target_list)) {
      auto* target = as<PgQuery__ResTarget>(node);
      const bool asks = target != nullptr && as<PgQuery__SetToDefault>(target->val) != nullptr;
      Node* value = asks ? default_of(column_of(text_of(target->name))) : nullptr;
      targets.push_back(value == nullptr ? node : arena_.target(value, text_of(target->name)));
    }
    copy->target_list = arena_.list(targets);
    return arena_.node(copy);
  }

  // Which columns the INSERT gives and which are left to such defaults. False: PostgreSQL will say what is wrong.
  bool read_columns(const PgQuery__InsertStmt* insert, std::size_t width, bool width_known) {
    for (Node* node : each(insert->n_cols, insert->cols)) {
      auto* named = as<PgQuery__ResTarget>(node);
      given_.push_back(named == nullptr ? nullptr : column_of(text_of(named->name)));
      if (given_.back() == nullptr || named->n_indirection > 0) return false;
      columns_.push_back(node);
    }
    for (std::size_t i = 0; insert->n_cols == 0 && i < width; ++i) {
      if (i >= table_->columns.size()) return false;
      given_.push_back(&table_->columns[i]);
      columns_.push_back(arena_.target(nullptr, table_->columns[i].name));
    }
    if (width_known && given_.size() != width) return false;
    for (const catalog::Column& column : table_->columns) {
      const bool is_given = std::find(given_.begin(), given_.end(), &column) != given_.end();
      if (is_given || !default_names_moment(column, context_.database)) continue;
      added_.push_back(&column);
      columns_.push_back(arena_.target(nullptr, column.name));
    }
    return true;
  }

  Node* row_of(const PgQuery__List* list) {
    std::vector<Node*> items;
    for (std::size_t i = 0; list != nullptr && i < list->n_items; ++i) {
      const bool asks = as<PgQuery__SetToDefault>(list->items[i]) != nullptr && i < given_.size();
      Node* value = asks ? default_of(given_[i]) : nullptr;
      items.push_back(value != nullptr ? value : list->items[i]);
    }
    for (const catalog::Column* column : added_) items.push_back(default_of(column));
    auto* row = arena_.make<PgQuery__List>();
    row->n_items = items.size();
    row->items = arena_.list(items);
    return arena_.node(row);
  }

  PgQuery__SelectStmt* default_values() {
    auto* source = arena_.make<PgQuery__SelectStmt>();
    source->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
    source->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
    source->n_values_lists = 1;
    source->values_lists = arena_.list({row_of(nullptr)});
    return source;
  }

  const Node* in_insert(const Node* root, const PgQuery__InsertStmt* insert) {
    auto* select = as<PgQuery__SelectStmt>(insert->select_stmt);
    const bool values = select != nullptr && select->n_values_lists > 0;
    const bool star = select != nullptr && has_star(select);
    const bool united = select != nullptr && select->op != PG_QUERY__SET_OPERATION__SETOP_NONE;
    if (united || (star && insert->n_cols == 0)) return root;
    const std::size_t width = values              ? as<PgQuery__List>(select->values_lists[0])->n_items
                              : select != nullptr ? select->n_target_list
                                                  : 0;
    if (!read_columns(insert, width, select != nullptr && !star)) return root;
    if (select == nullptr && added_.empty()) return root;
    PgQuery__SelectStmt* source = select == nullptr ? default_values() : arena_.shallow(select);
    std::vector<Node*> items;
    if (values) {
      for (const Node* row : each(select->n_values_lists, select->values_lists))
        items.push_back(row_of(as<PgQuery__List>(row)));
      source->values_lists = arena_.list(items);
    } else if (select != nullptr) {
      items.assign(select->target_list, select->target_list + select->n_target_list);
      for (const catalog::Column* column : added_) items.push_back(arena_.target(default_of(column), ""));
      source->n_target_list = items.size();
      source->target_list = arena_.list(items);
    }
    auto* copy = arena_.shallow(insert);
    copy->n_cols = columns_.size();
    copy->cols = arena_.list(columns_);
    copy->select_stmt = arena_.node(source);
    return arena_.node(copy);
  }

  Arena& arena_;
  const PlanContext& context_;
  const catalog::Table* table_ = nullptr;
  std::vector<ParseTree> keep_;  // what the result points into
  std::vector<Node*> columns_;
  std::vector<const catalog::Column*> given_, added_;
};

// Whether the statement leaves columns to such defaults.
bool leaves_to_defaults(const Node* root, const PlanContext& context) {
  Arena arena;
  DefaultGiver giver(arena, context);
  giver.give(root);
  return giver.gave();
}

bool text_names_moment(const std::string& sql, const PlanContext& context) {
  auto tree = ParseTree::parse(sql);
  return tree.ok() && names_moment(tree->statement(), context.database);
}

}  // namespace

void note_moments(Plan& plan, const Node* root, const PlanContext& context) {
  const bool runs = plan.kind == PlanKind::route || plan.kind == PlanKind::insert_split ||
                    plan.kind == PlanKind::fill || plan.kind == PlanKind::copy_out;
  if (!runs || context.database == nullptr) return;
  plan.moments = plan.view_moments || names_moment(root, context.database) || leaves_to_defaults(root, context);
  if (!plan.moments || !plan.fill) return;
  plan.moments = text_names_moment(plan.fill->question, context);
  plan.fill->splits_moments = plan.moments && text_names_moment(plan.fill->statement, context);
}

Result<std::string> at_moment(std::string_view sql, const Moment& moment, const PlanContext& context) {
  auto tree = ParseTree::parse(sql);
  if (!tree) return tree.error();
  Arena arena;
  DefaultGiver defaults(arena, context);
  return MomentWriter(arena, moment, context).write(defaults.give(tree->statement()));
}

}  // namespace pgmosaic::plan
