// What the home group knows of a user who wants to log in (the [[auth]] rules are base/config.h's).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "net/listener.h"
#include "net/task.h"
#include "pg/scram.h"
#include "pool/server_conn.h"

namespace pgmosaic::router {

class Worker;

struct UserRecord {
  bool exists = false, can_login = false, expired = false, superuser = false;
  std::optional<pg::ScramVerifier> verifier;
  std::string md5;  // the verifier of an md5 password; empty: it is none
};

// A role's new password, in a transaction that may still fail or be rolled back.
struct PasswordChange {
  std::string role;
  pg::ScramVerifier verifier;
  pg::ScramKeys keys;
  std::string md5 = {};  // in place of the former
};
// What to log in with from now on: of the roles whose verifier is the changed one, now that the transaction is over.
net::Task<std::vector<pool::Credentials>> confirmed(Worker& worker, std::vector<PasswordChange> changes);

// The body of the client's PasswordMessage, to an AuthenticationMD5Password with this salt.
Status check_md5_response(const UserRecord& record, const std::string& user, std::string_view body,
                          std::string_view salt);

// Reads pg_authid of the home group through the internal role. Errors: the home group is unreachable.
net::Task<Result<UserRecord>> lookup_user(Worker& worker, const std::string& user);

}  // namespace pgmosaic::router
