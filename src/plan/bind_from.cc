// FROM items: tables, sub-queries, CTE references, functions and joins.
#include <algorithm>

#include "plan/bind.h"
#include "plan/types.h"

namespace pgmosaic::plan {

using namespace sql;

void Statement::bind_from(Level* level, size_t count, Node* const* items) {
  for (size_t i = 0; i < count; ++i)
    if (auto node = bind_item(level, items[i], -1)) level->from.push_back(std::move(node));
}

static std::unique_ptr<FromNode> leaf_of(const Instance& instance, int region) {
  auto leaf = std::make_unique<FromNode>();
  leaf->instance = instance.id;
  leaf->region = region;
  return leaf;
}

static void rename_columns(Instance& instance, const PgQuery__Alias* alias) {
  if (alias == nullptr) return;
  instance.alias = text_of(alias->aliasname);
  for (size_t i = 0; i < alias->n_colnames && i < instance.columns.size(); ++i)
    instance.columns[i].name = string_value(alias->colnames[i]);
}

// Rows that the planner cannot look into but that every group computes alike.
std::unique_ptr<FromNode> Statement::bind_free(Level* level, const PgQuery__Alias* alias, int region) {
  Instance& instance = add_instance(level, region);
  instance.placement = Instance::Placement::free;
  instance.columns_known = false;
  if (alias != nullptr) instance.alias = text_of(alias->aliasname);
  return leaf_of(instance, region);
}

std::unique_ptr<FromNode> Statement::bind_derived(Level* level, Level* inner_level, const PgQuery__Alias* alias,
                                                  int region, bool lateral) {
  Instance& instance = add_instance(level, region);
  instance.placement = Instance::Placement::derived;
  instance.level = inner_level;
  instance.lateral = lateral;
  instance.columns = inner_level->outputs;
  for (OutputColumn& column : instance.columns) {
    column.var = Var();
    column.expr = nullptr;
  }
  instance.columns_known = inner_level->outputs_known;
  rename_columns(instance, alias);
  instance.display = instance.alias;
  for (size_t i = 0; i < instance.columns.size() && inner_level->outputs_known; ++i)
    inner_level->outer_columns.push_back(Var{instance.id, static_cast<int>(i)});
  return leaf_of(instance, region);
}

// A CTE is planned as if its query stood in the place of each reference, except one that modifies data or refers to
// itself: that one is rows of unknown origin.
std::unique_ptr<FromNode> Statement::bind_cte(Level* level, const PgQuery__RangeVar* range, const CteScope* scope,
                                              int region) {
  auto* select = as<PgQuery__SelectStmt>(scope->cte->ctequery);
  for (Level* outer = level; outer != nullptr && select != nullptr; outer = outer->parent)
    if (outer->select == select) select = nullptr;
  for (const Level& other : levels)
    if (select != nullptr && other.recursive && other.select == select) select = nullptr;
  if (select == nullptr) {
    level->recursive = true;
    auto node = bind_free(level, range->alias, region);
    if (range->alias == nullptr) instances[node->instance].alias = text_of(range->relname);
    return node;
  }
  size_t first_level = levels.size();
  Level* bound = nullptr;
  if (scope->recursive && select->op == PG_QUERY__SET_OPERATION__SETOP_UNION) {
    // Marked before its arms are bound: the reference to itself must not bind it again.
    bound = new_level(scope->parent, scope->visible);
    bound->select = select;
    bound->recursive = true;
    bound->ctes = bind_with(select->with_clause, scope->parent, scope->visible);
    bind_arms(bound);
  } else {
    bound = bind_select(select, scope->parent, scope->visible);
  }
  for (size_t i = first_level; i < levels.size(); ++i)
    if (levels[i].recursive) bound->recursive = true;
  auto node = bind_derived(level, bound, range->alias, region, false);
  Instance& instance = instances[node->instance];
  if (range->alias == nullptr) instance.alias = text_of(range->relname);
  for (size_t i = 0; i < scope->cte->n_aliascolnames && i < instance.columns.size(); ++i)
    if (range->alias == nullptr || i >= range->alias->n_colnames)
      instance.columns[i].name = string_value(scope->cte->aliascolnames[i]);
  instance.display = text_of(range->relname);
  return node;
}

std::unique_ptr<FromNode> Statement::bind_item(Level* level, const Node* item, int region) {
  if (auto* range = as<PgQuery__RangeVar>(item)) {
    if (text_of(range->schemaname).empty())
      for (const CteScope* scope = level->ctes; scope != nullptr; scope = scope->outer)
        if (text_of(scope->cte->ctename) == text_of(range->relname)) return bind_cte(level, range, scope, region);
    Instance& table = add_table(level, range, region);
    if (table.placement == Instance::Placement::sharded_view) bind_view(table);
    return leaf_of(table, region);
  }
  if (auto* sub = as<PgQuery__RangeSubselect>(item)) {
    auto* select = as<PgQuery__SelectStmt>(sub->subquery);
    if (select == nullptr) return bind_free(level, sub->alias, region);
    Level* bound = bind_select(select, sub->lateral ? level : level->parent, level->ctes);
    return bind_derived(level, bound, sub->alias, region, sub->lateral);
  }
  if (auto* join = as<PgQuery__JoinExpr>(item)) return bind_join(level, join, region);
  if (auto* sample = as<PgQuery__RangeTableSample>(item)) {
    level->order_sensitive = true;
    return bind_item(level, sample->relation, region);
  }
  if (auto* function = as<PgQuery__RangeFunction>(item)) {
    for (const Node* part : each(function->n_functions, function->functions)) bind_expression(level, part);
    return bind_free(level, function->alias, region);
  }
  if (auto* table = as<PgQuery__RangeTableFunc>(item)) {
    for_each_child(inner(item), [&](const Message* child) {
      walk(child, [&](const Message* message) {
        if (auto* link = as<PgQuery__SubLink>(message)) bind_sublink(level, link, false);
        return as<PgQuery__SubLink>(message) == nullptr;
      });
    });
    return bind_free(level, table->alias, region);
  }
  too_complex = true;  // an item of unknown kind: nothing can be said about this query
  return nullptr;
}

std::unique_ptr<FromNode> Statement::bind_join(Level* level, const PgQuery__JoinExpr* join, int region) {
  auto node = std::make_unique<FromNode>();
  node->region = region;
  bool full = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL;
  bool right = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT;
  bool left = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_LEFT;
  node->kind = full ? FromNode::Kind::full : left || right ? FromNode::Kind::left : FromNode::Kind::inner;
  node->swapped = right;
  auto nullable = [&](bool is_nullable) {
    if (!is_nullable) return region;
    level->regions.push_back({region, false});
    return static_cast<int>(level->regions.size()) - 1;
  };
  int left_region = nullable(full || right), right_region = nullable(full || left);
  int first = static_cast<int>(level->instances.size());
  node->left = bind_item(level, join->larg, left_region);
  int middle = static_cast<int>(level->instances.size());
  node->right = bind_item(level, join->rarg, right_region);
  int last = static_cast<int>(level->instances.size());
  if (node->left == nullptr || node->right == nullptr) return nullptr;
  if (right) std::swap(node->left, node->right);
  node->nullable_left = full ? left_region : -1;
  node->nullable_right = full ? right_region : right ? left_region : left ? right_region : -1;

  int fact_region = node->nullable_right >= 0 ? node->nullable_right : region;
  if (join->quals != nullptr) {
    collect_facts(level, join->quals, fact_region, node->nullable_left, level->facts);
    bind_expression(level, join->quals, true);
  }
  if (join->is_natural || join->n_using_clause > 0) bind_using(level, join, *node, first, middle, last);
  if (join->alias != nullptr) {
    for (int i = first; i < last; ++i) instances[level->instances[i]].hidden = true;
    level->merged.clear();
    Instance& whole = add_instance(level, region);
    whole.alias = text_of(join->alias->aliasname);
    whole.columns_known = false;
  } else if (join->join_using_alias != nullptr) {
    Instance& shared = add_instance(level, region);
    shared.alias = text_of(join->join_using_alias->aliasname);
    shared.columns_known = false;
  }
  return node;
}

Instance& Statement::bind_merge(Level* level, const PgQuery__MergeStmt* merge) {
  auto join = std::make_unique<FromNode>();
  join->kind = FromNode::Kind::left;
  level->regions.push_back({-1, false});
  join->nullable_right = 0;
  Instance& target = add_table(level, merge->relation, 0);
  join->right = leaf_of(target, 0);
  join->left = bind_item(level, merge->source_relation, -1);
  collect_facts(level, merge->join_condition, 0, -1, level->facts);
  bind_expression(level, merge->join_condition, true);
  if (join->left != nullptr) level->from.push_back(std::move(join));
  return target;
}

// Columns named in USING, or common to both sides of a NATURAL join: equal, and merged into one.
void Statement::bind_using(Level* level, const PgQuery__JoinExpr* join, FromNode& node, int first, int middle,
                           int last) {
  auto find = [&](const std::string& name, int from, int to) {
    Var found;
    for (const OutputColumn& merged : level->merged)
      if (merged.name == name && merged.var.valid() &&
          std::any_of(level->instances.begin() + from, level->instances.begin() + to,
                      [&](int id) { return id == merged.var.instance; }))
        return merged.var;
    for (int i = from; i < to; ++i) {
      const Instance& candidate = instances[level->instances[i]];
      for (size_t c = 0; c < candidate.columns.size() && !candidate.hidden; ++c)
        if (candidate.columns[c].name == name && !found.valid()) found = Var{candidate.id, static_cast<int>(c)};
    }
    return found;
  };
  std::vector<std::string> names = names_of(join->n_using_clause, join->using_clause);
  if (join->is_natural) {
    for (int i = first; i < last; ++i)
      if (!instances[level->instances[i]].columns_known) level->outputs_known = false;
    for (int i = first; i < middle; ++i)
      for (const OutputColumn& candidate : instances[level->instances[i]].columns)
        if (find(candidate.name, middle, last).valid() &&
            std::find(names.begin(), names.end(), candidate.name) == names.end())
          names.push_back(candidate.name);
  }
  int fact_region = node.nullable_right >= 0 ? node.nullable_right : node.region;
  for (const std::string& name : names) {
    Var left = find(name, first, middle), right = find(name, middle, last);
    OutputColumn merged;
    merged.name = name;
    if (left.valid() && right.valid()) {
      Fact fact;
      fact.a = left;
      fact.b = right;
      fact.regions[0] = fact_region;
      fact.regions[1] = node.nullable_left;
      if (type_family(column(left)->type) == type_family(column(right)->type) && column(left)->type != 0)
        level->facts.push_back(fact);
      // The merged column of LEFT JOIN is the left one, of RIGHT JOIN the right one, of FULL JOIN neither.
      Var var = node.swapped ? right : left;
      merged = *column(var);
      merged.name = name;
      merged.var = node.kind == FromNode::Kind::full ? Var() : var;
      if (column(left)->type != column(right)->type) merged.type = 0;
    }
    node.merged.push_back(merged);
    std::erase_if(level->merged, [&](const OutputColumn& other) { return other.name == name; });
    level->merged.push_back(merged);
  }
}

}  // namespace pgmosaic::plan
