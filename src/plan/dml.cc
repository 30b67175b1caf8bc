// UPDATE, DELETE and MERGE.
#include <algorithm>

#include "plan/function_traits.h"
#include "plan/planning.h"
#include "plan/view_targets.h"

namespace pgmosaic::plan {

using namespace sql;
using Placement = Instance::Placement;

namespace {

// Every other table of the statement gives at most one row per row of the target: a unique key of it is fixed by
// equalities. Otherwise each group might pick another one of the rows that match.
bool partners_unique(const Statement& s, const Level* level, int target) {
  for (int id : level->instances) {
    const Instance& other = s.instance(id);
    if (id == target) continue;
    if (other.table == nullptr) return false;
    auto fixed = [&](int column) {
      return std::any_of(level->facts.begin(), level->facts.end(), [&](const Fact& fact) {
        Var var{id, column};
        bool single = fact.kind == Fact::Kind::values && fact.values.size() <= 1;
        bool equal = fact.kind == Fact::Kind::equal && (fact.a.instance == target || fact.b.instance == target);
        return (equal && (fact.a == var || fact.b == var)) || (single && fact.a == var);
      });
    };
    bool unique = std::any_of(other.table->unique_keys.begin(), other.table->unique_keys.end(), [&](const auto& key) {
      return !key.columns.empty() && std::all_of(key.columns.begin(), key.columns.end(), fixed);
    });
    if (!unique) return false;
  }
  return true;
}

// A write that every group must perform alike. False: refused.
bool plan_reference_write(Planning& p, Level* level) {
  Plan& plan = p.plan;
  if (!p.statement.sharded.empty() || !p.statement.home_tables.empty()) {
    plan = unsupported("a write to a reference table that reads sharded or local tables",
                       "Read the rows first and write them with a statement of their own.");
    return false;
  }
  bool uncertain = !p.user_function.empty() || !p.home_only_function.empty() || p.statement.dml_in_cte ||
                   !immutable_expression(p.root, p.context.database);
  bool sub_queries = false;
  for (const SubLinkUse& use : level->sublinks) {
    sub_queries = true;
    if (p.distribution.result_of(use.level).kind != Distribution::Kind::replicated) uncertain = true;
  }
  if (sub_queries && uncertain && p.user_function.empty() && p.home_only_function.empty()) {
    // Sub-queries as such are fine where every group computes the same rows.
    uncertain = level->from_distribution.kind != Distribution::Kind::replicated || p.statement.dml_in_cte;
    walk(p.root, [&](const Message* message) {
      if (auto* call = as<PgQuery__FuncCall>(message)) {
        FunctionTraits traits = function_traits(call, p.context.database);
        uncertain = uncertain || !(traits.immutable || traits.combinable);
      }
      if (as<PgQuery__SQLValueFunction>(message) != nullptr) uncertain = true;
      return true;
    });
    uncertain = uncertain || names_a_moment(p.root);
    for (const SubLinkUse& use : level->sublinks)
      uncertain = uncertain || p.distribution.result_of(use.level).kind != Distribution::Kind::replicated;
  }
  if (uncertain || level->from_distribution.kind == Distribution::Kind::bad) {
    plan = unsupported("a write to a reference table with an expression that may differ between groups",
                       "Compute the value first (SELECT now(), random(), ...) and pass it as a parameter.");
    return false;
  }
  if (as<PgQuery__UpdateStmt>(p.root) != nullptr && !partners_unique(p.statement, level, level->instances[0])) {
    plan = unsupported("UPDATE ... FROM of a reference table where several rows may match one",
                       "Join on a unique key of the other table.");
    return false;
  }
  plan.target = Target{Target::Kind::everywhere, 0, {}};
  plan.reference_write = true;
  return true;
}

// The table that is written: under a view the one of the view's query. Null: refused.
const Instance* written_table(Planning& p, const Instance& target) {
  if (target.placement != Placement::derived) return &target;
  const Instance* base = base_table(p.statement, target);
  if (base == nullptr)
    p.plan = unsupported(
        "a write to the view \"" + target.display + "\", which is not of one sharded table alone, or has triggers",
        "Write to the tables under it.");
  return base;
}

// What UPDATE, DELETE and MERGE share once everything is bound. `target` is the table that is written.
void finish_write(Planning& p, Level* level, const Instance& named, size_t n_returning) {
  p.distribution.run(level);
  const Instance* written = written_table(p, named);
  if (written == nullptr) return;
  const Instance& target = *written;
  Plan& plan = p.plan;
  plan.effects.writes = true;
  plan.returns_rows = n_returning > 0;
  if (target.placement == Placement::reference) {
    if (plan_reference_write(p, level)) set_reference_cacheable(p);
    return;
  }
  if (target.placement == Placement::home && !p.statement.sharded.empty()) {
    plan = unsupported("a write to the local table \"" + target.display + "\" that reads sharded tables",
                       "Read the rows first and write them with a statement of their own.");
    return;
  }
  choose_target(p);
  if (plan.kind == PlanKind::unsupported || p.statement.sharded.empty()) return set_cacheable(p);
  if (target.placement == Placement::sharded) plan.written = target.table->oid;
  check_several_groups(p, level->from_distribution);
  if (target.table != nullptr && target.table->has_statement_triggers)
    forbid_several_groups(p, "statement-level triggers on \"" + target.display + "\"",
                          "They would fire once per group: pin the statement to one key.");
  forbid_physical_places(p, p.root);
  set_cacheable(p);
}

std::unique_ptr<FromNode> target_leaf(const Instance& target) {
  auto leaf = std::make_unique<FromNode>();
  leaf->instance = target.id;
  return leaf;
}

}  // namespace

// Whether SET gives the column a value that is not just the column.
static const PgQuery__ResTarget* assigned(const Statement& s, const Level* level, const Instance& target, int column,
                                          size_t count, Node* const* targets) {
  for (size_t i = 0; i < count; ++i) {
    auto* assignment = as<PgQuery__ResTarget>(targets[i]);
    if (assignment == nullptr || target.table->column_index(text_of(assignment->name)) != column) continue;
    auto* same = as<PgQuery__ColumnRef>(assignment->val);
    if (same != nullptr && s.resolve(same, level) == Var{target.id, column}) continue;
    return assignment;
  }
  return nullptr;
}

// The distribution column that SET changes; empty: none.
static std::string changed_key(const Statement& s, const Level* level, const Instance& target, size_t count,
                               Node* const* targets) {
  if (target.placement != Placement::sharded) return {};
  for (int column : target.table->key_columns)
    if (assigned(s, level, target, column, count, targets) != nullptr) return target.table->columns[column].name;
  return {};
}

static Plan refuse_key_change(const std::string& column) {
  return unsupported("MERGE that changes the distribution column \"" + column + "\" is not supported yet",
                     "Delete the row and insert it again with the new key, in one transaction.");
}

// The new distribution key, where its values are known when the statement runs; else empty. Mappers write all columns
// of a row, changed or not.
static KeyTuple constant_key(const Planning& p, const Level* level, const Instance& target,
                             const PgQuery__UpdateStmt* update) {
  KeyTuple key;
  for (int column : target.table->key_columns) {
    auto* assignment = assigned(p.statement, level, target, column, update->n_target_list, update->target_list);
    const catalog::Column& definition = target.table->columns[column];
    const catalog::Oid type = definition.base_type != 0 ? definition.base_type : definition.type;
    const Node* written = assignment == nullptr || assignment->n_indirection > 0 ? nullptr : assigned_value(assignment);
    ConstValue value;
    if (inner(written) == nullptr || !p.statement.read_constant(written, value) ||
        !p.statement.comparable(value, Var{target.id, column}) || !p.statement.parameter_type_certain(value, type))
      return {};
    KeySource source = value.source;
    source.type = type;
    source.typmod = definition.typmod;
    key.push_back(std::move(source));
  }
  return key;
}

// DEFAULT in what SET assigns, where the groups cannot compute it. Empty: none.
static std::string default_of_home(const catalog::Table* table, size_t count, Node* const* targets,
                                   const PlanContext& context) {
  if (table == nullptr || (table->kind != catalog::TableKind::sharded && table->kind != catalog::TableKind::reference))
    return {};
  bool asked = false;
  for (size_t i = 0; i < count; ++i)
    walk(targets[i], [&](const Message* message) {
      asked = asked || as<PgQuery__SetToDefault>(message) != nullptr;
      return true;
    });
  for (const catalog::Column& column : table->columns) {
    const bool named = std::any_of(targets, targets + count, [&](const Node* node) {
      auto* target = as<PgQuery__ResTarget>(node);
      return target != nullptr && text_of(target->name) == column.name;
    });
    if (asked && named && default_asks_home(column, table->kind == catalog::TableKind::reference, context))
      return column.name;
  }
  return {};
}

static Plan refuse_default(const std::string& column) {
  return unsupported("SET \"" + column + "\" = DEFAULT, which the groups cannot compute",
                     "Compute the value first (SELECT nextval('...'), now(), ...) and pass it on.");
}

// The column that a row of `given` columns leaves to a default of this kind. Empty: none.
std::string left_to_home(const catalog::Table& table, const std::vector<int>& given, const PlanContext& context) {
  for (size_t i = 0; i < table.columns.size(); ++i)
    if (std::find(given.begin(), given.end(), static_cast<int>(i)) == given.end() &&
        default_asks_home(table.columns[i], table.kind == catalog::TableKind::reference, context))
      return table.columns[i].name;
  return {};
}

// What WHEN clauses of MERGE into a sharded or reference table leave to a default. Empty: nothing.
static std::string default_in_merge(const catalog::Table* table, const PgQuery__MergeStmt* merge,
                                    const PlanContext& context) {
  if (table == nullptr || (table->kind != catalog::TableKind::sharded && table->kind != catalog::TableKind::reference))
    return {};
  for (const Node* node : each(merge->n_merge_when_clauses, merge->merge_when_clauses)) {
    auto* when = as<PgQuery__MergeWhenClause>(node);
    if (when == nullptr) continue;
    std::string column = default_of_home(table, when->n_target_list, when->target_list, context);
    std::vector<int> given;
    for (size_t i = 0; i < std::max(when->n_target_list, when->n_values); ++i) {
      const bool is_default = i < when->n_values && as<PgQuery__SetToDefault>(when->values[i]) != nullptr;
      auto* target = i < when->n_target_list ? as<PgQuery__ResTarget>(when->target_list[i]) : nullptr;
      const int index = target == nullptr ? static_cast<int>(i) : table->column_index(text_of(target->name));
      if (!is_default && index >= 0) given.push_back(index);
    }
    if (column.empty() && when->command_type == PG_QUERY__CMD_TYPE__CMD_INSERT)
      column = left_to_home(*table, given, context);
    if (!column.empty()) return column;
  }
  return {};
}

// UPDATE of a view: what only the table itself tells.
static bool writes_to_key(const Statement& s, const Instance& view, const PgQuery__UpdateStmt* update) {
  const Instance* base = base_table(s, view);
  bool found = false;
  for (const Node* node : each(update->n_target_list, update->target_list)) {
    walk(node, [&](const Message* message) {
      found = found || as<PgQuery__SetToDefault>(message) != nullptr;
      return !found;
    });
    auto* assignment = as<PgQuery__ResTarget>(node);
    if (assignment == nullptr || base == nullptr) continue;
    const Var column = base_of(s, Var{view.id, view.table->column_index(text_of(assignment->name))});
    const auto& keys = base->table->key_columns;
    found = found || std::find(keys.begin(), keys.end(), column.column) != keys.end();
  }
  return found;
}

void plan_update(Planning& p, const PgQuery__UpdateStmt* update) {
  Statement& s = p.statement;
  Level* level = s.new_level(nullptr, nullptr);
  level->ctes = s.bind_with(update->with_clause, nullptr, nullptr);
  Instance& target = s.add_target(level, update->relation);
  level->from.push_back(target_leaf(target));
  s.bind_from(level, update->n_from_clause, update->from_clause);
  s.bind_where(level, update->where_clause);
  for (const Node* node : each(update->n_target_list, update->target_list))
    if (auto* assignment = as<PgQuery__ResTarget>(node)) s.bind_expression(level, assignment->val);
  s.bind_targets(level, update->n_returning_list, update->returning_list);
  if (target.placement == Placement::derived && writes_to_key(s, target, update)) {
    p.plan =
        unsupported("UPDATE of a view that sets the distribution column or a DEFAULT", "Update the table under it.");
    return;
  }
  const std::string key = changed_key(s, level, target, update->n_target_list, update->target_list);
  KeyTuple constants;
  if (!key.empty()) constants = constant_key(p, level, target, update);
  if (std::string column = default_of_home(target.table, update->n_target_list, update->target_list, p.context);
      !column.empty()) {
    p.plan = refuse_default(column);
    return;
  }
  p.plan.command = "UPDATE";
  finish_write(p, level, target, update->n_returning_list);
  if (!key.empty() && p.plan.kind != PlanKind::unsupported)
    plan_key_change(p, level, target, update, std::move(constants));
  else if (key.empty())
    find_point_write(p, level, update);
}

void plan_delete(Planning& p, const PgQuery__DeleteStmt* remove) {
  Statement& s = p.statement;
  Level* level = s.new_level(nullptr, nullptr);
  level->ctes = s.bind_with(remove->with_clause, nullptr, nullptr);
  Instance& target = s.add_target(level, remove->relation);
  level->from.push_back(target_leaf(target));
  s.bind_from(level, remove->n_using_clause, remove->using_clause);
  s.bind_where(level, remove->where_clause);
  s.bind_targets(level, remove->n_returning_list, remove->returning_list);
  p.plan.command = "DELETE";
  finish_write(p, level, target, remove->n_returning_list);
  find_point_write(p, level, remove);
}

// Planned for one group only. A key that WHEN NOT MATCHED inserts elsewhere is refused by that group's partitions.
void plan_merge(Planning& p, const PgQuery__MergeStmt* merge) {
  Statement& s = p.statement;
  Level* level = s.new_level(nullptr, nullptr);
  level->ctes = s.bind_with(merge->with_clause, nullptr, nullptr);
  Instance& target = s.bind_merge(level, merge);
  for (const Node* node : each(merge->n_merge_when_clauses, merge->merge_when_clauses)) {
    auto* when = as<PgQuery__MergeWhenClause>(node);
    if (when == nullptr) continue;
    s.bind_expression(level, when->condition);
    for (const Node* value : each(when->n_values, when->values)) s.bind_expression(level, value);
    for (const Node* assignment : each(when->n_target_list, when->target_list))
      if (auto* res = as<PgQuery__ResTarget>(assignment)) s.bind_expression(level, res->val);
    if (when->command_type == PG_QUERY__CMD_TYPE__CMD_UPDATE) {
      std::string key = changed_key(s, level, target, when->n_target_list, when->target_list);
      if (!key.empty()) {
        p.plan = refuse_key_change(key);
        return;
      }
    }
  }
  if (std::string column = default_in_merge(target.table, merge, p.context); !column.empty()) {
    p.plan = refuse_default(column);
    return;
  }
  p.plan.command = "MERGE";
  finish_write(p, level, target, 0);
  if (p.plan.kind != PlanKind::unsupported && !s.sharded.empty())
    forbid_several_groups(p, "MERGE", "Pin the target and the source to one key, or use INSERT ... ON CONFLICT.");
}

void forbid_physical_places(Planning& p, const Node* root) {
  walk(root, [&](const Message* message) {
    auto* column = as<PgQuery__ColumnRef>(message);
    if (column != nullptr && string_value(column->fields[column->n_fields - 1]) == "ctid")
      forbid_several_groups(p, "ctid of a sharded table", "Use the primary key, or pin the statement to one key.");
    if (as<PgQuery__CurrentOfExpr>(message) != nullptr)
      forbid_several_groups(p, "WHERE CURRENT OF", "Use the primary key.");
    return true;
  });
}

}  // namespace pgmosaic::plan
