// The session's prepared statements, for SQL that nobody has read (router/guard.h): EXECUTE in a function means them,
// and they are the router's. The home's backend is lent those whose names stand in the client's statement, which is
// where such functions get them from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/task.h"
#include "pool/server_conn.h"
#include "router/extended.h"

namespace pgmosaic::router {

class LentStatements {
 public:
  explicit LentStatements(pool::ServerConn& home) : home_(home) {}

  // REQUIRES: a transaction. A statement that does not parse any more is not lent: EXECUTE finds none.
  net::Task<Status> lend(const ByName<PreparedPtr>& statements, std::string_view sql);
  // Also in a transaction that has failed.
  net::Task<void> take_back();

 private:
  pool::ServerConn& home_;
  std::vector<std::string> names_;
};

}  // namespace pgmosaic::router
