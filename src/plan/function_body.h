// What a user's function does, read from its text: which of the cluster's tables it may touch, and what it may leave
// behind in the session. The server that runs a function sees its own rows only, so a function that touches sharded
// tables cannot simply be called.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "catalog/catalog.h"

namespace pgmosaic::plan {

struct FunctionText {
  std::string name;      // without its schema
  std::string language;  // "sql", "plpgsql", "c", …
  std::string body;      // as in pg_proc.prosrc, or the SQL-standard body
  char volatility = 'v';
  bool aggregate = false;
  bool used = false;       // other objects call it
  std::string calls_also;  // of an aggregate: its functions' names, separated by blanks
  bool unseen = false;     // operators, casts, types and their like call it
};

// Functions that a schema's objects call where they would see a part of the rows only. `triggers`: table and function;
// 0: an event trigger's. A change that brings one more is refused; what was there before the router came is not.
std::vector<Error> misplaced_functions(const catalog::Database& database,
                                       const std::vector<std::pair<catalog::Oid, std::string>>& triggers);

// `database`: its tables are known. Words of the body are compared with names of tables and functions, so a variable
// that is called like a table counts as the table: what may be wrong is refused, never the other way round. Functions
// of one name are taken together.
std::map<std::string, catalog::UserFunction, std::less<>> read_functions(const std::vector<FunctionText>& functions,
                                                                         const catalog::Database& database);

// The same for one that is just being made: a trigger function, before any table has it.
catalog::UserFunction read_function(const FunctionText& function, const catalog::Database& database);

// The rows of which tables a block of PL/pgSQL may read or write: a table behind FROM, INTO and the like, or SQL given
// as text. Empty: none, it changes the schema at most.
std::string rows_in_block(const std::string& block, const catalog::Database& database);

}  // namespace pgmosaic::plan
