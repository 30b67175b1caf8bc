// Reads one database's schema from the home group's pg_catalog and joins it with the metadata store's records.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "meta/codec.h"
#include "pool/server_conn.h"

namespace pgmosaic::control {

struct Records {
  std::vector<meta::ShardedTableRecord> tables;
  std::vector<catalog::Colocation> colocations;
};

// Asks `home` (inside its transaction, if one is open), and then for the records: a record is made before its table is
// there for others, or is intended.
net::Task<Result<std::shared_ptr<catalog::Database>>> introspect(pool::ServerConn& home, std::string database,
                                                                 const std::function<Result<Records>()>& read_records);

}  // namespace pgmosaic::control
