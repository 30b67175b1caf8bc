// Help text, documentation and sample file, all from the table of settings.
#include <fmt/format.h>

#include <algorithm>

#include "base/config.h"
#include "base/config_settings.h"

namespace pgmosaic {

namespace {

using settings::Applies;
using settings::Field;
using settings::Setting;
using settings::Slot;

std::string section_of(const std::string& name) {
  const size_t dot = name.find('.');
  return dot == name.npos ? std::string() : name.substr(0, dot);
}

std::string key_of(const std::string& name) {
  const size_t dot = name.find('.');
  return dot == name.npos ? name : name.substr(dot + 1);
}

std::string without_backquotes(std::string text) {
  std::erase(text, '`');
  return text;
}

// Text in lines of at most `width` characters, each with `prefix` in front.
std::string wrapped(const std::string& text, size_t width, const std::string& prefix) {
  std::string out, line;
  for (size_t at = 0; at < text.size();) {
    const size_t space = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, space - at);
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      out += prefix + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = space + 1;
  }
  return out + prefix + line + "\n";
}

std::string allowed_text(const Field& field, const Slot& slot) {
  std::string text = settings::allowed(field, slot);
  if (text.starts_with("one of ")) text = text.substr(7);
  return text;
}

template <class Owner>
void add_rows(std::string& out, const std::vector<Setting<Owner>>& fields, const std::string& section,
              bool with_applies) {
  const Owner defaults;
  for (const auto& field : fields) {
    if (with_applies && section_of(field.name) != section) continue;
    const Slot slot = settings::slot_of(field, defaults);
    out += fmt::format("| `{}` | {} | `{}` |", field.name, allowed_text(field, slot), settings::to_toml(field, slot));
    if (with_applies) out += field.applies == Applies::reload ? " reload |" : " restart |";
    out += fmt::format(" {} |\n", field.description);
  }
}

template <class Owner>
void add_sample_table(std::string& out, const std::string& name, const std::vector<Setting<Owner>>& fields,
                      const std::vector<Owner>& examples) {
  for (const auto& field : fields) {
    const Slot slot = settings::slot_of(field, examples.front());
    out += wrapped(
        fmt::format("{}: {} ({})", field.name, without_backquotes(field.description), allowed_text(field, slot)), 116,
        "# ");
  }
  for (const Owner& example : examples) {
    out += "#[[" + name + "]]\n";
    for (const auto& field : fields) {
      const Slot slot = settings::slot_of(field, example);
      if (settings::shown(field, slot).empty()) continue;
      if constexpr (std::is_same_v<Owner, AuthRule>) {
        if (example.type == AuthType::local && field.name == "network") continue;
      }
      out += fmt::format("#{} = {}\n", field.name, settings::to_toml(field, slot));
    }
    out += "\n";
  }
}

}  // namespace

namespace {

std::string section_help(const settings::Section& section, bool short_names) {
  std::string out = fmt::format("\n{}\n", without_backquotes(section.description));
  const Config defaults;
  for (const auto& setting : settings::all()) {
    if (section_of(setting.name) != section.name) continue;
    const Slot slot = settings::slot_of(setting, defaults);
    std::string_view name = setting.name;
    if (short_names) name.remove_prefix(section.name.size() + 1);
    out +=
        fmt::format("  --{}  ({}; default {})\n", name, allowed_text(setting, slot), settings::to_toml(setting, slot));
    out += wrapped(without_backquotes(setting.description), 100, "        ");
  }
  return out;
}

constexpr std::string_view kDevSection = "dev";

}  // namespace

std::string config_help(std::string_view command_section) {
  std::string own, shared;
  for (const auto& section : settings::sections()) {
    if (section.name == command_section && !command_section.empty()) {
      own += section_help(section, true);
    } else if (section.name != kDevSection) {
      shared += section_help(section, false);
    }
  }
  return "Settings (each also in the file given by --config FILE):\n" + own + shared;
}

