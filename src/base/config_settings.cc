#include "base/config_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace pgmosaic::settings {

namespace {

using enum Applies;
using ConfigSetting = Setting<Config>;

template <class Enum>
Slot choice(Enum& member) {
  return ChoiceSlot{[&member] { return static_cast<int>(member); },
                    [&member](int value) { member = static_cast<Enum>(value); }};
}

bool is_memory_size(const std::string& text) {
  const size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == text.npos) return false;
  const std::string unit = text.substr(digits);
  return unit == "kB" || unit == "MB" || unit == "GB";
}

bool is_network(const std::string& text) { return Network::parse(text).has_value(); }

const std::vector<ConfigSetting> kGeneral = {
    {{.name = "listen",
      .description = "IP addresses (or host names) to listen on; `0.0.0.0` and `::` mean all. Empty: Unix socket only.",
      .applies = restart},
     [](Config& c) -> Slot { return &c.listen; }},
    {{.name = "port",
      .description = "TCP port, and number in the Unix socket's name.",
      .applies = restart,
      .minimum = 1,
      .maximum = 65535},
     [](Config& c) -> Slot { return &c.port; }},
    {{.name = "unix_socket_dir",
      .description = "Directory for the Unix socket `.s.PGSQL.<port>`. Empty: none.",
      .applies = restart},
     [](Config& c) -> Slot { return &c.unix_socket_dir; }},
    {{.name = "workers", .description = "Worker threads. 0: one per two CPUs.", .applies = restart, .maximum = 1024},
     [](Config& c) -> Slot { return &c.workers; }},
    {{.name = "admin_database",
      .description = "Name of the database that takes SHOW, PAUSE, RESUME and RELOAD.",
      .applies = restart,
      .required = true},
     [](Config& c) -> Slot { return &c.admin_database; }},
    {{.name = "max_client_connections",
      .description = "Clients beyond this number are refused with 53300.",
      .minimum = 1,
      .maximum = 1000000},
     [](Config& c) -> Slot { return &c.max_client_connections; }},
};

const std::vector<ConfigSetting> kObservation = {
    {{.name = "log.level",
      .description = "Least severe level that is written.",
      .choices = {"debug", "info", "warning", "error"}},
     [](Config& c) -> Slot { return choice(c.log.level); }},
    {{.name = "log.file", .description = "File the log is appended to. Empty: standard error.", .applies = restart},
     [](Config& c) -> Slot { return &c.log.file; }},
    {{.name = "log.slow_statement_ms",
      .description =
          "Statements that take at least this many milliseconds are logged with their plan. -1: none, 0: all.",
      .minimum = -1},
     [](Config& c) -> Slot { return &c.log.slow_statement_ms; }},
    {{.name = "metrics.listen",
      .description = "IP address of the HTTP port for `/metrics` and `/health`.",
      .applies = restart,
      .required = true},
     [](Config& c) -> Slot { return &c.metrics.listen; }},
    {{.name = "metrics.port", .description = "HTTP port. 0: off.", .applies = restart, .maximum = 65535},
     [](Config& c) -> Slot { return &c.metrics.port; }},
    {{.name = "tls.mode",
      .description =
          "TLS towards clients: `off` refuses it, `allow` offers it, `require` refuses TCP clients without it.",
      .choices = {"off", "allow", "require"}},
     [](Config& c) -> Slot { return choice(c.tls.mode); }},
    {{.name = "tls.cert_file", .description = "Certificate chain shown to clients, PEM."},
     [](Config& c) -> Slot { return &c.tls.cert_file; }},
    {{.name = "tls.key_file", .description = "Private key of that certificate, PEM."},
     [](Config& c) -> Slot { return &c.tls.key_file; }},
    {{.name = "tls.ca_file",
      .description = "Authorities that client certificates must come from, PEM. Empty: clients "
                     "are not asked for one."},
     [](Config& c) -> Slot { return &c.tls.ca_file; }},
};

