// CREATE DATABASE, DROP DATABASE and ALTER DATABASE … RENAME on all groups. They cannot run in a transaction, but what
// was interrupted can be repeated: the home's word says whether a database exists.
#pragma once

#include <string>
#include <vector>

#include "exec/backends.h"
#include "plan/commands.h"

namespace pgmosaic::router {

class Worker;
struct SessionInfo;

struct DatabaseChange {
  Worker& worker;
  const plan::Ddl& ddl;
  exec::Backend& home;
  const std::vector<exec::Backend*>& others;
  const std::string& session_database;
  const bool &cancelled, &client_gone;  // of the session, which may change meanwhile
  std::string notices = {};             // the home's, whole, for the client

  // On the home last; taken back where a group fails. Errors are PostgreSQL's.
  net::Task<Status> create();
  // Nothing is dropped while anybody uses the database on any group (55006); then on the home first.
  net::Task<Status> drop();
  // The home's errors are PostgreSQL's. Taken back where a group fails; what is interrupted the next start finishes.
  net::Task<Status> rename();

 private:
  net::Task<Status> run(exec::Backend& backend, std::string sql);
  net::Task<Status> try_rename();
  net::Task<Status> rename_everywhere();
  net::Task<Status> wait_until_unused(exec::Backend& backend);
  net::Task<Result<bool>> end_sessions();
  net::Task<Result<bool>> may_force(const std::vector<SessionInfo>& clients);
};

}  // namespace pgmosaic::router
