// Passwords in CREATE and ALTER ROLE: hashed once, so that all groups hold the same verifier and a login can be passed
// on to each.
#pragma once

#include <string>
#include <vector>

#include "net/task.h"
#include "plan/commands.h"
#include "pool/server_conn.h"
#include "router/auth.h"

namespace pgmosaic::router {

// The text of CREATE or ALTER ROLE … PASSWORD with a verifier as the session's password_encryption has it. `changes`
// gets what the role logs in with from then on.
net::Task<Result<std::string>> with_hashed_password(const plan::Ddl& ddl, pool::ServerConn& home,
                                                    std::vector<PasswordChange>& changes);

}  // namespace pgmosaic::router
