// PREPARE and EXECUTE as SQL statements, and what else names a prepared statement: EXPLAIN EXECUTE, CREATE TABLE … AS
// EXECUTE. Prepared statements share the names of the extended protocol's.
#pragma once

#include "router/execution.h"
#include "router/session.h"

namespace pgmosaic::router {

// Of one statement, on its session's thread.
class PreparedSql {
 public:
  explicit PreparedSql(Session& session) : s_(session) {}

  net::Task<Status> prepare(const plan::SessionCommand& command, std::string_view sql);
  net::Task<Status> execute(const plan::SessionCommand& command, std::string_view sql);

  // The statement that EXECUTE names, planned under the session's context.
  net::Task<Result<PreparedPtr>> named(const plan::SessionCommand& command);
  // Types of its parameters. Error: there are not as many arguments.
  net::Task<Result<std::vector<pg::Oid>>> types(const plan::SessionCommand& command, Prepared& statement);
  // One execution with the arguments of `sql`, EXECUTE …. `bind` is what execution.bind points to afterwards; both stay
  // where they are.
  net::Task<Status> bind(const plan::SessionCommand& command, std::string_view sql, Prepared& statement,
                         Execution& execution, pg::BindMessage& bind);
  // Parses a named statement on a backend that does not have it, and waits for the answer.
  net::Task<Status> ready_on(exec::Backend& backend, uint32_t number, std::string_view name, std::string_view sql,
                             const std::vector<pg::Oid>& types);

 private:
  Error in_prepare(Error error, const Prepared& statement);
  net::Task<Status> argument_values(const plan::SessionCommand& command, std::string_view sql,
                                    const std::vector<pg::Oid>& types, std::vector<std::optional<std::string>>& values);
  Session& s_;
};

}  // namespace pgmosaic::router
