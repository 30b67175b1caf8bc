// EXPLAIN, and the relations that only the router knows (pgmosaic.tables and the like).
#include <strings.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "plan/cluster_sums.h"
#include "plan/explain_plan.h"
#include "plan/virtual_relations.h"
#include "router/cluster_sums.h"
#include "router/execution.h"
#include "router/router_calls.h"
#include "router/session.h"
#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

void put_line(std::string& out, const std::string& line) { pg::write_text_row(out, {line}); }

std::string group_names(const catalog::Snapshot& snapshot, const std::vector<exec::GroupId>& groups) {
  std::string names;
  for (exec::GroupId group : groups) names += (names.empty() ? "" : ", ") + snapshot.group(group)->name;
  return names;
}

// EXPLAIN (FORMAT JSON) and the like: the answer is one value for programs, not lines.
bool is_structured(const std::string& explain_prefix) {
  sql::TokenScanner scanner(explain_prefix);
  for (sql::Token token = scanner.next(); token.kind != sql::Token::Kind::end; token = scanner.next()) {
    if (!scanner.is_word(token, "format")) continue;
    const sql::Token format = scanner.next();
    const std::string_view text = scanner.text(format);
    return !scanner.is_word(format, "text") && strcasecmp(std::string(text).c_str(), "'text'") != 0;
  }
  return false;
}

// What the router does with the answers of several groups.
const char* way_over_groups(const plan::Plan& plan) {
  if (!plan.returns_rows || plan.effects.writes) return "Modify";
  if (plan.combine) return "Combine";
  return plan.gather && !plan.gather->merge.empty() ? "Gather Merge" : "Gather";
}

}  // namespace

net::Task<Status> Session::run_explain(std::string_view sql, const plan::Plan& plan) {
  const plan::Plan& inner = *plan.inner;
  if (inner.kind == plan::PlanKind::session || inner.kind == plan::PlanKind::ddl ||
      inner.kind == plan::PlanKind::copy_in)
    co_return make_error("0A000", "EXPLAIN of this statement is not supported yet",
                         "EXPLAIN a SELECT, INSERT, UPDATE or DELETE.");
  Execution execution;
  execution.sql = sql.substr(plan.explain_prefix.size());
  sql::scan_shape(execution.sql, execution.shape);
  execution.values = values_of(execution.sql, execution.shape, nullptr, inner);
  CO_TRY_ASSIGN(execution.where, co_await locate(inner, execution));
  std::vector<exec::GroupId> groups = execution.where.groups;
  if (execution.where.single()) groups = {execution.where.one};
  const bool several = groups.size() > 1;
  if (several && inner.multi_group_error) co_return Error(*inner.multi_group_error);
  const bool structured = is_structured(plan.explain_prefix);
  if (structured && (several || inner.kind == plan::PlanKind::insert_split))
    co_return make_error("0A000", "EXPLAIN over several groups in another format than text", "Leave FORMAT out.");
  if (inner.kind == plan::PlanKind::insert_split) {
    if (plan.effects.writes)
      co_return make_error("0A000", "EXPLAIN ANALYZE of an INSERT of several rows",
                           "EXPLAIN shows where the rows go; to time the INSERT, run it.");
    std::vector<Split> parts;
    std::vector<std::size_t> order;
    CO_TRY(co_await split_insert(inner, execution, parts, order));
    std::vector<exec::GroupId> targets;
    for (const Split& part : parts) targets.push_back(part.group);
    pg::write_text_row_description(out_, {"QUERY PLAN"});
    put_line(out_, "Insert split over " + std::to_string(targets.size()) +
                       (targets.size() == 1 ? " group: " : " groups: ") + group_names(*snapshot_, targets));
    pg::write_command_complete(out_, "EXPLAIN");
    co_return Status{};
  }
  CO_TRY_ASSIGN(std::string text, co_await text_for_group(inner, execution.sql, several));
  const std::string how = several ? way_over_groups(inner) : "Route";
  const bool own = several && plan.effects.writes && !backends_.in_transaction();
  if (own) begin_transaction("BEGIN", true);
  const std::string group_sql = plan.explain_prefix + text;
  pg::write_text_row_description(out_, {"QUERY PLAN"});
  if (!structured)
    put_line(out_, how + (several ? " over " + std::to_string(groups.size()) + " groups: " : " to group: ") +
                       group_names(*snapshot_, groups));
  Status status;
  for (exec::GroupId group : groups) {
    auto backend = co_await backends_.get(group);
    if (!backend.ok()) {
      status = std::move(backend.error());
      break;
    }
    note_effects(**backend, plan.effects);
    auto rows = co_await (*backend)->conn->query(group_sql);
    if (!rows.ok()) {
      status = std::move(rows.error());
      break;
    }
    if (several) put_line(out_, "  ->  Group " + snapshot_->group(group)->name);
    for (const auto& row : rows->rows)
      put_line(out_, (structured ? "" : several ? "        " : "  ") + row[0].value_or(""));
  }
  if (own) {
    if (status.ok()) {
      status = co_await commit_transaction();
    } else {
      co_await abort_transaction();
    }
    implicit_ = false;
  }
  if (!status.ok()) co_return status;
  pg::write_command_complete(out_, "EXPLAIN");
  co_return Status{};
}

