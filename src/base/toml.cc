#include "base/toml.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 1
#include <toml++/toml.h>

namespace pgmosaic {

namespace {

std::string written(const toml::node& node) {
  std::ostringstream out;
  node.visit([&](const auto& value) { out << toml::toml_formatter{value}; });
  return out.str();
}

TomlValue to_value(const toml::node& node) {
  TomlValue value;
  if (const auto* boolean = node.as_boolean()) {
    value.kind = TomlValue::Kind::boolean;
    value.text = boolean->get() ? "true" : "false";
  } else if (const auto* integer = node.as_integer()) {
    value.kind = TomlValue::Kind::integer;
    value.text = std::to_string(integer->get());
  } else if (const auto* string = node.as_string()) {
    value.kind = TomlValue::Kind::string;
    value.text = string->get();
  } else if (const auto* array = node.as_array()) {
    value.kind = TomlValue::Kind::list;
    value.text = written(node);
    value.string_items = true;
    for (const toml::node& item : *array) {
      const auto* text = item.as_string();
      value.string_items = value.string_items && text != nullptr;
      if (text != nullptr) value.items.push_back(text->get());
    }
  } else {
    value.text = written(node);
  }
  return value;
}

void flatten(const toml::table& table, const std::string& prefix, std::vector<TomlKey>& keys,
             std::vector<TomlTable>* array_tables) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    const int line = static_cast<int>(node.source().begin.line);
    const toml::array* array = node.as_array();
    if (const toml::table* inner = node.as_table()) {
      flatten(*inner, name + ".", keys, array_tables);
    } else if (array != nullptr && array->is_array_of_tables() && array_tables != nullptr) {
      for (const toml::node& item : *array) {
        TomlTable entry{name, static_cast<int>(item.source().begin.line), {}};
        flatten(*item.as_table(), "", entry.keys, nullptr);
        array_tables->push_back(std::move(entry));
      }
    } else {
      keys.push_back(TomlKey{name, to_value(node), line});
    }
  }
}

bool by_line(const TomlKey& a, const TomlKey& b) { return a.line < b.line; }

}  // namespace

Result<TomlDocument> parse_toml(std::string_view text, const std::string& file) {
  const toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return make_error("F0000", fmt::format("{}:{}: {}", file, error.source().begin.line, error.description()));
  }
  TomlDocument document;
  flatten(parsed.table(), "", document.keys, &document.array_tables);
  // The library keeps keys by name; messages and "last wins" want the order of the file.
  std::stable_sort(document.keys.begin(), document.keys.end(), by_line);
  for (TomlTable& table : document.array_tables) std::stable_sort(table.keys.begin(), table.keys.end(), by_line);
  std::stable_sort(document.array_tables.begin(), document.array_tables.end(),
                   [](const TomlTable& a, const TomlTable& b) { return a.line < b.line; });
  return document;
}

}  // namespace pgmosaic
