// What views over sharded tables are made of, from the home: the planner binds their queries (plan/bind_views.cc).
#pragma once

#include <vector>

#include "catalog/catalog.h"
#include "exec/backends.h"
#include "net/task.h"

namespace pgmosaic::router {

// Puts the definitions into `database`. Waits for schema changes of the tables that the views read, as a statement on
// one PostgreSQL would. `home`: the open transaction's own backend of the home, which may hold locks itself; null: one
// of the pool is asked.
net::Task<Status> read_views(exec::Backends& backends, catalog::GroupId home_group, exec::Backend* home,
                             std::shared_ptr<const catalog::Database> database, std::vector<catalog::Oid> views);

}  // namespace pgmosaic::router
