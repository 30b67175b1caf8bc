#include "router/server_ddl.h"

#include "pool/settings.h"

namespace pgmosaic::router {

namespace {

std::string named(const plan::Ddl& ddl) { return pool::quote_literal(ddl.object); }

}  // namespace

net::Task<Status> ServerDdl::run(exec::Backend& backend, std::string sql) {
  auto rows = co_await backend.conn->query(sql);
  if (&backend == &home && rows.ok()) notices += rows->notices;
  if (rows.ok()) co_return Status{};
  if (&backend != &home) rows.error().node = "group " + std::to_string(backend.group);
  co_return std::move(rows.error());
}

net::Task<Status> ServerDdl::create_tablespace() {
  std::vector<exec::Backend*> order = {&home}, done;
  order.insert(order.end(), others.begin(), others.end());
  for (exec::Backend* backend : order) {
    Status status = co_await run(*backend, ddl.everywhere[0]);
    if (!status.ok()) {
      const std::string drop = "DROP TABLESPACE " + pool::quote_identifier(ddl.object);
      for (exec::Backend* made : done) (void)(co_await run(*made, drop));
      co_return status;
    }
    done.push_back(backend);
  }
  co_return Status{};
}

// CREATE TABLESPACE …; empty: there is none.
net::Task<Result<std::string>> ServerDdl::tablespace_definition(exec::Backend& backend) {
  const std::string question =
      "SELECT pg_catalog.format('CREATE TABLESPACE %I OWNER %I LOCATION %L', spcname, "
      "pg_catalog.pg_get_userbyid(spcowner), CASE WHEN pg_catalog.pg_tablespace_location(oid) LIKE 'pg_tblspc/%' THEN "
      "'' "
      "ELSE pg_catalog.pg_tablespace_location(oid) END) || coalesce(' WITH (' || "
      "pg_catalog.array_to_string(spcoptions, ', ') || ')', ''), EXISTS (SELECT FROM "
      "pg_catalog.pg_tablespace_databases(oid)) FROM pg_catalog.pg_tablespace WHERE spcname = " +
      named(ddl);
  auto rows = co_await backend.conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return std::string();
  bool used = rows->rows[0][1] == "t" && &backend != &home;
  if (used) {  // perhaps only by files of what was dropped, which a checkpoint removes
    (void)(co_await run(backend, "CHECKPOINT"));
    auto again = co_await backend.conn->query(question);
    if (!again.ok()) co_return std::move(again.error());
    used = again->rows.empty() || again->rows[0][1] == "t";
  }
  if (used) {
    Error error = make_error("55000", "tablespace \"" + ddl.object + "\" is not empty");
    error.node = "group " + std::to_string(backend.group);
    co_return error;
  }
  co_return *rows->rows[0][0];
}

net::Task<Status> ServerDdl::drop_tablespace() {
  std::vector<exec::Backend*> order = {&home};
  order.insert(order.end(), others.begin(), others.end());
  std::vector<std::string> definitions;
  bool left = false;  // by one that was interrupted
  for (exec::Backend* backend : order) {
    CO_TRY_ASSIGN(std::string definition, co_await tablespace_definition(*backend));
    left = left || (backend != &home && !definition.empty());
    definitions.push_back(std::move(definition));
  }
  if (!definitions[0].empty() || !left) CO_TRY(co_await run(home, ddl.everywhere[0]));
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (definitions[i].empty()) continue;
    Status status = co_await run(*order[i], "DROP TABLESPACE " + pool::quote_identifier(ddl.object));
    if (status.ok()) continue;
    for (std::size_t before = 0; before < i; ++before)
      if (!definitions[before].empty()) (void)(co_await run(*order[before], definitions[before]));
    co_return status;
  }
  co_return Status{};
}

// The leaves of a schema's tables are in a schema of their own.
net::Task<Status> ServerDdl::reindex_leaves(exec::Backend& backend) {
  const std::string question =
      "SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN "
      "pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid JOIN "
      "pg_catalog.pg_class l ON l.oid = i.inhrelid JOIN pg_catalog.pg_namespace s ON s.oid = l.relnamespace WHERE "
      "c.relkind = 'p' AND s.nspname = 'pgmosaic_shards' AND n.nspname = " +
      named(ddl);
  auto tables = co_await backend.conn->query(question);
  if (!tables.ok()) co_return std::move(tables.error());
  for (const auto& row : tables->rows)
    CO_TRY(co_await run(backend, (ddl.gentle ? "REINDEX TABLE CONCURRENTLY " : "REINDEX TABLE ") + *row[0]));
  co_return Status{};
}

// The home would take for valid what groups have yet to build (router/index_work.h). CONCURRENTLY passes over it.
net::Task<Status> ServerDdl::refuse_unfinished() {
  const std::string question =
      "SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid AND c.relkind = 'i' AND "
      "c.relpersistence <> 't' AND " +
      (ddl.alone == "REINDEX SCHEMA" ? "n.nspname = " + named(ddl) : "true");
  auto rows = co_await home.conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return Status{};
  co_return make_error("55000", "the building of index " + *rows->rows[0][0] + " was interrupted",
                       "REINDEX INDEX CONCURRENTLY builds the rest of it, DROP INDEX drops it.");
}

net::Task<Status> ServerDdl::reindex() {
  if (!ddl.gentle && ddl.alone != "REINDEX SYSTEM") CO_TRY(co_await refuse_unfinished());
  CO_TRY(co_await run(home, ddl.everywhere[0]));
  for (exec::Backend* backend : others) {
    const bool renamed = backend == beside && !ddl.beside_home_instead.empty();
    CO_TRY(co_await run(*backend, renamed ? ddl.beside_home_instead : ddl.everywhere[0]));
    if (ddl.alone == "REINDEX SCHEMA") CO_TRY(co_await reindex_leaves(*backend));
  }
  co_return Status{};
}

net::Task<Status> run_server_ddl(exec::Backends& backends, const catalog::Snapshot& snapshot, const plan::Ddl& ddl,
                                 std::string& notices) {
  exec::Backend* home = nullptr;
  exec::Backend* beside = nullptr;
  std::vector<exec::Backend*> others;
  for (const catalog::Group& group : snapshot.groups) {
    if (group.beside_home && ddl.server_wide) continue;
    auto backend = co_await backends.get(group.id);
    if (!backend.ok()) co_return std::move(backend.error());
    if (group.home) home = *backend;
    if (group.beside_home) beside = *backend;
    if (!group.home) others.push_back(*backend);
  }
  ServerDdl change{ddl, *home, others, beside};
  Status status;
  if (ddl.tag == "CREATE TABLESPACE") {
    status = co_await change.create_tablespace();
  } else if (ddl.tag == "DROP TABLESPACE") {
    status = co_await change.drop_tablespace();
  } else {
    status = co_await change.reindex();
  }
  notices += change.notices;
  co_return status;
}

}  // namespace pgmosaic::router
