// What plan/cluster_sums.h wants from the groups.
#pragma once

#include <string>

#include "catalog/catalog.h"
#include "exec/backends.h"

namespace pgmosaic::router {

// The JSON object described there, as this user may see it. Thread: the session's.
net::Task<Result<std::string>> cluster_sums(exec::Backends& backends, const catalog::Snapshot& snapshot,
                                            const catalog::Database& database);

}  // namespace pgmosaic::router