const std::vector<ConfigSetting> kPool = {
    {{.name = "pool.mode",
      .description =
          "When a backend goes back to the pool: at the end of the client's session, transaction or statement. "
          "`statement` refuses explicit transactions.",
      .choices = {"session", "transaction", "statement"}},
     [](Config& c) -> Slot { return choice(c.pool.mode); }},
    {{.name = "pool.size_per_group",
      .description = "Backends the router opens to one group, over all users and databases.",
      .minimum = 1,
      .maximum = 100000},
     [](Config& c) -> Slot { return &c.pool.size_per_group; }},
    {{.name = "pool.size_per_user",
      .description = "Backends one user may hold in one group. 0: no limit of its own.",
      .maximum = 100000},
     [](Config& c) -> Slot { return &c.pool.size_per_user; }},
    {{.name = "pool.size_per_database",
      .description = "Backends one database may hold in one group. 0: no limit of its own.",
      .maximum = 100000},
     [](Config& c) -> Slot { return &c.pool.size_per_database; }},
    {{.name = "pool.min_idle",
      .description = "Idle backends kept open in each pool that has been used.",
      .maximum = 100000},
     [](Config& c) -> Slot { return &c.pool.min_idle; }},
    {{.name = "pool.max_waiting",
      .description = "Clients that may wait for a backend; more are refused with 53300.",
      .maximum = 1000000},
     [](Config& c) -> Slot { return &c.pool.max_waiting; }},
    {{.name = "pool.wait_timeout_ms", .description = "Longest wait for a backend, then 53300. 0: no limit."},
     [](Config& c) -> Slot { return &c.pool.wait_timeout_ms; }},
    {{.name = "pool.idle_timeout_ms", .description = "A backend that was idle this long is closed. 0: never."},
     [](Config& c) -> Slot { return &c.pool.idle_timeout_ms; }},
    {{.name = "pool.lifetime_ms", .description = "A backend of this age is closed once it is idle. 0: never."},
     [](Config& c) -> Slot { return &c.pool.lifetime_ms; }},
    {{.name = "pool.connect_timeout_ms", .description = "Longest time to connect and log in to a group.", .minimum = 1},
     [](Config& c) -> Slot { return &c.pool.connect_timeout_ms; }},
    {{.name = "pool.prepared_statements",
      .description = "Prepared statements kept on one backend; the least recently used goes first.",
      .minimum = 1,
      .maximum = 1000000},
     [](Config& c) -> Slot { return &c.pool.prepared_statements; }},
    {{.name = "pool.leaf_statements",
      .description = "Rows are read and written by primary key with prepared statements on the shard's own table."},
     [](Config& c) -> Slot { return &c.pool.leaf_statements; }},
};

const std::vector<ConfigSetting> kTimeouts = {
    {{.name = "timeouts.query_ms", .description = "A statement that runs longer is cancelled with 57014. 0: no limit."},
     [](Config& c) -> Slot { return &c.timeouts.query_ms; }},
    {{.name = "timeouts.client_idle_ms",
      .description = "A client idle outside a transaction for this long is disconnected. 0: never."},
     [](Config& c) -> Slot { return &c.timeouts.client_idle_ms; }},
    {{.name = "timeouts.idle_in_transaction_ms",
      .description = "A client idle inside a transaction for this long is disconnected with 25P03. 0: never."},
     [](Config& c) -> Slot { return &c.timeouts.idle_in_transaction_ms; }},
    {{.name = "timeouts.deadlock_ms",
      .description = "A statement over several groups that has waited this long is looked at: if it waits in a circle, "
                     "one transaction of it ends with 40P01. 0: never."},
     [](Config& c) -> Slot { return &c.timeouts.deadlock_ms; }},
    {{.name = "timeouts.client_login_ms", .description = "Time a client has to log in.", .minimum = 1},
     [](Config& c) -> Slot { return &c.timeouts.client_login_ms; }},
    {{.name = "timeouts.shutdown_ms",
      .description = "Time that running transactions have to end after SIGTERM before they are cut."},
     [](Config& c) -> Slot { return &c.timeouts.shutdown_ms; }},
    {{.name = "tcp_keepalive.idle_s",
      .description = "Silent seconds before the first TCP keepalive probe. 0: no probes.",
      .maximum = 32767},
     [](Config& c) -> Slot { return &c.tcp_keepalive.idle_s; }},
    {{.name = "tcp_keepalive.interval_s", .description = "Seconds between probes.", .minimum = 1, .maximum = 32767},
     [](Config& c) -> Slot { return &c.tcp_keepalive.interval_s; }},
    {{.name = "tcp_keepalive.count",
      .description = "Unanswered probes after which the connection is dead.",
      .minimum = 1,
      .maximum = 127},
     [](Config& c) -> Slot { return &c.tcp_keepalive.count; }},
};

