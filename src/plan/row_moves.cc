// The pieces of an UPDATE whose rows may leave their group.
//
// before: UPDATE t AS a SET k = k + 1, v = upper(v) FROM r WHERE a.v = r.v RETURNING a.k
// claim:  UPDATE t SET k = DEFAULT WHERE false
// lock:   SELECT pg_catalog.count(pgmosaic_other) FROM (SELECT <other leaf> AS pgmosaic_other FROM t a, r WHERE a.v =
// r.v FOR UPDATE OF a) AS pgmosaic_locked take:   DELETE FROM t a USING r WHERE a.v = r.v AND <shard> IS NOT NULL
//           RETURNING <shard>, (k + 1)::bigint, (upper(v))::text, a.w
// (then the UPDATE as it is, for the rows that stay)
// put:    INSERT INTO t AS a (k, v, w) OVERRIDING SYSTEM VALUE VALUES <rows> RETURNING a.k
#include "plan/row_moves.h"

#include <algorithm>
#include <array>

#include "plan/function_traits.h"
#include "plan/planning.h"
#include "plan/types.h"
#include "sql/deparse.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::Column;

namespace {

// Types whose explicit cast cuts a value that an assignment refuses.
bool cut_by_cast(catalog::Oid type) {
  return type == oid::varchar || type == oid::bpchar || type == oid::bit || type == oid::varbit;
}

// Places and versions of rows, which change when they move.
bool is_system_column(std::string_view name) {
  constexpr std::array<std::string_view, 5> kNames{"ctid", "xmin", "xmax", "cmin", "cmax"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

std::string default_value(const Column& column) { return column.default_sql.empty() ? "NULL" : column.default_sql; }

class MovePlanner {
 public:
  MovePlanner(Planning& p, const Level* level, const Instance& target, const PgQuery__UpdateStmt* update)
      : p_(p), level_(level), target_(target), table_(*target.table), update_(update) {
    const PgQuery__Alias* alias = update->relation->alias;
    name_ = alias != nullptr ? text_of(alias->aliasname) : text_of(update->relation->relname);
  }

  KeyChange run(KeyTuple constants);

 private:
  // Why rows cannot move; empty: they can.
  std::string obstacle();
  std::string obstacle_in_values();
  std::string obstacle_in_returning();
  bool steady(const Message* expression) const;
  bool read_again() const;
  Status write_values();
  Status write_statements();
  Status write_marked();
  bool mark_is_unique() const;
  Status write_take(const Node* where);
  Status write_lock();
  Status write_put();
  bool steady_value(const Node* value, const Column& column) const;

  Planning& p_;
  const Level* level_;
  const Instance& target_;
  const catalog::Table& table_;
  const PgQuery__UpdateStmt* update_;
  std::string name_;                  // of the table in the statement
  std::vector<const Node*> values_;   // of each column; null: unchanged
  std::vector<std::string> written_;  // the same as text
  std::string claimed_;               // a distribution column that SET names
  Arena arena_;
  KeyChange change_;
};

// Whether it gives the same when it is computed once more in the same transaction.
bool MovePlanner::steady(const Message* expression) const {
  bool same = true;
  walk(expression, [&](const Message* message) {
    if (auto* call = as<PgQuery__FuncCall>(message)) {
      const FunctionTraits traits = function_traits(call, p_.context.database);
      same = same && !traits.is_volatile && !traits.user_defined;
    }
    auto* select = as<PgQuery__SelectStmt>(message);
    if (select != nullptr && (select->limit_count != nullptr || select->limit_offset != nullptr)) same = false;
    if (as<PgQuery__RangeTableSample>(message) != nullptr) same = false;
    return same;
  });
  return same;
}

// Whether the statement reads the table's rows elsewhere as well: in between some of them are on no group.
bool MovePlanner::read_again() const {
  auto root_of = [this](const catalog::Table* table) {
    const auto& tables = p_.context.database->tables_by_oid;
    for (auto parent = tables.find(table->partition_of); parent != tables.end();
         parent = tables.find(table->partition_of))
      table = parent->second.get();
    return table->oid;
  };
  return std::any_of(p_.statement.sharded.begin(), p_.statement.sharded.end(), [&](int id) {
    const Instance& other = p_.statement.instance(id);
    return other.id != target_.id &&
           (other.placement != Instance::Placement::sharded || root_of(other.table) == root_of(&table_));
  });
}

std::string MovePlanner::obstacle_in_values() {
  values_.assign(table_.columns.size(), nullptr);
  for (const Node* node : each(update_->n_target_list, update_->target_list)) {
    auto* assignment = as<PgQuery__ResTarget>(node);
    const int index = assignment == nullptr ? -1 : table_.column_index(text_of(assignment->name));
    if (index < 0) return "a column that is not known";
    const Column& column = table_.columns[static_cast<std::size_t>(index)];
    if (assignment->n_indirection > 0) return "SET of a part of column \"" + column.name + "\"";
    const Node* value = assigned_value(assignment);
    if (value == nullptr) return "SET of several columns from a sub-query";
    if (column.type != column.base_type && cut_by_cast(column.base_type))
      return "SET of column \"" + column.name + "\", whose domain has a length";
    const bool is_key =
        std::find(table_.key_columns.begin(), table_.key_columns.end(), index) != table_.key_columns.end();
    if (is_key && !steady_value(value, column)) return "a new key that would be another when it is computed again";
    if (is_key) claimed_ = column.name;
    values_[static_cast<std::size_t>(index)] = value;
  }
  return {};
}

// What the client gets is computed where the row arrives, without the other tables of the statement.
std::string MovePlanner::obstacle_in_returning() {
  std::string obstacle;
  for (const Node* node : each(update_->n_returning_list, update_->returning_list)) {
    walk(node, [&](const Message* message) {
      if (as<PgQuery__SubLink>(message) != nullptr) obstacle = "RETURNING with a sub-query";
      auto* column = as<PgQuery__ColumnRef>(message);
      if (column == nullptr) return true;
      if (is_system_column(string_value(column->fields[column->n_fields - 1])))
        obstacle = "RETURNING of a system column";
      const bool star = as<PgQuery__AStar>(column->fields[column->n_fields - 1]) != nullptr;
      const bool whole = star && column->n_fields == 2 && string_value(column->fields[0]) == name_;
      if (update_->n_from_clause == 0 || whole) return true;
      if (p_.statement.resolve(column, level_).instance != target_.id) obstacle = "RETURNING of other tables' columns";
      return true;
    });
  }
  return obstacle;
}

std::string MovePlanner::obstacle() {
  if (table_.has_statement_triggers) return "statement-level triggers";
  if (p_.statement.dml_in_cte) return "a data-modifying WITH";
  if (!p_.statement.virtual_relations.empty()) return "pgmosaic's own relations";
  if (!p_.user_function.empty()) return "the function " + p_.user_function + "()";
  if (read_again()) return "another use of the table in the same statement";
  bool steady_rows = update_->where_clause == nullptr || steady(inner(update_->where_clause));
  for (const Node* item : each(update_->n_from_clause, update_->from_clause))
    steady_rows = steady_rows && steady(inner(item));
  const std::size_t ctes = update_->with_clause == nullptr ? 0 : update_->with_clause->n_ctes;
  if (ctes > 0) steady_rows = steady_rows && steady(reinterpret_cast<const Message*>(update_->with_clause));
  for (const Node* node : each(ctes, update_->with_clause == nullptr ? nullptr : update_->with_clause->ctes)) {
    auto* cte = as<PgQuery__CommonTableExpr>(node);
    if (cte != nullptr && text_of(cte->ctename) == table_.name) return "WITH under the table's own name";
  }
  for (const ParseTree& view : p_.statement.view_trees) steady_rows = steady_rows && steady(inner(view.statement()));
  if (!steady_rows) return "conditions that would find other rows when they are computed again";
  bool current_of = false;
  walk(update_->where_clause, [&](const Message* message) {
    current_of = current_of || as<PgQuery__CurrentOfExpr>(message) != nullptr;
    return !current_of;
  });
  if (current_of) return "WHERE CURRENT OF";
  if (std::string found = obstacle_in_values(); !found.empty()) return found;
  return obstacle_in_returning();
}

bool MovePlanner::steady_value(const Node* value, const Column& column) const {
  if (as<PgQuery__SetToDefault>(value) == nullptr) return steady(inner(value));
  auto tree = ParseTree::parse("SELECT " + default_value(column));
  return tree.ok() && steady(inner(tree->statement()));
}

// Assignments do what a cast to the column's type does; its length or precision is the INSERT's business.
Status MovePlanner::write_values() {
  for (std::size_t i = 0; i < table_.columns.size(); ++i) {
    const Column& column = table_.columns[i];
    std::string& written = written_.emplace_back();
    if (values_[i] == nullptr) {
      written = quote_identifier(name_) + "." + quote_identifier(column.name);
      continue;
    }
    std::string expression = default_value(column);
    if (as<PgQuery__SetToDefault>(values_[i]) == nullptr) {
      TRY_ASSIGN(expression, deparse_expression(values_[i]));
    }
    written = "(" + expression + ")::" + column.type_name;
  }
  for (const int key : table_.key_columns) {
    change_.new_key.push_back(written_[static_cast<std::size_t>(key)]);
    change_.old_key.push_back(quote_identifier(name_) + "." +
                              quote_identifier(table_.columns[static_cast<std::size_t>(key)].name));
  }
  return {};
}

Status MovePlanner::write_take(const Node* where) {
  auto* test = arena_.make<PgQuery__NullTest>();
  test->arg = arena_.string_constant(change_.mark);
  test->nulltesttype = PG_QUERY__NULL_TEST_TYPE__IS_NOT_NULL;
  Node* leaves = arena_.node(test);
  if (inner(where) != nullptr) {
    auto* conjunction = as<PgQuery__BoolExpr>(where);
    std::vector<Node*> conditions{const_cast<Node*>(where)};
    if (conjunction != nullptr && conjunction->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR)
      conditions.assign(conjunction->args, conjunction->args + conjunction->n_args);
    conditions.push_back(leaves);
    auto* both = arena_.make<PgQuery__BoolExpr>();
    both->boolop = PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR;
    both->n_args = conditions.size();
    both->args = arena_.list(conditions);
    leaves = arena_.node(both);
  }
  auto* remove = arena_.make<PgQuery__DeleteStmt>();
  remove->relation = update_->relation;
  remove->with_clause = update_->with_clause;
  remove->n_using_clause = update_->n_from_clause;
  remove->using_clause = update_->from_clause;
  remove->where_clause = leaves;
  TRY_ASSIGN(change_.take, deparse_statement(arena_.node(remove)));
  change_.take += " RETURNING " + quote_literal(change_.mark);
  for (std::size_t i = 0; i < table_.columns.size(); ++i)
    if (!table_.columns[i].generated) change_.take += ", " + written_[i];
  return {};
}

Status MovePlanner::write_lock() {
  std::vector<Node*> from{arena_.node(update_->relation)};
  for (Node* item : each(update_->n_from_clause, update_->from_clause)) from.push_back(item);
  auto* locked = arena_.make<PgQuery__RangeVar>();
  locked->relname = arena_.string(name_);
  locked->inh = 1;
  locked->relpersistence = arena_.string("p");
  auto* locking = arena_.make<PgQuery__LockingClause>();
  locking->strength = PG_QUERY__LOCK_CLAUSE_STRENGTH__LCS_FORUPDATE;
  locking->wait_policy = PG_QUERY__LOCK_WAIT_POLICY__LockWaitBlock;
  locking->n_locked_rels = 1;
  locking->locked_rels = arena_.list({arena_.node(locked)});
  auto* select = arena_.make<PgQuery__SelectStmt>();
  select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  select->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
  select->n_target_list = 1;
  select->target_list = arena_.list({arena_.target(arena_.string_constant(change_.mark), "pgmosaic_other")});
  select->n_from_clause = from.size();
  select->from_clause = arena_.list(from);
  select->where_clause = update_->where_clause;
  select->with_clause = update_->with_clause;
  select->n_locking_clause = 1;
  select->locking_clause = arena_.list({arena_.node(locking)});
  TRY_ASSIGN(const std::string rows, deparse_statement(arena_.node(select)));
  change_.lock = "SELECT pg_catalog.count(pgmosaic_other) FROM (" + rows + ") AS pgmosaic_locked";
  return {};
}

Status MovePlanner::write_put() {
  std::vector<Node*> columns;
  for (const Column& column : table_.columns) {
    if (column.generated) continue;
    auto* target = arena_.make<PgQuery__ResTarget>();
    target->name = arena_.string(column.name);
    columns.push_back(arena_.node(target));
  }
  auto* row = arena_.make<PgQuery__List>();
  row->n_items = 1;
  row->items = arena_.list({arena_.string_constant(change_.mark)});
  auto* values = arena_.make<PgQuery__SelectStmt>();
  values->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  values->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
  values->n_values_lists = 1;
  values->values_lists = arena_.list({arena_.node(row)});
  auto* insert = arena_.make<PgQuery__InsertStmt>();
  insert->relation = update_->relation;
  insert->n_cols = columns.size();
  insert->cols = arena_.list(columns);
  insert->select_stmt = arena_.node(values);
  insert->override = PG_QUERY__OVERRIDING_KIND__OVERRIDING_SYSTEM_VALUE;
  insert->n_returning_list = update_->n_returning_list;
  insert->returning_list = update_->returning_list;
  TRY_ASSIGN(change_.put, deparse_statement(arena_.node(insert)));
  const std::string marked = "(" + quote_literal(change_.mark) + ")";
  const std::size_t at = change_.put.find(marked);
  CHECK(at != std::string::npos);
  change_.put_end = change_.put.substr(at + marked.size());
  change_.put.resize(at);
  return {};
}

// The texts hold literals, names and column defaults of the user's.
bool MovePlanner::mark_is_unique() const {
  const auto count = [this](const std::string& text) {
    int found = 0;
    for (std::size_t at = text.find(change_.mark); at != std::string::npos; at = text.find(change_.mark, at + 1))
      ++found;
    return found;
  };
  constexpr int kInTake = 2;  // in WHERE and RETURNING; that in `put` is cut out
  return count(change_.take) == kInTake && count(change_.put) + count(change_.put_end) == 0;
}

Status MovePlanner::write_marked() {
  change_.mark = "pgmosaic:shard";
  for (;; change_.mark += ':') {
    TRY(write_take(update_->where_clause));
    TRY(write_put());
    if (mark_is_unique()) return {};
  }
}

Status MovePlanner::write_statements() {
  TRY(write_values());
  TRY(write_marked());
  TRY(write_lock());
  auto* plain = arena_.shallow(update_->relation);
  plain->alias = nullptr;
  TRY_ASSIGN(const std::string relation, deparse_from_item(arena_.node(plain)));
  change_.claim = "UPDATE " + relation + " SET " + quote_identifier(claimed_) + " = DEFAULT WHERE false";
  return {};
}

KeyChange MovePlanner::run(KeyTuple constants) {
  change_.table = table_.oid;
  change_.constants = std::move(constants);
  const std::string found = obstacle();
  if (!found.empty()) {
    change_.refusal = cannot_move(found);
  } else if (Status written = write_statements(); !written.ok()) {
    change_.refusal = cannot_move(written.error().message);
  }
  return std::move(change_);
}

}  // namespace

Error cannot_move(const std::string& why, std::string hint) {
  if (hint.empty()) hint = "Delete the rows and insert them again with the new key, in one transaction.";
  return make_error("0A000", "an UPDATE cannot move rows to another group here: " + why, std::move(hint));
}

const Node* assigned_value(const PgQuery__ResTarget* assignment) {
  auto* several = as<PgQuery__MultiAssignRef>(assignment->val);
  if (several == nullptr) return assignment->val;
  auto* row = as<PgQuery__RowExpr>(several->source);
  const std::size_t index = static_cast<std::size_t>(several->colno) - 1;
  return row != nullptr && index < row->n_args ? row->args[index] : nullptr;
}

void plan_key_change(Planning& p, const Level* level, const Instance& target, const PgQuery__UpdateStmt* update,
                     KeyTuple constants) {
  KeyChange change = MovePlanner(p, level, target, update).run(std::move(constants));
  p.plan.rewritten_literals = !change.refusal && !p.statement.shape.literals.empty();
  p.plan.key_change = std::make_shared<const KeyChange>(std::move(change));
}

}  // namespace pgmosaic::plan
