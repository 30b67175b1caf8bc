// Rows of several groups put together as they are.
//
//   SELECT a FROM t                         each group: the same; the router concatenates
//   SELECT a FROM t ORDER BY b LIMIT 5      each group: SELECT a, b FROM t ORDER BY b LIMIT 5; the router merges by b,
//                                           hides it and stops after five rows
//   SELECT * FROM (SELECT a FROM t ORDER BY a) x LIMIT 5   the same, as if ORDER BY x.a stood there
//   SELECT a FROM t ORDER BY a COLLATE "x"  as a combine: a PostgreSQL sorts the groups' rows
#include <algorithm>

#include "plan/rules/select_shape.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

SortKey sort_key(const SortItem& item, int column) {
  SortKey key;
  key.column = static_cast<uint16_t>(column);
  key.type = item.type;
  key.descending = item.sort->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_DESC;
  key.nulls_first = item.sort->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_FIRST ||
                    (item.sort->sortby_nulls != PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_LAST && key.descending);
  return key;
}

// The select with columns for the sort expressions behind its own, and with another LIMIT.
PgQuery__SelectStmt* with_hidden_columns(Arena& arena, const PgQuery__SelectStmt* select,
                                         const std::vector<const Node*>& hidden) {
  auto* copy = arena.shallow(select);
  std::vector<Node*> targets(select->target_list, select->target_list + select->n_target_list);
  for (const Node* expression : hidden) targets.push_back(arena.target(const_cast<Node*>(expression), ""));
  copy->n_target_list = targets.size();
  copy->target_list = arena.list(targets);
  return copy;
}

// A PostgreSQL sorts, because the router cannot compare the values as PostgreSQL would.
void combine_sorted(Planning& p, Level* top, const std::vector<SortItem>& items, const Limits& limits) {
  Arena arena;
  const auto* select = top->select;
  std::vector<const Node*> hidden;
  std::vector<Node*> order;
  auto* final_statement = final_select(arena);
  auto width = static_cast<int>(top->outputs.size());
  for (const SortItem& item : items) {
    int column = item.column;
    if (column < 0) {
      hidden.push_back(item.hidden);
      column = width + static_cast<int>(hidden.size()) - 1;
    }
    Node* reference = partial_column(arena, column + 1, item.collation);
    // A collation written in the statement is PostgreSQL's to apply, whatever it is.
    if (auto* written = as<PgQuery__CollateClause>(item.sort->node); reference == nullptr && written != nullptr) {
      auto* collate = arena.shallow(written);
      collate->arg = arena.column({kPartialRelation, "c" + std::to_string(column + 1)});
      reference = arena.node(collate);
    }
    if (reference == nullptr)
      return forbid_several_groups(p, "ORDER BY with a type or collation that is not known before execution",
                                   kUnknownCollationHint);
    auto* sort = arena.shallow(item.sort);
    sort->node = reference;
    order.push_back(arena.node(sort));
  }
  if (top->set_operation() && !hidden.empty()) return forbid_several_groups(p, "ORDER BY of a set operation");
  auto* partial = hidden.empty() ? arena.shallow(select) : with_hidden_columns(arena, select, hidden);
  if (limits.given && limits.simple && limits.has_limit && !limits.with_ties) {
    partial->limit_count = pushed_limit(arena, select, limits);
    partial->limit_offset = nullptr;
  } else {
    partial->n_sort_clause = 0;
    partial->limit_count = partial->limit_offset = nullptr;
    partial->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  }
  std::vector<Node*> targets;
  for (int i = 0; i < width; ++i)
    targets.push_back(
        arena.target(arena.column({kPartialRelation, "c" + std::to_string(i + 1)}), top->outputs[i].name));
  final_statement->n_target_list = targets.size();
  final_statement->target_list = arena.list(targets);
  final_statement->n_sort_clause = order.size();
  final_statement->sort_clause = arena.list(order);
  final_statement->limit_count = select->limit_count;
  final_statement->limit_offset = select->limit_offset;
  final_statement->limit_option = select->limit_option;
  set_combine(p, arena.node(partial), arena.node(final_statement), width + static_cast<int>(hidden.size()));
}

}  // namespace

