// Duplicates across groups.
//
//   SELECT DISTINCT a FROM t ORDER BY a      each: SELECT DISTINCT a FROM t; final: SELECT DISTINCT c1 AS a … ORDER BY
//   c1 SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, c
//                                            each: the same with c as a further column; final: the same over c1, c2, c3
//   SELECT a FROM t UNION SELECT b FROM s    each: the same; final: SELECT DISTINCT c1 AS a
#include "plan/rules/select_shape.h"
#include "plan/types.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

// Comparing for equality anywhere gives the same answer: no collation but the deterministic ones known here.
Collation output_collation(Planning& p, Level* top, const OutputColumn& out) {
  if (!out.var.valid() && out.expr != nullptr) return collation_of(p.statement, top, out.expr);
  if (out.collation == 950 || out.collation == 951) return Collation::c;
  return out.collation == 0 || out.collation == 100 ? Collation::none_or_default : Collation::other;
}

bool comparable_outputs(Planning& p, Level* top) {
  if (!top->outputs_known) return false;
  for (const OutputColumn& out : top->outputs)
    if (output_collation(p, top, out) == Collation::other) return false;
  return true;
}

void final_distinct(Planning& p, Level* top, PgQuery__SelectStmt* partial, Arena& arena,
                    const std::vector<Node*>& distinct, const std::vector<Node*>& order, int columns) {
  const auto* select = top->select;
  auto* final_statement = final_select(arena);
  std::vector<Node*> targets;
  for (size_t i = 0; i < top->outputs.size(); ++i)
    targets.push_back(
        arena.target(partial_column(arena, static_cast<int>(i) + 1, output_collation(p, top, top->outputs[i])),
                     top->outputs[i].name));
  final_statement->n_target_list = targets.size();
  final_statement->target_list = arena.list(targets);
  // An empty node stands for DISTINCT without ON.
  std::vector<Node*> clause = distinct;
  if (clause.empty()) clause.push_back(arena.make<PgQuery__Node>());
  final_statement->n_distinct_clause = clause.size();
  final_statement->distinct_clause = arena.list(clause);
  final_statement->n_sort_clause = order.size();
  final_statement->sort_clause = arena.list(order);
  final_statement->limit_count = select->limit_count;
  final_statement->limit_offset = select->limit_offset;
  final_statement->limit_option = select->limit_option;
  partial->limit_count = partial->limit_offset = nullptr;
  partial->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  set_combine(p, arena.node(partial), arena.node(final_statement), columns);
}

}  // namespace

void combine_distinct(Planning& p, Level* top) {
  const auto* select = top->select;
  if (!comparable_outputs(p, top))
    return forbid_several_groups(p, "DISTINCT over columns whose collation the catalog does not tell",
                                 kUnknownCollationHint);
  auto items = read_sort(p, top);
  if (!items) return;
  Arena arena;
  auto* partial = arena.shallow(select);
  std::vector<Node*> targets(select->target_list, select->target_list + select->n_target_list);
  auto width = static_cast<int>(top->outputs.size());
  int columns = width;
  auto column_for = [&](int output, const Node* hidden, Collation collation) {
    if (output < 0) {
      targets.push_back(arena.target(const_cast<Node*>(hidden), ""));
      output = columns++;
    }
    return partial_column(arena, output + 1, collation);
  };
  std::vector<Node*> order, on;
  for (const SortItem& item : *items) {
    Node* reference = column_for(item.column, item.hidden, item.collation);
    if (reference == nullptr)
      return forbid_several_groups(p, "ORDER BY with a type or collation that is not known before execution",
                                   kUnknownCollationHint);
    auto* sort = arena.shallow(item.sort);
    sort->node = reference;
    order.push_back(arena.node(sort));
  }
  bool with_on = inner(select->distinct_clause[0]) != nullptr;
  if (with_on) {
    // Each expression of DISTINCT ON leads ORDER BY, in some order, where there is an ORDER BY.
    for (const Node* expression : each(select->n_distinct_clause, select->distinct_clause)) {
      Node* found = nullptr;
      auto id = expression_id(p.statement, top, expression);
      for (size_t i = 0; i < items->size(); ++i)
        if (expression_id(p.statement, top, (*items)[i].sort->node) == id) found = as<PgQuery__SortBy>(order[i])->node;
      if (as<PgQuery__AConst>(expression) != nullptr)
        return forbid_several_groups(p, "DISTINCT ON with a position", "Write the expression.");
      if (found == nullptr) {
        Collation collation = collation_of(p.statement, top, expression);
        found = column_for(-1, expression, collation);
      }
      if (found == nullptr)
        return forbid_several_groups(p, "DISTINCT ON with a type or collation that is not known before execution",
                                     kUnknownCollationHint);
      on.push_back(found);
    }
  } else {
    partial->n_sort_clause = 0;
    if (columns != width) return forbid_several_groups(p, "ORDER BY beside DISTINCT");  // PostgreSQL refuses it
  }
  partial->n_target_list = targets.size();
  partial->target_list = arena.list(targets);
  final_distinct(p, top, partial, arena, on, order, columns);
}

// A chain of UNION and UNION ALL under a UNION: rows that every group has vanish among the duplicates.
static bool union_of_shares(Planning& p, Level* level, bool outermost, std::string& reason) {
  if (!level->set_operation()) {
    Distribution result = p.distribution.result_of(level);
    reason = result.reason;
    return result.kind != Distribution::Kind::bad;
  }
  if (level->select->op != PG_QUERY__SET_OPERATION__SETOP_UNION || (!outermost && level->limited()) || level->recursive)
    return false;
  return union_of_shares(p, level->arms[0], false, reason) && union_of_shares(p, level->arms[1], false, reason);
}

void combine_union(Planning& p, Level* top) {
  std::string reason;
  if (top->select->op != PG_QUERY__SET_OPERATION__SETOP_UNION || top->select->all ||
      !union_of_shares(p, top, true, reason))
    return forbid_several_groups(
        p, reason.empty() ? "INTERSECT or EXCEPT without the distribution column in the same place" : reason,
        "Select the distribution column in every part, or use UNION.");
  if (!comparable_outputs(p, top))
    return forbid_several_groups(p, "UNION over columns whose collation the catalog does not tell",
                                 kUnknownCollationHint);
  auto items = read_sort(p, top);
  if (!items) return;
  Arena arena;
  std::vector<Node*> order;
  for (const SortItem& item : *items) {
    Node* reference = item.column < 0 ? nullptr : partial_column(arena, item.column + 1, item.collation);
    if (reference == nullptr) return forbid_several_groups(p, "ORDER BY of a UNION", kUnknownCollationHint);
    auto* sort = arena.shallow(item.sort);
    sort->node = reference;
    order.push_back(arena.node(sort));
  }
  auto* partial = arena.shallow(top->select);
  partial->n_sort_clause = 0;
  final_distinct(p, top, partial, arena, {}, order, static_cast<int>(top->outputs.size()));
}

}  // namespace pgmosaic::plan
