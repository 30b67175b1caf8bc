// What a function has done to roles on the home (router/guard.h). Roles belong to a server, and PostgreSQL tells no
// event trigger of them: the catalogs from before and behind it are compared, and the other servers get what differs,
// passwords by their verifiers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "net/task.h"
#include "pool/server_conn.h"

namespace pgmosaic::router {

struct RoleCatalogs {
  struct Role {
    std::string name;
    std::vector<std::string> attributes;  // as CREATE ROLE has them: SUPERUSER, CONNECTION LIMIT 3, …
  };
  // A membership, setting, comment or label. Without statements: no role's.
  struct Entry {
    std::string undo, redo;
  };
  std::map<std::string, Role> roles;     // by OID
  std::map<std::string, Entry> entries;  // by what it is about
};

// In this order: `first`, then schema changes beside them, which may name new roles, then `last`.
struct RoleChanges {
  std::vector<std::string> first, last;
  std::vector<std::string> remade;  // dropped, and made again
  bool of_others = false;           // settings and comments of databases and the like
};

// `passwords`: the user may read them.
net::Task<Result<RoleCatalogs>> read_roles(pool::ServerConn& conn, bool passwords);

RoleChanges compare_roles(const RoleCatalogs& before, const RoleCatalogs& behind);

}  // namespace pgmosaic::router
