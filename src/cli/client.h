// What the commands share that are clients of a running router: where it is, and one connection to it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "pool/server_conn.h"

namespace pgmosaic::cli {

struct Target {
  pool::Endpoint endpoint;
  pool::Credentials credentials;
  std::string database;  // empty: none was named
  std::string admin_database = "pgmosaic";
};

// [--admin-database NAME] [URL], where URL is
//   postgresql://[user[:password]@][host][:port][/database][?sslmode=…&sslrootcert=…]
// What it leaves out comes from libpq's variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE,
// PGSSLROOTCERT), then from defaults. Errors: 42601, F0000.
Result<Target> read_target(const std::vector<std::string>& arguments);

// Logs in and runs `work` on a loop of its own; blocks.
using Work = std::function<net::Task<Status>(pool::ServerConn&)>;
Status with_connection(const Target& target, const std::string& database, const Work& work);

}  // namespace pgmosaic::cli
