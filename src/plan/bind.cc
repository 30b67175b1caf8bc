#include "plan/bind.h"

#include <algorithm>

#include "plan/naming.h"
#include "plan/types.h"
#include "plan/typing.h"
#include "plan/virtual_relations.h"

namespace pgmosaic::plan {

using namespace sql;

Statement::Statement(std::string_view sql, const PlanContext& plan_context) : context(plan_context), text(sql) {
  scan_shape(sql, shape);
}

Level* Statement::new_level(Level* parent, const CteScope* ctes) {
  Level& level = levels.emplace_back();
  level.id = static_cast<int>(levels.size());
  level.parent = parent;
  level.ctes = ctes;
  return &level;
}

Instance& Statement::add_instance(Level* level, int region) {
  Instance& instance = instances.emplace_back();
  instance.id = static_cast<int>(instances.size()) - 1;
  instance.region = region;
  instance.in_view = inside_views_ > 0;
  level->instances.push_back(instance.id);
  return instance;
}

const catalog::Table* Statement::find_table(const PgQuery__RangeVar* range) const {
  std::string_view schema = text_of(range->schemaname), name = text_of(range->relname);
  if (context.database == nullptr) return nullptr;
  if (!schema.empty()) return context.database->find(schema, name);
  if (inside_views_ > 0) return nullptr;
  if (context.temporary != nullptr && context.temporary->contains(name)) return nullptr;
  for (const std::string& candidate : context.search_path)
    if (auto* table = context.database->find(candidate, name)) return table;
  return nullptr;
}

void Statement::describe_table(Instance& instance, const catalog::Table* table) {
  instance.table = table;
  for (const catalog::Column& column : table->columns) {
    OutputColumn out;
    out.name = column.name;
    out.type = column.base_type != 0 ? column.base_type : column.type;
    out.typmod = column.typmod;
    out.collation = column.collation;
    out.bytewise = column.bytewise_collation;
    out.not_null = column.not_null;
    instance.columns.push_back(out);
  }
}

// A view is placed as what it reads: with any sharded table over the groups (beside a local one refused there as well).
static Instance::Placement view_placement(catalog::TableKind reach) {
  using Placement = Instance::Placement;
  if (reach == catalog::TableKind::view) return Placement::sharded_view;
  return reach == catalog::TableKind::local ? Placement::home : Placement::reference;
}

Instance& Statement::add_table(Level* level, const PgQuery__RangeVar* range, int region) {
  using Placement = Instance::Placement;
  Instance& instance = add_instance(level, region);
  std::string name(text_of(range->relname)), schema(text_of(range->schemaname));
  instance.display = schema.empty() ? name : schema + "." + name;
  if (range->alias != nullptr) {
    instance.alias = text_of(range->alias->aliasname);
  } else {
    instance.alias = name;
    instance.schema = schema;
  }
  const catalog::Table* table = find_table(range);
  if (table == nullptr) {
    instance.placement = Placement::home;
    instance.columns_known = false;
  } else {
    describe_table(instance, table);
    switch (table->kind) {
      case catalog::TableKind::sharded: instance.placement = Placement::sharded; break;
      case catalog::TableKind::reference: instance.placement = Placement::reference; break;
      case catalog::TableKind::local: instance.placement = Placement::home; break;
      case catalog::TableKind::view: instance.placement = view_placement(context.database->reach(*table)); break;
    }
  }
  if (range->alias != nullptr) {
    for (size_t i = 0; i < range->alias->n_colnames && i < instance.columns.size(); ++i)
      instance.columns[i].name = string_value(range->alias->colnames[i]);
  }
  if (instance.placement == Placement::sharded || instance.placement == Placement::sharded_view)
    sharded.push_back(instance.id);
  if (table != nullptr && table->kind == catalog::TableKind::view && instance.placement != Placement::sharded_view &&
      context.views != nullptr)
    context.views->bound.push_back(table->oid);  // a view of sharded tables may take its place
  if (instance.placement == Placement::home) home_tables.push_back(instance.display);
  if (instance.placement == Placement::reference) reads_reference = true;
  return instance;
}

const CteScope* Statement::bind_with(const PgQuery__WithClause* with, Level* parent, const CteScope* ctes) {
  if (with == nullptr) return ctes;
  size_t first = cte_scopes_.size();
  for (const Node* node : each(with->n_ctes, with->ctes)) {
    auto* cte = as<PgQuery__CommonTableExpr>(node);
    CteScope& scope = cte_scopes_.emplace_back();
    scope.outer = ctes;
    scope.cte = cte;
    scope.recursive = with->recursive;
    scope.visible = ctes;
    scope.parent = parent;
    ctes = &scope;
  }
  for (size_t i = first; i < cte_scopes_.size() && with->recursive; ++i) cte_scopes_[i].visible = ctes;
  // Data-modifying CTEs run whether they are referenced or not.
  for (size_t i = first, end = cte_scopes_.size(); i < end; ++i) {
    if (as<PgQuery__SelectStmt>(cte_scopes_[i].cte->ctequery) == nullptr) {
      dml_in_cte = true;
      bind_dml_cte(cte_scopes_[i].cte->ctequery, parent, cte_scopes_[i].visible);
    }
  }
  return ctes;
}

Level* Statement::bind_select(const PgQuery__SelectStmt* select, Level* parent, const CteScope* ctes) {
  Level* level = new_level(parent, ctes);
  level->select = select;
  level->ctes = bind_with(select->with_clause, parent, ctes);
  if (select->n_locking_clause > 0) row_locks = true;
  // Deeply nested statements (and CTEs that multiply when they are put in place) stay unplanned.
  if (++depth_ > 60 || levels.size() > 300) {
    too_complex = true;
    level->outputs_known = false;
  } else if (select->op != PG_QUERY__SET_OPERATION__SETOP_NONE &&
             select->op != PG_QUERY__SET_OPERATION__SET_OPERATION_UNDEFINED) {
    bind_arms(level);
  } else if (select->n_values_lists > 0) {
    bind_values(level);
  } else {
    bind_from(level, select->n_from_clause, select->from_clause);
    bind_where(level, select->where_clause);
    bind_targets(level, select->n_target_list, select->target_list);
    for (const Node* node : each(select->n_group_clause, select->group_clause)) bind_expression(level, node);
    bind_expression(level, select->having_clause);
    for (const Node* node : each(select->n_window_clause, select->window_clause)) bind_expression(level, node);
    for (const Node* node : each(select->n_distinct_clause, select->distinct_clause)) bind_expression(level, node);
  }
  for (const Node* node : each(select->n_sort_clause, select->sort_clause)) bind_expression(level, node);
  bind_expression(level, select->limit_count);
  bind_expression(level, select->limit_offset);
  --depth_;
  return level;
}

void Statement::bind_arms(Level* level) {
  for (const PgQuery__SelectStmt* arm : {level->select->larg, level->select->rarg})
    level->arms.push_back(bind_select(arm, level->parent, level->ctes));
  Level *left = level->arms[0], *right = level->arms[1];
  level->outputs_known = left->outputs_known && right->outputs_known && left->outputs.size() == right->outputs.size();
  if (!level->outputs_known) return;
  level->outputs = left->outputs;
  for (size_t i = 0; i < level->outputs.size(); ++i) {
    OutputColumn& out = level->outputs[i];
    const OutputColumn& other = right->outputs[i];
    if (out.type != other.type) out.type = 0;
    if (out.collation != other.collation || !other.bytewise) out.bytewise = false;
    if (out.typmod != other.typmod) out.typmod = -1;
    out.not_null = out.not_null && other.not_null;
    out.var = Var();
    out.expr = nullptr;
  }
}

void Statement::bind_values(Level* level) {
  size_t width = 0;
  for (const Node* row : each(level->select->n_values_lists, level->select->values_lists)) {
    auto* list = as<PgQuery__List>(row);
    if (list == nullptr) continue;
    width = list->n_items;
    for (const Node* item : each(list->n_items, list->items)) bind_expression(level, item);
  }
  for (size_t i = 0; i < width; ++i) {
    OutputColumn out;
    out.name = "column" + std::to_string(i + 1);
    level->outputs.push_back(out);
  }
}

void Statement::bind_targets(Level* level, size_t count, Node* const* targets) {
  for (const Node* node : each(count, const_cast<Node**>(targets))) {
    auto* target = as<PgQuery__ResTarget>(node);
    if (target == nullptr) continue;
    bind_expression(level, target->val);
    OutputColumn out;
    out.expr = target->val;
    if (auto* reference = as<PgQuery__ColumnRef>(target->val)) {
      const Node* last = reference->fields[reference->n_fields - 1];
      if (as<PgQuery__AStar>(last) != nullptr) {
        std::string_view qualifier = reference->n_fields == 2 ? string_value(reference->fields[0]) : "";
        if (reference->n_fields > 2 || !expand_star(level, qualifier, level->outputs)) level->outputs_known = false;
        continue;
      }
      out.var = resolve(reference, level);
      if (auto* source = column(out.var)) {
        Var var = out.var;
        out = *source;
        out.var = var;
        out.expr = target->val;
      }
    } else {
      out.type = type_of(*this, level, target->val);
      if (out.type == oid::unknown) out.type = oid::text;
      Collation collation = collation_of(*this, level, target->val);
      out.collation = !is_collatable(out.type) && out.type != 0 ? 0
                      : collation == Collation::c               ? 950
                      : collation == Collation::none_or_default ? 100
                                                                : 1;
      out.bytewise = ordered_by_bytes(*this, level, target->val);
    }
    if (auto* indirection = as<PgQuery__AIndirection>(target->val)) {
      if (indirection->n_indirection > 0 &&
          as<PgQuery__AStar>(indirection->indirection[indirection->n_indirection - 1]) != nullptr)
        level->outputs_known = false;  // (composite).*
    }
    out.name = text_of(target->name).empty() ? result_column_name(target->val) : target->name;
    level->outputs.push_back(out);
  }
}

// The statement inside WITH x AS (INSERT/UPDATE/DELETE …): its tables are bound for pruning; its rows are unknown.
Level* Statement::bind_dml_cte(const Node* query, Level* parent, const CteScope* ctes) {
  Level* level = new_level(parent, ctes);
  level->writes = true;
  level->outputs_known = false;
  dml_levels.push_back(level);
  if (auto* update = as<PgQuery__UpdateStmt>(query)) {
    level->ctes = bind_with(update->with_clause, parent, ctes);
    auto leaf = std::make_unique<FromNode>();
    leaf->instance = add_table(level, update->relation, -1).id;
    level->from.push_back(std::move(leaf));
    bind_from(level, update->n_from_clause, update->from_clause);
    bind_where(level, update->where_clause);
    for (const Node* target : each(update->n_target_list, update->target_list)) bind_expression(level, target);
  } else if (auto* remove = as<PgQuery__DeleteStmt>(query)) {
    level->ctes = bind_with(remove->with_clause, parent, ctes);
    auto leaf = std::make_unique<FromNode>();
    leaf->instance = add_table(level, remove->relation, -1).id;
    level->from.push_back(std::move(leaf));
    bind_from(level, remove->n_using_clause, remove->using_clause);
    bind_where(level, remove->where_clause);
  } else if (auto* insert = as<PgQuery__InsertStmt>(query)) {
    level->ctes = bind_with(insert->with_clause, parent, ctes);
    auto leaf = std::make_unique<FromNode>();
    leaf->instance = add_table(level, insert->relation, -1).id;
    level->from.push_back(std::move(leaf));
    bind_inserted(level, insert);
  } else {
    too_complex = true;
  }
  if (!level->instances.empty() && instances[level->instances[0]].placement == Instance::Placement::reference)
    reference_write_in_cte = true;
  return level;
}

// The row of INSERT … VALUES in a WITH: its key is where the row goes, as if a condition said so.
void Statement::bind_inserted(Level* level, const PgQuery__InsertStmt* insert) {
  auto* select = as<PgQuery__SelectStmt>(insert->select_stmt);
  if (select == nullptr) return;
  if (select->n_values_lists == 0) {
    dml_levels.push_back(bind_select(select, level->parent, level->ctes));
    return;
  }
  const Instance& target = instances[level->instances[0]];
  auto* row = as<PgQuery__List>(select->values_lists[0]);
  for (const Node* list : each(select->n_values_lists, select->values_lists)) bind_expression(level, list);
  if (select->n_values_lists > 1 || row == nullptr || target.table == nullptr) return;
  for (size_t i = 0; i < row->n_items; ++i) {
    auto* named = insert->n_cols > i ? as<PgQuery__ResTarget>(insert->cols[i]) : nullptr;
    if (insert->n_cols > 0 && named == nullptr) continue;
    Var var{target.id, named == nullptr ? static_cast<int>(i) : target.table->column_index(text_of(named->name))};
    Fact fact;
    fact.kind = Fact::Kind::values;
    fact.a = var;
    ConstValue value;
    if (var.column < 0 || !read_constant(row->items[i], value) || !comparable(value, var)) continue;
    if (value.written == ConstValue::Written::null) continue;
    fact.values.push_back(std::move(value));
    level->facts.push_back(std::move(fact));
  }
}

const OutputColumn* Statement::column(Var var) const {
  if (!var.valid()) return nullptr;
  const Instance& owner = instances[var.instance];
  return var.column < static_cast<int>(owner.columns.size()) ? &owner.columns[var.column] : nullptr;
}

// `unsure`: the name may belong to something here that the planner cannot see into.
Var Statement::resolve_here(const std::vector<std::string>& names, const Level* level, bool& unsure) const {
  const std::string& name = names.back();
  if (names.size() == 1) {
    for (auto it = level->merged.rbegin(); it != level->merged.rend(); ++it)
      if (it->name == name) {
        unsure = !it->var.valid();
        return it->var;
      }
  }
  Var found;
  for (int id : level->instances) {
    const Instance& candidate = instances[id];
    if (candidate.hidden) continue;
    if (names.size() == 1) {
      if (!candidate.columns_known) unsure = true;
      // A table's own name is a reference to the whole row.
      if (candidate.alias == name) unsure = true;
    } else if (candidate.alias != names[names.size() - 2]) {
      continue;
    } else if (names.size() == 3 && candidate.schema != names[0] &&
               (candidate.table == nullptr || candidate.table->schema != names[0])) {
      continue;
    } else if (!candidate.columns_known) {
      unsure = true;
      return Var();
    }
    for (size_t i = 0; i < candidate.columns.size(); ++i) {
      if (candidate.columns[i].name != name) continue;
      if (found.valid()) {
        unsure = true;  // ambiguous: PostgreSQL complains
        return Var();
      }
      found = Var{id, static_cast<int>(i)};
    }
    if (names.size() > 1 && !found.valid()) unsure = true;  // right table, no such column (system columns, …)
  }
  if (found.valid()) unsure = false;
  return found;
}

Var Statement::resolve(const PgQuery__ColumnRef* reference, const Level* level) const {
  std::vector<std::string> names;
  for (const Node* field : each(reference->n_fields, reference->fields)) {
    if (as<PgQuery__String>(field) == nullptr) return Var();
    names.emplace_back(string_value(field));
  }
  if (names.empty() || names.size() > 3) return Var();
  for (; level != nullptr; level = level->parent) {
    bool unsure = false;
    Var var = resolve_here(names, level, unsure);
    if (var.valid()) return var;
    if (unsure) return Var();
  }
  return Var();
}

bool Statement::star_of(const FromNode& node, std::vector<OutputColumn>& out) const {
  if (node.kind == FromNode::Kind::leaf) {
    const Instance& leaf = instances[node.instance];
    if (!leaf.columns_known) return false;
    for (size_t i = 0; i < leaf.columns.size(); ++i) {
      out.push_back(leaf.columns[i]);
      out.back().var = Var{leaf.id, static_cast<int>(i)};
      out.back().expr = nullptr;
    }
    return true;
  }
  out.insert(out.end(), node.merged.begin(), node.merged.end());
  std::vector<OutputColumn> rest;
  const FromNode& first = node.swapped ? *node.right : *node.left;
  const FromNode& second = node.swapped ? *node.left : *node.right;
  if (!star_of(first, rest) || !star_of(second, rest)) return false;
  for (const OutputColumn& column : rest) {
    bool is_merged = std::any_of(node.merged.begin(), node.merged.end(),
                                 [&](const OutputColumn& merged) { return merged.name == column.name; });
    if (!is_merged) out.push_back(column);
  }
  return true;
}

bool Statement::expand_star(const Level* level, std::string_view qualifier, std::vector<OutputColumn>& out) const {
  if (qualifier.empty()) {
    for (const auto& item : level->from)
      if (!star_of(*item, out)) return false;
    return true;
  }
  for (int id : level->instances) {
    const Instance& candidate = instances[id];
    if (candidate.hidden || candidate.alias != qualifier) continue;
    if (!candidate.columns_known) return false;
    for (size_t i = 0; i < candidate.columns.size(); ++i) {
      out.push_back(candidate.columns[i]);
      out.back().var = Var{id, static_cast<int>(i)};
      out.back().expr = nullptr;
    }
    return true;
  }
  return false;
}

}  // namespace pgmosaic::plan
