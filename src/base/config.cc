#include "base/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "base/config_settings.h"
#include "base/toml.h"

namespace pgmosaic {

namespace {

using settings::config_error;
using settings::find_setting;
using settings::kFromFlags;
using settings::Setting;
using settings::setting_names;
using settings::unknown_name;

// TOML has types: "6543" is no port and 1 is no name.
bool type_fits(const settings::Slot& slot, const TomlValue& value) {
  using Kind = TomlValue::Kind;
  if (std::holds_alternative<bool*>(slot)) return value.kind == Kind::boolean;
  if (std::holds_alternative<int*>(slot)) return value.kind == Kind::integer;
  return value.kind == Kind::string;
}

std::string assign_toml(const settings::Field& field, const settings::Slot& slot, const TomlValue& value) {
  if (value.kind == TomlValue::Kind::list && value.string_items) return settings::assign_list(field, slot, value.items);
  if (!type_fits(slot, value)) {
    return fmt::format("must be {}; found {}", settings::allowed(field, slot),
                       value.kind == TomlValue::Kind::string ? "'" + value.text + "'" : value.text);
  }
  return settings::assign(field, slot, value.text);
}

// Reads one file and the flags into a Config, and remembers where each value came from for messages.
class Loader {
 public:
  explicit Loader(std::string file) : file_(std::move(file)) {}

  Status read_file(std::string_view text) {
    TRY_ASSIGN(const TomlDocument document, parse_toml(text, file_));
    for (const TomlKey& key : document.keys) TRY(read_key(key));
    return read_tables(document);
  }

  Status read_flags(const CommandLine& command_line) {
    for (const auto& [name, value] : command_line.settings) {
      const auto* setting = find_setting(settings::all(), name);
      CHECK(setting != nullptr);
      origins_[name] = kFromFlags;
      const std::string wrong = settings::assign(*setting, setting->slot(config), value);
      if (!wrong.empty()) return config_error(kFromFlags, name + " " + wrong);
    }
    return {};
  }

  // The rules that join several settings.
  Status validate() const {
    TRY(validate_tls());
    TRY(validate_listeners());
    if (config.pool.min_idle > config.pool.size_per_group) {
      return wrong("pool.min_idle", fmt::format("pool.min_idle ({}) must not be more than pool.size_per_group ({})",
                                                config.pool.min_idle, config.pool.size_per_group));
    }
    if (!config.internal.password.empty() && !config.internal.password_file.empty()) {
      return wrong("internal.password_file", "internal.password and internal.password_file exclude each other");
    }
    TRY(readable("internal.password_file", config.internal.password_file));
    if (config.dev.first_port != 0 && config.dev.first_port + config.dev.groups - 1 > 65535) {
      return wrong("dev.first_port", "dev.first_port leaves no room for dev.groups ports below 65536");
    }
    return validate_groups();
  }

  Config config;

 private:
  std::string at(int line) const { return fmt::format("{}:{}", file_, line); }

  Status wrong(const std::string& name, std::string_view text) const {
    const auto origin = origins_.find(name);
    return config_error(origin == origins_.end() ? std::string_view(file_) : std::string_view(origin->second), text);
  }

  Status read_key(const TomlKey& key) {
    const auto* setting = find_setting(settings::all(), key.name);
    if (setting == nullptr) {
      if (key.name == "auth" || key.name == "group") {
        return config_error(at(key.line), fmt::format("{0} must be written as tables: [[{0}]]", key.name));
      }
      return config_error(at(key.line), unknown_name("setting", key.name, setting_names()));
    }
    origins_[key.name] = at(key.line);
    const std::string refused = assign_toml(*setting, setting->slot(config), key.value);
    if (!refused.empty()) return config_error(at(key.line), key.name + " " + refused);
    return {};
  }

  Status read_tables(const TomlDocument& document) {
    bool own_rules = false;
    for (const TomlTable& table : document.array_tables) {
      if (table.name == "auth") {
        if (!own_rules) config.auth.clear();
        own_rules = true;
        TRY_ASSIGN(AuthRule rule, read_table(settings::auth_fields(), table));
        TRY(check_auth(rule, table));
        config.auth.push_back(std::move(rule));
      } else if (table.name == "group") {
        TRY_ASSIGN(GroupConfig group, read_table(settings::group_fields(), table));
        group_lines_.push_back(table.line);
        config.groups.push_back(std::move(group));
      } else {
        return config_error(at(table.line), unknown_name("table", "[[" + table.name + "]]", {"[[auth]]", "[[group]]"}));
      }
    }
    return {};
  }

