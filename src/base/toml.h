// A TOML file as flat names, values and line numbers: all that the configuration needs. toml.cc is the only file that
// includes the TOML library.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pgmosaic {

struct TomlValue {
  enum class Kind { boolean, integer, string, list, other };
  Kind kind = Kind::other;
  std::string text;                // as text; string without quotes; list and other: as it would be written
  std::vector<std::string> items;  // list of strings
  bool string_items = false;       // list: every item is a string
};

struct TomlKey {
  std::string name;  // "pool.mode": tables flattened
  TomlValue value;
  int line = 0;
};

struct TomlTable {
  std::string name;  // of an array of tables: [[name]]
  int line = 0;
  std::vector<TomlKey> keys;
};

struct TomlDocument {
  std::vector<TomlKey> keys;
  std::vector<TomlTable> array_tables;  // in order of appearance
};

// F0000 with "<file>:<line>: …" on a syntax error.
Result<TomlDocument> parse_toml(std::string_view text, const std::string& file);

}  // namespace pgmosaic
