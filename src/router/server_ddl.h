// What cannot run in a transaction, and so runs on one server after the other: tablespaces, and REINDEX of many tables.
// The home is the first, so that errors are those of one PostgreSQL.
#pragma once

#include <string>
#include <vector>

#include "exec/backends.h"
#include "plan/commands.h"

namespace pgmosaic::router {

struct ServerDdl {
  const plan::Ddl& ddl;
  exec::Backend& home;
  std::vector<exec::Backend*> others;  // one for each group, or for each other server where ddl.server_wide
  exec::Backend* beside = nullptr;     // of the others the one on the home's server
  std::string notices = {};            // the home's, for the client

  // Where a server fails, those before it drop it again.
  net::Task<Status> create_tablespace();
  // Nothing is dropped while any server has something in it. Where one fails after all, those before it make it again.
  net::Task<Status> drop_tablespace();
  // What was interrupted can be repeated. The indexes of a schema are on the groups those of its tables' leaves.
  net::Task<Status> reindex();

 private:
  net::Task<Status> run(exec::Backend& backend, std::string sql);
  net::Task<Result<std::string>> tablespace_definition(exec::Backend& backend);
  net::Task<Status> reindex_leaves(exec::Backend& backend);
  net::Task<Status> refuse_unfinished();
};

// One of these, by its command tag, on all servers.
net::Task<Status> run_server_ddl(exec::Backends& backends, const catalog::Snapshot& snapshot, const plan::Ddl& ddl,
                                 std::string& notices);

}  // namespace pgmosaic::router