  template <class Owner>
  Result<Owner> read_table(const std::vector<Setting<Owner>>& fields, const TomlTable& table) const {
    Owner owner;
    std::vector<std::string> names;
    for (const auto& field : fields) names.push_back(field.name);
    for (const TomlKey& key : table.keys) {
      const auto* field = find_setting(fields, key.name);
      if (field == nullptr) {
        return config_error(at(key.line),
                            fmt::format("[[{}]]: {}", table.name, unknown_name("setting", key.name, names)));
      }
      const std::string refused = assign_toml(*field, field->slot(owner), key.value);
      if (!refused.empty()) return config_error(at(key.line), fmt::format("{}.{} {}", table.name, key.name, refused));
    }
    for (const auto& field : fields) {
      if (!field.required || !settings::shown(field, settings::slot_of(field, owner)).empty()) continue;
      return config_error(at(table.line), fmt::format("[[{}]] must have a {}", table.name, field.name));
    }
    return owner;
  }

  Status check_auth(const AuthRule& rule, const TomlTable& table) const {
    const auto given = [&](std::string_view name) {
      return std::any_of(table.keys.begin(), table.keys.end(), [&](const TomlKey& key) { return key.name == name; });
    };
    if (!given("type") || !given("method")) {
      return config_error(at(table.line), "[[auth]] must have a type and a method");
    }
    if (rule.type == AuthType::local && given("network")) {
      return config_error(at(table.line), "[[auth]] of type local takes no network");
    }
    return {};
  }

  Status readable(const std::string& name, const std::string& path) const {
    if (path.empty() || access(path.c_str(), R_OK) == 0) return {};
    return wrong(name, fmt::format("{} must be a file that can be read; found '{}'", name, path));
  }

  Status validate_tls() const {
    const auto& tls = config.tls;
    if (tls.mode != TlsMode::off) {
      if (tls.cert_file.empty() || tls.key_file.empty()) {
        return wrong("tls.mode", "tls.mode other than off needs tls.cert_file and tls.key_file");
      }
      TRY(readable("tls.cert_file", tls.cert_file));
      TRY(readable("tls.key_file", tls.key_file));
      TRY(readable("tls.ca_file", tls.ca_file));
    }
    for (const AuthRule& rule : config.auth) {
      if (rule.type == AuthType::hostssl && tls.mode == TlsMode::off) {
        return wrong("tls.mode", "an [[auth]] rule of type hostssl needs tls.mode allow or require; found 'off'");
      }
    }
    return {};
  }

  Status validate_listeners() const {
    if (config.listen.empty() && config.unix_socket_dir.empty()) {
      return wrong("listen", "listen and unix_socket_dir must not both be empty");
    }
    if (config.metrics.port != 0 && config.metrics.port == config.port) {
      return wrong("metrics.port", fmt::format("metrics.port must differ from port; found '{}'", config.port));
    }
    return {};
  }

  Status validate_groups() const {
    std::set<std::string> names, endpoints;
    int homes = 0;
    for (size_t i = 0; i < config.groups.size(); ++i) {
      const GroupConfig& group = config.groups[i];
      const std::string endpoint = fmt::format("{}:{}", group.host, group.port);
      if (!names.insert(group.name).second) {
        return config_error(at(group_lines_[i]), fmt::format("group.name '{}' is used twice", group.name));
      }
      if (!endpoints.insert(endpoint).second) {
        return config_error(at(group_lines_[i]), fmt::format("two groups have the address {}", endpoint));
      }
      if (group.tls == GroupTls::verify && group.ca_file.empty()) {
        return config_error(at(group_lines_[i]), "group.tls verify needs group.ca_file");
      }
      if (group.home) ++homes;
    }
    if (!config.groups.empty() && homes != 1) {
      return config_error(at(group_lines_[0]),
                          fmt::format("exactly one [[group]] must have home = true; found {}", homes));
    }
    return {};
  }

