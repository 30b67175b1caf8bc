// What SHOW shows on the admin database.
#include <algorithm>
#include <set>

#include "exec/control.h"
#include "router/admin.h"
#include "router/context.h"
#include "router/health.h"
#include "router/metrics.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

using Rows = std::vector<AdminRow>;

const char* yes_no(bool value) { return value ? "yes" : "no"; }

std::optional<std::string> time_text(const Worker& worker, int64_t at_us) {
  if (at_us == 0) return std::nullopt;
  return utc_text(worker.loop.now_us() - at_us);
}

std::string group_name(const Worker& worker, catalog::GroupId id) {
  const catalog::Group* group = worker.snapshot->group(id);
  return group != nullptr ? group->name : std::to_string(id);
}

const char* mode_name(PoolMode mode) {
  switch (mode) {
    case PoolMode::session: return "session";
    case PoolMode::transaction: return "transaction";
    case PoolMode::statement: return "statement";
  }
  return "";
}

// Asks all workers now, unlike the gauges they publish.
net::Task<PoolUses> pool_uses(Worker& worker) {
  std::mutex guard;
  PoolUses sum;
  std::function<void(Worker&)> add = [&guard, &sum](Worker& asked) {
    const WorkerGauges own = measure(asked);
    std::lock_guard lock(guard);
    for (const auto& [key, use] : own.pools) sum[key] += use;
  };
  co_await worker.context.on_each_worker(worker.loop, add);
  co_return sum;
}

net::Task<Rows> show_pools(Worker& worker) {
  const PoolUses uses = co_await pool_uses(worker);
  Rows rows;
  for (const auto& [key, use] : uses) {
    const auto& [user, database, group] = key;
    const bool dropped = worker.snapshot->database(database) == nullptr;
    if (dropped && use.in_use + use.idle + use.waiting == 0) continue;
    rows.push_back({database, user, group_name(worker, group), std::to_string(use.in_use), std::to_string(use.idle),
                    std::to_string(use.waiting), mode_name(worker.config->pool.mode),
                    yes_no(worker.pool.paused(database) && user != worker.config->internal.user)});
  }
  co_return rows;
}

net::Task<Rows> show_clients(Worker& worker) {
  const std::vector<SessionInfo> sessions = co_await worker.context.all_sessions(worker.loop);
  Rows rows;
  for (const SessionInfo& session : sessions) {
    std::string backends;
    for (const auto& [group, pid] : session.backends)
      backends += (backends.empty() ? "" : ", ") + group_name(worker, group) + ":" + std::to_string(pid);
    rows.push_back({std::to_string(session.pid), session.user, session.database, session.state, session.address,
                    std::to_string(session.port), session.application, time_text(worker, session.connected_us),
                    time_text(worker, session.query_start_us), backends, session.query});
  }
  std::sort(rows.begin(), rows.end(),
            [](const AdminRow& a, const AdminRow& b) { return std::stoul(*a[0]) < std::stoul(*b[0]); });
  co_return rows;
}

struct ServerRow {
  catalog::GroupId group;
  uint32_t pid;
  std::string user, database, state;
  int64_t created_us;
};

void list_servers(const Worker& worker, std::vector<ServerRow>& rows) {
  std::set<const pool::ServerConn*> idle;
  for (const auto& [key, entry] : worker.pool.entries())
    for (const auto& conn : entry->idle) idle.insert(conn.get());
  for (const auto& [id, conn] : worker.pool.connections()) {
    const char* state = idle.contains(conn)               ? "idle"
                        : !conn->idle()                   ? "active"
                        : conn->transaction_status != 'I' ? "in transaction"
                                                          : "held";
    rows.push_back({conn->entry->group, conn->pid, conn->entry->user, conn->entry->database, state, conn->created_us});
  }
}

net::Task<Rows> show_servers(Worker& worker) {
  std::mutex guard;
  std::vector<ServerRow> servers;
  std::function<void(Worker&)> collect = [&guard, &servers](Worker& asked) {
    std::lock_guard lock(guard);
    list_servers(asked, servers);
  };
  co_await worker.context.on_each_worker(worker.loop, collect);
  const std::vector<SessionInfo> sessions = co_await worker.context.all_sessions(worker.loop);
  std::map<std::pair<catalog::GroupId, uint32_t>, uint32_t> clients;
  for (const SessionInfo& session : sessions)
    for (const auto& backend : session.backends) clients[backend] = session.pid;
  std::sort(servers.begin(), servers.end(),
            [](const ServerRow& a, const ServerRow& b) { return std::tie(a.group, a.pid) < std::tie(b.group, b.pid); });
  Rows rows;
  for (const ServerRow& server : servers) {
    const auto client = clients.find({server.group, server.pid});
    const catalog::Group* group = worker.snapshot->group(server.group);
    rows.push_back(
        {group_name(worker, server.group), std::to_string(server.pid), server.user, server.database, server.state,
         group != nullptr ? group->host : "", std::to_string(group != nullptr ? group->port : 0),
         time_text(worker, server.created_us),
         client == clients.end() ? std::nullopt : std::optional<std::string>(std::to_string(client->second))});
  }
  co_return rows;
}

