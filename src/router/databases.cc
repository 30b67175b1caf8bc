#include "router/databases.h"

#include <algorithm>

#include "exec/control.h"
#include "pool/settings.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr int kUnusedTries = 50;  // as PostgreSQL's own wait: five seconds
constexpr int64_t kUnusedPollUs = 100'000;

Error in_use(const std::string& database, std::string detail) {
  return make_error("55006", "database \"" + database + "\" is being accessed by other users", {}, std::move(detail));
}

// The database as the backend's server calls it.
std::string name_on(const exec::Backend& backend, const std::string& database) {
  return backend.conn->endpoint().database_name(database);
}

std::string drop_sql(const exec::Backend& backend, const std::string& database, bool force = false) {
  return "DROP DATABASE IF EXISTS " + pool::quote_identifier(name_on(backend, database)) +
         (force ? " WITH (FORCE)" : "");
}

}  // namespace

net::Task<Status> DatabaseChange::run(exec::Backend& backend, std::string sql) {
  auto rows = co_await backend.conn->query(sql);
  if (!rows.ok()) co_return std::move(rows.error());
  if (&backend == &home) notices += rows->notices;
  co_return Status{};
}

net::Task<Status> DatabaseChange::create() {
  if (ddl.object == worker.config->admin_database)
    co_return make_error("42939", "database name \"" + ddl.object + "\" is the router's own",
                         "Choose another name, or set admin_database to another one.");
  std::vector<exec::Backend*> order = others, done;
  order.push_back(&home);
  for (exec::Backend* backend : order) {
    const bool renamed = name_on(*backend, ddl.object) != ddl.object;
    Status status = co_await run(*backend, renamed ? ddl.beside_home_instead : ddl.everywhere[0]);
    if (!status.ok()) {
      for (exec::Backend* made : done) (void)(co_await run(*made, drop_sql(*made, ddl.object)));
      co_return status;
    }
    done.push_back(backend);
  }
  co_return co_await worker.context.control->database_created(worker.loop, ddl.object);
}

// Connections that are just closing get a moment, as PostgreSQL gives them.
net::Task<Status> DatabaseChange::wait_until_unused(exec::Backend& backend) {
  const std::string name = pool::quote_literal(name_on(backend, ddl.object));
  const std::string question =
      "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' AND datname = " +
      name + (ddl.force ? " AND false" : "") +
      ") OR EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = " + name + ")";
  for (int tries = 0; tries < kUnusedTries; ++tries) {
    auto rows = co_await backend.conn->query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    if (rows->rows[0][0] == "f") co_return Status{};
    co_await worker.loop.sleep(kUnusedPollUs);
    if (cancelled || client_gone) co_return make_error("57014", "canceling statement due to user request");
  }
  co_return in_use(ddl.object, "There is another session or a prepared transaction using the database on group " +
                                   worker.snapshot->group(backend.group)->name + ".");
}

// May this session's role drop the database, and end its sessions? PostgreSQL's rules and messages. False: the home
// says why it may not.
net::Task<Result<bool>> DatabaseChange::may_force(const std::vector<SessionInfo>& clients) {
  std::string users = "ARRAY[]::pg_catalog.name[]";
  for (const SessionInfo& client : clients)
    if (client.database == ddl.object) users += " || " + pool::quote_literal(client.user) + "::pg_catalog.name";
  const std::string question =
      "SELECT m.rolsuper, bool_or(r.rolsuper), bool_and(r.rolsuper OR pg_catalog.pg_has_role(m.oid, r.oid, 'USAGE') OR "
      "pg_catalog.pg_has_role(m.oid, 'pg_signal_backend', 'USAGE')) FROM pg_catalog.pg_roles m CROSS JOIN "
      "pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_roles r ON r.rolname = ANY (" +
      users +
      ") WHERE m.rolname = current_user AND NOT d.datistemplate AND pg_catalog.pg_has_role(m.oid, d.datdba, 'USAGE') "
      "AND "
      "d.datname = " +
      pool::quote_literal(ddl.object) + " GROUP BY m.rolsuper";
  auto rows = co_await home.conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return false;
  const auto& row = rows->rows[0];
  if (row[0] == "t" || !row[1]) co_return true;
  if (row[1] == "t") co_return make_error("42501", "must be a superuser to terminate superuser process");
  if (row[2] != "t")
    co_return make_error("42501",
                         "must be a member of the role whose process is being terminated or member of "
                         "pg_signal_backend");
  co_return true;
}

// DROP DATABASE … WITH (FORCE): the router's sessions end here, and give their backends back; what else is connected
// is ended by the servers. False: the home says why it cannot be.
net::Task<Result<bool>> DatabaseChange::end_sessions() {
  std::vector<SessionInfo> clients = co_await worker.context.all_sessions(worker.loop);
  CO_TRY_ASSIGN(const bool may, co_await may_force(clients));
  if (!may) co_return false;
  for (int tries = 0; tries < kUnusedTries; ++tries) {
    bool any = false;
    for (const SessionInfo& client : clients) {
      if (client.database != ddl.object) continue;
      any = true;
      if (tries == 0) worker.context.sessions.signal(client.pid, true);
    }
    if (!any) break;
    co_await worker.loop.sleep(kUnusedPollUs);
    if (cancelled || client_gone) co_return make_error("57014", "canceling statement due to user request");
    clients = co_await worker.context.all_sessions(worker.loop);
  }
  co_return true;
}

