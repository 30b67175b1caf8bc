// Health: asks every group every few seconds whether it answers. Runs on the server's loop; read by any thread.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "control/cluster.h"
#include "net/loop.h"
#include "pool/server_conn.h"

namespace pgmosaic::router {

struct GroupHealth {
  catalog::GroupId id = 0;
  std::string name;
  bool up = false;
  std::string problem;  // of a group that is not up
};

class Health {
 public:
  Health(net::EventLoop& loop, const std::vector<control::GroupEndpoint>& groups, pool::Credentials internal,
         std::string database);

  // Starts a round unless one is under way; from the server's clock.
  void probe();
  std::vector<GroupHealth> groups() const;
  bool any_up() const;
  std::string group_name(catalog::GroupId id) const;

 private:
  struct Target {
    control::GroupEndpoint endpoint;
    std::unique_ptr<pool::ServerConn> conn;
    bool asking = false;
    int64_t asked_us = 0;
  };
  net::Task<void> ask(std::size_t index);
  net::Task<Status> query(Target& target);
  void note(std::size_t index, const Status& status);

  net::EventLoop& loop_;
  std::vector<Target> targets_;
  pool::Credentials internal_;
  std::string database_;
  mutable std::mutex mutex_;  // states_
  std::vector<GroupHealth> states_;
};

}  // namespace pgmosaic::router
