// Utility statements that are simply sent somewhere, and the names of those that are refused.
#include <map>

#include "plan/ddl_checks.h"
#include "plan/kinds.h"
#include "plan/planning.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

Plan utility(std::string command, Target::Kind where) {
  Plan plan;
  plan.command = std::move(command);
  plan.returns_rows = false;
  plan.target.kind = where;
  return plan;
}

// The groups that hold any of the tables.
Target::Kind tables_target(Statement& s, Level* level, size_t count, Node* const* tables) {
  for (size_t i = 0; i < count; ++i) {
    auto* range = as<PgQuery__RangeVar>(tables[i]);
    if (auto* vacuum = as<PgQuery__VacuumRelation>(tables[i])) range = vacuum->relation;
    if (range != nullptr) s.add_table(level, range, -1);
  }
  for (int id : level->instances)
    if (s.instance(id).placement != Instance::Placement::home) return Target::Kind::everywhere;
  return Target::Kind::home;
}

Plan plan_vacuum(std::string_view sql, const PgQuery__VacuumStmt* statement, const PlanContext& context) {
  Plan plan = utility(statement->is_vacuumcmd ? "VACUUM" : "ANALYZE", Target::Kind::everywhere);
  Planning p(sql, context, nullptr);
  if (statement->n_rels > 0)
    plan.target.kind =
        tables_target(p.statement, p.statement.new_level(nullptr, nullptr), statement->n_rels, statement->rels);
  // Without names it locks catalogs that the two databases on the home's server share: in one transaction over both it
  // would wait for itself.
  plan.no_transaction = statement->is_vacuumcmd || statement->n_rels == 0;
  plan.single_tag = true;
  plan.effects.writes = !plan.no_transaction;
  return plan;
}

Plan plan_lock(std::string_view sql, const PgQuery__LockStmt* statement, const PlanContext& context) {
  Planning p(sql, context, nullptr);
  Plan plan = utility("LOCK TABLE", Target::Kind::home);
  plan.target.kind =
      tables_target(p.statement, p.statement.new_level(nullptr, nullptr), statement->n_relations, statement->relations);
  plan.single_tag = true;
  plan.effects.writes = true;
  return plan;
}

// REINDEX and CLUSTER: each group's own.
Plan plan_rebuild(std::string command, const PgQuery__RangeVar* relation, std::string_view sql,
                  const PlanContext& context) {
  Plan plan = utility(std::move(command), Target::Kind::everywhere);
  if (relation != nullptr && lookup(context, relation) != nullptr) {
    Planning p(sql, context, nullptr);
    const Instance& table = p.statement.add_table(p.statement.new_level(nullptr, nullptr), relation, -1);
    if (table.placement == Instance::Placement::home) plan.target.kind = Target::Kind::home;
  }
  plan.no_transaction = plan.single_tag = true;
  return plan;
}

// REINDEX of a schema, a database or its catalogs: see router/reindex.h.
Plan plan_reindex_many(std::string_view sql, const Node* root, const PgQuery__ReindexStmt* reindex) {
  Plan plan = everywhere("REINDEX", sql);
  plan.no_transaction = true;
  plan.ddl->transactional = plan.ddl->changes_catalog = false;
  plan.ddl->object = std::string(text_of(reindex->name));
  plan.ddl->gentle = is_concurrent(reindex);
  const char* kind = reindex->kind == PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_SCHEMA   ? "SCHEMA"
                     : reindex->kind == PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_SYSTEM ? "SYSTEM"
                                                                                             : "DATABASE";
  plan.ddl->alone = std::string("REINDEX ") + kind;
  return naming_databases(std::move(plan), root);
}

}  // namespace

std::optional<Plan> plan_utility(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto* statement = as<PgQuery__VacuumStmt>(root)) return plan_vacuum(sql, statement, context);
  if (auto* statement = as<PgQuery__LockStmt>(root)) return plan_lock(sql, statement, context);
  if (auto* statement = as<PgQuery__ClusterStmt>(root))
    return plan_rebuild("CLUSTER", statement->relation, sql, context);
  if (auto* statement = as<PgQuery__ReindexStmt>(root)) {
    if (statement->relation == nullptr) return plan_reindex_many(sql, root, statement);
    return plan_rebuild("REINDEX", statement->relation, sql, context);
  }
  if (as<PgQuery__RefreshMatViewStmt>(root) != nullptr) {
    Plan plan = utility("REFRESH MATERIALIZED VIEW", Target::Kind::home);
    plan.effects.writes = true;
    return plan;
  }
  if (as<PgQuery__CheckPointStmt>(root) != nullptr) {
    Plan plan = utility("CHECKPOINT", Target::Kind::everywhere);
    plan.single_tag = true;
    return plan;
  }
  if (as<PgQuery__NotifyStmt>(root) != nullptr) {
    Plan plan = utility("NOTIFY", Target::Kind::home);
    plan.effects.not_preparable = plan.effects.writes = true;
    return plan;
  }
  if (as<PgQuery__VariableShowStmt>(root) != nullptr) {
    Plan plan = utility("SHOW", Target::Kind::any);
    plan.returns_rows = true;
    return plan;
  }
  return std::nullopt;
}

std::string construct_name(const Node* root) {
  static const std::map<std::string_view, std::string_view> kNames{
      {"CreateTableAsStmt", "this form of CREATE TABLE ... AS"},
      {"ExplainStmt", "EXPLAIN"},
  };
  const Message* message = inner(root);
  if (message == nullptr) return "an empty statement";
  auto it = kNames.find(message->descriptor->short_name);
  return it == kNames.end() ? "this statement (" + std::string(message->descriptor->short_name) + ")"
                            : std::string(it->second);
}

}  // namespace pgmosaic::plan
