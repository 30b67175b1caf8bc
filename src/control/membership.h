// Whether the configured groups are the cluster's own, before anything is read from or written to them.
//
// The metadata store knows the groups' names; each server knows in pg_catalog.pgmosaic_member (in the internal
// database) which group of which cluster it is. A configuration that swaps, leaves out or adds groups, or a store that
// is not the servers' own, would give partial answers: it is refused.
#pragma once

#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "meta/store.h"
#include "pool/server_conn.h"

namespace pgmosaic::control {

// The configured groups against those that the store has recorded. Error F0000.
Status check_groups(meta::Store& store, const std::vector<catalog::Group>& configured);

// The server behind `group` against what it says of itself; one that says nothing becomes the group. Error F0000.
net::Task<Status> check_member(pool::ServerConn& conn, std::string cluster_id, catalog::Group group);

}  // namespace pgmosaic::control
