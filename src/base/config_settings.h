// The table of settings: one declaration each. To add a setting, add a member to Config and a row to the table in
// config_settings.cc; everything else follows. Private to base/config*.cc.
#pragma once

#include <climits>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/config.h"

namespace pgmosaic::settings {

// The place of a value in a Config.
struct ChoiceSlot {
  std::function<int()> get;
  std::function<void(int)> set;
};
using Slot = std::variant<bool*, int*, std::string*, std::vector<std::string>*, ChoiceSlot>;

enum class Applies { reload, restart };

struct Field {
  std::string name;  // "pool.mode"
  std::string description;
  Applies applies = Applies::reload;
  std::vector<std::string> choices = {};  // ChoiceSlot: the enum's values in order
  int minimum = 0, maximum = INT_MAX;     // int*
  bool secret = false;
  bool required = false;    // in tables: must be given and not empty
  std::string format = {};  // string: what it must look like, with `valid`
  bool (*valid)(const std::string&) = nullptr;
};

template <class Owner>
struct Setting : Field {
  Slot (*slot)(Owner&) = nullptr;
};

struct Section {
  std::string name;  // empty: outside any section
  std::string description;
};

const std::vector<Section>& sections();
const std::vector<Setting<Config>>& all();
const std::vector<Setting<AuthRule>>& auth_fields();
const std::vector<Setting<GroupConfig>>& group_fields();

// "one of a, b, c", "an integer from 1 to 65535", …
std::string allowed(const Field& field, const Slot& slot);
// The value as text; masked where secret unless `reveal`.
std::string shown(const Field& field, const Slot& slot, bool reveal = false);
// The value as TOML.
std::string to_toml(const Field& field, const Slot& slot);
// Why `text` cannot be the value ("must be …; found '…'"), or empty and the value is set.
std::string assign(const Field& field, const Slot& slot, const std::string& text);
std::string assign_list(const Field& field, const Slot& slot, const std::vector<std::string>& items);

inline constexpr std::string_view kFromFlags = "command line";
Error config_error(std::string_view where, std::string_view text);
std::vector<std::string> setting_names();
// "unknown setting pool.mod; did you mean pool.mode?"
std::string unknown_name(std::string_view kind, std::string_view name, const std::vector<std::string>& candidates);

template <class Owner>
const Setting<Owner>* find_setting(const std::vector<Setting<Owner>>& table, std::string_view name) {
  for (const auto& setting : table)
    if (setting.name == name) return &setting;
  return nullptr;
}

template <class Owner>
Slot slot_of(const Setting<Owner>& setting, const Owner& owner) {
  // Slots give read and write access alike; readers go through here and do not write.
  return setting.slot(const_cast<Owner&>(owner));
}

}  // namespace pgmosaic::settings
