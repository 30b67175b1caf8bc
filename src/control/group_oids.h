// The OIDs of a group's tables and types, matched by name with the home's (see pg/oid_map.h).
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "catalog/catalog.h"
#include "pool/server_conn.h"

namespace pgmosaic::control {

// Asks all `groups` (none of them the home) at once; each sees what its open transaction has changed. Thread: any.
net::Task<Result<std::shared_ptr<const catalog::OidMaps>>> load_oid_maps(
    std::vector<std::pair<catalog::GroupId, pool::ServerConn*>> groups, const catalog::Database& home);

}  // namespace pgmosaic::control
