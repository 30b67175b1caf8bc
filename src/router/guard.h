// Around a statement that runs SQL which nobody has read (plan::Plan::guarded): functions with EXECUTE, query_to_xml,
// DO blocks. The home runs it in a transaction; what it has touched is known from the locks it holds behind it, and
// what it does to the schema an event trigger of the home's (control/install_sql.h) refuses.
#pragma once

#include <string>

#include "catalog/catalog.h"
#include "net/task.h"
#include "pool/server_conn.h"

namespace pgmosaic::router {

class Guard {
 public:
  // `home`: the session's backend, within a transaction; outlives the guard.
  Guard(pool::ServerConn& home, const catalog::Database& database);

  // Before the statement. 0A000: the transaction holds locks already that would hide what the statement touches.
  net::Task<Status> begin();
  // Behind it, where it succeeded. 0A000: it touched what is not the home's alone: the transaction must be rolled back.
  net::Task<Status> end();
  // Whether the backend then had temporary objects of the session.
  bool leaves_objects() const { return leaves_objects_; }

 private:
  pool::ServerConn& home_;
  const catalog::Database& database_;
  bool leaves_objects_ = false;
  std::string touched_;  // array of what is locked
};

}  // namespace pgmosaic::router
