// Types and collations of expressions, as far as the planner must know them: to merge sorted streams, and to choose
// the formula that gives a combined aggregate exactly the type and value PostgreSQL would. Unknown is a fine answer.
#pragma once

#include "plan/bind.h"

namespace pgmosaic::plan {

// OID of the expression's type, 0 if not known for certain. oid::unknown: a string constant.
catalog::Oid type_of(const Statement& statement, const Level* level, const sql::Node* expression);

enum class Collation : uint8_t {
  none_or_default,  // comparing it anywhere in this database gives the same order
  c,                // COLLATE "C"
  other,            // something the planner cannot name
};
Collation collation_of(const Statement& statement, const Level* level, const sql::Node* expression);
// True if text of this expression is ordered by its bytes.
bool ordered_by_bytes(const Statement& statement, const Level* level, const sql::Node* expression);

// Types whose values the router itself can compare.
bool is_mergeable(const PlanContext& context, catalog::Oid type);

}  // namespace pgmosaic::plan
