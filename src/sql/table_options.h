// The parameters in WITH (…) of CREATE TABLE that are ours: shard_count, table_type and colocate_with.
#pragma once

#include <string_view>

#include "base/result.h"

namespace pgmosaic::sql {

bool is_table_option(std::string_view name);
// A parameter that is almost one of them, as PostgreSQL refuses it, with a hint; any other: nothing is known of it.
Status check_parameter_name(std::string_view name);

}  // namespace pgmosaic::sql
