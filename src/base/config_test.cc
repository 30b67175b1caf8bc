#include "base/config.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "base/config_settings.h"

namespace pgmosaic {
namespace {

std::string error_of(std::string_view text, const CommandLine& flags = {}) {
  auto config = parse_config(text, "pgmosaic.toml", flags);
  if (config.ok()) return "no error";
  EXPECT_EQ(config.error().sqlstate, "F0000");
  return config.error().message;
}

Config config_of(std::string_view text) {
  auto config = parse_config(text, "pgmosaic.toml");
  EXPECT_TRUE(config.ok()) << config.error().message;
  return *config;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// A file that must equal generated text; PGMOSAIC_REWRITE=1 writes it.
void expect_generated(const std::string& path, const std::string& text) {
  if (std::getenv("PGMOSAIC_REWRITE") != nullptr) std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(read_file(path), text) << path << ": run this test with PGMOSAIC_REWRITE=1";
}

TEST(Config, defaults_hold_without_a_file) {
  const Config config = config_of("");
  EXPECT_EQ(config.listen, std::vector<std::string>{"127.0.0.1"});
  EXPECT_EQ(config.port, 6543);
  EXPECT_EQ(config.pool.mode, PoolMode::transaction);
  EXPECT_EQ(config.pool.wait_timeout_ms, 15000);
  EXPECT_EQ(config.sharding.default_shard_count, 16);
  ASSERT_EQ(config.auth.size(), 2U);
  EXPECT_EQ(config.auth[0].type, AuthType::local);
}

TEST(Config, reads_every_type) {
  const Config config = config_of(R"(
listen = ["0.0.0.0", "::"]
port = 7000
[pool]
mode = "session"
[dev]
fsync = false
shared_buffers = "1GB"
[log]
level = "warning"
slow_statement_ms = 250
)");
  EXPECT_EQ(config.listen, (std::vector<std::string>{"0.0.0.0", "::"}));
  EXPECT_EQ(config.port, 7000);
  EXPECT_EQ(config.pool.mode, PoolMode::session);
  EXPECT_FALSE(config.dev.fsync);
  EXPECT_EQ(config.dev.shared_buffers, "1GB");
  EXPECT_EQ(config.log.level, LogLevel::warning);
  EXPECT_EQ(config.log.slow_statement_ms, 250);
}

TEST(Config, a_wrong_value_names_file_line_and_what_is_allowed) {
  EXPECT_EQ(error_of("[pool]\n\nmode = \"foo\"\n"),
            "pgmosaic.toml:3: pool.mode must be one of session, transaction, statement; found 'foo'");
  EXPECT_EQ(error_of("port = 70000"), "pgmosaic.toml:1: port must be an integer from 1 to 65535; found '70000'");
  EXPECT_EQ(error_of("port = \"x\""), "pgmosaic.toml:1: port must be an integer from 1 to 65535; found 'x'");
  EXPECT_EQ(error_of("port = 1.5"), "pgmosaic.toml:1: port must be an integer from 1 to 65535; found 1.5");
  EXPECT_EQ(error_of("port = 99999999999999"),
            "pgmosaic.toml:1: port must be an integer from 1 to 65535; found '99999999999999'");
  EXPECT_EQ(error_of("pool.max_waiting = -1"),
            "pgmosaic.toml:1: pool.max_waiting must be an integer from 0 to 1000000; found '-1'");
  EXPECT_EQ(error_of("[dev]\nfsync = 1"), "pgmosaic.toml:2: dev.fsync must be true or false; found 1");
  EXPECT_EQ(error_of("listen = [1]"), "pgmosaic.toml:1: listen must be a list of strings; found [ 1 ]");
  EXPECT_EQ(error_of("pool.mode = [\"a\"]"),
            "pgmosaic.toml:1: pool.mode must be one of session, transaction, statement; found a list");
  EXPECT_EQ(error_of("dev.shared_buffers = \"12\""),
            "pgmosaic.toml:1: dev.shared_buffers must be a size such as 128MB (units kB, MB, GB); found '12'");
  EXPECT_EQ(error_of("admin_database = \"\""),
            "pgmosaic.toml:1: admin_database must be a string that is not empty; found ''");
}

TEST(Config, an_unknown_name_gets_a_suggestion) {
  EXPECT_EQ(error_of("[pool]\nmod = \"session\""),
            "pgmosaic.toml:2: unknown setting pool.mod; did you mean pool.mode?");
  EXPECT_EQ(error_of("size_per_grup = 3"),
            "pgmosaic.toml:1: unknown setting size_per_grup; did you mean pool.size_per_group?");
  EXPECT_EQ(error_of("xyzzy_plugh_frobnicate = 3"), "pgmosaic.toml:1: unknown setting xyzzy_plugh_frobnicate");
  EXPECT_EQ(error_of("[[groups]]\nname = \"a\""), "pgmosaic.toml:1: unknown table [[groups]]; did you mean [[group]]?");
  EXPECT_EQ(error_of("[group]\nname = \"a\""), "pgmosaic.toml:2: unknown setting group.name");
  EXPECT_EQ(error_of("auth = 1"), "pgmosaic.toml:1: auth must be written as tables: [[auth]]");
}

TEST(Config, a_syntax_error_names_the_line) {
  EXPECT_TRUE(error_of("port = 1\nmode = = 2\n").starts_with("pgmosaic.toml:2: "))
      << error_of("port = 1\nmode = = 2\n");
}

TEST(Config, rules_between_settings) {
  EXPECT_EQ(error_of("[pool]\nmin_idle = 30\n"),
            "pgmosaic.toml:2: pool.min_idle (30) must not be more than pool.size_per_group (20)");
  EXPECT_EQ(error_of("[tls]\nmode = \"require\""),
            "pgmosaic.toml:2: tls.mode other than off needs tls.cert_file and tls.key_file");
  EXPECT_EQ(error_of("[tls]\nmode = \"allow\"\ncert_file = \"/nowhere/c\"\nkey_file = \"/nowhere/k\""),
            "pgmosaic.toml:3: tls.cert_file must be a file that can be read; found '/nowhere/c'");
  EXPECT_EQ(error_of("[[auth]]\ntype = \"hostssl\"\nmethod = \"reject\""),
            "pgmosaic.toml: an [[auth]] rule of type hostssl needs tls.mode allow or require; found 'off'");
  EXPECT_EQ(error_of("listen = []"), "pgmosaic.toml:1: listen and unix_socket_dir must not both be empty");
  EXPECT_EQ(error_of("metrics.port = 6543"), "pgmosaic.toml:1: metrics.port must differ from port; found '6543'");
  EXPECT_EQ(error_of("internal.password = \"a\"\ninternal.password_file = \"b\""),
            "pgmosaic.toml:2: internal.password and internal.password_file exclude each other");
  EXPECT_EQ(error_of("dev.first_port = 65534"),
            "pgmosaic.toml:1: dev.first_port leaves no room for dev.groups ports below 65536");
}

TEST(Config, groups) {
  const Config config = config_of(
      "[[group]]\nname = \"a\"\nhost = \"h\"\nhome = true\n[[group]]\nname = \"b\"\nhost = \"h\"\n"
      "port = 5433\ntls = \"require\"\n");
  ASSERT_EQ(config.groups.size(), 2U);
  EXPECT_EQ(config.groups[0], (GroupConfig{.name = "a", .host = "h", .port = 5432, .home = true}));
  EXPECT_EQ(config.groups[1], (GroupConfig{.name = "b", .host = "h", .port = 5433, .tls = GroupTls::require}));

  EXPECT_EQ(error_of("[[group]]\nhost = \"h\""), "pgmosaic.toml:1: [[group]] must have a name");
  EXPECT_EQ(error_of("[[group]]\nname = \"a\"\nhost = \"h\""),
            "pgmosaic.toml:1: exactly one [[group]] must have home = true; found 0");
  EXPECT_EQ(error_of("[[group]]\nname = \"a\"\nhost = \"h\"\nhome = true\n[[group]]\nname = \"a\"\nhost = \"i\""),
            "pgmosaic.toml:5: group.name 'a' is used twice");
  EXPECT_EQ(error_of("[[group]]\nname = \"a\"\nhost = \"h\"\nhome = true\n[[group]]\nname = \"b\"\nhost = \"h\""),
            "pgmosaic.toml:5: two groups have the address h:5432");
  EXPECT_EQ(error_of("[[group]]\nname = \"a\"\nhost = \"h\"\nprt = 5"),
            "pgmosaic.toml:4: [[group]]: unknown setting prt; did you mean port?");
  EXPECT_EQ(error_of("[[group]]\nname = \"a\"\nhost = \"h\"\ntls = \"on\""),
            "pgmosaic.toml:4: group.tls must be one of off, prefer, require, verify; found 'on'");
  EXPECT_EQ(error_of("[[group]]\nname = \"a\"\nhost = \"h\"\nhome = true\ntls = \"verify\""),
            "pgmosaic.toml:1: group.tls verify needs group.ca_file");
}

TEST(Config, auth_rules_first_match_wins) {
  const Config config = config_of(R"(
[[auth]]
type = "host"
user = "backup, replica"
network = "10.0.0.0/8"
method = "reject"
[[auth]]
type = "host"
database = "app"
network = "10.1.0.0/16"
method = "trust"
[[auth]]
type = "hostnossl"
network = "::1/128"
method = "scram-sha-256"
[[auth]]
type = "local"
method = "scram-sha-256"
)");
  const auto match = [&](std::string_view address, bool tls, std::string_view database, std::string_view user) {
    const AuthRule* rule = find_auth_rule(config.auth, address, tls, database, user);
    return rule == nullptr ? -1 : static_cast<int>(rule - config.auth.data());
  };
  EXPECT_EQ(match("10.1.2.3", false, "app", "backup"), 0);
  EXPECT_EQ(match("10.1.2.3", false, "app", "replica"), 0);
  EXPECT_EQ(match("10.1.2.3", false, "app", "ann"), 1);
  EXPECT_EQ(match("::ffff:10.1.2.3", true, "app", "ann"), 1);
  EXPECT_EQ(match("10.1.2.3", false, "other", "ann"), -1);
  EXPECT_EQ(match("10.2.2.3", false, "app", "ann"), -1);
  EXPECT_EQ(match("::1", false, "app", "ann"), 2);
  EXPECT_EQ(match("::1", true, "app", "ann"), -1);
  EXPECT_EQ(match("", false, "app", "backup"), 3);

  EXPECT_EQ(error_of("[[auth]]\ntype = \"host\""), "pgmosaic.toml:1: [[auth]] must have a type and a method");
  EXPECT_EQ(error_of("[[auth]]\ntype = \"local\"\nmethod = \"trust\"\nnetwork = \"::1\""),
            "pgmosaic.toml:1: [[auth]] of type local takes no network");
  EXPECT_EQ(error_of("[[auth]]\ntype = \"host\"\nmethod = \"ident\""),
            "pgmosaic.toml:3: auth.method must be one of scram-sha-256, md5, trust, reject; found 'ident'");
  EXPECT_EQ(
      error_of("[[auth]]\ntype = \"host\"\nmethod = \"trust\"\nnetwork = \"10.0.0.1/8\""),
      "pgmosaic.toml:4: auth.network must be an address, a network such as 10.0.0.0/8 without bits behind its prefix, "
      "or all; found '10.0.0.1/8'");
}

TEST(Config, networks) {
  for (const char* bad : {"", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "10.0.0.0/8x", "::/129", "10.0.0.0/", "host"}) {
    EXPECT_FALSE(Network::parse(bad).has_value()) << bad;
  }
  EXPECT_TRUE(Network::parse("0.0.0.0/0")->contains("1.2.3.4"));
  EXPECT_FALSE(Network::parse("0.0.0.0/0")->contains("::1"));
  EXPECT_TRUE(Network::parse("10.0.0.128/25")->contains("10.0.0.255"));
  EXPECT_FALSE(Network::parse("10.0.0.128/25")->contains("10.0.0.127"));
  EXPECT_TRUE(Network::parse("fe80::/10")->contains("fe80::1%eth0"));
  EXPECT_TRUE(Network::parse("all")->contains("::1"));
}

TEST(Config, flags_win_over_the_file) {
  auto flags = parse_command_line({"--config", "x.toml", "--pool.mode", "session", "--port=7001", "start", "--groups",
                                   "2", "--data-dir", "d", "--dev.fsync=false", "--listen", "::1,127.0.0.1"},
                                  "dev");
  ASSERT_TRUE(flags.ok()) << flags.error().message;
  EXPECT_EQ(flags->config_file, "x.toml");
  EXPECT_EQ(flags->positional, std::vector<std::string>{"start"});
  auto config = parse_config("port = 1\n[dev]\ngroups = 9\n", "x.toml", *flags);
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->port, 7001);
  EXPECT_EQ(config->pool.mode, PoolMode::session);
  EXPECT_EQ(config->dev.groups, 2);
  EXPECT_EQ(config->dev.data_dir, "d");
  EXPECT_FALSE(config->dev.fsync);
  EXPECT_EQ(config->listen, (std::vector<std::string>{"::1", "127.0.0.1"}));
}

TEST(Config, flags_of_a_command_and_wrong_flags) {
  const std::vector<OptionName> options = {{"markdown"}, {"out", true}};
  auto parsed = parse_command_line({"--markdown", "--out", "f", "--dev.fsync", "-h", "--", "--port"}, "", options);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->options, (std::vector<std::pair<std::string, std::string>>{{"markdown", ""}, {"out", "f"}}));
  EXPECT_EQ(parsed->settings, (std::vector<std::pair<std::string, std::string>>{{"dev.fsync", "true"}}));
  EXPECT_EQ(parsed->positional, std::vector<std::string>{"--port"});
  EXPECT_TRUE(parsed->help);

