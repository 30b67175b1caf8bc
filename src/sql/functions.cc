#include "sql/functions.h"

#include <algorithm>
#include <iterator>

namespace pgmosaic::sql {
namespace {

constexpr FunctionInfo kFunctions[] = {
#include "sql/functions_table.inc"
};

constexpr bool is_sorted_by_name() {
  for (size_t i = 1; i < std::size(kFunctions); ++i)
    if (!(kFunctions[i - 1].name < kFunctions[i].name)) return false;
  return true;
}
static_assert(is_sorted_by_name());

}  // namespace

const FunctionInfo* find_builtin(std::string_view lower_case_name) {
  const FunctionInfo* found =
      std::lower_bound(std::begin(kFunctions), std::end(kFunctions), lower_case_name,
                       [](const FunctionInfo& f, std::string_view name) { return f.name < name; });
  return found != std::end(kFunctions) && found->name == lower_case_name ? found : nullptr;
}

bool differs_per_group(const FunctionInfo& function, int argument_count) {
  return function.is(kDiffersPerGroup) && (function.name != "age" || argument_count == 1);
}

}  // namespace pgmosaic::sql
