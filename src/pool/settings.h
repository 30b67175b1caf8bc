// A session's settings (SET …) as a value, and how to bring a backend from one set of settings to another.
//
// A Settings is a sorted list of name → statement that establishes it ("SET search_path TO a, b"). Equal
// sets are one object per worker (SettingsRegistry), so "is this backend in the client's state?" is a pointer
// comparison on the hot path.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pgmosaic::pool {

using SettingsMap = std::map<std::string, std::string, std::less<>>;
using Settings = std::shared_ptr<const SettingsMap>;

class SettingsRegistry {
 public:
  SettingsRegistry() : empty_(std::make_shared<const SettingsMap>()) {}
  const Settings& empty() const { return empty_; }
  // The one object for this content. Unused ones are dropped when the table has grown.
  Settings intern(SettingsMap map);

 private:
  Settings empty_;
  std::map<std::string, std::weak_ptr<const SettingsMap>> table_;
  std::size_t sweep_at_ = 1024;
};

// Statements that turn a backend with settings `from` into one with `to`; none when equal. Settings that follow another
// one (session_authorization, role) come last.
std::vector<std::string> transition(const SettingsMap& from, const SettingsMap& to);
std::string transition_sql(const SettingsMap& from, const SettingsMap& to);  // the same, each with a semicolon
// Whether a backend may refuse what another one has accepted: a name of some object, of an extension's, of a right.
bool may_be_refused(const SettingsMap& from, const SettingsMap& to);

// A statement that gives the setting exactly this value, as SHOW tells it; `name` as a client gave it (custom names
// have a dot). Of lists of names it returns a row: not every list can be written with SET.
std::string set_statement(std::string_view name, std::string_view value, bool local = false);
// A setting's name quoted for SQL; custom settings are prefix.name with each part quoted.
std::string setting_name(std::string_view name);
std::string quote_identifier(std::string_view name);
std::string quote_literal(std::string_view value);

}  // namespace pgmosaic::pool
