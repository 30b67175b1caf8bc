// The planner: one SQL statement in, one Plan out. Pure: no I/O, no clock, any thread. Read planner.cc first;
// it lists the phases (classify, bind, predicates, rules/) in order.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "plan/plan.h"

namespace pgmosaic::plan {

// Views over sharded tables in a statement.
struct ViewsMet {
  std::vector<catalog::Oid> bound;
  std::vector<catalog::Oid> unread;  // not found in `database`: put their definitions there and plan again
};

// Everything besides the text that a plan depends on. The shape cache's key contains all of it.
struct PlanContext {
  const catalog::Snapshot* snapshot = nullptr;
  const catalog::Database* database = nullptr;
  std::vector<std::string> search_path;  // effective, without pg_catalog; "$user" already replaced
  std::string user;
  bool default_sharded = false;     // default_table_type = 'sharded'
  bool partitions_sharded = false;  // partitioned_table_type = 'sharded'
  uint32_t default_shard_count = 16;
  bool bytewise_default_collation = true;  // database collation compares bytes (C, POSIX, C.UTF-8, ucs_basic)
  // False: by the session's settings (DateStyle, bytea_output, …) the groups write values so that the router cannot
  // compare them as PostgreSQL would.
  bool comparable_output = true;
  // Temporary relations of the session that hide all others of their name where no schema is given. Null: it has none.
  const std::set<std::string, std::less<>>* temporary = nullptr;
  ViewsMet* views = nullptr;
  // Declared parameter types of a prepared statement ($1 first; 0: unspecified).
  std::vector<catalog::Oid> parameter_types;
};

// Splits a simple-query string into statements (byte ranges without the semicolon, blanks trimmed). A syntax error
// is not found here; a string that cannot be tokenised comes back as one statement and PostgreSQL says what is wrong.
std::vector<std::string_view> split_statements(std::string_view sql);

// Plans one statement. A syntax error is an unsupported plan with 42601; the executor lets a PostgreSQL parse the text,
// so that message and position are PostgreSQL's own – except where our dialect's clauses are involved.
// Never fails for reasons of the statement: what cannot be planned is PlanKind::unsupported with an Error.
Plan plan_statement(std::string_view sql, const PlanContext& context);

}  // namespace pgmosaic::plan
