// Deadlocks over several groups (DESIGN §5): where statements over groups have waited for timeouts.deadlock_ms, the
// groups are asked who waits for whom, twice. Of the waits that were the same both times and go round in a circle
// (control/wait_graph.h), the transaction that began last ends with 40P01.
//
// Only waits that last cost anything: workers count them with their ticks. Belongs to the server's loop.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "control/cluster.h"
#include "control/wait_graph.h"
#include "router/context.h"

namespace pgmosaic::router {

// An error of a victim's statement, as its client sees it: the cancel that ended its wait is a deadlock.
void name_deadlock(Error& error, const Error& deadlock);

class Deadlocks {
 public:
  Deadlocks(net::EventLoop& loop, RouterContext& context, control::Cluster& cluster);

  // Starts a look unless one is under way; from a clock of a few times per second.
  void tick();

 private:
  struct Look {
    std::vector<SessionInfo> sessions;
    std::vector<control::LockWait> waits;
    std::vector<std::vector<std::size_t>> cycles() const;
  };
  net::Task<void> run();
  net::Task<Look> look();
  net::Task<Status> ask(catalog::GroupId server, std::vector<control::LockWait>& waits);
  net::Task<Result<pool::ServerConn::Rows>> question(catalog::GroupId server, std::string sql);
  net::Task<void> end_one(const Look& look, const std::vector<std::size_t>& cycle);
  catalog::GroupId server_of(catalog::GroupId group) const;
  std::string name_of(catalog::GroupId server) const;

  net::EventLoop& loop_;
  RouterContext& context_;
  control::Cluster& cluster_;
  std::map<catalog::GroupId, std::unique_ptr<pool::ServerConn>> connections_;
  bool looking_ = false;
  int64_t last_used_us_ = 0, next_look_us_ = 0;
};

}  // namespace pgmosaic::router
