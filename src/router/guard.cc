#include "router/guard.h"

#include <algorithm>
#include <cstdlib>

#include "plan/planner.h"
#include "pool/settings.h"

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

Guard::Guard(pool::ServerConn& home, const catalog::Database& database)
    : home_(home),
      database_(database),
      sharded_(oids_of(database, catalog::TableKind::sharded)),
      reference_(oids_of(database, catalog::TableKind::reference)) {}

// A table that is sharded; a reference table that is written; what the server's databases share (roles, databases,
// tablespaces, settings, comments of these), where it is changed. Schema changes have other locks than statements over
// rows, TRUNCATE aside, which leaves other files behind.
std::string Guard::touched() const {
  return "(SELECT pg_catalog.min(l.relation::pg_catalog.int8) FROM pg_catalog.pg_locks l WHERE l.pid = "
         "pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND (l.relation = ANY (" +
         sharded_ + ") AND (l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock') OR c.unknown) OR " +
         "l.relation = ANY (" + reference_ +
         ") AND (l.mode = 'RowExclusiveLock' OR l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND c.unknown) OR "
         "l.mode = 'RowExclusiveLock' AND l.relation IN (1213, 1260, 1261, 1262, 2396, 2964, 3592) OR "
         "l.mode = 'AccessExclusiveLock' AND l.relation = ANY (" +
         sharded_ + " || " + reference_ +
         ") AND EXISTS (SELECT FROM pg_catalog.pg_class f WHERE f.oid = l.relation AND f.relfilenode <> 0 AND "
         "pg_catalog.strpos(pg_catalog.current_setting('pgmosaic.files', true), ',' || f.oid || ' ' || f.relfilenode "
         "|| "
         "',') = 0)))";
}

net::Task<Status> Guard::begin() {
  const std::string question =
      "SELECT pg_catalog.set_config('pgmosaic.guard', 'on', true), pg_catalog.set_config('pgmosaic.schema_changes', "
      "'', "
      "true), pg_catalog.set_config('pgmosaic.files', (SELECT ',' || coalesce(pg_catalog.string_agg(oid || ' ' || "
      "relfilenode, ','), '') || ',' FROM pg_catalog.pg_class WHERE oid = ANY (" +
      sharded_ + " || " + reference_ + ")), true), " + touched() + " FROM (VALUES (true)) AS c (unknown)";
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (!rows->rows[0][3]) co_return Status{};
  co_return make_error("0A000", "SQL given as text in a transaction that has used sharded or written reference tables",
                       "Run it in a transaction of its own: what it touches cannot be told apart.");
}

net::Task<Status> Guard::end() {
  const std::string question =
      "SELECT pg_catalog.set_config('pgmosaic.guard', '', true), " + touched() +
      ", EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()), NOT c.unknown "
      "FROM (SELECT coalesce(pg_catalog.current_setting('pgmosaic.schema_changes', true), '') = '') AS c (unknown)";
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  leaves_objects_ = rows->rows[0][2] == "t";
  if (!rows->rows[0][1]) {
    if (rows->rows[0][3] == "t") co_return co_await read_changes();
    co_return Status{};
  }
  const auto table = database_.tables_by_oid.find(static_cast<catalog::Oid>(std::stoul(*rows->rows[0][1])));
  const std::string what = table == database_.tables_by_oid.end() ? "roles or databases, which every server has"
                           : table->second->kind == catalog::TableKind::sharded
                               ? "sharded table \"" + table->second->name + "\""
                               : "reference table \"" + table->second->name + "\" to write it";
  co_return make_error("0A000", "SQL given as text has touched " + what, kHint);
}

net::Task<Status> Guard::read_changes() {
  auto rows = co_await home_.query(
      "SELECT c->>'tag', c->>'stack', coalesce(c->>'made', ''), c->>'path' = pg_catalog.current_setting('search_path') "
      "AND c->>'role' = current_user, pg_catalog.set_config('pgmosaic.schema_changes', '', true) FROM "
      "pg_catalog.jsonb_array_elements(pg_catalog.current_setting('pgmosaic.schema_changes')::pg_catalog.jsonb) WITH "
      "ORDINALITY AS e (c, n) ORDER BY n");
  if (!rows.ok()) co_return std::move(rows.error());
  for (const auto& row : rows->rows) {
    if (row[3] != "t")
      co_return make_error("0A000", *row[0] + " in a function with a search_path or a role of its own is not supported",
                           "The other servers would have to do the same: run it as a statement of its own.");
    auto sql = co_await statement_in(*row[1]);
    if (!sql.ok()) co_return std::move(sql.error());
    if (sql->empty())
      co_return make_error("0A000", *row[0] + " in a function, procedure or block is not supported here",
                           "Its text is not known to the other servers: run it as a statement of its own.");
    changes_.push_back({*row[0], std::move(*sql), *row[2]});
  }
  co_return Status{};
}

// Behind the event trigger's own line stands the statement, or a function in SQL and a number. Empty: it is not known.
net::Task<Result<std::string>> Guard::statement_in(std::string_view stack) {
  stack.remove_prefix(std::min(stack.find('\n'), stack.size() - 1) + 1);
  constexpr std::string_view kStatement = "SQL statement \"", kFunction = "SQL function \"";
  if (stack.starts_with(kStatement)) {
    stack.remove_prefix(kStatement.size());
    std::size_t end = stack.size() - 1;
    for (const std::string_view next : {"\"\nPL/pgSQL function ", "\"\nSQL statement ", "\"\nSQL function "})
      end = std::min(end, stack.find(next));
    co_return std::string(stack.substr(0, end));
  }
  const std::size_t quote = stack.find("\" statement ");
  if (!stack.starts_with(kFunction) || quote == std::string_view::npos) co_return std::string();
  const std::string name(stack.substr(kFunction.size(), quote - kFunction.size()));
  const auto number = std::strtoul(std::string(stack.substr(quote + 12, 5)).c_str(), nullptr, 10);
  const std::string question =
      "SELECT p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE l.lanname = "
      "'sql' AND p.proname = " +
      pool::quote_literal(name);
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.size() != 1) co_return std::string();
  const std::string body = rows->rows[0][0].value_or("");
  const auto statements = plan::split_statements(body);
  if (number == 0 || number > statements.size()) co_return std::string();
  co_return std::string(statements[number - 1]);
}

}  // namespace pgmosaic::router
