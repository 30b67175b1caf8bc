// A plan as text: golden tests, EXPLAIN, the slow-statement log.
#pragma once

#include <string>

#include "plan/plan.h"

namespace pgmosaic::plan {

// Several lines, each ended by a newline. Literals appear by number (#0 is the first of the statement).
std::string describe_plan(const Plan& plan);
// One line: where the statement goes.
std::string describe_target(const Target& target);

}  // namespace pgmosaic::plan
