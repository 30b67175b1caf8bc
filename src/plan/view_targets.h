// Views that are written to: PostgreSQL passes it on to the table of the view's query, where that is one table.
#pragma once

#include "plan/bind.h"

namespace pgmosaic::plan {

// The sharded table under a target of Statement::add_target(). Null: it is not one table, or not a sharded one.
const Instance* base_table(const Statement& s, const Instance& view);

// The table's column that a column of the view is. Invalid: an expression.
Var base_of(const Statement& s, Var column);

}  // namespace pgmosaic::plan