net::Task<Rows> show_stats(Worker& worker) {
  constexpr std::atomic<uint64_t> WorkerStats::*kCounters[] = {
      &WorkerStats::statements,       &WorkerStats::transactions, &WorkerStats::distributed_commits,
      &WorkerStats::multi_group,      &WorkerStats::errors,       &WorkerStats::bytes_from_clients,
      &WorkerStats::bytes_to_clients, &WorkerStats::plan_hits,    &WorkerStats::plan_misses};
  constexpr std::size_t kCount = std::size(kCounters);
  std::array<uint64_t, kCount> total{};
  LatencySnapshot all_times;
  Rows rows;
  auto add_row = [&rows](std::string name, const std::array<uint64_t, kCount>& values, const LatencySnapshot& times) {
    AdminRow row = {std::move(name)};
    for (uint64_t value : values) row.push_back(std::to_string(value));
    for (double fraction : {0.5, 0.99}) row.push_back(std::to_string(times.quantile_us(fraction)));
    rows.push_back(std::move(row));
  };
  for (const auto& each : worker.context.workers) {
    std::array<uint64_t, kCount> values;
    for (std::size_t i = 0; i < kCount; ++i)
      total[i] += values[i] = (each->stats.*kCounters[i]).load(std::memory_order_relaxed);
    const LatencySnapshot times = each->stats.statement_time.snapshot();
    all_times += times;
    add_row(std::to_string(each->index), values, times);
  }
  add_row("all", total, all_times);
  co_return rows;
}

net::Task<Rows> show_config(Worker& worker) {
  Rows rows;
  for (const ShownSetting& setting : pgmosaic::show_config(*worker.config))
    rows.push_back({setting.name, setting.value, setting.default_value, setting.needs_restart ? "restart" : "reload",
                    setting.description});
  for (const AuthRule& rule : worker.config->auth) {
    static const char* kTypes[] = {"local", "host", "hostssl", "hostnossl"};
    static const char* kMethods[] = {"scram-sha-256", "md5", "trust", "reject"};
    const std::string text = std::string(kTypes[static_cast<int>(rule.type)]) + " " + rule.database + " " + rule.user +
                             " " + rule.network + " " + kMethods[static_cast<int>(rule.method)];
    rows.push_back({"auth", text, std::nullopt, "reload",
                    "type, database, user, network, method; the first rule that matches decides"});
  }
  co_return rows;
}

net::Task<Rows> show_groups(Worker& worker) {
  const PoolUses uses = co_await pool_uses(worker);
  std::map<catalog::GroupId, PoolUse> by_group;
  for (const auto& [key, use] : uses)
    if (std::get<0>(key) != worker.config->internal.user) by_group[std::get<2>(key)] += use;
  std::map<catalog::GroupId, GroupHealth> health;
  if (worker.context.health != nullptr)
    for (GroupHealth& state : worker.context.health->groups()) health[state.id] = std::move(state);
  Rows rows;
  for (const catalog::Group& group : worker.snapshot->groups) {
    const PoolUse& use = by_group[group.id];
    const GroupHealth& state = health[group.id];
    rows.push_back({group.name, std::to_string(group.id), group.host, std::to_string(group.port), yes_no(group.home),
                    yes_no(state.up), std::to_string(use.in_use), std::to_string(use.idle), std::to_string(use.waiting),
                    std::to_string(worker.config->pool.size_per_group),
                    state.problem.empty() ? std::nullopt : std::optional<std::string>(state.problem)});
  }
  co_return rows;
}

net::Task<Rows> show_databases(Worker& worker) {
  const PoolUses uses = co_await pool_uses(worker);
  const std::vector<SessionInfo> sessions = co_await worker.context.all_sessions(worker.loop);
  Rows rows;
  for (const auto& [name, database] : worker.snapshot->databases) {
    PoolUse sum;
    for (const auto& [key, use] : uses)
      if (std::get<1>(key) == name && std::get<0>(key) != worker.config->internal.user) sum += use;
    const auto here = [&name](const SessionInfo& session) { return session.database == name; };
    const auto clients = std::count_if(sessions.begin(), sessions.end(), here);
    std::size_t tables = 0, sharded = 0;
    for (const auto& [oid, table] : database->tables_by_oid) {
      tables += table->kind != catalog::TableKind::view;
      sharded += table->kind == catalog::TableKind::sharded;
    }
    rows.push_back({name, std::to_string(tables), std::to_string(sharded), std::to_string(clients),
                    std::to_string(sum.in_use), std::to_string(sum.idle), std::to_string(sum.waiting),
                    yes_no(worker.pool.paused(name))});
  }
  co_return rows;
}

