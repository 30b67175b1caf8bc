// Tools of the rules that rewrite a SELECT for several groups. Internal to plan/.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/planning.h"
#include "plan/typing.h"
#include "sql/ast.h"

namespace pgmosaic::plan {

inline constexpr const char* kUnknownCollationHint =
    "Cast the expression to its type, compare with COLLATE \"C\", or pin the tables to one key.";

// The name under which the final step reads the groups' rows; its columns are c1, c2, …
inline constexpr const char* kPartialRelation = "pgmosaic_partial";

// A text equal for expressions that are the same, however their columns are written.
std::string expression_id(const Statement& statement, const Level* level, const sql::Node* expression);

// pgmosaic_partial.c<number>, collated like the expression it came from. nullptr: its collation cannot be named.
sql::Node* partial_column(sql::Arena& arena, int number, Collation collation);
// SELECT over the partial rows, without clauses.
PgQuery__SelectStmt* final_select(sql::Arena& arena);
// Stores both statements in the plan, or forbids several groups when they cannot be written.
void set_combine(Planning& p, const sql::Node* partial, const sql::Node* final_statement, int columns);

// LIMIT and OFFSET as far as they are constants or parameters.
struct Limits {
  bool given = false;
  bool simple = true;  // both are constants, parameters or absent
  bool with_ties = false;
  Gather::Bound limit, offset;
  bool has_limit = false, has_offset = false;
};
Limits read_limits(Planning& p, const PgQuery__SelectStmt* select);
// What each group must return at most: LIMIT + OFFSET. REQUIRES: limits.simple and limits.has_limit
sql::Node* pushed_limit(sql::Arena& arena, const PgQuery__SelectStmt* select, const Limits& limits);

// An ORDER BY item: a result column (by name, position or equality) or an expression beside them.
struct SortItem {
  int column = -1;                    // result column, or -1
  const sql::Node* hidden = nullptr;  // the expression otherwise
  const PgQuery__SortBy* sort = nullptr;
  catalog::Oid type = 0;
  bool mergeable = false;  // the router itself can compare its values
  Collation collation = Collation::none_or_default;
};
// nullopt: some item cannot be resolved (several groups are forbidden then).
std::optional<std::vector<SortItem>> read_sort(Planning& p, Level* level);

// rules/aggregate.cc
void combine_aggregates(Planning& p, Level* top);
// rules/distinct.cc
void combine_distinct(Planning& p, Level* top);
void combine_union(Planning& p, Level* top);

}  // namespace pgmosaic::plan