const std::vector<ConfigSetting> kCluster = {
    {{.name = "sharding.default_table_type",
      .description =
          "What CREATE TABLE without a sharding clause makes: a `local` table on the home group, or a `sharded` "
          "one by the first column of its primary key (without one: its first hashable column).",
      .choices = {"local", "sharded"}},
     [](Config& c) -> Slot { return choice(c.sharding.default_table_type); }},
    {{.name = "sharding.partitioned_table_type",
      .description =
          "What CREATE TABLE ... PARTITION BY makes without a table_type: a `sharded` table, each of whose "
          "partitions is placed on a group (by RANGE, LIST) or made by the router (by HASH), or a `local` one.",
      .choices = {"local", "sharded"}},
     [](Config& c) -> Slot { return choice(c.sharding.partitioned_table_type); }},
    {{.name = "sharding.default_shard_count",
      .description = "Shards of a table that does not say how many.",
      .minimum = 1,
      .maximum = 1024},
     [](Config& c) -> Slot { return &c.sharding.default_shard_count; }},
    {{.name = "sharding.untorn_reads",
      .description = "Whether reads of several groups see each transaction over several groups on all of them or on "
                     "none (docs/consistency.md says which reads). Off: each group's own snapshot."},
     [](Config& c) -> Slot { return &c.sharding.untorn_reads; }},
    {{.name = "sharding.key_notices",
      .description =
          "Whether CREATE TABLE of a sharded table answers with a NOTICE where its key is likely to be a "
          "bad one: it may be NULL, has few values, is a moment in time, looks as if it were often updated."},
     [](Config& c) -> Slot { return &c.sharding.key_notices; }},
    {{.name = "sharding.sequence_block",
      .description =
          "Numbers that the router takes from a sequence at once, for the serial and identity columns that an INSERT "
          "leaves out. 1: one after the other, as PostgreSQL; more: faster, with gaps (see docs/tables.md).",
      .minimum = 1,
      .maximum = 100000},
     [](Config& c) -> Slot { return &c.sharding.sequence_block; }},
    {{.name = "internal.user",
      .description = "Role of the router's own work on the groups; see the rights it needs in the preflight's report.",
      .applies = restart,
      .required = true},
     [](Config& c) -> Slot { return &c.internal.user; }},
    {{.name = "internal.password",
      .description = "Its password; better kept in `internal.password_file`.",
      .applies = restart,
      .secret = true},
     [](Config& c) -> Slot { return &c.internal.password; }},
    {{.name = "internal.password_file", .description = "File whose first line is its password.", .applies = restart},
     [](Config& c) -> Slot { return &c.internal.password_file; }},
    {{.name = "internal.database",
      .description = "Database that the router's own connections start in.",
      .applies = restart,
      .required = true},
     [](Config& c) -> Slot { return &c.internal.database; }},
    {{.name = "metadata.store",
      .description = "Where the cluster's metadata is kept.",
      .applies = restart,
      .choices = {"sqlite"}},
     [](Config& c) -> Slot { return choice(c.metadata.store); }},
    {{.name = "metadata.path", .description = "`sqlite`: the database file.", .applies = restart, .required = true},
     [](Config& c) -> Slot { return &c.metadata.path; }},
};

const std::vector<ConfigSetting> kDev = {
    {{.name = "dev.groups",
      .description = "PostgreSQL servers to make and run.",
      .applies = restart,
      .minimum = 1,
      .maximum = 64},
     [](Config& c) -> Slot { return &c.dev.groups; }},
    {{.name = "dev.data_dir",
      .description = "Directory that holds the servers, the metadata and the log.",
      .applies = restart,
      .required = true},
     [](Config& c) -> Slot { return &c.dev.data_dir; }},
    {{.name = "dev.first_port",
      .description = "Port of the first server, the others follow. 0: free ports are chosen.",
      .applies = restart,
      .maximum = 65535},
     [](Config& c) -> Slot { return &c.dev.first_port; }},
    {{.name = "dev.account",
      .description = "Unprivileged system account for the servers when started by root.",
      .applies = restart,
      .required = true},
     [](Config& c) -> Slot { return &c.dev.account; }},
    {{.name = "dev.postgres_bin_dir",
      .description =
          "Directory of `postgres` and `initdb`. Empty: `/usr/lib/postgresql/15/bin`, else what `pg_config` says.",
      .applies = restart},
     [](Config& c) -> Slot { return &c.dev.postgres_bin_dir; }},
    {{.name = "dev.user",
      .description = "Superuser made for you to log in with.",
      .applies = restart,
      .required = true},
     [](Config& c) -> Slot { return &c.dev.user; }},
    {{.name = "dev.password",
      .description = "Its password. Empty: one is made and kept in the data directory.",
      .applies = restart,
      .secret = true},
     [](Config& c) -> Slot { return &c.dev.password; }},
    {{.name = "dev.max_connections",
      .description = "`max_connections` of each server.",
      .applies = restart,
      .minimum = 10,
      .maximum = 10000},
     [](Config& c) -> Slot { return &c.dev.max_connections; }},
    {{.name = "dev.shared_buffers",
      .description = "`shared_buffers` of each server.",
      .applies = restart,
      .format = "a size such as 128MB (units kB, MB, GB)",
      .valid = is_memory_size},
     [](Config& c) -> Slot { return &c.dev.shared_buffers; }},
    {{.name = "dev.fsync",
      .description = "`false` makes the servers faster and lets a power failure destroy them.",
      .applies = restart},
     [](Config& c) -> Slot { return &c.dev.fsync; }},
};

