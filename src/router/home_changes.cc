#include "router/home_changes.h"

#include <algorithm>

#include "pool/settings.h"
#include "router/new_tables.h"

namespace pgmosaic::router {

namespace {

// What the home would have had to do otherwise, or what must come before it.
bool needs_more(const plan::Ddl& ddl) {
  const bool moves_rows = std::any_of(ddl.new_partitions.begin(), ddl.new_partitions.end(),
                                      [](const plan::Ddl::NewPartition& partition) { return partition.adopted; });
  const bool local = !ddl.new_sharded && (!ddl.new_table || ddl.new_table->kind == catalog::TableKind::local);
  return moves_rows || !local || ddl.from_query || ddl.replaced_leaves || ddl.new_columns || ddl.index ||
         ddl.hash_password || ddl.server_wide || !ddl.transactional || !ddl.alone.empty() || ddl.everywhere.size() != 1;
}

Error refused(const HomeChange& change) {
  return make_error("0A000", change.tag + " of this kind in a function, procedure or block is not supported",
                    "The servers would do different things for it: run it as a statement of its own.");
}

}  // namespace

// A table made of a query: the other groups get an empty one.
plan::PlanPtr HomeChanges::plan(const HomeChange& change) {
  plan::PlanPtr plan = s_.plan_text(change.sql, {});
  if (plan->kind != plan::PlanKind::ddl || !plan->ddl->from_query || plan->ddl->from_query->explain) return plan;
  return s_.plan_text("CREATE TABLE " + change.name + " (" + change.columns + ")", {});
}

// A partition of the home's shadow, which another group will have: it must still be there, and without rows.
net::Task<Status> HomeChanges::check_partition(const HomeChange& change, const plan::Ddl::NewPartition& partition) {
  const std::string question =
      "SELECT pg_catalog.to_regclass(" + pool::quote_literal(qualified_name(partition.schema, partition.table)) +
      ") IS DISTINCT FROM '" + change.made +
      "'::pg_catalog.oid OR EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = "
      "pg_catalog.pg_backend_pid() AND locktype = 'relation' AND mode = 'RowExclusiveLock' AND relation = '" +
      change.made + "'::pg_catalog.oid)";
  auto rows = co_await s_.backends_.held(s_.snapshot_->home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows[0][0] != "t") co_return Status{};
  co_return make_error("0A000",
                       "a function that makes a partition of a sharded table, and then writes to it or changes it",
                       "The home runs it, which has no rows of it: write them with a statement of their own.");
}

// The home's catalogs now, and as they were before the statement. A role's name in another session's transaction does
// not matter: what it commits meanwhile is in both, or fails elsewhere.
net::Task<Result<RoleChanges>> HomeChanges::role_changes(const Guard& guard) {
  const auto& groups = s_.snapshot_->groups;
  const bool others = std::any_of(groups.begin(), groups.end(),
                                  [](const catalog::Group& group) { return !group.home && !group.beside_home; });
  if (others && guard.touches_roles() && !guard.reads_passwords())
    co_return make_error("0A000",
                         "roles made or changed in a function, procedure or block by a user who is no superuser",
                         "The other servers need the passwords, which only superusers may read: run CREATE, ALTER or "
                         "DROP ROLE as a statement of its own.");
  std::optional<RoleCatalogs> before = guard.roles_before();
  if (!before) {
    auto borrowed = co_await s_.backends_.borrow(s_.snapshot_->home);
    if (!borrowed.ok()) co_return std::move(borrowed.error());
    auto read = co_await read_roles(**borrowed, guard.reads_passwords());
    s_.backends_.give_back();
    if (!read.ok()) co_return std::move(read.error());
    before = std::move(*read);
  }
  auto behind = co_await read_roles(*s_.backends_.held(s_.snapshot_->home)->conn, guard.reads_passwords());
  if (!behind.ok()) co_return std::move(behind.error());
  RoleChanges changes = compare_roles(*before, *behind);
  if (changes.of_others)
    co_return make_error("0A000", "settings and comments of databases or tablespaces in a function, procedure or block",
                         "The servers have other databases: run it as a statement of its own.");
  for (const std::string& name : changes.remade) s_.backends_.remade_roles().insert(name);
  co_return changes;
}

net::Task<Status> HomeChanges::change_roles(const std::vector<std::string>& statements) {
  if (statements.empty()) co_return Status{};
  plan::Ddl ddl;
  ddl.everywhere = statements;
  ddl.tag = "ALTER ROLE";
  ddl.changes_catalog = false;
  ddl.server_wide = ddl.done_at_home = true;
  std::string tag;
  Status status = co_await s_.apply_ddl(ddl, tag, nullptr);
  if (status.ok() || !status.error().sqlstate.starts_with("42")) co_return status;
  Error error = make_error("0A000", "roles changed in a function, procedure or block in a way that fails elsewhere",
                           "The servers have other roles or rights: run it as a statement of its own.");
  error.detail = status.error().message;
  co_return error;
}

net::Task<Status> HomeChanges::follow(const Guard& guard) {
  auto home = co_await s_.backends_.get(s_.snapshot_->home);  // it may have been lost behind its answer
  if (!home.ok()) co_return std::move(home.error());
  RoleChanges roles;
  s_.changed_schema_ = s_.changed_schema_ || guard.touches_memberships() || !guard.changes().empty();
  if (guard.touches_memberships()) {
    CO_TRY_ASSIGN(roles, co_await role_changes(guard));
  }
  CO_TRY(co_await change_roles(roles.first));
  CO_TRY(co_await follow_schema(guard.changes()));
  CO_TRY(co_await follow_unnoted(guard.unnoted()));
  co_return co_await change_roles(roles.last);
}

// Those that the other groups have behind all other changes are none of ours.
net::Task<Status> HomeChanges::follow_unnoted(const std::vector<HomeChange>& tables) {
  if (tables.empty()) co_return Status{};
  const auto& groups = s_.snapshot_->groups;
  const auto other = std::find_if(groups.begin(), groups.end(), [](const auto& group) { return !group.home; });
  if (other == groups.end()) co_return Status{};
  auto backend = co_await s_.backends_.get(other->id);
  if (!backend.ok()) co_return std::move(backend.error());
  std::vector<HomeChange> missing;
  for (const HomeChange& table : tables) {
    const std::string question = "SELECT pg_catalog.to_regclass(" + pool::quote_literal(table.name) + ") IS NULL";
    auto rows = co_await (*backend)->conn->query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    if (rows->rows[0][0] != "t") continue;
    if (table.sql.empty()) co_return refused(table);
    missing.push_back(table);
  }
  s_.changed_schema_ = s_.changed_schema_ || !missing.empty();
  co_return co_await follow_schema(missing);
}

net::Task<Status> HomeChanges::follow_schema(const std::vector<HomeChange>& changes) {
  for (const HomeChange& change : changes) {
    const plan::PlanPtr planned = plan(change);
    const plan::Plan& plan = *planned;
    if (plan.kind == plan::PlanKind::unsupported) co_return Error(*plan.error);
    if (plan.kind == plan::PlanKind::route && plan.target.kind == plan::Target::Kind::home) continue;
    if (plan.kind != plan::PlanKind::ddl || needs_more(*plan.ddl)) co_return refused(change);
    plan::Ddl ddl = *plan.ddl;
    for (const auto& partition : ddl.new_partitions) CO_TRY(co_await check_partition(change, partition));
    ddl.done_at_home = true;
    ddl.unknown_relation = false;  // it is no temporary one
    std::string tag;
    Status status = co_await s_.apply_ddl(ddl, tag, nullptr);
    if (!status.ok() && !status.error().sqlstate.starts_with("42")) co_return status;
    if (status.ok()) continue;
    Error error = refused(change);
    error.detail = "Elsewhere it fails: " + status.error().message;
    co_return error;
  }
  co_return Status{};
}

}  // namespace pgmosaic::router
