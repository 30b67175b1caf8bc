#include "router/home_changes.h"

#include "router/create_as.h"

namespace pgmosaic::router {

namespace {

// What the home would have had to do otherwise, or what must come before it.
bool needs_more(const plan::Ddl& ddl) {
  const bool moves_rows = std::any_of(ddl.new_partitions.begin(), ddl.new_partitions.end(),
                                      [](const plan::Ddl::NewPartition& partition) { return partition.adopted; });
  const bool local = !ddl.new_sharded && (!ddl.new_table || ddl.new_table->kind == catalog::TableKind::local);
  return moves_rows || !local || ddl.from_query || ddl.replaced_leaves || ddl.new_columns || ddl.index ||
         ddl.hash_password || !ddl.transactional || !ddl.alone.empty() || ddl.everywhere.size() != 1;
}

Error refused(const HomeChange& change) {
  return make_error("0A000", change.tag + " of this kind in a function, procedure or block is not supported",
                    "The servers would do different things for it: run it as a statement of its own.");
}

}  // namespace

// A table made of a query: the other groups get an empty one.
net::Task<Result<plan::PlanPtr>> HomeChanges::plan(const HomeChange& change) {
  plan::PlanPtr plan = s_.plan_text(change.sql, {});
  if (plan->kind != plan::PlanKind::ddl || !plan->ddl->from_query || plan->ddl->from_query->explain) co_return plan;
  const std::string question = columns_question(change.made);
  pool::ServerConn& home = *s_.backends_.held(s_.snapshot_->home)->conn;
  auto columns = co_await home.query(question);
  if (!columns.ok()) co_return std::move(columns.error());
  const std::string named = "SELECT " + change.made + "::pg_catalog.regclass";
  auto name = co_await home.query(named);
  if (!name.ok()) co_return std::move(name.error());
  co_return s_.plan_text("CREATE TABLE " + *name->rows[0][0] + " (" + columns->rows[0][0].value_or("") + ")", {});
}

// Of a partition of the home's shadow, which another group has.
net::Task<Status> HomeChanges::check_rows(const HomeChange& change) {
  const std::string question =
      "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() AND locktype = "
      "'relation' AND mode = 'RowExclusiveLock' AND relation = " +
      change.made + ")";
  auto rows = co_await s_.backends_.held(s_.snapshot_->home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows[0][0] != "t") co_return Status{};
  co_return make_error("0A000", "a function that makes a partition of a sharded table, and writes to it",
                       "The home runs it, which has no rows of it: write them with a statement of their own.");
}

net::Task<Status> HomeChanges::follow(const std::vector<HomeChange>& changes) {
  for (const HomeChange& change : changes) {
    auto planned = co_await plan(change);
    if (!planned.ok()) co_return std::move(planned.error());
    const plan::Plan& plan = **planned;
    if (plan.kind == plan::PlanKind::unsupported) co_return Error(*plan.error);
    if (plan.kind == plan::PlanKind::route && plan.target.kind == plan::Target::Kind::home) continue;
    if (plan.kind != plan::PlanKind::ddl || needs_more(*plan.ddl)) co_return refused(change);
    plan::Ddl ddl = *plan.ddl;
    if (!ddl.new_partitions.empty()) CO_TRY(co_await check_rows(change));
    ddl.done_at_home = true;
    std::string tag;
    CO_TRY(co_await s_.apply_ddl(ddl, tag, nullptr));
  }
  co_return Status{};
}

}  // namespace pgmosaic::router
