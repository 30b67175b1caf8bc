// Statements with now() and its kin that must say what another backend says: see plan/moments.h.
#include "plan/moments.h"

#include "router/execution.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

// JSON's timestamps are ISO's under every DateStyle.
constexpr std::string_view kAskMoment =
    "SELECT pg_catalog.to_json(pg_catalog.timezone('UTC', pg_catalog.now())) OPERATOR(pg_catalog.#>>) '{}', "
    "pg_catalog.to_json(pg_catalog.timezone('UTC', pg_catalog.statement_timestamp())) OPERATOR(pg_catalog.#>>) '{}'";

}  // namespace

// One group alone has a moment of its own: that of the transaction, if the group came to it first.
bool Session::needs_moment(const plan::Plan& plan, const exec::Resolution& where) {
  if (!plan.moments) return false;
  exec::GroupId first = backends_.first_group();
  if (first == 0 && extended_ && extended_->executed_in_batch)  // a second group makes the batch a transaction
    first = extended_->batch.empty() ? 0 : extended_->batch.front();
  if (plan.fill) return plan.fill->splits_moments || (first != 0 && first != snapshot_->home);
  const bool several = !where.single() || plan.kind == plan::PlanKind::insert_split;
  return several || (first != 0 && first != where.one);
}

// Asks for the moment, and runs the statement with it.
net::Task<Status> Session::run_at_moment(const plan::Plan& plan, Execution& asked) {
  if (plan.view_moments && !asked.where.single() && plan.multi_group_error) co_return Error(*plan.multi_group_error);
  if (plan.view_moments)
    co_return make_error("0A000", "a view that asks for the time, in a transaction that has begun on another group",
                         "Leave now() and its kin out of the view, and write them into the query of it.");
  if (!asked.extended()) CO_TRY(co_await check_with_postgres(asked.sql));
  exec::GroupId group = backends_.first_group();
  if (group == 0 && backends_.in_transaction() && !plan.fill && !asked.where.groups.empty())
    group = asked.where.groups.front();  // it comes to the transaction anyway
  auto backend = co_await backends_.get(group == 0 ? any_group() : group);
  if (!backend.ok()) co_return std::move(backend.error());
  auto rows = co_await (*backend)->conn->query(kAskMoment);
  if (!rows.ok()) co_return std::move(rows.error());
  const plan::Moment moment{*rows->rows[0][0] + "+00", *rows->rows[0][1] + "+00"};
  CO_TRY_ASSIGN(const std::string text, plan::at_moment(asked.sql, moment, plan_context(asked.types)));
  if (!backends_.in_transaction()) backends_.release_idle();  // hold none while waiting for another
  Execution execution;
  execution.sql = text;
  execution.at_moment = true;
  execution.bind = asked.bind;
  execution.types = asked.types;
  execution.describe = asked.describe;
  sql::scan_shape(text, worker_.shape);
  CO_TRY_ASSIGN(const CachedPlan planned, co_await plan_of(text, asked.types, asked.extended()));
  const plan::PlanPtr& made = planned.plan;
  if (made->kind == plan::PlanKind::unsupported) co_return Error(*made->error);
  sql::scan_shape(text, execution.shape);
  execution.values = values_of(text, execution.shape, asked.bind, *made);
  CO_TRY_ASSIGN(execution.where, co_await locate(*made, execution));
  Status status = co_await run_multi(*made, execution);
  if (!status.ok()) status.error().position = position_in(asked.sql, text, status.error().position);
  co_return status;
}

}  // namespace pgmosaic::router
