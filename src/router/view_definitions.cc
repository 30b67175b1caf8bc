#include "router/view_definitions.h"

#include <charconv>

#include "pool/settings.h"

namespace pgmosaic::router {

namespace {

// Names come out qualified where nothing is on the search path; it is set for the transaction, which is this statement
// unless a block is open.
std::string definitions_of(const std::vector<catalog::Oid>& views) {
  std::string oids;
  for (catalog::Oid oid : views) oids += (oids.empty() ? "" : ",") + std::to_string(oid);
  return "SELECT v.oid, pg_catalog.pg_get_viewdef(v.oid), s.path FROM (SELECT "
         "pg_catalog.set_config('search_path', '', true) AS path OFFSET 0) s, pg_catalog.unnest('{" +
         oids + "}'::pg_catalog.oid[]) v (oid)";
}

net::Task<Result<pool::ServerConn::Rows>> ask(pool::ServerConn& conn, bool in_block, std::string question) {
  if (!in_block) co_return co_await conn.query(question);
  auto path = co_await conn.query("SELECT pg_catalog.current_setting('search_path')");
  if (!path.ok()) co_return path;
  auto rows = co_await conn.query(question);
  if (!rows.ok()) co_return rows;
  auto restored = co_await conn.query("SELECT pg_catalog.set_config('search_path', " +
                                      pool::quote_literal(path->rows[0][0].value_or("")) + ", true)");
  if (!restored.ok()) co_return restored;
  co_return rows;
}

}  // namespace

net::Task<Status> read_views(exec::Backends& backends, catalog::GroupId home_group, exec::Backend* home,
                             std::shared_ptr<const catalog::Database> database, std::vector<catalog::Oid> views) {
  pool::ServerConn* conn = home == nullptr ? nullptr : home->conn.get();
  if (conn == nullptr) {
    CO_TRY_ASSIGN(conn, co_await backends.borrow(home_group));
  }
  auto rows = co_await ask(*conn, home != nullptr, definitions_of(views));
  if (home == nullptr) backends.give_back();
  if (!rows.ok()) co_return std::move(rows.error());
  for (catalog::Oid view : views) database->view_definitions.put(view, "");  // if it is gone
  for (auto& row : rows->rows) {
    catalog::Oid view = 0;
    std::from_chars(row[0]->data(), row[0]->data() + row[0]->size(), view);
    std::string query = row[1].value_or("");
    while (query.ends_with(';')) query.pop_back();
    database->view_definitions.put(view, std::move(query));
  }
  co_return Status{};
}

}  // namespace pgmosaic::router
