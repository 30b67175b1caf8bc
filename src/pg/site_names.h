// Names of databases on the home's server, where two groups share one PostgreSQL.
#pragma once

#include <string>
#include <string_view>

namespace pgmosaic::pg {

inline constexpr const char* kShardsDatabasePrefix = "pgmosaic_shards_";

// The database that holds the shards of `database` on the home's server. At most 63 bytes: a long name is cut and gets
// a hash of the whole.
std::string shards_database_name(std::string_view database);
bool is_shards_database(std::string_view name);

}  // namespace pgmosaic::pg
