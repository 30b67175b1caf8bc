// Materialized views whose query reads tables of other groups. The view is the home's, made without rows; the router
// reads the rows, puts them into a temporary table there, and lets PostgreSQL refresh the view from it: for this moment
// the view and a temporary view of that table have each other's queries (pgmosaic_refresh() in
// control/install_home_sql.h). All of it is in the statement's transaction, so that others see the view as it was or as
// it is.
#include <algorithm>

#include "router/create_as.h"
#include "router/execution.h"
#include "router/view_use.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr const char* kRows = "pgmosaic_rows";
constexpr const char* kSource = "pg_temp.pgmosaic_source";

// `source`: NULL: only keeps others from doing the same until the transaction has ended.
std::string refresh_sql(const std::string& oid, const std::string& source, bool concurrently) {
  return "SELECT pg_catalog.pgmosaic_refresh(" + oid + ", " + source + ", " + (concurrently ? "true" : "false") + ")";
}

}  // namespace

net::Task<Status> TableFromQuery::run_view(std::string& tag) {
  const plan::Ddl::ViewRows& view = *ddl_.view_rows;
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  (*home)->wrote = true;
  if (!view.refresh.empty()) co_return co_await fill_view(tag);
  plan::Ddl made = ddl_;
  made.view_rows.reset();
  if (view.if_not_exists) {
    auto known = co_await (*home)->conn->query("SELECT pg_catalog.to_regclass(" + pool::quote_literal(view.name) +
                                               ") IS NOT NULL");
    if (!known.ok()) co_return std::move(known.error());
    if (known->rows[0][0] == "t") co_return co_await at_home(made.everywhere[0], tag);
  }
  CO_TRY(co_await s_.apply_ddl(made, tag, nullptr));
  co_return co_await fill_view(tag);
}

net::Task<Status> TableFromQuery::fill_view(std::string& tag) {
  const plan::Ddl::ViewRows& view = *ddl_.view_rows;
  exec::Backend& backend = *s_.backends_.held(s_.snapshot_->home);
  pool::ServerConn& home = *backend.conn;
  const std::string refresh = view.refresh.empty() ? "REFRESH MATERIALIZED VIEW " + view.name : view.refresh;
  auto known = co_await home.query(
      "SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid), pg_catalog.pg_get_userbyid(c.relowner) = current_user, "
      "c.relispopulated, pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class c WHERE c.relkind = 'm' "
      "AND c.oid = pg_catalog.to_regclass(" +
      pool::quote_literal(view.name) + ")");
  if (!known.ok()) co_return std::move(known.error());
  const bool may = !known->rows.empty() && known->rows[0][4] == "t" && (!view.concurrently || known->rows[0][3] == "t");
  if (!may) co_return co_await at_home(refresh, tag);  // PostgreSQL says why
  const std::string oid = *known->rows[0][0];
  Source source;
  source.sql = known->rows[0][1].value_or("");
  while (source.sql.ends_with(';')) source.sql.pop_back();
  const std::vector<pg::Oid> no_types;
  CO_TRY_ASSIGN(source.plan, co_await ViewUse(s_).plan(source.sql, no_types));
  if (source.plan->kind == plan::PlanKind::unsupported) co_return Error(*source.plan->error);
  const plan::Target::Kind where = source.plan->target.kind;
  if (where == plan::Target::Kind::home || where == plan::Target::Kind::any) co_return co_await at_home(refresh, tag);
  if (known->rows[0][2] != "t")
    co_return make_error("0A000", "REFRESH of another role's materialized view over sharded tables",
                         "SET ROLE to its owner, whose rights its query has.");
  const std::string question = columns_question(oid);
  auto columns = co_await home.query(question);
  if (!columns.ok()) co_return std::move(columns.error());
  CO_TRY(check_styles({columns->rows.at(0)[0].value_or(""), columns->rows[0][1] == "t"}));
  backend.not_preparable = true;
  // First of all, as another REFRESH then waits here, and reads what comes behind this one.
  const std::string begin = refresh_sql(oid, "NULL", false) + "; CREATE TEMPORARY TABLE " + kRows + " (LIKE " +
                            view.name +
                            ") ON COMMIT DROP; CREATE TEMPORARY VIEW pgmosaic_source AS SELECT * FROM pg_temp." + kRows;
  auto begun = co_await home.query(begin);
  if (!begun.ok()) co_return std::move(begun.error());
  plan::Ddl into;
  into.from_query.emplace();
  into.from_query->table = kRows;
  into.from_query->temporary = true;
  std::string rows;
  TableFromQuery filled(s_, into);
  CO_TRY(co_await filled.read_rows(source, rows));
  auto still = co_await s_.backends_.get(s_.snapshot_->home);  // it may have been lost meanwhile
  if (!still.ok()) co_return std::move(still.error());
  CO_TRY(co_await filled.copy_rows(rows));
  const std::string exchange =
      refresh_sql(oid, std::string("'") + kSource + "'::pg_catalog.regclass", view.concurrently);
  auto refreshed = co_await home.query(exchange);
  if (!refreshed.ok()) co_return std::move(refreshed.error());
  s_.out_ += refreshed->notices;
  const std::string drop = std::string("DROP VIEW ") + kSource + "; DROP TABLE pg_temp." + kRows;
  auto ended = co_await home.query(drop);
  if (!ended.ok()) co_return std::move(ended.error());
  tag = "REFRESH MATERIALIZED VIEW";
  if (view.refresh.empty()) tag = "SELECT " + std::to_string(std::count(rows.begin(), rows.end(), '\n'));
  co_return Status{};
}

}  // namespace pgmosaic::router