  const auto refused = [&](const std::vector<std::string>& arguments) {
    auto result = parse_command_line(arguments, "", options);
    return result.ok() ? std::string("no error") : result.error().message;
  };
  EXPECT_EQ(refused({"--prt", "1"}), "command line: unknown flag --prt; did you mean --port?");
  EXPECT_EQ(refused({"--port"}), "command line: --port needs a value");
  EXPECT_EQ(refused({"--markdown=1"}), "command line: --markdown takes no value");
  EXPECT_EQ(refused({"--groups", "1"}), "command line: unknown flag --groups; did you mean --dev.groups?");

  CommandLine wrong;
  wrong.settings = {{"port", "0"}};
  EXPECT_EQ(error_of("port = 5", wrong), "command line: port must be an integer from 1 to 65535; found '0'");
  wrong.settings = {{"pool.min_idle", "21"}};
  EXPECT_EQ(error_of("", wrong), "command line: pool.min_idle (21) must not be more than pool.size_per_group (20)");
}

TEST(Config, a_missing_file_is_an_error) {
  CommandLine flags;
  flags.config_file = "/nowhere/pgmosaic.toml";
  auto config = load_config(flags);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().message, "/nowhere/pgmosaic.toml: cannot read the configuration file");
  flags.config_file = "/";
  EXPECT_FALSE(load_config(flags).ok());
}

