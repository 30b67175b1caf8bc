// CREATE ROLE taken apart: the bare role, and what gives it its attributes and memberships (router/new_roles.h).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace pgmosaic::plan {

struct RoleSteps {
  std::string name;
  std::string attributes;  // ALTER ROLE and GRANT, separated by semicolons; may be empty
};

// REQUIRES: `sql` is one CREATE ROLE, CREATE USER or CREATE GROUP.
Result<RoleSteps> role_in_steps(std::string_view sql);

}  // namespace pgmosaic::plan
