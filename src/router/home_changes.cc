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

net::Task<Status> HomeChanges::follow(const std::vector<HomeChange>& changes) {
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
