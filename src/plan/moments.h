// now() and its kin: one moment for all of a transaction, as on one PostgreSQL. A group's own backend knows the moment
// at which the transaction came to it. So a statement that goes to several groups, or to another group than the first
// of its transaction, is given the moment as a constant (router/moments.cc).
//
// before: SELECT now() - made AS age FROM t
// after:  SELECT '2026-11-21 11:43:21.123456+00'::pg_catalog.timestamptz - made AS age FROM t
#pragma once

#include <string>
#include <string_view>

#include "plan/plan.h"
#include "plan/planner.h"
#include "sql/ast.h"

namespace pgmosaic::plan {

struct Moment {
  std::string transaction,
      statement;  // now() and statement_timestamp(), with their zone, as every DateStyle reads them
};

// now() or one of its kin is called in it.
bool names_moment(const sql::Node* root, const catalog::Database* database);

// Sets Plan::moments and Fill::splits_moments.
void note_moments(Plan& plan, const sql::Node* root, const PlanContext& context);

// The statement with the moment in the place of the calls; the columns of the table that an INSERT leaves to defaults
// of that kind are given, too. Error: a call stands where no constant can.
Result<std::string> at_moment(std::string_view sql, const Moment& moment, const PlanContext& context);

}  // namespace pgmosaic::plan