net::Task<Result<std::string>> Session::text_for_group(const plan::Plan& plan, std::string_view sql, bool several) {
  std::string text = plan.rewritten_sql.empty() ? std::string(sql) : plan.rewritten_sql;
  if (several && plan.combine) {
    text = plan.combine->partial_sql;
  } else if (several && plan.gather && !plan.gather->sql.empty()) {
    text = plan.gather->sql;
  }
  for (const std::string& relation : plan.virtual_relations) {
    CO_TRY_ASSIGN(std::string rows, co_await virtual_rows(relation));
    std::string doubled;
    for (char c : rows) {
      if (c == '\'') doubled += c;
      doubled += c;
    }
    const std::string marker = plan::virtual_marker(relation);
    for (std::size_t at = text.find(marker); at != std::string::npos; at = text.find(marker, at + doubled.size()))
      text.replace(at, marker.size(), doubled);
  }
  co_return text;
}

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

// What the cluster calls a database of the group's server; nothing: it belongs to the other group on this server.
std::optional<std::string> database_of(const catalog::Group& group, const catalog::Snapshot& snapshot,
                                       const std::string& name) {
  if (!group.beside_home) return group.home && pg::is_shards_database(name) ? std::nullopt : std::optional(name);
  for (const auto& [database, tables] : snapshot.databases)
    if (pg::shards_database_name(database) == name) return database;
  return std::nullopt;
}

}  // namespace

net::Task<Result<std::string>> Session::virtual_rows(const std::string& relation) {
  if (relation == plan::kBackendPid) co_return std::to_string(pid_);
  if (relation == kSignal) co_return std::string();
  if (relation == "tables") co_return table_rows(*database_).dump();
  if (relation == "shards") co_return shard_rows(*snapshot_, *database_).dump();
  if (relation == "groups") {
    nlohmann::json rows = nlohmann::json::array();
    for (const catalog::Group& group : snapshot_->groups) {
      if (group.home) continue;
      rows.push_back({{"group_id", group.id},
                      {"group_name", group.name},
                      {"host", group.host},
                      {"port", group.port},
                      {"is_home", group.beside_home}});
    }
    co_return rows.dump();
  }
  if (relation == plan::kClusterSums) co_return co_await cluster_sums(backends_, *snapshot_, *database_);
  co_return co_await activity_rows();
}

// pg_stat_activity of all groups, as this user may see it, joined with the clients the backends work for.
net::Task<Result<std::string>> Session::activity_rows() {
  std::vector<SessionInfo> clients = co_await worker_.context.all_sessions(worker_.loop);
  nlohmann::json rows = nlohmann::json::array();
  auto client_columns = [](nlohmann::json& row, const SessionInfo& client) {
    row["pid"] = client.pid;
    row["application_name"] = client.application;
    row["client_addr"] = client.address;
    row["client_port"] = client.port;
  };
  std::set<uint32_t> shown;
  for (const catalog::Group& group : snapshot_->groups) {
    auto backend = co_await backends_.get(group.id);
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
      const auto database = database_of(group, *snapshot_, values[1].value_or(""));
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
  exec::Backend* home = backends_.held(snapshot_->home);
  const bool superuser = home != nullptr && home->conn->parameters["is_superuser"] == "on";
  for (SessionInfo& client : clients) {
    if (shown.contains(client.pid)) continue;
    if (!superuser && client.user != backends_.user()) client.query = "<insufficient privilege>";
    nlohmann::json row = {
        {"datname", client.database}, {"usename", client.user}, {"state", client.state}, {"query", client.query}};
    client_columns(row, client);
    rows.push_back(std::move(row));
  }
  co_return rows.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace pgmosaic::router
