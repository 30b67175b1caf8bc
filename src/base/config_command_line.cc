#include <fmt/format.h>

#include <algorithm>

#include "base/config.h"
#include "base/config_settings.h"

namespace pgmosaic {

namespace {

using settings::config_error;
using settings::kFromFlags;
using settings::Setting;

class CommandLineParser {
 public:
  CommandLineParser(std::string_view section, const std::vector<OptionName>& options)
      : section_(section), options_(options) {}

  Status parse(const std::vector<std::string>& arguments) {
    for (next_ = 0; next_ < arguments.size();) {
      const std::string& argument = arguments[next_++];
      if (argument == "--") {
        parsed.positional.insert(parsed.positional.end(), arguments.begin() + static_cast<long>(next_),
                                 arguments.end());
        return {};
      }
      if (argument == "--help" || argument == "-h") {
        parsed.help = true;
      } else if (argument.starts_with("--")) {
        TRY(flag(argument.substr(2), arguments));
      } else {
        parsed.positional.push_back(argument);
      }
    }
    return {};
  }

  CommandLine parsed;

 private:
  Status flag(const std::string& text, const std::vector<std::string>& arguments) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const auto option =
        std::find_if(options_.begin(), options_.end(), [&](const OptionName& o) { return o.name == name; });
    const bool is_option = option != options_.end();
    const Setting<Config>* setting = is_option || name == "config" ? nullptr : find(name);
    if (!is_option && name != "config" && setting == nullptr) return unknown(name);

    std::string value;
    if (is_option && !option->takes_value) {
      if (equals != text.npos) return config_error(kFromFlags, fmt::format("--{} takes no value", name));
    } else if (equals != text.npos) {
      value = text.substr(equals + 1);
    } else if (setting != nullptr && is_boolean(*setting)) {
      // `--fsync` is true; `--fsync false` is as good as `--fsync=false`.
      const bool spelled = next_ < arguments.size() && (arguments[next_] == "true" || arguments[next_] == "false");
      value = spelled ? arguments[next_++] : "true";
    } else {
      if (next_ == arguments.size()) return config_error(kFromFlags, fmt::format("--{} needs a value", name));
      value = arguments[next_++];
    }

    if (is_option)
      parsed.options.emplace_back(name, value);
    else if (setting != nullptr)
      parsed.settings.emplace_back(setting->name, value);
    else
      parsed.config_file = value;
    return {};
  }

  const Setting<Config>* find(std::string name) const {
    std::replace(name.begin(), name.end(), '-', '_');
    const auto* setting = settings::find_setting(settings::all(), name);
    if (setting != nullptr || section_.empty()) return setting;
    return settings::find_setting(settings::all(), std::string(section_) + "." + name);
  }

  static bool is_boolean(const Setting<Config>& setting) {
    Config unused;
    return std::holds_alternative<bool*>(setting.slot(unused));
  }

  Status unknown(const std::string& name) const {
    std::vector<std::string> candidates = settings::setting_names();
    for (const OptionName& option : options_) candidates.emplace_back(option.name);
    candidates.emplace_back("config");
    for (std::string& candidate : candidates) candidate.insert(0, "--");
    return config_error(kFromFlags, settings::unknown_name("flag", "--" + name, candidates));
  }

  std::string_view section_;
  const std::vector<OptionName>& options_;
  size_t next_ = 0;
};

}  // namespace

Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments, std::string_view section,
                                       const std::vector<OptionName>& options) {
  CommandLineParser parser(section, options);
  TRY(parser.parse(arguments));
  return std::move(parser.parsed);
}

}  // namespace pgmosaic
