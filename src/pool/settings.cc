#include "pool/settings.h"

#include <vector>

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

std::string transition_sql(const SettingsMap& from, const SettingsMap& to) {
  static const std::string_view kLast[] = {"session_authorization", "role"};
  auto is_last = [](std::string_view name) { return name == kLast[0] || name == kLast[1]; };
  std::string sql;
  // A role in force may not be allowed to change the other settings: leave it first, enter it last.
  bool identity_differs = false;
  for (std::string_view name : kLast) {
    auto old_entry = from.find(name);
    auto new_entry = to.find(name);
    const bool had = old_entry != from.end(), has = new_entry != to.end();
    if (had != has || (had && old_entry->second != new_entry->second)) identity_differs = true;
  }
  if (identity_differs) {
    if (from.contains(kLast[1])) sql += "RESET role;";
    if (from.contains(kLast[0])) sql += "RESET session_authorization;";
  }
  for (const auto& [name, statement] : from)
    if (!is_last(name) && !to.contains(name)) sql += "RESET " + setting_name(name) + ";";
  for (const auto& [name, statement] : to) {
    if (is_last(name)) continue;
    auto old_entry = from.find(name);
    if (old_entry == from.end() || old_entry->second != statement) sql += statement + ";";
  }
  if (identity_differs)
    for (std::string_view name : kLast)
      if (auto entry = to.find(name); entry != to.end()) sql += entry->second + ";";
  return sql;
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

std::string set_statement(std::string_view name, std::string_view value) {
  return "SET " + setting_name(name) + " TO " + quote_literal(value);
}

}  // namespace pgmosaic::pool