namespace {

// What a query's rows are sorted by, of its result columns.
struct Order {
  bool sorted = false;
  bool known = true;  // by columns of the result
  std::vector<std::pair<int, const PgQuery__SortBy*>> keys;
};

// The rows stay in the order in which FROM gives them.
bool keeps_order(const Level* level) {
  return !level->set_operation() && !level->aggregated() && level->windows.empty() && level->sublinks.empty() &&
         level->select->n_distinct_clause == 0 && level->select->n_locking_clause == 0 && !level->writes;
}

const Instance* only_query(Planning& p, const Level* level) {
  if (level->from.size() != 1 || level->from[0]->kind != FromNode::Kind::leaf || level->from[0]->instance < 0)
    return nullptr;
  const Instance& instance = p.statement.instance(level->from[0]->instance);
  return instance.placement == Instance::Placement::derived ? &instance : nullptr;
}

Order order_of(Planning& p, Level* level) {
  Order order;
  if (level->select == nullptr || level->recursive) return order;
  if (level->select->n_sort_clause > 0) {
    order.sorted = true;
    const auto items = read_sort(p, level);
    if (!items) p.plan.multi_group_error.reset();
    order.known = items.has_value();
    for (const SortItem& item : order.known ? *items : std::vector<SortItem>()) {
      order.known = order.known && item.column >= 0 && as<PgQuery__CollateClause>(item.sort->node) == nullptr;
      order.keys.emplace_back(item.column, item.sort);
    }
    return order;
  }
  const Instance* query = keeps_order(level) ? only_query(p, level) : nullptr;
  if (query == nullptr) return order;
  order = order_of(p, query->level);
  order.known = order.known && level->outputs_known;
  for (auto& [column, sort] : order.keys) {
    const auto same = [&](const OutputColumn& out) { return out.var == Var{query->id, column}; };
    const auto found = std::find_if(level->outputs.begin(), level->outputs.end(), same);
    order.known = order.known && found != level->outputs.end();
    column = static_cast<int>(found - level->outputs.begin());
  }
  return order;
}

// ORDER BY of the query that FROM is, written for `top`. PostgreSQL keeps its order, and programs rely on it. Null:
// none, or it cannot be written.
PgQuery__SelectStmt* with_inner_order(Planning& p, Level* top, Arena& arena) {
  const Instance* query = top->select->n_sort_clause == 0 && keeps_order(top) ? only_query(p, top) : nullptr;
  if (query == nullptr) return nullptr;
  Order order = order_of(p, query->level);
  if (!order.sorted) return nullptr;
  order.known = order.known && top->outputs_known && query->columns_known;
  std::vector<Node*> keys;
  for (const auto& [column, sort] : order.keys) {
    if (!order.known || static_cast<std::size_t>(column) >= query->columns.size()) break;
    const std::string& name = query->columns[static_cast<std::size_t>(column)].name;
    const auto named = [&](const OutputColumn& other) { return other.name == name; };
    if (std::count_if(query->columns.begin(), query->columns.end(), named) != 1) break;
    auto* key = arena.shallow(sort);
    key->node = arena.column({query->alias, name});
    keys.push_back(arena.node(key));
  }
  if (keys.size() != order.keys.size() || keys.empty()) {
    if (top->limited())
      forbid_several_groups(p, "ORDER BY in a sub-query, by what is no column of it, and LIMIT or OFFSET outside",
                            "Put the ORDER BY beside the LIMIT.");
    return nullptr;
  }
  auto* select = arena.shallow(top->select);
  select->n_sort_clause = keys.size();
  select->sort_clause = arena.list(keys);
  return select;
}

}  // namespace