TEST(Config, reload_says_what_needs_a_restart) {
  const Config before = config_of("internal.password = \"old secret\"");
  const Config after = config_of(
      "port = 7000\ninternal.password = \"new secret\"\n[pool]\nsize_per_group = 5\n"
      "[[auth]]\ntype = \"local\"\nmethod = \"trust\"\n");
  const auto changes = changed_settings(before, after);
  ASSERT_EQ(changes.size(), 4U);
  EXPECT_EQ(changes[0].name, "port");
  EXPECT_EQ(changes[0].old_value, "6543");
  EXPECT_EQ(changes[0].new_value, "7000");
  EXPECT_TRUE(changes[0].needs_restart);
  EXPECT_EQ(changes[1].name, "pool.size_per_group");
  EXPECT_FALSE(changes[1].needs_restart);
  EXPECT_EQ(changes[2].name, "internal.password");
  EXPECT_EQ(changes[2].new_value, "********");
  EXPECT_EQ(changes[3].name, "auth");
  EXPECT_FALSE(changes[3].needs_restart);

  const Config merged = apply_reload(before, after);
  EXPECT_EQ(merged.port, 6543);
  EXPECT_EQ(merged.pool.size_per_group, 5);
  EXPECT_EQ(merged.internal.password, "old secret");
  EXPECT_EQ(merged.auth, after.auth);
  EXPECT_TRUE(changed_settings(before, before).empty());
}