std::string config_markdown() {
  std::string out =
      "# Configuration\n\n"
      "One TOML file, given with `--config FILE`. Every setting is also a flag: `--pool.mode session`, `--port=6543`; "
      "a flag "
      "wins over\nthe file. What is not given has the default below. A wrong setting or an unknown name stops the "
      "start with "
      "file, line and\nwhat is allowed. `SHOW CONFIG` on the admin database lists what is in force.\n\n"
      "On SIGHUP or `RELOAD` the file is read again. Settings marked *reload* take effect at once for new work; those "
      "marked "
      "*restart*\nkeep their old value until the next start, and the log names them. A file with an error changes "
      "nothing.\n\n"
      "This page is generated: `pgmosaic config --markdown`. A sample file with all defaults is "
      "`deploy/pgmosaic.toml`.\n";
  for (const auto& section : settings::sections()) {
    out += section.name.empty() ? "\n## Outside any section\n\n" : fmt::format("\n## [{}]\n\n", section.name);
    out += section.description + "\n\n| setting | allowed | default | applies on | meaning |\n|---|---|---|---|---|\n";
    add_rows(out, settings::all(), section.name, true);
  }
  out +=
      "\n## [[auth]]\n\nWho may log in, and how. A rule must give `type` and `method`. Rules are tried in order; the "
      "first that fits connection,\ndatabase, user and address decides, and a client that no rule fits is refused. A "
      "file with rules of its own replaces the two\ndefault ones (`local` and `host`, both `scram-sha-256` for all). "
      "Reloadable.\n\n"
      "| setting | allowed | default | meaning |\n|---|---|---|---|\n";
  add_rows(out, settings::auth_fields(), "", false);
  out +=
      "\n## [[group]]\n\nFor `pgmosaic router`: one table for each PostgreSQL server that the router is attached to. "
      "Needs a "
      "restart.\n\n| setting | allowed | default | meaning |\n|---|---|---|---|\n";
  add_rows(out, settings::group_fields(), "", false);
  out +=
      "\n## Example\n\n```toml\nport = 6543\n\n[pool]\nmode = \"transaction\"\nsize_per_group = 40\n\n[internal]\n"
      "password_file = \"/etc/pgmosaic/internal.password\"\n\n[[auth]]\ntype = \"hostssl\"\nnetwork = \"10.0.0.0/8\"\n"
      "method = \"scram-sha-256\"\n\n[[group]]\nname = \"g1\"\nhost = \"10.0.0.11\"\nhome = true\n\n[[group]]\n"
      "name = \"g2\"\nhost = \"10.0.0.12\"\n```\n";
  return out;
}

std::string config_sample() {
  std::string out =
      "# pgmosaic: every setting with its default. Take the leading # off a line to change it.\n"
      "# The same text, with what a reload does, is in docs/configuration.md.\n";
  const Config defaults;
  for (const auto& section : settings::sections()) {
    out += "\n" + wrapped(without_backquotes(section.description), 116, "# ");
    if (!section.name.empty()) out += "[" + section.name + "]\n";
    for (const auto& setting : settings::all()) {
      if (section_of(setting.name) != section.name) continue;
      const Slot slot = settings::slot_of(setting, defaults);
      out +=
          "\n" + wrapped(fmt::format("{} ({})", without_backquotes(setting.description), allowed_text(setting, slot)),
                         116, "# ");
      out += fmt::format("#{} = {}\n", key_of(setting.name), settings::to_toml(setting, slot));
    }
  }
  out +=
      "\n# Who may log in, and how: the first rule that fits decides. These two are in force when the file has none.\n";
  add_sample_table(out, "auth", settings::auth_fields(), defaults.auth);
  out += "# PostgreSQL servers that somebody else runs, for `pgmosaic router`. Exactly one has home = true.\n";
  add_sample_table(out, "group", settings::group_fields(),
                   std::vector<GroupConfig>{{.name = "g1", .host = "127.0.0.1", .port = 5432, .home = true},
                                            {.name = "g2", .host = "127.0.0.1", .port = 5433}});
  return out;
}

}  // namespace pgmosaic
