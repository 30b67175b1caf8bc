#include "sql/table_options.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <vector>

namespace pgmosaic::sql {

namespace {

constexpr std::array<std::string_view, 3> kOptions = {"shard_count", "table_type", "colocate_with"};
constexpr std::size_t kMostEdits = 2, kLongest = 32;

// Characters to put in, leave out or exchange.
std::size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t exchanged = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({exchanged, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

bool is_table_option(std::string_view name) {
  return std::find(kOptions.begin(), kOptions.end(), name) != kOptions.end();
}

Status check_parameter_name(std::string_view name) {
  if (name.size() > kLongest) return {};
  for (const std::string_view option : kOptions)
    if (name != option && edits_between(name, option) <= kMostEdits)
      return make_error("22023", "unrecognized parameter \"" + std::string(name) + "\"",
                        "Perhaps you meant \"" + std::string(option) + "\".");
  return {};
}

}  // namespace pgmosaic::sql
