#include "router/guard.h"

namespace pgmosaic::router {

namespace {

const char* kHint =
    "It runs on the home, which has no rows of sharded tables, and one of the copies of reference tables: "
    "run its statements one by one.";

std::string oids_of(const catalog::Database& database, catalog::TableKind kind) {
  std::string oids;
  for (const auto& [oid, table] : database.tables_by_oid)
    if (table->kind == kind) oids += (oids.empty() ? "" : ",") + std::to_string(oid);
  return "'{" + oids + "}'::pg_catalog.oid[]";
}

}  // namespace

// Reading a sharded table, writing a reference table, changing what the server's databases share (roles, databases,
// tablespaces, settings, comments of these).
Guard::Guard(pool::ServerConn& home, const catalog::Database& database)
    : home_(home),
      database_(database),
      touched_(
          "(SELECT pg_catalog.min(relation::pg_catalog.int8) FROM pg_catalog.pg_locks WHERE pid = "
          "pg_catalog.pg_backend_pid() AND locktype = 'relation' AND (relation = ANY (" +
          oids_of(database, catalog::TableKind::sharded) +
          ") OR mode NOT IN ('AccessShareLock', 'RowShareLock') AND (relation = ANY (" +
          oids_of(database, catalog::TableKind::reference) +
          ") OR mode = 'RowExclusiveLock' AND relation IN (1213, 1260, 1261, 1262, 2396, 2964, 3592))))") {}

net::Task<Status> Guard::begin() {
  const std::string question = "SELECT pg_catalog.set_config('pgmosaic.guard', 'on', true), " + touched_;
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (!rows->rows[0][1]) co_return Status{};
  co_return make_error("0A000", "SQL given as text in a transaction that has used sharded or written reference tables",
                       "Run it in a transaction of its own: what it touches cannot be told apart.");
}

net::Task<Status> Guard::end() {
  const std::string question =
      "SELECT pg_catalog.set_config('pgmosaic.guard', '', true), " + touched_ +
      ", EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema())";
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  leaves_objects_ = rows->rows[0][2] == "t";
  if (!rows->rows[0][1]) co_return Status{};
  const auto table = database_.tables_by_oid.find(static_cast<catalog::Oid>(std::stoul(*rows->rows[0][1])));
  const std::string what = table == database_.tables_by_oid.end() ? "roles or databases, which every server has"
                           : table->second->kind == catalog::TableKind::sharded
                               ? "sharded table \"" + table->second->name + "\""
                               : "reference table \"" + table->second->name + "\" to write it";
  co_return make_error("0A000", "SQL given as text has touched " + what, kHint);
}

}  // namespace pgmosaic::router
