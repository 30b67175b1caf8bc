// What is likely to go wrong with a distribution key, told when its table is made.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "sql/ast.h"

namespace pgmosaic::plan {

// Notices of a new sharded table, with hints: a key that may be NULL, has few different values, is a moment in time or
// looks as if it were often updated. `keys`: the columns of SHARD BY HASH; empty: those of the statement's PARTITION
// BY.
std::vector<Error> key_notices(const PgQuery__CreateStmt* create, std::vector<std::string> keys);

}  // namespace pgmosaic::plan
