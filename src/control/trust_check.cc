// [[auth]] rules with method trust against what the groups themselves ask for.
//
// Rules that name users are tried: the router logs in as that user without a password. A rule for all users cannot be
// tried, so the group's pg_hba.conf is read (pg_hba_file_rules), for connections like the internal role's own.
#include <fmt/format.h>

#include <algorithm>

#include "control/preflight.h"

namespace pgmosaic::control {

namespace {

constexpr int kConnectTimeoutMs = 10000;

// pg_hba.conf's lines that concern a connection from here, in order: method, the databases and users they are for.
constexpr const char* kHbaSql =
    "WITH me AS (SELECT inet_client_addr() AS address, inet_server_addr() AS server, "
    "  coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()), false) AS ssl) "
    "SELECT line_number, auth_method, pg_catalog.array_to_string(database, ','), pg_catalog.array_to_string(user_name, "
    "',') "
    "FROM pg_catalog.pg_hba_file_rules, me WHERE error IS NULL AND CASE "
    "  WHEN me.address IS NULL THEN type = 'local' "
    "  WHEN type = 'local' OR (type = 'hostssl' AND NOT me.ssl) OR (type = 'hostnossl' AND me.ssl) "
    "    OR (type = 'hostgssenc') THEN false "
    "  WHEN pg_hba_file_rules.address IN ('all', 'samehost', 'samenet') THEN "
    "    pg_hba_file_rules.address <> 'samehost' OR me.address = me.server "
    "  WHEN netmask IS NULL THEN true "  // a host name: it may be ours
    "  WHEN family(pg_hba_file_rules.address::inet) <> family(me.address) THEN false "
    "  ELSE (me.address & netmask::inet) = (pg_hba_file_rules.address::inet & netmask::inet) END "
    "ORDER BY line_number";

bool asks_for_password(const std::string& method) {
  return method != "trust" && method != "cert" && method != "peer" && method != "ident" && method != "reject";
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    std::string name = list.substr(begin, end - begin);
    const std::size_t first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
    if (first != std::string::npos) names.push_back(name.substr(first, last - first + 1));
    begin = end + 1;
  }
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string rule_text(const AuthRule& rule, std::size_t number) {
  static const char* kTypes[] = {"local", "host", "hostssl", "hostnossl"};
  return fmt::format("[[auth]] rule {} (type {}, database {}, user {}, network {}, method trust)", number,
                     kTypes[static_cast<int>(rule.type)], rule.database, rule.user, rule.network);
}

std::string advice(const std::string& role) {
  return "; needed: method = \"scram-sha-256\" in that rule, or a line of method trust or cert for " + role +
         " from the router's address in this server's pg_hba.conf";
}

// The first line that would ask one of these users for a password; empty: none. `database`: a name, or all.
std::string line_that_asks(const pool::ServerConn::Rows& hba, const std::string& database,
                           const std::string& internal_user) {
  for (const auto& line : hba.rows) {
    const std::vector<std::string> databases = split(*line[2]), users = split(*line[3]);
    if (users.size() == 1 && users[0] == internal_user) continue;
    if (databases.size() == 1 && databases[0] == "replication") continue;
    const bool covers = contains(databases, "all") || contains(databases, database);
    const bool concerns =
        covers || database == "all" || contains(databases, "sameuser") || contains(databases, "samerole");
    if (!concerns) continue;
    if (asks_for_password(*line[1]))
      return fmt::format("line {} of its pg_hba.conf has method {} for database {}, user {}", *line[0], *line[1],
                         *line[2], *line[3]);
    if (covers && contains(users, "all")) break;  // decides over all that is left
  }
  return {};
}

net::Task<Status> check_named(net::EventLoop& loop, const Config& config, const GroupEndpoint& group,
                              const AuthRule& rule, const std::string& text, std::vector<std::string>& findings) {
  const std::vector<std::string> databases = split(rule.database);
  std::string database = config.internal.database;
  if (!databases.empty() && databases[0] != "all" && databases[0] != config.admin_database) database = databases[0];
  for (const std::string& user : split(rule.user)) {
    const pool::Credentials nobody{user, {}, {}};
    auto conn = co_await pool::ServerConn::connect(loop, group.endpoint, nobody, database, kConnectTimeoutMs);
    if (conn.ok()) continue;
    const Error& error = conn.error();
    if (error.sqlstate.starts_with("08")) co_return error;
    // A role or database that does not exist yet, or a server that lets nobody in from here, asks for no password.
    const bool asks = error.message.find("asks for") != std::string::npos || error.sqlstate == "28P01";
    if (asks)
      findings.push_back(text + ": group " + describe(group) + " asks user \"" + user + "\" for a password" +
                         advice("user \"" + user + "\""));
  }
  co_return Status{};
}

net::Task<Status> check_everybody(net::EventLoop& loop, const Config& config, const GroupEndpoint& group,
                                  const AuthRule& rule, const pool::Credentials& internal, const std::string& text,
                                  std::vector<std::string>& findings) {
  pool::Endpoint server = group.endpoint;
  server.shards_beside_home = false;  // its pg_hba.conf is the same in all databases, and this one exists
  auto conn = co_await pool::ServerConn::connect(loop, server, internal, config.internal.database, kConnectTimeoutMs);
  if (!conn.ok()) co_return std::move(conn.error());
  auto hba = co_await (*conn)->query(kHbaSql);
  if (!hba.ok()) co_return std::move(hba.error());
  for (const std::string& database : split(rule.database)) {
    if (database == config.admin_database) continue;  // reaches no group
    const std::string name = database == "all" ? database : group.endpoint.database_name(database);
    const std::string line = line_that_asks(*hba, name, config.internal.user);
    if (line.empty()) continue;
    findings.push_back(text + ": group " + describe(group) + " asks users for a password: " + line +
                       advice("these users"));
    break;
  }
  co_return Status{};
}

}  // namespace

net::Task<Status> check_trust_rules(net::EventLoop& loop, const Config& config,
                                    const std::vector<GroupEndpoint>& groups, const pool::Credentials& internal) {
  std::vector<std::string> findings;
  for (std::size_t i = 0; i < config.auth.size(); ++i) {
    const AuthRule& rule = config.auth[i];
    if (rule.method != AuthMethod::trust) continue;
    if (rule.database == config.admin_database) continue;  // reaches no group
    const std::string text = rule_text(rule, i + 1);
    for (const GroupEndpoint& group : groups) {
      Status status;
      if (contains(split(rule.user), "all")) {
        status = co_await check_everybody(loop, config, group, rule, internal, text, findings);
      } else {
        status = co_await check_named(loop, config, group, rule, text, findings);
      }
      if (!status.ok()) {
        status.error().node = describe(group);
        co_return status;
      }
    }
  }
  if (findings.empty()) co_return Status{};
  Error error = unfit(findings);
  error.message = "the router would trust users whom the groups ask for a password";
  co_return error;
}

}  // namespace pgmosaic::control
