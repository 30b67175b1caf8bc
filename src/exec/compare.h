// Compares sort keys of rows exactly as PostgreSQL does, for the types the planner allows in SortKey.
#pragma once

#include <compare>
#include <optional>
#include <string_view>

#include "plan/plan.h"

namespace pgmosaic::exec {

// Values in the wire format of `binary`. NULLs are handled by compare_rows.
std::strong_ordering compare_values(catalog::Oid type, bool binary, std::string_view left, std::string_view right);

// <0, 0, >0 by one sort key, with its direction and NULLS FIRST/LAST.
int compare_by(const plan::SortKey& key, bool binary, const std::optional<std::string_view>& left,
               const std::optional<std::string_view>& right);

}  // namespace pgmosaic::exec
