// Roles that a transaction has made known to its whole server before it commits: see router/new_roles.h.
#pragma once

#include <string>

#include "pool/server_conn.h"

namespace pgmosaic::control {

// The comment of such a role, as everybody but that transaction sees it.
inline constexpr const char* kUnborn = "pgmosaic: made in a transaction that has not committed";

// Drops it, unless it has come to be.
net::Task<Status> drop_unborn_role(pool::ServerConn& home, const std::string& name);
// All that a router which is gone has left. REQUIRES: its transactions are settled.
net::Task<Status> drop_unborn_roles(pool::ServerConn& home);

}  // namespace pgmosaic::control