TEST(Config, show_masks_secrets) {
  for (const ShownSetting& row : show_config(config_of("internal.password = \"secret\""))) {
    EXPECT_EQ(row.value.find("secret"), std::string::npos) << row.name;
    EXPECT_FALSE(row.description.empty()) << row.name;
  }
}

TEST(Config, the_table_is_sound) {
  std::set<std::string> sections, names;
  for (const auto& section : settings::sections()) sections.insert(section.name);
  Config config;
  for (const auto& setting : settings::all()) {
    EXPECT_TRUE(names.insert(setting.name).second) << setting.name;
    const size_t dot = setting.name.find('.');
    EXPECT_TRUE(sections.contains(dot == std::string::npos ? "" : setting.name.substr(0, dot))) << setting.name;
    const auto slot = setting.slot(config);
    const std::string value = settings::shown(setting, slot, true);
    EXPECT_EQ(settings::assign(setting, slot, value), "") << setting.name << ": its default must be allowed";
    EXPECT_EQ(settings::shown(setting, slot, true), value) << setting.name;
  }
  EXPECT_TRUE(changed_settings(Config{}, config).empty());
}

TEST(Config, generated_texts_are_current) {
  expect_generated("docs/configuration.md", config_markdown());
  expect_generated("deploy/pgmosaic.toml", config_sample());
  EXPECT_NE(config_help({}).find("--pool.mode  (session, transaction, statement; default \"transaction\")"),
            std::string::npos);
}

// Every setting of the sample, taken out of its comment, is the default and is accepted.
TEST(Config, the_sample_is_valid_with_and_without_comments) {
  EXPECT_TRUE(changed_settings(Config{}, config_of(config_sample())).empty());
  std::istringstream lines(config_sample());
  std::string open;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#") && !line.starts_with("# ")) line.erase(0, 1);
    open += line + "\n";
  }
  const Config config = config_of(open);
  for (const SettingChange& change : changed_settings(Config{}, config)) EXPECT_EQ(change.name, "group");
  EXPECT_EQ(config.groups.size(), 2U);
}

}  // namespace
}  // namespace pgmosaic