net::Task<Rows> show_layouts(Worker& worker) {
  Rows rows;
  for (const auto& [database, known] : worker.snapshot->databases) {
    const auto layouts = worker.context.control->layouts(database);
    if (!layouts.ok()) continue;
    for (const auto& [name, clauses] : *layouts) rows.push_back({database, name.first, name.second, clauses});
  }
  co_return rows;
}

net::Task<Rows> show_operations(Worker& worker) {
  Rows rows;
  for (const OperationInfo& info : worker.context.operations.list())
    for (const auto& [group, part] : info.parts)
      rows.push_back({std::to_string(info.id), info.kind, info.database, info.user, std::to_string(info.pid),
                      info.object, group_name(worker, group), part.state, std::to_string(part.done),
                      std::to_string(part.total), time_text(worker, info.started_us)});
  co_return rows;
}

net::Task<Rows> show_version(Worker&) {
  Rows rows;
  rows.push_back({std::string(kVersion)});
  co_return rows;
}

net::Task<Rows> show_help(Worker&) {
  Rows rows;
  for (const AdminView& view : admin_views()) {
    std::string name = view.name;
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    rows.push_back({"SHOW " + name, view.description});
  }
  rows.push_back({"FSCK [database]", fsck_view().description});
  rows.push_back({"LAYOUT database", layout_view().description});
  rows.push_back({"PAUSE [database]", "Waits until no client uses a backend; new transactions wait until RESUME"});
  rows.push_back({"RESUME [database]", "Ends a pause"});
  rows.push_back({"RELOAD", "Reads the configuration file again, as SIGHUP does"});
  rows.push_back({"SHUTDOWN", "Ends the router as SIGTERM does: open transactions get timeouts.shutdown_ms to finish"});
  rows.push_back({"CANCEL pid", "Cancels what a client runs; pid as in SHOW CLIENTS"});
  rows.push_back({"KILL pid", "Ends a client's connection"});
  co_return rows;
}

// "name count#": columns name (text) and count (a number).
std::vector<AdminColumn> columns(std::string_view names) {
  std::vector<AdminColumn> result;
  for (std::size_t begin = 0; begin < names.size();) {
    const std::size_t end = std::min(names.find(' ', begin), names.size());
    std::string name(names.substr(begin, end - begin));
    const bool number = name.ends_with('#');
    if (number) name.pop_back();
    result.push_back({std::move(name), number});
    begin = end + 1;
  }
  return result;
}

}  // namespace

const std::vector<AdminView>& admin_views() {
  static const std::vector<AdminView> kViews = {
      {"pools", "Backends by database, user and group, over all workers",
       columns("database user group in_use# idle# waiting_clients# pool_mode paused"), show_pools},
      {"clients", "Client connections",
       columns("pid# user database state address port# application_name connected_at statement_at backends query"),
       show_clients},
      {"servers", "Backend connections", columns("group pid# user database state host port# connected_at client_pid#"),
       show_servers},
      {"stats", "Counters since the start, by worker and over all",
       columns("worker statements# transactions# distributed_commits# multi_group_statements# errors# bytes_received# "
               "bytes_sent# plan_hits# plan_misses# p50_us# p99_us#"),
       show_stats},
      {"config", "Settings in force", columns("name value default takes_effect description"), show_config},
      {"groups", "Replication groups and whether they answer",
       columns("name id# host port# home up in_use# idle# waiting_clients# pool_size# problem"), show_groups},
      {"databases", "Databases of the cluster",
       columns("name tables# sharded_tables# clients# in_use# idle# waiting_clients# paused"), show_databases},
      {"layouts", "Layouts of tables that are yet to be created", columns("database schema table clauses"),
       show_layouts},
      {"operations", "Commands that run in steps, and how far each group is",
       columns("id# kind database user client_pid# object group state done# total# started_at"), show_operations},
      {"version", "Version of the router", columns("version"), show_version},
      {"help", "The commands of this console", columns("command description"), show_help},
  };
  return kViews;
}

const AdminView& fsck_view() {
  static const AdminView kView = {
      "fsck", "What differs between the groups' schemas and the catalog, and rows where none may be",
      columns("database group object difference")};
  return kView;
}

const AdminView& layout_view() {
  static const AdminView kView = {"layout", "The statements that make tables of a dump as they are in a database",
                                  columns("command")};
  return kView;
}

const AdminView* find_admin_view(std::string_view name) {
  for (const AdminView& view : admin_views())
    if (view.name == name) return &view;
  return nullptr;
}

}  // namespace pgmosaic::router
