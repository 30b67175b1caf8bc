// pgmosaic dev: N PostgreSQL servers, the metadata store and the router in one supervised process tree.
//
// DIR/metadata.db, DIR/password (of the user, mode 0600), DIR/port, DIR/groups (their number), DIR/g1 … DIR/gN (see
// agent/instance.h).
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "agent/instance.h"
#include "base/config.h"
#include "base/log.h"
#include "base/random.h"
#include "cli/commands.h"
#include "meta/single_user.h"
#include "meta/sqlite_store.h"
#include "router/server.h"

namespace pgmosaic::cli {

namespace {

namespace fs = std::filesystem;

std::string read_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

bool write_private(const fs::path& file, const std::string& text) {
  const mode_t before = umask(077);
  std::ofstream out(file);
  out << text << '\n';
  umask(before);
  return out.good();
}

// The user's password: given, or made at the first start and kept.
Result<std::string> user_password(const Config& config, const fs::path& dir) {
  if (!config.dev.password.empty()) return config.dev.password;
  const fs::path file = dir / "password";
  std::string password = read_line(file);
  if (!password.empty()) return password;
  password = random_hex(8);
  if (!write_private(file, password)) return make_error("58030", "cannot write " + file.string());
  return password;
}

// Makes the user's role on every group with one SCRAM verifier; a changed password replaces the old one.
net::Task<Status> create_user(net::EventLoop& loop, std::vector<control::GroupEndpoint>& groups,
                              pool::Credentials internal, std::string user, std::string password) {
  std::string verifier;
  for (auto& group : groups) {
    auto conn = co_await pool::ServerConn::connect(loop, group.endpoint, internal, "postgres", 10000);
    if (!conn.ok()) co_return std::move(conn.error());
    const std::string find =
        "SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname = " + pool::quote_literal(user);
    auto rows = co_await (*conn)->query(find);
    if (!rows.ok()) co_return std::move(rows.error());
    if (verifier.empty()) {
      // Keep a verifier that already fits the password: running clients' keys stay good.
      auto known = rows->rows.empty() ? std::nullopt : pg::parse_verifier(*rows->rows[0][0]);
      if (known) {
        CO_TRY_ASSIGN(auto again, pg::make_verifier(password, known->iterations, known->salt));
        if (again == *known) verifier = pg::format_verifier(*known);
      }
      if (verifier.empty()) {
        CO_TRY_ASSIGN(auto made, pg::make_verifier(password, pg::kScramIterations, random_bytes(16)));
        verifier = pg::format_verifier(made);
      }
    }
    std::string sql = rows->rows.empty() ? "CREATE ROLE " : "ALTER ROLE ";
    sql += pool::quote_identifier(user) + " SUPERUSER LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS PASSWORD " +
           pool::quote_literal(verifier);
    if (!rows->rows.empty() && *rows->rows[0][0] == verifier) continue;
    auto done = co_await (*conn)->query(sql);
    if (!done.ok()) co_return std::move(done.error());
  }
  co_return Status{};
}

Status run_to_end(net::EventLoop& loop, net::Task<Status> task) {
  Status result;
  auto drive = [](net::EventLoop& on, net::Task<Status> work, Status& status) -> net::Task<void> {
    status = co_await work;
    on.stop();
  };
  net::spawn(drive(loop, std::move(task), result));
  loop.run();
  return result;
}

struct Servers {
  std::vector<std::unique_ptr<agent::PostgresInstance>> instances;
  std::vector<agent::PostgresInstance*> all() const {
    std::vector<agent::PostgresInstance*> result;
    for (const auto& instance : instances) result.push_back(instance.get());
    return result;
  }
};

Status start_servers(const Config& config, const fs::path& dir, Servers& servers,
                     std::vector<control::GroupEndpoint>& groups) {
  for (int i = 1; i <= config.dev.groups; ++i) {
    agent::InstanceOptions options;
    options.directory = (dir / ("g" + std::to_string(i))).string();
    options.bin_dir = config.dev.postgres_bin_dir;
    options.account = config.dev.account;
    options.port = config.dev.first_port > 0 ? config.dev.first_port + i - 1 : 0;
    options.internal_user = config.internal.user;
    options.settings = {{"max_connections", std::to_string(config.dev.max_connections)},
                        {"max_prepared_transactions", std::to_string(config.dev.max_connections)},
                        {"shared_buffers", config.dev.shared_buffers},
                        {"fsync", config.dev.fsync ? "on" : "off"}};
    TRY_ASSIGN(auto instance, agent::PostgresInstance::open(std::move(options)));
    servers.instances.push_back(std::move(instance));
  }
  TRY(agent::start_all(servers.all()));
  for (std::size_t i = 0; i < servers.instances.size(); ++i) {
    const auto& instance = *servers.instances[i];
    control::GroupEndpoint entry;
    entry.group = {static_cast<catalog::GroupId>(i + 1), "g" + std::to_string(i + 1), instance.host(), instance.port(),
                   i == 0};
    entry.endpoint.host = instance.socket_directory();
    entry.endpoint.port = instance.port();
    groups.push_back(std::move(entry));
  }
  return {};
}

// Makes the data directory, or finds a cluster in it.
Status open_directory(const fs::path& dir) {
  std::error_code problem;
  fs::create_directories(dir, problem);
  if (problem) return make_error("58030", "cannot make the data directory " + dir.string() + ": " + problem.message());
  if (geteuid() == 0)
    fs::permissions(dir, fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec, problem);
  if (!fs::exists(dir / "metadata.db", problem) && !fs::is_empty(dir, problem))
    return make_error("F0000", dir.string() + " is not empty, and holds no cluster",
                      "Choose another --data-dir, or empty this one.");
  return {};
}

// What differs from a router's defaults where neither a flag nor a file says otherwise; as flags, so that a reload does
// not take it back.
void choose_unless_told(Config& config, CommandLine& command_line, const fs::path& dir) {
  if (!command_line.config_file.empty()) return;
  auto told = [&](std::string_view name) {
    return std::any_of(command_line.settings.begin(), command_line.settings.end(),
                       [&](const auto& setting) { return setting.first == name; });
  };
  // Ctrl-C should not wait for long transactions.
  if (!told("timeouts.shutdown_ms")) {
    config.timeouts.shutdown_ms = 3000;
    command_line.settings.emplace_back("timeouts.shutdown_ms", std::to_string(config.timeouts.shutdown_ms));
  }
  if (told("port")) return;
  // Clients find the cluster at the port it had last.
  const std::string last = read_line(dir / "port");
  config.port = last.empty() ? 0 : std::atoi(last.c_str());
  if (!last.empty()) command_line.settings.emplace_back("port", last);
}

}  // namespace

int run_dev(const std::vector<std::string>& arguments) {
  int code = 0;
  auto configured = configure(arguments, "dev", code);
  if (!configured) return code;
  Config& config = configured->config;
  CommandLine& command_line = configured->command_line;
  const fs::path dir = fs::absolute(config.dev.data_dir);
  Status opened = open_directory(dir);
  if (!opened.ok()) return fail(opened.error());
  choose_unless_told(config, command_line, dir);
  auto alone = meta::SingleUser::take((dir / "metadata.db").string());
  if (!alone.ok()) return fail(alone.error());
  auto password = user_password(config, dir);
  if (!password.ok()) return fail(password.error());
  auto store = meta::open_sqlite_store((dir / "metadata.db").string());
  if (!store.ok()) return fail(store.error());
  // Shards are placed on the groups of the first start.
  const std::string known_groups = read_line(dir / "groups");
  if (!known_groups.empty() && known_groups != std::to_string(config.dev.groups))
    return fail(make_error("F0000",
                           "the cluster under " + dir.string() + " has " + known_groups + " groups, not " +
                               std::to_string(config.dev.groups),
                           "Start it with --groups " + known_groups + ", or choose another --data-dir."));
  if (known_groups.empty() && !write_private(dir / "groups", std::to_string(config.dev.groups)))
    return fail(make_error("58030", "cannot write " + (dir / "groups").string()));
  Servers servers;
  std::vector<control::GroupEndpoint> groups;
  Status started = start_servers(config, dir, servers, groups);
  if (!started.ok()) return fail(started.error());
  pool::Credentials internal{config.internal.user, {}, {}};
  {
    net::EventLoop loop;
    Status user = run_to_end(loop, create_user(loop, groups, internal, config.dev.user, *password));
    if (!user.ok()) return fail(user.error());
  }
  const std::string url_user = config.dev.user, url_password = *password;
  Status status;
  {
    router::Server server(config, command_line, **store, groups, internal);
    status = server.run(
        [&](uint16_t port) {
          write_private(dir / "port", std::to_string(port));
          const std::string host = config.listen.empty() ? "127.0.0.1" : config.listen[0];
          std::printf("%d PostgreSQL servers under %s\n", config.dev.groups, dir.c_str());
          std::printf("ready: postgresql://%s:%s@%s:%u/postgres\n", url_user.c_str(), url_password.c_str(),
                      host.c_str(), port);
          std::fflush(stdout);
        },
        [&] {
          for (auto& instance : servers.instances) {
            auto exit = instance->poll_exit();
            if (!exit) continue;
            log_error("agent", "PostgreSQL on port {} ended ({}); starting it again", instance->port(), exit->reason);
            Status again = instance->start();
            if (!again.ok()) log_error("agent", "PostgreSQL did not start again: {}", again.error().message);
          }
        });
  }
  Status stopped = agent::stop_all(servers.all());
  if (!status.ok()) return fail(status.error());
  return stopped.ok() ? 0 : fail(stopped.error());
}

}  // namespace pgmosaic::cli
