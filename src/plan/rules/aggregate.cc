// Aggregates over groups that are not disjoint: partial aggregates per group, the rest in SQL over the partial rows.
//
//   SELECT city, count(*), avg(age) + 1 AS a FROM t GROUP BY city HAVING sum(n) > 3 ORDER BY 2
//   each:  SELECT city, count(*), sum(age), count(age), sum(n) FROM t GROUP BY 1
//   final: SELECT c1 AS city, COALESCE(sum(c2), 0)::int8 AS count, sum(c3) / NULLIF(sum(c4), 0) + 1 AS a
//          FROM pgmosaic_partial GROUP BY c1 HAVING sum(c5)::int8 > 3 ORDER BY 2
//
// A formula is used only where value and type are PostgreSQL's own; the argument's type must be known for that.
#include <algorithm>

#include "plan/function_traits.h"
#include "plan/naming.h"
#include "plan/rules/select_shape.h"
#include "plan/types.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::Oid;

namespace {

class AggregateRewriter {
 public:
  AggregateRewriter(Planning& planning, Level* top)
      : p_(planning), s_(planning.statement), top_(top), select_(top->select) {}

  void run();

 private:
  bool read_groups();
  bool choose_distinct();
  bool add_group(const Node* expression);
  int add_partial(Node* expression);
  Node* column(int number) { return arena_.column({kPartialRelation, "c" + std::to_string(number)}); }
  Node* rewrite(const Node* expression);
  Node* replacement(const Node* node);
  Node* aggregate(const PgQuery__FuncCall* call);
  Node* average(const PgQuery__FuncCall* call, Oid type);
  Node* partial_call(const PgQuery__FuncCall* call, std::string_view name, Node* argument);
  bool rewrite_order(PgQuery__SelectStmt* final_statement);
  bool rewrite_targets(PgQuery__SelectStmt* final_statement);
  Node* fail(std::string reason, std::string hint = {}) {
    forbid_several_groups(p_, std::move(reason), std::move(hint));
    failed_ = true;
    return nullptr;
  }

