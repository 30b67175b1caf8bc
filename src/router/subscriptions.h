// CREATE, ALTER and DROP SUBSCRIPTION outside of a transaction block: the home runs them as they are, most of them
// PostgreSQL would not in a transaction. In a block they are schema changes like others.
//
// Rows must not come to sharded or reference tables, of which the home has no rows, or one copy. CREATE makes the
// subscription disabled, looks at its tables, and enables or drops it. ALTER … REFRESH and SET, ADD and DROP
// PUBLICATION begin to apply as soon as they are done, so their tables are looked at before:
// control::Cluster::check_subscription().
#pragma once

#include <string>
#include <string_view>

#include "exec/backends.h"
#include "exec/control.h"
#include "plan/commands.h"

namespace pgmosaic::router {

struct SubscriptionChange {
  net::EventLoop& loop;
  exec::ClusterControl& control;
  exec::Backend& home;
  const std::string& database;
  const plan::Ddl& ddl;
  std::string notices = {};  // the home's, whole, for the client

  net::Task<Status> run();

 private:
  net::Task<Status> create();
  net::Task<Status> alter();
  net::Task<void> drop(Error& why);
  net::Task<Status> on_home(std::string sql, bool tell = false);
};

}  // namespace pgmosaic::router