std::string joined(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : ", ") + item;
  return out;
}

std::optional<bool> parse_boolean(const std::string& text) {
  if (text == "true" || text == "on" || text == "yes") return true;
  if (text == "false" || text == "off" || text == "no") return false;
  return std::nullopt;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

// A name close to `name`, or empty.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = name.size() / 3 + 2;
  for (const std::string& candidate : candidates) {
    size_t distance = edit_distance(name, candidate);
    const size_t dot = candidate.find('.');
    // "size_per_grup" or "mode" without its section is a likely slip as well.
    if (dot != candidate.npos && name.find('.') == name.npos) {
      distance = std::min(distance, edit_distance(name, std::string_view(candidate).substr(dot + 1)));
    }
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace

const std::vector<Section>& sections() {
  static const std::vector<Section> table = {
      {"", "Where clients connect."},
      {"log", "The log."},
      {"metrics", "Prometheus metrics and the health check over HTTP."},
      {"tls", "Encryption towards clients."},
      {"pool", "Backends, and how clients share them."},
      {"timeouts", "Limits in time."},
      {"tcp_keepalive", "Detection of dead peers, clients and groups alike."},
      {"sharding", "Defaults of CREATE TABLE."},
      {"internal", "The router's own login on the groups."},
      {"metadata", "The metadata store."},
      {"dev", "`pgmosaic dev`: a whole cluster on one machine. On its command line `--dev.` may be left out."},
  };
  return table;
}

const std::vector<ConfigSetting>& all() {
  static const std::vector<ConfigSetting> table = [] {
    std::vector<ConfigSetting> joined_table;
    for (const auto* part : {&kGeneral, &kObservation, &kPool, &kTimeouts, &kCluster, &kDev})
      joined_table.insert(joined_table.end(), part->begin(), part->end());
    return joined_table;
  }();
  return table;
}

const std::vector<Setting<AuthRule>>& auth_fields() {
  static const std::vector<Setting<AuthRule>> table = {
      {{.name = "type",
        .description =
            "`local` is the Unix socket, `host` any TCP connection, `hostssl` and `hostnossl` those with and "
            "without TLS.",
        .choices = {"local", "host", "hostssl", "hostnossl"}},
       [](AuthRule& r) -> Slot { return choice(r.type); }},
      {{.name = "database", .description = "Name, comma-separated names, or `all`.", .required = true},
       [](AuthRule& r) -> Slot { return &r.database; }},
      {{.name = "user", .description = "Name, comma-separated names, or `all`.", .required = true},
       [](AuthRule& r) -> Slot { return &r.user; }},
      {{.name = "network",
        .description = "Clients' addresses: a network such as `10.0.0.0/8`, one address, or `all`.",
        .format = "an address, a network such as 10.0.0.0/8 without bits behind its prefix, or all",
        .valid = is_network},
       [](AuthRule& r) -> Slot { return &r.network; }},
      {{.name = "method",
        .description =
            "`md5` takes md5 passwords, too, and is for groups whose own method is `md5`. `trust` is for groups "
            "that themselves trust the router; a router refuses to start otherwise.",
        .choices = {"scram-sha-256", "md5", "trust", "reject"}},
       [](AuthRule& r) -> Slot { return choice(r.method); }},
  };
  return table;
}

const std::vector<Setting<GroupConfig>>& group_fields() {
  static const std::vector<Setting<GroupConfig>> table = {
      {{.name = "name", .description = "Unique name, shown in errors and views.", .required = true},
       [](GroupConfig& g) -> Slot { return &g.name; }},
      {{.name = "host",
        .description = "Host name, address, or directory of the server's Unix socket.",
        .required = true},
       [](GroupConfig& g) -> Slot { return &g.host; }},
      {{.name = "port", .description = "Its port.", .minimum = 1, .maximum = 65535},
       [](GroupConfig& g) -> Slot { return &g.port; }},
      {{.name = "home",
        .description = "The group that also holds local tables, sequences and the schema as declared; exactly one."},
       [](GroupConfig& g) -> Slot { return &g.home; }},
      {{.name = "tls",
        .description =
            "TLS towards this server: `prefer` takes it when offered, `verify` checks certificate and host name.",
        .choices = {"off", "prefer", "require", "verify"}},
       [](GroupConfig& g) -> Slot { return choice(g.tls); }},
      {{.name = "ca_file", .description = "Authorities for `verify`, PEM."},
       [](GroupConfig& g) -> Slot { return &g.ca_file; }},
  };
  return table;
}

std::string allowed(const Field& field, const Slot& slot) {
  if (std::holds_alternative<bool*>(slot)) return "true or false";
  if (std::holds_alternative<ChoiceSlot>(slot)) return "one of " + joined(field.choices);
  if (std::holds_alternative<int*>(slot)) {
    if (field.maximum == INT_MAX) return fmt::format("an integer of at least {}", field.minimum);
    return fmt::format("an integer from {} to {}", field.minimum, field.maximum);
  }
  if (std::holds_alternative<std::vector<std::string>*>(slot)) return "a list of strings";
  if (!field.format.empty()) return field.format;
  return field.required ? "a string that is not empty" : "a string";
}

std::string shown(const Field& field, const Slot& slot, bool reveal) {
  if (const auto* boolean = std::get_if<bool*>(&slot)) return **boolean ? "true" : "false";
  if (const auto* integer = std::get_if<int*>(&slot)) return std::to_string(**integer);
  if (const auto* list = std::get_if<std::vector<std::string>*>(&slot)) return joined(**list);
  if (const auto* pick = std::get_if<ChoiceSlot>(&slot)) return field.choices[static_cast<size_t>(pick->get())];
  const std::string& text = *std::get<std::string*>(slot);
  return field.secret && !reveal && !text.empty() ? "********" : text;
}

std::string to_toml(const Field& field, const Slot& slot) {
  if (std::holds_alternative<bool*>(slot) || std::holds_alternative<int*>(slot)) return shown(field, slot);
  if (const auto* list = std::get_if<std::vector<std::string>*>(&slot)) {
    std::vector<std::string> items;
    for (const std::string& item : **list) items.push_back(quoted(item));
    return "[" + joined(items) + "]";
  }
  return quoted(shown(field, slot));
}

std::string assign(const Field& field, const Slot& slot, const std::string& text) {
  const auto refused = [&] {
    return fmt::format("must be {}; found '{}'", allowed(field, slot), field.secret ? "…" : text);
  };
  if (const auto* boolean = std::get_if<bool*>(&slot)) {
    const auto value = parse_boolean(text);
    if (!value) return refused();
    **boolean = *value;
  } else if (const auto* integer = std::get_if<int*>(&slot)) {
    int value = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size()) return refused();
    if (value < field.minimum || value > field.maximum) return refused();
    **integer = value;
  } else if (const auto* pick = std::get_if<ChoiceSlot>(&slot)) {
    const auto found = std::find(field.choices.begin(), field.choices.end(), text);
    if (found == field.choices.end()) return refused();
    pick->set(static_cast<int>(found - field.choices.begin()));
  } else if (const auto* list = std::get_if<std::vector<std::string>*>(&slot)) {
    (*list)->clear();
    for (size_t at = 0; at <= text.size() && !text.empty();) {
      const size_t comma = std::min(text.find(',', at), text.size());
      (*list)->push_back(text.substr(at, comma - at));
      at = comma + 1;
    }
  } else {
    if (field.required && text.empty()) return refused();
    if (field.valid != nullptr && !field.valid(text)) return refused();
    *std::get<std::string*>(slot) = text;
  }
  return {};
}

std::string assign_list(const Field& field, const Slot& slot, const std::vector<std::string>& items) {
  const auto* list = std::get_if<std::vector<std::string>*>(&slot);
  if (list == nullptr) return fmt::format("must be {}; found a list", allowed(field, slot));
  **list = items;
  return {};
}

Error config_error(std::string_view where, std::string_view text) {
  return make_error("F0000", where.empty() ? std::string(text) : fmt::format("{}: {}", where, text));
}

std::vector<std::string> setting_names() {
  std::vector<std::string> names;
  for (const auto& setting : all()) names.push_back(setting.name);
  return names;
}

std::string unknown_name(std::string_view kind, std::string_view name, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_name(name, candidates);
  if (nearest.empty()) return fmt::format("unknown {} {}", kind, name);
  return fmt::format("unknown {} {}; did you mean {}?", kind, name, nearest);
}

}  // namespace pgmosaic::settings