  Planning& p_;
  Statement& s_;
  Level* top_;
  const PgQuery__SelectStmt* select_;
  Arena arena_;
  std::vector<Node*> partial_;                       // expressions of c1, c2, …
  std::vector<std::pair<std::string, int>> known_;   // id of a partial expression -> its number
  std::vector<std::pair<std::string, int>> groups_;  // id of a group expression -> its number
  std::vector<Collation> group_collations_;
  int group_count_ = 0;
  const Node* distinct_argument_ = nullptr;  // all aggregates are over DISTINCT of this expression
  int distinct_column_ = 0;
  bool failed_ = false;
};

int AggregateRewriter::add_partial(Node* expression) {
  std::string id = expression_id(s_, top_, expression);
  for (const auto& [known, number] : known_)
    if (known == id) return number;
  partial_.push_back(expression);
  known_.emplace_back(id, static_cast<int>(partial_.size()));
  return static_cast<int>(partial_.size());
}

bool AggregateRewriter::add_group(const Node* expression) {
  std::string id = expression_id(s_, top_, expression);
  for (const auto& [known, number] : groups_)
    if (known == id) return true;
  Collation collation = collation_of(s_, top_, expression);
  if (collation == Collation::other) {
    fail("GROUP BY with a type or collation that is not known before execution", kUnknownCollationHint);
    return false;
  }
  partial_.push_back(const_cast<Node*>(expression));
  groups_.emplace_back(id, static_cast<int>(partial_.size()));
  group_collations_.push_back(collation);
  ++group_count_;
  return true;
}

// GROUP BY items: positions and result names stand for result columns, all else for expressions over the input.
bool AggregateRewriter::read_groups() {
  for (const Node* node : each(select_->n_group_clause, select_->group_clause)) {
    const Node* expression = node;
    auto* constant = as<PgQuery__AConst>(node);
    auto* reference = as<PgQuery__ColumnRef>(node);
    if (constant != nullptr) {
      if (constant->val_case != PG_QUERY__A__CONST__VAL_IVAL || !top_->outputs_known) return false;
      s_.note_literal(node);
      auto position = static_cast<size_t>(constant->ival->ival) - 1;
      if (position >= top_->outputs.size()) return false;
      expression = top_->outputs[position].expr;
    } else if (reference != nullptr && reference->n_fields == 1 && !s_.resolve(reference, top_).valid()) {
      expression = nullptr;
      for (const OutputColumn& out : top_->outputs)
        if (out.expr != nullptr && out.name == string_value(reference->fields[0])) expression = out.expr;
    }
    if (expression == nullptr) return false;
    if (!add_group(expression)) return false;
  }
  return true;
}

// count(DISTINCT x) and its like: groups hand over the distinct values themselves.
bool AggregateRewriter::choose_distinct() {
  std::string id;
  bool any_distinct = false, any_plain = false;
  for (const PgQuery__FuncCall* call : top_->aggregates) {
    std::string_view name = last_name(call->n_funcname, call->funcname);
    if (!call->agg_distinct || name == "min" || name == "max" || name.starts_with("b") || name == "every") {
      any_plain = true;  // DISTINCT changes nothing for these
      continue;
    }
    if (call->n_args != 1) {
      fail("an aggregate with DISTINCT and several arguments");
      return false;
    }
    Var var = as<PgQuery__ColumnRef>(call->args[0]) ? s_.resolve(as<PgQuery__ColumnRef>(call->args[0]), top_) : Var();
    if (p_.distribution.covers_key(top_, top_->from_distribution, {var})) {
      any_plain = true;  // no value is in two groups
      continue;
    }
    std::string argument = expression_id(s_, top_, call->args[0]);
    if (any_distinct && argument != id) {
      fail("aggregates with DISTINCT over different expressions", "Run one query per expression.");
      return false;
    }
    if (call->agg_filter != nullptr) {
      fail("an aggregate with DISTINCT and FILTER", "Put the condition into WHERE, or use CASE.");
      return false;
    }
    any_distinct = true;
    id = argument;
    distinct_argument_ = call->args[0];
  }
  if (any_distinct && any_plain) {
    fail("aggregates with and without DISTINCT beside each other", "Run them as two queries.");
    return false;
  }
  return true;
}

// The client's call with another name or argument; FILTER stays, the order of the input does not matter here.
Node* AggregateRewriter::partial_call(const PgQuery__FuncCall* call, std::string_view name, Node* argument) {
  auto* copy = arena_.shallow(call);
  copy->n_funcname = 1;
  copy->funcname = arena_.list({arena_.string_node(name)});
  if (argument != nullptr) copy->args = arena_.list({argument});
  copy->n_agg_order = 0;
  return arena_.node(copy);
}

Node* AggregateRewriter::average(const PgQuery__FuncCall* call, Oid type) {
  bool is_float = type == oid::float4 || type == oid::float8;
  Node* argument = call->args[0];
  if (type == oid::float4) argument = arena_.cast(argument, {"float8"});
  int sum = add_partial(partial_call(call, "sum", argument));
  int count = add_partial(partial_call(call, "count", call->args[0]));
  auto* divisor = arena_.make<PgQuery__AExpr>();
  divisor->kind = PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF;
  divisor->n_name = 1;
  divisor->name = arena_.list({arena_.string_node("=")});
  divisor->lexpr = arena_.function("sum", {column(count)});
  divisor->rexpr = arena_.integer(0);
  Node* by = arena_.node(divisor);
  if (is_float || type == oid::interval) by = arena_.cast(by, {"float8"});
  return arena_.binary("/", arena_.function("sum", {column(sum)}), by);
}

Node* AggregateRewriter::aggregate(const PgQuery__FuncCall* call) {
  std::string name(last_name(call->n_funcname, call->funcname));
  FunctionTraits traits = function_traits(call, p_.context.database);
  if (!traits.combinable || call->agg_within_group || call->func_variadic)
    return fail("the aggregate " + name + "()", "Group by the distribution column, or pin the tables to one key.");
  Oid type = call->n_args > 0 ? type_of(s_, top_, call->args[0]) : 0;
  bool keeps_values = name == "min" || name == "max";
  if (distinct_argument_ != nullptr) {
    // Over the distinct values the call itself is the final step.
    auto* over = arena_.shallow(call);
    over->args = arena_.list({column(distinct_column_)});
    over->n_agg_order = 0;
    return arena_.node(over);
  }
  if (name == "count")
    return arena_.cast(
        [&] {
          auto* coalesce = arena_.make<PgQuery__CoalesceExpr>();
          coalesce->n_args = 2;
          coalesce->args = arena_.list(
              {arena_.function("sum", {column(add_partial(partial_call(call, "count", nullptr)))}), arena_.integer(0)});
          return arena_.node(coalesce);
        }(),
        {"int8"});
  if (call->n_args != 1) return fail("the aggregate " + name + "()");
  if (name == "sum" || name == "avg") {
    bool number = type == oid::int2 || type == oid::int4 || type == oid::int8 || type == oid::numeric ||
                  type == oid::float4 || type == oid::float8 || type == oid::interval;
    if (!number && !(type == oid::money && name == "sum"))
      return fail(name + "() of an expression whose type is not known to the planner",
                  "Cast the argument: " + name + "((...)::numeric).");
    if (name == "avg") return average(call, type);
    Node* sum = arena_.function("sum", {column(add_partial(partial_call(call, "sum", nullptr)))});
    return type == oid::int2 || type == oid::int4 ? arena_.cast(sum, {"int8"}) : sum;
  }
  Collation collation = keeps_values ? collation_of(s_, top_, call->args[0]) : Collation::none_or_default;
  Node* value = partial_column(arena_, add_partial(partial_call(call, name, nullptr)), collation);
  if (value == nullptr)
    return fail(name + "() with a type or collation that is not known before execution", kUnknownCollationHint);
  return arena_.function(name, {value});
}

Node* AggregateRewriter::replacement(const Node* node) {
  if (failed_) return const_cast<Node*>(node);
  auto stop = [&](Node* made) { return made == nullptr ? const_cast<Node*>(node) : made; };
  if (as<PgQuery__AConst>(node) == nullptr && as<PgQuery__String>(node) == nullptr) {
    std::string id = expression_id(s_, top_, node);
    for (size_t i = 0; i < groups_.size(); ++i)
      if (groups_[i].first == id)
        return stop(partial_column(arena_, groups_[i].second,
                                   i < group_collations_.size() ? group_collations_[i] : Collation::none_or_default));
  }
  if (auto* call = as<PgQuery__FuncCall>(node)) {
    if (std::find(top_->aggregates.begin(), top_->aggregates.end(), call) != top_->aggregates.end())
      return stop(aggregate(call));
  }
  if (as<PgQuery__SubLink>(node) != nullptr) return stop(fail("a sub-query beside aggregates"));
  if (as<PgQuery__GroupingFunc>(node) != nullptr) return stop(fail("GROUPING()"));
  if (auto* reference = as<PgQuery__ColumnRef>(node)) {
    // A column that depends on the grouped primary key: the groups vouch for that, the final step groups by it.
    Var var = s_.resolve(reference, top_);
    if (!var.valid() || select_->n_group_clause == 0 || distinct_argument_ != nullptr)
      return stop(fail("a column beside aggregates that is not grouped by"));
    if (!add_group(node)) return stop(nullptr);
    return stop(partial_column(arena_, groups_.back().second, group_collations_.back()));
  }
  return nullptr;
}

Node* AggregateRewriter::rewrite(const Node* expression) {
  if (inner(expression) == nullptr) return nullptr;
  return arena_.copy(expression, [&](const Node* node) { return replacement(node); });
}

bool AggregateRewriter::rewrite_targets(PgQuery__SelectStmt* final_statement) {
  std::vector<Node*> targets;
  for (const Node* node : each(select_->n_target_list, select_->target_list)) {
    auto* target = as<PgQuery__ResTarget>(node);
    if (auto* reference = as<PgQuery__ColumnRef>(target->val))
      if (as<PgQuery__AStar>(reference->fields[reference->n_fields - 1]) != nullptr) {
        fail("* beside GROUP BY", "Name the columns.");
        return false;
      }
    std::string name = text_of(target->name).empty() ? result_column_name(target->val) : std::string(target->name);
    targets.push_back(arena_.target(rewrite(target->val), name));
    if (failed_) return false;
  }
  final_statement->n_target_list = targets.size();
  final_statement->target_list = arena_.list(targets);
  return true;
}

bool AggregateRewriter::rewrite_order(PgQuery__SelectStmt* final_statement) {
  std::vector<Node*> order;
  for (const Node* node : each(select_->n_sort_clause, select_->sort_clause)) {
    auto* sort = arena_.shallow(as<PgQuery__SortBy>(node));
    auto* reference = as<PgQuery__ColumnRef>(sort->node);
    Node* rewritten = nullptr;
    if (as<PgQuery__AConst>(sort->node) != nullptr) {
      rewritten = sort->node;
      s_.note_literal(sort->node);
    } else if (reference != nullptr && reference->n_fields == 1) {
      for (size_t i = 0; i < top_->outputs.size() && rewritten == nullptr; ++i)
        if (top_->outputs[i].name == string_value(reference->fields[0]))
          rewritten = arena_.integer(static_cast<int32_t>(i) + 1);
    }
    sort->node = rewritten != nullptr ? rewritten : rewrite(sort->node);
    if (failed_) return false;
    order.push_back(arena_.node(sort));
  }
  final_statement->n_sort_clause = order.size();
  final_statement->sort_clause = arena_.list(order);
  return true;
}

void AggregateRewriter::run() {
  if (select_->n_distinct_clause > 0 && inner(select_->distinct_clause[0]) != nullptr)
    return forbid_several_groups(p_, "DISTINCT ON beside aggregates");
  if (!choose_distinct()) return;
  if (!read_groups()) return forbid_several_groups(p_, "this form of GROUP BY", "Group by columns or expressions.");
  if (distinct_argument_ != nullptr) {
    Collation collation = collation_of(s_, top_, distinct_argument_);
    if (collation == Collation::other)
      return forbid_several_groups(p_, "DISTINCT with a type or collation that is not known before execution");
    partial_.push_back(const_cast<Node*>(distinct_argument_));
    distinct_column_ = static_cast<int>(partial_.size());
  }
  auto* final_statement = final_select(arena_);
  if (!rewrite_targets(final_statement)) return;
  final_statement->having_clause = rewrite(select_->having_clause);
  if (failed_ || !rewrite_order(final_statement)) return;
  final_statement->limit_count = select_->limit_count;
  final_statement->limit_offset = select_->limit_offset;
  final_statement->limit_option = select_->limit_option;
  final_statement->n_distinct_clause = select_->n_distinct_clause;
  final_statement->distinct_clause = select_->distinct_clause;

  std::vector<Node*> final_groups, partial_groups, targets;
  for (size_t i = 0; i < groups_.size(); ++i) {
    final_groups.push_back(partial_column(arena_, groups_[i].second, group_collations_[i]));
    partial_groups.push_back(arena_.integer(groups_[i].second));
  }
  if (distinct_argument_ != nullptr) partial_groups.push_back(arena_.integer(distinct_column_));
  final_statement->n_group_clause = final_groups.size();
  final_statement->group_clause = arena_.list(final_groups);
  for (Node* expression : partial_) targets.push_back(arena_.target(expression, ""));

  auto* partial = arena_.shallow(select_);
  partial->n_target_list = targets.size();
  partial->target_list = arena_.list(targets);
  partial->n_group_clause = partial_groups.size();
  partial->group_clause = arena_.list(partial_groups);
  partial->having_clause = nullptr;
  partial->n_sort_clause = partial->n_distinct_clause = 0;
  partial->limit_count = partial->limit_offset = nullptr;
  partial->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  if (targets.empty()) return forbid_several_groups(p_, "a query without columns");
  set_combine(p_, arena_.node(partial), arena_.node(final_statement), static_cast<int>(partial_.size()));
}

}  // namespace

void combine_aggregates(Planning& p, Level* top) { AggregateRewriter(p, top).run(); }

}  // namespace pgmosaic::plan
