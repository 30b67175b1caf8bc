// Configuration: one TOML file, every setting also a flag. Each setting is declared once, in config_settings.cc; the
// parser, --help, SHOW CONFIG, docs/configuration.md and the sample file come from that table.
//
// A Config is a plain value: made at start, shared immutable, replaced as a whole on reload.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cidr.h"
#include "base/log.h"
#include "base/result.h"

namespace pgmosaic {

enum class TlsMode { off, allow, require };
enum class PoolMode { session, transaction, statement };
enum class DefaultTableType { local, sharded };
enum class AuthType { local, host, hostssl, hostnossl };
enum class AuthMethod { scram_sha_256, md5, trust, reject };
enum class GroupTls { off, prefer, require, verify };
enum class MetadataStore { sqlite };

// Who may log in, and how. Rules are tried in order, the first that matches decides; no match is a refusal.
struct AuthRule {
  AuthType type = AuthType::host;
  std::string database = "all";  // name, comma-separated names, or all
  std::string user = "all";      // likewise
  std::string network = "all";   // CIDR, address or all; not looked at for `local`
  AuthMethod method = AuthMethod::scram_sha_256;

  bool operator==(const AuthRule&) const = default;
};

// A PostgreSQL server that somebody else runs.
struct GroupConfig {
  std::string name;
  std::string host;
  int port = 5432;
  bool home = false;
  GroupTls tls = GroupTls::off;
  std::string ca_file;

  bool operator==(const GroupConfig&) const = default;
};

struct Config {
  std::vector<std::string> listen = {"127.0.0.1"};
  int port = 6543;
  std::string unix_socket_dir;
  int workers = 0;
  std::string admin_database = "pgmosaic";
  int max_client_connections = 10000;

  struct {
    LogLevel level = LogLevel::info;
    std::string file;
    int slow_statement_ms = -1;
  } log;
  struct {
    std::string listen = "127.0.0.1";
    int port = 0;
  } metrics;
  struct {
    TlsMode mode = TlsMode::off;
    std::string cert_file;
    std::string key_file;
    std::string ca_file;
  } tls;
  struct {
    PoolMode mode = PoolMode::transaction;
    int size_per_group = 20;
    int size_per_user = 0;
    int size_per_database = 0;
    int min_idle = 0;
    int max_waiting = 10000;
    int wait_timeout_ms = 15000;
    int idle_timeout_ms = 600000;
    int lifetime_ms = 3600000;
    int connect_timeout_ms = 5000;
    int prepared_statements = 500;
    bool leaf_statements = true;
  } pool;
  struct {
    int query_ms = 0;
    int client_idle_ms = 0;
    int idle_in_transaction_ms = 0;
    int deadlock_ms = 500;
    int client_login_ms = 60000;
    int shutdown_ms = 30000;
  } timeouts;
  struct {
    int idle_s = 60;
    int interval_s = 10;
    int count = 5;
  } tcp_keepalive;
  struct {
    DefaultTableType default_table_type = DefaultTableType::local;
    DefaultTableType partitioned_table_type = DefaultTableType::sharded;
    int default_shard_count = 16;
    bool key_notices = true;
    int sequence_block = 1;
    bool untorn_reads = true;
  } sharding;
  struct {
    std::string user = "pgmosaic";
    std::string password;
    std::string password_file;
    std::string database = "postgres";
  } internal;
  struct {
    MetadataStore store = MetadataStore::sqlite;
    std::string path = "pgmosaic.db";
  } metadata;
  struct {
    int groups = 4;
    std::string data_dir = "pgmosaic-data";
    int first_port = 0;
    std::string account = "postgres";
    std::string postgres_bin_dir;
    std::string user = "postgres";
    std::string password;
    int max_connections = 200;
    std::string shared_buffers = "128MB";
    bool fsync = true;
  } dev;

  std::vector<AuthRule> auth = {AuthRule{AuthType::local}, AuthRule{AuthType::host}};
  std::vector<GroupConfig> groups;
};

// What stood on the command line. Kept as long as the process lives: a reload reads the file again and puts the same
// flags on top.
struct CommandLine {
  std::string config_file;                                    // --config FILE
  std::vector<std::pair<std::string, std::string>> settings;  // full name, value
  std::vector<std::pair<std::string, std::string>> options;   // the caller's own flags; value empty where none
  std::vector<std::string> positional;
  bool help = false;
};

// A flag of a subcommand that is no setting.
struct OptionName {
  std::string_view name;  // without dashes
  bool takes_value = false;
};

// `--section.key value`, `--section.key=value`, `--key value` for settings outside a section and for those of
// `section` ("dev": --groups is --dev.groups); dashes within names may stand for underscores. A boolean without value
// is true. Everything behind `--` is positional.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments, std::string_view section = {},
                                       const std::vector<OptionName>& options = {});

// Defaults, then the file (if named), then flags; then the rules between settings. F0000 with "<file>:<line>: …".
Result<Config> load_config(const CommandLine& command_line);
// As load_config, with the file's text given; `file` is for messages.
Result<Config> parse_config(std::string_view text, const std::string& file, const CommandLine& command_line = {});

struct SettingChange {
  std::string name;
  std::string old_value, new_value;  // secrets are masked
  bool needs_restart = false;
};
std::vector<SettingChange> changed_settings(const Config& before, const Config& after);
// `before` with the reloadable changes of `after`: what a running router goes on with.
Config apply_reload(const Config& before, const Config& after);

struct ShownSetting {
  std::string name, value, default_value, description;
  bool needs_restart = false;
};
// For SHOW CONFIG; secrets are masked.
std::vector<ShownSetting> show_config(const Config& config);

// For --help: all settings, those of the section `command_section` ("dev" or none) first and by their short names.
std::string config_help(std::string_view command_section);
std::string config_markdown();  // docs/configuration.md
std::string config_sample();    // deploy/pgmosaic.toml: every setting with its default, commented out

// The rule that decides over a client, or nullptr. `address` is the peer's IP in text form, empty on a Unix socket.
const AuthRule* find_auth_rule(const std::vector<AuthRule>& rules, std::string_view address, bool tls,
                               std::string_view database, std::string_view user);

}  // namespace pgmosaic
