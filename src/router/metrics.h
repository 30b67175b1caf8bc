// What operators see of the router in figures: /metrics, and the counts behind the admin database's views.
#pragma once

#include <array>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/metrics.h"
#include "router/context.h"

namespace pgmosaic::router {

struct PoolUse {
  int in_use = 0, idle = 0, waiting = 0;
  PoolUse& operator+=(const PoolUse& other) {
    in_use += other.in_use, idle += other.idle, waiting += other.waiting;
    return *this;
  }
};
// By user, database, group.
using PoolUses = std::map<std::tuple<std::string, std::string, catalog::GroupId>, PoolUse>;

struct WorkerGauges {
  PoolUses pools;
  std::array<int, kClientStates> clients{};  // by ClientState
  std::size_t plans = 0;
};
// On the worker's thread.
WorkerGauges measure(const Worker& worker);
// The gauges that workers published last (once per second), added up. Any thread.
WorkerGauges published_gauges(const RouterContext& context);

// Prometheus text of the whole router. Any thread.
std::string metrics_text(const RouterContext& context);

}  // namespace pgmosaic::router