net::Task<Status> DatabaseChange::drop() {
  bool may = true;
  if (ddl.force && ddl.object != session_database) {
    CO_TRY_ASSIGN(may, co_await end_sessions());
  }
  if (ddl.object != session_database && may) {
    const std::vector<SessionInfo> clients = co_await worker.context.all_sessions(worker.loop);
    for (const SessionInfo& client : clients)
      if (client.database == ddl.object)
        co_return in_use(ddl.object, "There is at least one other session using the database.");
    co_await worker.context.leave_database(worker.loop, ddl.object);
    CO_TRY(co_await wait_until_unused(home));
    for (exec::Backend* backend : others) CO_TRY(co_await wait_until_unused(*backend));
  }
  Status status = co_await run(home, ddl.everywhere[0]);
  if (!status.ok() && status.error().sqlstate != "3D000") co_return status;
  if (!status.ok()) {  // an interrupted DROP DATABASE may have left it on others
    bool left = false;
    for (exec::Backend* backend : others) {
      const std::string question =
          "SELECT FROM pg_catalog.pg_database WHERE datname = " + pool::quote_literal(name_on(*backend, ddl.object));
      auto rows = co_await backend->conn->query(question);
      left = left || (rows.ok() && !rows->rows.empty());
    }
    if (!left) co_return status;
  }
  for (exec::Backend* backend : others) CO_TRY(co_await run(*backend, drop_sql(*backend, ddl.object, ddl.force)));
  co_return co_await worker.context.control->database_dropped(worker.loop, ddl.object);
}

// Does PostgreSQL allow it? That somebody uses the database – the router's own backends, for whose end PostgreSQL would
// wait here – shows later.
net::Task<Status> DatabaseChange::try_rename() {
  CO_TRY(co_await run(home, "BEGIN; SET LOCAL statement_timeout = '200ms'"));
  Status tried = co_await run(home, ddl.everywhere[0]);
  CO_TRY(co_await run(home, "ROLLBACK"));
  const bool used = !tried.ok() && (tried.error().sqlstate == "55006" || tried.error().sqlstate == "57014");
  if (used) co_return Status{};
  co_return tried;
}

net::Task<Status> DatabaseChange::rename_everywhere() {
  std::vector<exec::Backend*> order = {&home}, done;
  order.insert(order.end(), others.begin(), others.end());
  for (exec::Backend* backend : order) {
    const bool own_name = name_on(*backend, ddl.object) != ddl.object;
    Status status = co_await run(*backend, own_name ? ddl.beside_home_instead : ddl.everywhere[0]);
    if (status.ok()) {
      done.push_back(backend);
      continue;
    }
    bool back = true;
    for (exec::Backend* renamed : done) {
      Status undone =
          co_await run(*renamed, "ALTER DATABASE " + pool::quote_identifier(name_on(*renamed, ddl.renamed_to)) +
                                     " RENAME TO " + pool::quote_identifier(name_on(*renamed, ddl.object)));
      back = back && undone.ok();
    }
    if (back) CO_TRY(worker.context.control->forget_rename(ddl.object));
    if (!back) status.error().hint = "Some groups have the new name: the next start of the router renames it on all.";
    co_return status;
  }
  co_return Status{};
}

net::Task<Status> DatabaseChange::rename() {
  for (const std::string& name : {ddl.object, ddl.renamed_to})
    if (name == worker.config->admin_database)
      co_return make_error("42939", "database name \"" + name + "\" is the router's own",
                           "Choose another name, or set admin_database to another one.");
  CO_TRY(co_await try_rename());
  if (ddl.object == worker.config->internal.database)
    co_return make_error("0A000", "the router's internal database cannot be renamed",
                         "Name another one as internal.database, and restart the router.");
  const std::vector<SessionInfo> clients = co_await worker.context.all_sessions(worker.loop);
  const auto users = std::count_if(clients.begin(), clients.end(),
                                   [this](const SessionInfo& client) { return client.database == ddl.object; });
  if (users == 1) co_return in_use(ddl.object, "There is 1 other session using the database.");
  if (users > 1)
    co_return in_use(ddl.object, "There are " + std::to_string(users) + " other sessions using the database.");
  co_await worker.context.leave_database(worker.loop, ddl.object);
  CO_TRY(co_await wait_until_unused(home));
  for (exec::Backend* backend : others) CO_TRY(co_await wait_until_unused(*backend));
  CO_TRY(worker.context.control->begin_rename(ddl.object, ddl.renamed_to));
  CO_TRY(co_await rename_everywhere());
  co_return co_await worker.context.control->database_renamed(worker.loop, ddl.object, ddl.renamed_to);
}

}  // namespace pgmosaic::router
