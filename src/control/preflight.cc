#include "control/preflight.h"

#include <chrono>
#include <cmath>
#include <set>

#include "base/log.h"

namespace pgmosaic::control {

namespace {

constexpr int kConnectTimeoutMs = 10000;
constexpr int kOldestVersion = 150000;
constexpr double kClockToleranceS = 1.0;
// Beside the clients' backends: the workers' own, recovery, the watch over the group.
constexpr int kOwnConnections = 10;

// One row, in the order of Facts.
constexpr const char* kFactsSql =
    "SELECT current_setting('server_version_num'), current_setting('server_version'), "
    "current_setting('max_prepared_transactions'), current_setting('wal_level'), current_setting('max_connections'), "
    "current_setting('superuser_reserved_connections'), current_setting('standard_conforming_strings'), "
    "current_setting('TimeZone'), current_setting('default_transaction_read_only'), "
    "pg_catalog.pg_is_in_recovery()::pg_catalog.text, "
    "(SELECT rolsuper::pg_catalog.text FROM pg_catalog.pg_roles WHERE rolname = current_user), "
    "extract(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.text, "
    "extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text, "
    "coalesce((SELECT pg_catalog.string_agg(extname || ' ' || extversion, ', ' ORDER BY extname) FROM "
    "pg_catalog.pg_extension), '')";
constexpr const char* kDatabasesSql =
    "SELECT datname, pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, "
    "coalesce(daticulocale, ''), coalesce(datcollversion, ''), "
    "coalesce(pg_catalog.pg_database_collation_actual_version(oid), '') "
    "FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate AND NOT starts_with(datname, "
    "'pgmosaic_shards_') ORDER BY datname";

// Users whose logins are passed on; the internal role has its password from the configuration.
constexpr const char* kVerifiersSql =
    "SELECT rolname, coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolcanlogin AND rolname <> current_user";

struct DatabaseFacts {
  std::string encoding, collate, ctype, provider, icu_locale, recorded_version, actual_version;
};

struct Facts {
  int version = 0;
  std::string version_text;
  int max_prepared = 0;
  std::string wal_level;
  int max_connections = 0, reserved = 0;
  std::string conforming_strings, time_zone, read_only, in_recovery, superuser;
  double clock_offset_s = 0;  // its clock minus ours
  std::string identity;       // of the server process: system identifier and start
  std::set<std::string> extensions;
  std::map<std::string, DatabaseFacts> databases;
  std::map<std::string, std::string> verifiers;  // by role
};

struct Findings {
  std::vector<std::string> fatal, warnings;
  void unfit(const GroupEndpoint& group, std::string text) {
    fatal.push_back("group " + describe(group) + ": " + std::move(text));
  }
  void note(const GroupEndpoint& group, std::string text) {
    warnings.push_back("group " + describe(group) + ": " + std::move(text));
  }
};

double wall_clock_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string alter_system(const std::string& setting, const std::string& value) {
  return "ALTER SYSTEM SET " + setting + " = " + value + ";";
}

// Why the internal role could not log in, and what to change.
std::string login_problem(const Config& config, const Error& error) {
  const std::string& role = config.internal.user;
  std::string text = error.message + "; ";
  if (error.sqlstate == "28P01")
    return text + "needed: the password of role \"" + role +
           "\" on this server in internal.password or internal.password_file of the router";
  if (error.sqlstate == "3D000")
    return text + "needed: the database that internal.database of the router names, on every group";
  if (error.sqlstate.starts_with("28") && error.message.find("does not exist") != std::string::npos)
    return text + "needed: CREATE ROLE " + pool::quote_identifier(role) +
           " SUPERUSER LOGIN PASSWORD '…' on this server, as internal.user of the router";
  if (error.sqlstate.starts_with("28"))
    return text + "needed: a line in this server's pg_hba.conf such as \"host all " + role +
           " ROUTER-ADDRESS/32 scram-sha-256\", then SELECT pg_reload_conf(), and its password in internal.password";
  if (error.sqlstate.starts_with("08"))
    return text +
           "needed: a PostgreSQL that answers there; see host, port and tls of this [[group]], and listen_addresses of "
           "the server";
  return text + "needed: a server on which role \"" + role + "\" can log in";
}

net::Task<Result<Facts>> ask(pool::ServerConn& conn) {
  Facts facts;
  const double before_s = wall_clock_s();
  auto answer = co_await conn.query(kFactsSql);
  const double after_s = wall_clock_s();
  if (!answer.ok()) co_return std::move(answer.error());
  const auto& row = answer->rows[0];
  facts.version = std::stoi(*row[0]);
  facts.version_text = *row[1];
  facts.max_prepared = std::stoi(*row[2]);
  facts.wal_level = *row[3];
  facts.max_connections = std::stoi(*row[4]);
  facts.reserved = std::stoi(*row[5]);
  facts.conforming_strings = *row[6];
  facts.time_zone = *row[7];
  facts.read_only = *row[8];
  facts.in_recovery = *row[9];
  facts.superuser = row[10].value_or("false");
  const double error_s = (after_s - before_s) / 2;
  const double offset_s = std::stod(*row[11]) - (before_s + error_s);
  facts.clock_offset_s = std::fabs(offset_s) <= error_s ? 0 : offset_s;
  facts.identity = *row[12];
  for (std::size_t begin = 0; begin < row[13]->size();) {
    const std::size_t end = std::min(row[13]->find(", ", begin), row[13]->size());
    facts.extensions.insert(row[13]->substr(begin, end - begin));
    begin = end + 2;
  }
  if (facts.version < kOldestVersion || facts.superuser != "true") co_return facts;
  auto system = co_await conn.query("SELECT system_identifier FROM pg_catalog.pg_control_system()");
  if (!system.ok()) co_return std::move(system.error());
  facts.identity += " " + *system->rows[0][0];
  auto verifiers = co_await conn.query(kVerifiersSql);
  if (!verifiers.ok()) co_return std::move(verifiers.error());
  for (const auto& each : verifiers->rows) facts.verifiers[*each[0]] = *each[1];
  auto databases = co_await conn.query(kDatabasesSql);
  if (!databases.ok()) co_return std::move(databases.error());
  for (const auto& each : databases->rows)
    facts.databases[*each[0]] = {*each[1], *each[2], *each[3], *each[4], *each[5], *each[6], *each[7]};
  co_return facts;
}

void check_alone(const Config& config, const GroupEndpoint& group, const Facts& facts, Findings& findings) {
  // The home has a pool of its own beside that of its server's shards.
  const int pool = config.pool.size_per_group * (group.group.home ? 2 : 1);
  const std::string wanted =
      group.group.home ? "twice pool.size_per_group on the home's server" : "pool.size_per_group";
  if (facts.version < kOldestVersion) {
    findings.unfit(group, "PostgreSQL " + facts.version_text + "; needed: version 15 or newer; upgrade this server");
    return;
  }
  if (facts.superuser != "true")
    findings.unfit(group, "role \"" + config.internal.user +
                              "\" (internal.user) is no superuser; needed, because it reads password verifiers, "
                              "settles prepared transactions of all users and cancels statements: ALTER ROLE " +
                              pool::quote_identifier(config.internal.user) + " SUPERUSER;");
  if (facts.in_recovery == "true")
    findings.unfit(
        group, "the server is a standby (in recovery); needed: the primary; change host and port of this [[group]]");
  if (facts.read_only == "on")
    findings.unfit(group, "default_transaction_read_only is on; needed: off; " +
                              alter_system("default_transaction_read_only", "off") + " SELECT pg_reload_conf();");
  const int prepared_needed = std::max(pool, 1);
  if (facts.max_prepared < prepared_needed)
    findings.unfit(group, fmt::format("max_prepared_transactions is {}; needed: at least {} ({}), for "
                                      "transactions over several groups; {} "
                                      "then restart this server",
                                      facts.max_prepared, prepared_needed, wanted,
                                      alter_system("max_prepared_transactions", std::to_string(std::max(200, pool)))));
  const int usable = facts.max_connections - facts.reserved;
  if (pool + kOwnConnections > usable)
    findings.unfit(
        group, fmt::format("max_connections is {}, of which {} are reserved; needed: {} ({}) and {} "
                           "for the router itself; {} "
                           "then restart this server, or lower pool.size_per_group",
                           facts.max_connections, facts.reserved, pool, wanted, kOwnConnections,
                           alter_system("max_connections", std::to_string(pool + kOwnConnections + facts.reserved))));
  if (facts.conforming_strings != "on")
    findings.unfit(group,
                   "standard_conforming_strings is off; needed: on, as the router reads string constants that way; " +
                       alter_system("standard_conforming_strings", "on") + " SELECT pg_reload_conf();");
  if (facts.wal_level != "logical")
    findings.note(group, "wal_level is " + facts.wal_level + "; needed to move shards to other groups: logical; " +
                             alter_system("wal_level", "logical") + " then restart this server");
  if (std::fabs(facts.clock_offset_s) > kClockToleranceS)
    findings.note(group, fmt::format("its clock differs from the router's by {:.1f} s; needed: at most {} s; let a "
                                     "time service (chrony, ntpd) set both",
                                     facts.clock_offset_s, kClockToleranceS));
  for (const auto& [name, database] : facts.databases) {
    if (database.encoding != "UTF8")
      findings.unfit(group, "database \"" + name + "\" has encoding " + database.encoding +
                                "; needed: UTF8; make it anew with ENCODING 'UTF8' TEMPLATE template0, or drop it");
    if (database.recorded_version != database.actual_version)
      findings.note(group, "database \"" + name + "\" was made with collation version " + database.recorded_version +
                               ", the library now has " + database.actual_version +
                               "; needed: REINDEX DATABASE, then ALTER DATABASE " + pool::quote_identifier(name) +
                               " REFRESH COLLATION VERSION;");
  }
}

std::string collation_text(const DatabaseFacts& facts) {
  std::string text = facts.provider == "i" ? "ICU " + facts.icu_locale + ", " : "";
  text += "LC_COLLATE " + facts.collate + ", LC_CTYPE " + facts.ctype;
  return text + (facts.actual_version.empty() ? "" : ", version " + facts.actual_version);
}

void compare_databases(const GroupEndpoint& home, const Facts& first, const GroupEndpoint& group, const Facts& facts,
                       Findings& findings) {
  for (const auto& [name, surplus] : facts.databases)
    if (!first.databases.contains(name))
      findings.unfit(group, "has database \"" + name + "\", which " + home.group.name +
                                " does not have; needed: the same databases on every group; CREATE DATABASE " +
                                pool::quote_identifier(name) + " there, or drop it here");
  for (const auto& [name, wanted] : first.databases) {
    const auto found = facts.databases.find(name);
    if (found == facts.databases.end()) {
      findings.unfit(group, "database \"" + name + "\" is missing, " + home.group.name +
                                " has it; needed: the same databases on every group; CREATE DATABASE " +
                                pool::quote_identifier(name) + " there, or drop it on " + home.group.name);
      continue;
    }
    const std::string ours = collation_text(found->second), theirs = collation_text(wanted);
    if (ours != theirs)
      findings.unfit(group, "database \"" + name + "\" sorts by collation " + ours + ", on " + home.group.name +
                                " by " + theirs +
                                "; needed: the same, or merged results come in a wrong order; make the database anew "
                                "with these locales, on "
                                "the same release of the operating system (glibc, ICU)");
  }
}

// The client's proof is passed on, so a password is good for all groups only with one verifier: the salt counts.
void compare_roles(const std::string& home, const Facts& first, const Facts& facts, const GroupEndpoint& group,
                   Findings& findings) {
  for (const auto& [role, verifier] : first.verifiers) {
    const auto found = facts.verifiers.find(role);
    const std::string name = pool::quote_identifier(role);
    if (found == facts.verifiers.end()) {
      findings.note(group, "role " + name + " is missing, " + home +
                               " has it; its logins fail here. Needed: the same roles on every group");
    } else if (!verifier.empty() && found->second != verifier) {
      findings.note(group, "role " + name + " has another password verifier than on " + home +
                               " (the same password with another salt is another one); its logins fail here. Needed: "
                               "one verifier; on this server: ALTER ROLE " +
                               name + " PASSWORD '<its rolpassword in pg_authid on " + home + ">'");
    }
  }
}

void compare(const GroupEndpoint& home, const Facts& first, const GroupEndpoint& group, const Facts& facts,
             Findings& findings) {
  const std::string& name = home.group.name;
  if (first.identity == facts.identity)
    findings.unfit(group, "is the same server as group " + name +
                              "; needed: a server of its own; change host and port of one [[group]]");
  if (first.version < kOldestVersion || facts.version < kOldestVersion) return;
  if (first.version / 10000 != facts.version / 10000)
    findings.note(group, "PostgreSQL " + facts.version_text + ", group " + name + " has " + first.version_text +
                             "; needed for equal behaviour: one major version");
  if (first.time_zone != facts.time_zone)
    findings.unfit(group, "the time zone (TimeZone) is " + facts.time_zone + ", on " + name + " it is " +
                              first.time_zone + "; needed: the same on every group; " +
                              alter_system("TimeZone", pool::quote_literal(first.time_zone)) +
                              " SELECT pg_reload_conf();");
  std::string missing;
  for (const std::string& extension : first.extensions)
    if (!facts.extensions.contains(extension)) missing += (missing.empty() ? "" : ", ") + extension;
  std::string surplus;
  for (const std::string& extension : facts.extensions)
    if (!first.extensions.contains(extension)) surplus += (surplus.empty() ? "" : ", ") + extension;
  if (!missing.empty())
    findings.unfit(group, "extensions are missing that " + name + " has: " + missing +
                              "; needed: the same extensions in the same versions; CREATE EXTENSION "
                              "or ALTER EXTENSION … UPDATE there");
  if (!surplus.empty())
    findings.unfit(group, "has extensions that " + name + " does not have: " + surplus +
                              "; needed: the same extensions in the same versions; CREATE EXTENSION "
                              "or ALTER EXTENSION … UPDATE on " +
                              name);
  if (!first.databases.empty() && !facts.databases.empty()) compare_databases(home, first, group, facts, findings);
  compare_roles(name, first, facts, group, findings);
}

net::Task<Status> check_all(net::EventLoop& loop, const Config& config, const std::vector<GroupEndpoint>& groups,
                            const pool::Credentials& internal) {
  Findings findings;
  std::vector<std::optional<Facts>> facts;
  for (const GroupEndpoint& group : groups) {
    facts.emplace_back();
    auto conn =
        co_await pool::ServerConn::connect(loop, group.endpoint, internal, config.internal.database, kConnectTimeoutMs);
    if (!conn.ok()) {
      findings.unfit(group, login_problem(config, conn.error()));
      continue;
    }
    auto answer = co_await ask(**conn);
    if (!answer.ok()) {
      findings.unfit(group, answer.error().message);
      continue;
    }
    check_alone(config, group, *answer, findings);
    facts.back() = std::move(*answer);
  }
  // The home group sets the standard; without it, the first that answered.
  std::size_t standard = groups.size();
  for (std::size_t i = 0; i < groups.size(); ++i)
    if (facts[i] && (standard == groups.size() || groups[i].group.home)) standard = i;
  for (std::size_t i = 0; i < groups.size(); ++i)
    if (facts[i] && i != standard) compare(groups[standard], *facts[standard], groups[i], *facts[i], findings);
  for (const std::string& warning : findings.warnings) log_warning("control", "preflight: {}", warning);
  if (!findings.fatal.empty()) co_return unfit(findings.fatal);
  // Logins are tried only once the groups are known to be sound.
  co_return co_await check_trust_rules(loop, config, groups, internal);
}

}  // namespace

std::string describe(const GroupEndpoint& group) {
  return group.group.name + " (" + group.group.host + " port " + std::to_string(group.group.port) + ")";
}

Error unfit(const std::vector<std::string>& findings) {
  std::string detail;
  for (const std::string& finding : findings) detail += (detail.empty() ? "" : "\n    ") + finding;
  return make_error("55000",
                    fmt::format("the groups are not fit for this router: {} {}", findings.size(),
                                findings.size() == 1 ? "finding" : "findings"),
                    "Change what is named and start the router again.", detail);
}

Status preflight(const Config& config, const std::vector<GroupEndpoint>& groups, const pool::Credentials& internal) {
  net::EventLoop loop;
  Status result;
  auto drive = [](net::EventLoop& on, net::Task<Status> work, Status& status) -> net::Task<void> {
    status = co_await work;
    on.stop();
  };
  net::spawn(drive(loop, check_all(loop, config, groups, internal), result));
  loop.run();
  return result;
}

}  // namespace pgmosaic::control