// The groups' results are parts of the result: put them in order, cut them at LIMIT.
static void gather_sorted(Planning& p, Level* top, bool sorted_inside) {
  const auto* select = top->select;
  if (select->n_locking_clause > 0 && (select->n_sort_clause > 0 || top->limited()))
    return forbid_several_groups(p, "FOR UPDATE with ORDER BY or LIMIT",
                                 "Select the keys first, then lock the rows by key.");
  Limits limits = read_limits(p, select);
  auto items = read_sort(p, top);
  if (!items) return;
  bool mergeable = limits.simple && !limits.with_ties;
  for (const SortItem& item : *items) mergeable = mergeable && item.mergeable;
  if (!mergeable) {
    if (!top->outputs_known)
      return forbid_several_groups(p, "LIMIT with an expression over columns that the catalog does not tell");
    return combine_sorted(p, top, *items, limits);
  }
  Gather& gather = p.plan.gather.emplace();
  gather.limit = limits.limit;
  gather.offset = limits.offset;
  std::vector<const Node*> hidden;
  for (const SortItem& item : *items) {
    int column = item.column;
    if (column < 0) {
      hidden.push_back(item.hidden);
      column = static_cast<int>(top->outputs.size() + hidden.size()) - 1;
    }
    gather.merge.push_back(sort_key(item, column));
  }
  gather.hidden_columns = static_cast<uint16_t>(hidden.size());
  if (hidden.empty() && !limits.has_offset && !sorted_inside) return;
  if (top->set_operation() && !hidden.empty()) return forbid_several_groups(p, "ORDER BY of a set operation");
  Arena arena;
  auto* each_group = hidden.empty() ? arena.shallow(select) : with_hidden_columns(arena, select, hidden);
  if (limits.has_limit) each_group->limit_count = pushed_limit(arena, select, limits);
  each_group->limit_offset = nullptr;
  if (each_group->limit_count == nullptr) each_group->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  auto sql = deparse_statement(arena.node(each_group));
  if (!sql) return forbid_several_groups(p, "a statement that cannot be rewritten");
  gather.sql = *sql;
  p.plan.rewritten_literals = !p.statement.shape.literals.empty();
}

static void gather_rows(Planning& p, Level* top) {
  Arena arena;
  const PgQuery__SelectStmt* written = top->select;
  const PgQuery__SelectStmt* sorted = with_inner_order(p, top, arena);
  if (p.plan.multi_group_error) return;
  if (sorted != nullptr) top->select = sorted;
  gather_sorted(p, top, sorted != nullptr);
  top->select = written;
}

void gather_select(Planning& p, Level* top) {
  DistributionAnalysis& analysis = p.distribution;
  if (top->set_operation()) {
    const auto* select = top->select;
    bool all = select->op == PG_QUERY__SET_OPERATION__SETOP_UNION && select->all;
    if (!all && analysis.rows_of(top).kind == Distribution::Kind::bad) return combine_union(p, top);
    return gather_rows(p, top);
  }
  const Distribution& rows = top->from_distribution;
  bool whole = true;  // each group's result stands for itself
  if (top->aggregated()) {
    for (const Node* node : each(top->select->n_group_clause, top->select->group_clause))
      if (as<PgQuery__GroupingSet>(node) != nullptr)
        return forbid_several_groups(p, "GROUPING SETS, CUBE or ROLLUP", "Run one query per grouping.");
    // Without GROUP BY even a group that has no rows answers with one.
    whole = top->has_group() && analysis.covers_key(top, rows, analysis.group_vars(top));
  }
  if (!top->windows.empty() && (!whole || !analysis.windows_within_key(top)))
    return forbid_several_groups(p, "a window function whose PARTITION BY lacks the distribution column",
                                 "Add the distribution column to PARTITION BY.");
  if (!whole) return combine_aggregates(p, top);
  if (top->select->n_distinct_clause > 0 && !analysis.covers_key(top, rows, analysis.distinct_vars(top)))
    return combine_distinct(p, top);
  gather_rows(p, top);
}

}  // namespace pgmosaic::plan
