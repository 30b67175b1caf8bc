// What the home group knows of a user who wants to log in (the [[auth]] rules are base/config.h's).
#pragma once

#include <optional>
#include <string>

#include "base/config.h"
#include "base/result.h"
#include "net/listener.h"
#include "net/task.h"
#include "pg/scram.h"

namespace pgmosaic::router {

class Worker;

struct UserRecord {
  bool exists = false, can_login = false, expired = false, superuser = false;
  std::optional<pg::ScramVerifier> verifier;
};

// Reads pg_authid of the home group through the internal role. Errors: the home group is unreachable.
net::Task<Result<UserRecord>> lookup_user(Worker& worker, const std::string& user);

}  // namespace pgmosaic::router
