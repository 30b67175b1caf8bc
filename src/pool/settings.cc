#include "pool/settings.h"

#include <algorithm>
#include <array>

namespace pgmosaic::pool {

Settings SettingsRegistry::intern(SettingsMap map) {
  if (map.empty()) return empty_;
  std::string key;
  for (const auto& [name, sql] : map) key.append(sql).push_back('\0');
  auto& slot = table_[std::move(key)];
  if (Settings existing = slot.lock()) return existing;
  auto created = std::make_shared<const SettingsMap>(std::move(map));
  slot = created;
  if (table_.size() > sweep_at_) {
    std::erase_if(table_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = table_.size() * 2 + 1024;
  }
  return created;
}

std::vector<std::string> transition(const SettingsMap& from, const SettingsMap& to) {
  static const std::string_view kLast[] = {"session_authorization", "role"};
  auto is_last = [](std::string_view name) { return name == kLast[0] || name == kLast[1]; };
  std::vector<std::string> statements;
  // A role in force may not be allowed to change the other settings: leave it first, enter it last.
  bool identity_differs = false;
  for (std::string_view name : kLast) {
    auto old_entry = from.find(name);
    auto new_entry = to.find(name);
    const bool had = old_entry != from.end(), has = new_entry != to.end();
    if (had != has || (had && old_entry->second != new_entry->second)) identity_differs = true;
  }
  if (identity_differs) {
    if (from.contains(kLast[1])) statements.emplace_back("RESET role");
    if (from.contains(kLast[0])) statements.emplace_back("RESET session_authorization");
  }
  for (const auto& [name, statement] : from)
    if (!is_last(name) && !to.contains(name)) statements.push_back("RESET " + setting_name(name));
  for (const auto& [name, statement] : to) {
    if (is_last(name)) continue;
    auto old_entry = from.find(name);
    if (old_entry == from.end() || old_entry->second != statement) statements.push_back(statement);
  }
  if (identity_differs)
    for (std::string_view name : kLast)
      if (auto entry = to.find(name); entry != to.end()) statements.push_back(entry->second);
  return statements;
}

std::string transition_sql(const SettingsMap& from, const SettingsMap& to) {
  std::string sql;
  for (const std::string& statement : transition(from, to)) sql += statement + ";";
  return sql;
}

bool may_be_refused(const SettingsMap& from, const SettingsMap& to) {
  // Whatever a value of these was once accepted, it always is.
  static constexpr std::array<std::string_view, 17> kHarmless{"application_name",
                                                              "bytea_output",
                                                              "client_encoding",
                                                              "client_min_messages",
                                                              "datestyle",
                                                              "default_transaction_deferrable",
                                                              "default_transaction_isolation",
                                                              "default_transaction_read_only",
                                                              "extra_float_digits",
                                                              "idle_in_transaction_session_timeout",
                                                              "intervalstyle",
                                                              "lock_timeout",
                                                              "search_path",
                                                              "standard_conforming_strings",
                                                              "statement_timeout",
                                                              "timezone",
                                                              "work_mem"};
  return std::any_of(to.begin(), to.end(), [&from](const auto& entry) {
    if (std::find(kHarmless.begin(), kHarmless.end(), entry.first) != kHarmless.end()) return false;
    const auto old_entry = from.find(entry.first);
    return old_entry == from.end() || old_entry->second != entry.second;
  });
}

std::string quote_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string quote_literal(std::string_view value) {
  const bool escape = value.find('\\') != std::string_view::npos;
  std::string quoted = escape ? " E'" : "'";
  for (char c : value) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

std::string setting_name(std::string_view name) {
  std::string target;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t dot = name.find('.', begin);
    target += quote_identifier(name.substr(begin, dot == std::string_view::npos ? dot : dot - begin));
    if (dot == std::string_view::npos) return target;
    target += '.';
    begin = dot + 1;
  }
}

std::string set_statement(std::string_view name, std::string_view value, bool local) {
  // PostgreSQL's settings that are lists of names (GUC_LIST_QUOTE). SET would take the whole value for one name.
  static constexpr std::array<std::string_view, 5> kLists{"local_preload_libraries", "search_path",
                                                          "session_preload_libraries", "shared_preload_libraries",
                                                          "temp_tablespaces"};
  if (std::find(kLists.begin(), kLists.end(), name) != kLists.end())
    return "SELECT pg_catalog.set_config(" + quote_literal(name) + ", " + quote_literal(value) +
           (local ? ", true)" : ", false)");
  return (local ? "SET LOCAL " : "SET ") + setting_name(name) + " TO " + quote_literal(value);
}

}  // namespace pgmosaic::pool
