// One execution of a planned statement, in either protocol: its text, values, and the groups it goes to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/config.h"
#include "exec/backends.h"
#include "exec/keys.h"
#include "plan/plan.h"
#include "sql/shape.h"

namespace pgmosaic::router {

// What one group runs.
struct Split {
  exec::GroupId group;
  std::string sql;
};

struct Execution {
  std::string_view sql;
  sql::Shape shape;  // of sql
  exec::Values values;
  exec::Resolution where;
  // extended protocol:
  const pg::BindMessage* bind = nullptr;
  std::vector<pg::Oid> types;                         // of all parameters
  bool describe = false;                              // send RowDescription all the same (SQL EXECUTE)
  std::vector<std::optional<std::string>> arguments;  // of EXECUTE: what `bind` points into
  // EXECUTE where one group runs it as it is: the name by which that group knows the statement.
  std::string_view prepared_name = {};
  uint32_t prepared_number = 0;
  bool at_moment = false;  // sql has the transaction's moment in it, and PostgreSQL has seen the client's text
  bool extended() const { return bind != nullptr; }
};

// The groups take the client's own text: its portals live there.
bool runs_on_groups(const plan::Plan& plan);
// The router runs it even where it goes to one group.
bool runs_in_parts(const plan::Plan& plan);
exec::Backends::Touch touch_of(const plan::Plan& plan);
Error in_failed_transaction();              // 25P02
bool reaches_rows(const plan::Plan& plan);  // else it has no tables, and any group does
// Answered without asking any group what the statement looks like.
bool needs_no_group(const plan::Plan& plan);
// Notices about a new table's key, where client_min_messages and sharding.key_notices let them through.
void put_key_notices(std::string& out, const plan::Ddl& ddl, const Config& config, const pool::SettingsMap& settings);
// RowDescription of an EXPLAIN with these options.
void put_plan_description(std::string& out, const std::string& explain_prefix);
// Statements that PostgreSQL accepts in an aborted transaction.
bool allowed_in_failed_transaction(const plan::Plan& plan);

}  // namespace pgmosaic::router
