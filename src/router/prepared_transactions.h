// PREPARE TRANSACTION, COMMIT PREPARED and ROLLBACK PREPARED of clients (exec/two_phase.h: parked). The home has the
// transaction under the client's name: its answers on names, rights and databases are PostgreSQL's own, and its
// decision is that of all groups.
#pragma once

#include <string_view>

#include "router/session.h"

namespace pgmosaic::router {

class PreparedTransactions {
 public:
  explicit PreparedTransactions(Session& session) : s_(session) {}

  net::Task<Status> prepare(const plan::SessionCommand& command, std::string_view sql);
  // COMMIT PREPARED, ROLLBACK PREPARED.
  net::Task<Status> decide(const plan::SessionCommand& command, std::string_view sql);

 private:
  Session& s_;
};

}  // namespace pgmosaic::router
