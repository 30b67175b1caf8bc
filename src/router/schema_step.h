// What a schema change does besides its statement, within its transaction: first on the home, then on the groups.
#pragma once

#include <string>
#include <vector>

#include "exec/backends.h"
#include "net/task.h"

namespace pgmosaic::router {

// It may be tried several times; before() begins anew.
struct SchemaStep {
  virtual ~SchemaStep() = default;
  // Before the home's statement.
  virtual net::Task<Status> before() = 0;
  // Behind it. `texts`: what each of `groups` is to run, to be changed.
  virtual net::Task<Status> begun(const std::vector<exec::Backend*>& groups, std::vector<std::string>& texts) = 0;
  // They have.
  virtual net::Task<Status> done(const std::vector<exec::Backend*>& groups) = 0;
};

}  // namespace pgmosaic::router