  std::string file_;
  std::map<std::string, std::string> origins_;
  std::vector<int> group_lines_;
};

// Database and user fields: all, or a list of names.
bool name_matches(const std::string& pattern, std::string_view name) {
  if (pattern == "all") return true;
  for (size_t at = 0; at <= pattern.size();) {
    const size_t comma = std::min(pattern.find(',', at), pattern.size());
    std::string_view item = std::string_view(pattern).substr(at, comma - at);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    if (item == name) return true;
    at = comma + 1;
  }
  return false;
}

std::string table_text(const Config& config, bool auth) {
  std::string text;
  const auto add = [&](const auto& fields, const auto& owner) {
    std::string entry;
    for (const auto& field : fields) {
      const auto slot = settings::slot_of(field, owner);
      entry += (entry.empty() ? "" : " ") + field.name + "=" + settings::shown(field, slot);
    }
    text += (text.empty() ? "" : "; ") + entry;
  };
  if (auth)
    for (const AuthRule& rule : config.auth) add(settings::auth_fields(), rule);
  else
    for (const GroupConfig& group : config.groups) add(settings::group_fields(), group);
  return text;
}

}  // namespace

Result<Config> parse_config(std::string_view text, const std::string& file, const CommandLine& command_line) {
  Loader loader(file);
  TRY(loader.read_file(text));
  TRY(loader.read_flags(command_line));
  TRY(loader.validate());
  return std::move(loader.config);
}

Result<Config> load_config(const CommandLine& command_line) {
  const std::string& file = command_line.config_file;
  std::stringstream text;
  if (!file.empty()) {
    std::ifstream in(file, std::ios::binary);
    if (in) text << in.rdbuf();
    if (!in || std::filesystem::is_directory(file)) return config_error(file, "cannot read the configuration file");
  }
  return parse_config(text.str(), file.empty() ? std::string(kFromFlags) : file, command_line);
}

std::vector<ShownSetting> show_config(const Config& config) {
  std::vector<ShownSetting> rows;
  const Config defaults;
  for (const auto& setting : settings::all()) {
    rows.push_back({setting.name, settings::shown(setting, settings::slot_of(setting, config)),
                    settings::shown(setting, settings::slot_of(setting, defaults)), setting.description,
                    setting.applies == settings::Applies::restart});
  }
  rows.push_back(
      {"auth", table_text(config, true), table_text(defaults, true), "Rules for logging in, first match wins.", false});
  rows.push_back({"group", table_text(config, false), "", "Attached groups.", true});
  return rows;
}

std::vector<SettingChange> changed_settings(const Config& before, const Config& after) {
  std::vector<SettingChange> changes;
  const std::vector<ShownSetting> old_rows = show_config(before), new_rows = show_config(after);
  for (size_t i = 0; i < old_rows.size(); ++i) {
    bool differs = old_rows[i].value != new_rows[i].value;
    if (i < settings::all().size()) {
      const auto& setting = settings::all()[i];
      differs = settings::shown(setting, settings::slot_of(setting, before), true) !=
                settings::shown(setting, settings::slot_of(setting, after), true);
    }
    if (!differs) continue;
    changes.push_back({old_rows[i].name, old_rows[i].value, new_rows[i].value, old_rows[i].needs_restart});
  }
  return changes;
}

Config apply_reload(const Config& before, const Config& after) {
  Config merged = before;
  for (const auto& setting : settings::all()) {
    if (setting.applies == settings::Applies::restart) continue;
    const std::string text = settings::shown(setting, settings::slot_of(setting, after), true);
    CHECK(settings::assign(setting, setting.slot(merged), text).empty());
  }
  merged.auth = after.auth;
  return merged;
}

const AuthRule* find_auth_rule(const std::vector<AuthRule>& rules, std::string_view address, bool tls,
                               std::string_view database, std::string_view user) {
  const bool local = address.empty();
  for (const AuthRule& rule : rules) {
    if ((rule.type == AuthType::local) != local) continue;
    if (rule.type == AuthType::hostssl && !tls) continue;
    if (rule.type == AuthType::hostnossl && tls) continue;
    if (!name_matches(rule.database, database) || !name_matches(rule.user, user)) continue;
    if (!local && !Network::parse(rule.network).value_or(Network()).contains(address)) continue;
    return &rule;
  }
  return nullptr;
}

}  // namespace pgmosaic
