// SessionViews: the relations that only the router knows (pgmosaic.tables and the like).
#include <nlohmann/json.hpp>
#include <set>

#include "plan/cluster_sums.h"
#include "plan/virtual_relations.h"
#include "router/cluster_sums.h"
#include "router/router_calls.h"
#include "router/saga_calls.h"
#include "router/saga_work.h"
#include "router/session_views.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

const char* kind_name(catalog::TableKind kind) {
  switch (kind) {
    case catalog::TableKind::local: return "local";
    case catalog::TableKind::reference: return "reference";
    case catalog::TableKind::sharded: return "sharded";
    case catalog::TableKind::view: return "view";
  }
  return "";
}

nlohmann::json table_rows(const catalog::Database& database) {
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& [oid, table] : database.tables_by_oid) {
    if (table->kind == catalog::TableKind::view) continue;
    nlohmann::json row = {
        {"schema_name", table->schema}, {"table_name", table->name}, {"table_type", kind_name(table->kind)}};
    if (table->kind == catalog::TableKind::sharded) {
      std::string columns;
      for (int column : table->key_columns)
        columns += (columns.empty() ? "" : ", ") + table->columns[static_cast<std::size_t>(column)].name;
      row["distribution_column"] = columns;
      row["colocation_id"] = table->colocation;
      row["shard_count"] = database.colocation(table->colocation)->shards.size();
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::json shard_rows(const catalog::Snapshot& snapshot, const catalog::Database& database) {
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& [oid, table] : database.tables_by_oid) {
    if (table->kind != catalog::TableKind::sharded) continue;
    for (const catalog::Shard& shard : database.colocation(table->colocation)->shards) {
      const auto partition = database.tables_by_oid.find(shard.partition);
      const std::string name = partition != database.tables_by_oid.end() ? partition->second->name
                               : shard.id == 0                           ? table->name
                                                                         : std::to_string(shard.remainder);
      nlohmann::json row = {{"table_schema", table->schema},
                            {"table_name", table->name},
                            {"colocation_id", table->colocation},
                            {"shard_name", name},
                            {"group_name", snapshot.group(shard.group)->name}};
      if (shard.id != 0) {
        row["shard_id"] = shard.id;
        row["modulus"] = shard.modulus;
        row["remainder"] = shard.remainder;
      }
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

nlohmann::json operation_rows(const Worker& worker, const catalog::Snapshot& snapshot) {
  nlohmann::json rows = nlohmann::json::array();
  for (const OperationInfo& info : worker.context.operations.list()) {
    const std::string started = utc_text(worker.loop.now_us() - info.started_us);
    for (const auto& [id, part] : info.parts) {
      const catalog::Group* group = snapshot.group(id);
      rows.push_back({{"operation_id", info.id},
                      {"kind", info.kind},
                      {"datname", info.database},
                      {"usename", info.user},
                      {"pid", info.pid},
                      {"object", info.object},
                      {"group_name", group != nullptr ? group->name : std::to_string(id)},
                      {"state", part.state},
                      {"done", part.done},
                      {"total", part.total},
                      {"started_at", started}});
    }
  }
  return rows;
}

// What the cluster calls a database of the group's server; nothing: it belongs to the other group on this server.
std::optional<std::string> database_of(const catalog::Group& group, const catalog::Snapshot& snapshot,
                                       const std::string& name) {
  if (!group.beside_home) return group.home && pg::is_shards_database(name) ? std::nullopt : std::optional(name);
  for (const auto& [database, tables] : snapshot.databases)
    if (pg::shards_database_name(database) == name) return database;
  return std::nullopt;
}

}  // namespace

net::Task<Result<std::string>> SessionViews::rows(const std::string& relation) {
  if (relation == plan::kBackendPid) co_return std::to_string(s_.pid_);
  if (relation == kSignal || relation == kSagaCall) co_return std::string();
  if (relation == "sagas") co_return co_await sagas();
  if (relation == "tables") co_return table_rows(*s_.database_).dump();
  if (relation == "shards") co_return shard_rows(*s_.snapshot_, *s_.database_).dump();
  if (relation == "groups") {
    nlohmann::json rows = nlohmann::json::array();
    for (const catalog::Group& group : s_.snapshot_->groups) {
      if (group.home) continue;
      rows.push_back({{"group_id", group.id},
                      {"group_name", group.name},
                      {"host", group.host},
                      {"port", group.port},
                      {"is_home", group.beside_home}});
    }
    co_return rows.dump();
  }
  if (relation == "operations") co_return operation_rows(s_.worker_, *s_.snapshot_).dump();
  if (relation == "pg_prepared_statements") co_return co_await prepared_statements();
  if (relation == "pg_cursors") co_return co_await cursors();
  if (relation == plan::kClusterSums) co_return co_await cluster_sums(s_.backends_, *s_.snapshot_, *s_.database_);
  co_return co_await activity();
}

// The user's own; all of them for superusers.
net::Task<Result<std::string>> SessionViews::sagas() {
  const std::string database = s_.backends_.database();
  Worker& worker = s_.worker_;
  const std::vector<std::optional<std::string>> user = {s_.backends_.user()};
  auto found = co_await ask_as_router(
      worker, s_.snapshot_->home, database,
      "SELECT s.id, s.name, r.rolname, s.began, s.ends FROM pg_catalog.pgmosaic_sagas s LEFT JOIN pg_catalog.pg_roles "
      "r "
      "ON r.oid = s.owner, pg_catalog.pg_roles me WHERE me.rolname = $1 AND (s.owner = me.oid OR me.rolsuper) "
      "ORDER BY s.began",
      user);
  if (!found.ok()) co_return std::move(found.error());
  std::map<std::string, std::map<int, std::string>> steps;
  std::vector<catalog::GroupId> groups;
  for (const catalog::Group& group : s_.snapshot_->groups) groups.push_back(group.id);
  bool known = true;  // where a group does not answer, nobody knows whether it has one
  for (std::size_t i = 0; known && !found->rows.empty() && i < groups.size(); ++i) {
    const std::vector<std::optional<std::string>> none;
    auto rows =
        co_await ask_as_router(worker, groups[i], database,
                               "SELECT saga, n, convert_from(decode(request, 'hex'), 'UTF8')::jsonb->>'step' FROM "
                               "pg_catalog.pgmosaic_saga_steps WHERE n > 0",
                               none);
    known = rows.ok();
    if (known)
      for (const auto& row : rows->rows) steps[*row[0]][std::stoi(*row[1])] = row[2].value_or("");
  }
  const auto shown = worker.context.sagas.shown(database);
  nlohmann::json result = nlohmann::json::array();
  for (const auto& row : found->rows) {
    const auto state = shown.find(*row[0]);
    if (state != shown.end() && std::string_view(state->second.state) == "finished") continue;
    nlohmann::json entry = {{"saga_id", *row[0]}, {"saga_name", *row[1]}, {"began_at", *row[3]}};
    if (row[2]) entry["usename"] = *row[2];
    if (row[4]) entry["ends_at"] = *row[4];
    entry["state"] = state == shown.end() ? "compensating" : state->second.state;
    if (state != shown.end() && !state->second.error.empty()) entry["last_error"] = state->second.error;
    if (known) {
      entry["steps"] = nlohmann::json::array();
      for (const auto& [n, name] : steps[*row[0]]) entry["steps"].push_back(name);
    }
    result.push_back(std::move(entry));
  }
  co_return result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// pg_stat_activity of all groups, as this user may see it, joined with the clients the backends work for.
net::Task<Result<std::string>> SessionViews::activity() {
  std::vector<SessionInfo> clients = co_await s_.worker_.context.all_sessions(s_.worker_.loop);
  nlohmann::json rows = nlohmann::json::array();
  auto client_columns = [](nlohmann::json& row, const SessionInfo& client) {
    row["pid"] = client.pid;
    row["application_name"] = client.application;
    row["client_addr"] = client.address;
    row["client_port"] = client.port;
  };
  std::set<uint32_t> shown;
  for (const catalog::Group& group : s_.snapshot_->groups) {
    auto backend = co_await s_.backends_.get(group.id);
    if (!backend.ok()) co_return std::move(backend.error());
    auto activity = co_await (*backend)->conn->query(
        "SELECT pid, datname, usename, application_name, state, wait_event_type, wait_event, query, xact_start, "
        "query_start "
        "FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' AND pid <> "
        "pg_catalog.pg_backend_pid()");
    if (!activity.ok()) co_return std::move(activity.error());
    static const char* kNames[] = {"backend_pid",     "datname",    "usename", "application_name", "state",
                                   "wait_event_type", "wait_event", "query",   "xact_start",       "query_start"};
    for (const auto& values : activity->rows) {
      const auto database = database_of(group, *s_.snapshot_, values[1].value_or(""));
      if (!database) continue;
      nlohmann::json row = {{"group_name", group.name}};
      for (std::size_t i = 0; i < values.size(); ++i)
        if (values[i]) row[kNames[i]] = *values[i];
      row["datname"] = *database;
      const uint32_t backend_pid = static_cast<uint32_t>(std::stoul(*values[0]));
      for (const SessionInfo& client : clients)
        for (const auto& [group_id, pid] : client.backends)
          if (group_id == group.id && pid == backend_pid) {
            client_columns(row, client);
            shown.insert(client.pid);
          }
      rows.push_back(std::move(row));
    }
  }
  // As in pg_stat_activity, the text of a statement is for its own user and for superusers.
  exec::Backend* home = s_.backends_.held(s_.snapshot_->home);
  const bool superuser = home != nullptr && home->conn->parameters["is_superuser"] == "on";
  for (SessionInfo& client : clients) {
    if (shown.contains(client.pid)) continue;
    if (!superuser && client.user != s_.backends_.user()) client.query = "<insufficient privilege>";
    nlohmann::json row = {
        {"datname", client.database}, {"usename", client.user}, {"state", client.state}, {"query", client.query}};
    client_columns(row, client);
    rows.push_back(std::move(row));
  }
  co_return rows.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace pgmosaic::router
