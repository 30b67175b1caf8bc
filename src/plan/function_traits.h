// What the planner must know about a function that is called: whether several groups may compute it, and what it does
// to the session. Names outside pg_catalog come from the catalog's list; a name in neither place does not exist, and
// PostgreSQL says so.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "catalog/catalog.h"
#include "sql/ast.h"

namespace pgmosaic::plan {

struct FunctionTraits {
  bool user_defined = false;  // outside pg_catalog, and not known to compute the same on every group
  bool aggregate = false;
  bool combinable = false;    // an aggregate that partial results of groups can be combined for, exactly
  bool is_volatile = false;   // two calls may differ
  bool immutable = false;     // known to depend on its arguments alone
  bool home = false;          // state that only the home group has (sequences, advisory locks, NOTIFY, catalogs)
  bool home_only = false;     // … and a call elsewhere would be wrong, not just different
  bool own_of_group = false;  // every server has its own answer (process id, address, transaction id)
  bool reads_tables = false;  // runs SQL given as text
  bool unknown = false;       // only running it tells what it touches: see Plan::guarded
  bool writes = false;
  bool sets_config = false;
  bool pins = false;
  bool not_preparable = false;
  bool taints = false;
  // Not empty: it may touch this, of which the server that runs it has a part only.
  std::string_view touches_shards;
};

// The function of an expression that may touch sharded tables, and what it may touch; nothing: none.
std::optional<Error> touching_shards(const sql::Node* root, const catalog::Database* database);

// The built-in function of that name, and not one of the user's.
bool calls_builtin(const PgQuery__FuncCall* call, const catalog::Database* database);

FunctionTraits function_traits(const PgQuery__FuncCall* call, const catalog::Database* database);

// True if a string in it may mean a time of the server's clock when it is read as one: 'now', 'today', …
bool names_a_moment(const sql::Node* expression);

// True if the expression's value depends on nothing but its columns and parameters: every group computes the same.
// SQL's value functions (CURRENT_TIMESTAMP, CURRENT_USER, …) are not.
bool immutable_expression(const sql::Node* expression, const catalog::Database* database);

}  // namespace pgmosaic::plan
