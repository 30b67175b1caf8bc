// Reads one database's schema from the home group's pg_catalog and joins it with the metadata store's records.
#pragma once

#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "meta/codec.h"
#include "pool/server_conn.h"

namespace pgmosaic::control {

// Runs a few catalog queries on `home` (inside its transaction, if one is open).
net::Task<Result<std::shared_ptr<catalog::Database>>> introspect(pool::ServerConn& home, std::string database,
                                                                 std::vector<meta::ShardedTableRecord> records,
                                                                 std::vector<catalog::Colocation> colocations);

}  // namespace pgmosaic::control
