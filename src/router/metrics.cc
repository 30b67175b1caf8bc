#include "router/metrics.h"

#include <chrono>

#include "router/health.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

WorkerGauges measure(const Worker& worker) {
  WorkerGauges result;
  for (const auto& [key, entry] : worker.pool.entries()) {
    const int idle = static_cast<int>(entry->idle.size());
    result.pools[{entry->user, entry->database, entry->group}] +=
        {entry->total - idle, idle, static_cast<int>(entry->waiters.size())};
  }
  for (const Session* session : worker.sessions) ++result.clients[static_cast<std::size_t>(session->client_state())];
  result.plans = worker.plans.size();
  return result;
}

WorkerGauges published_gauges(const RouterContext& context) {
  WorkerGauges sum;
  for (const auto& worker : context.workers) {
    const WorkerGauges own = worker->gauges();
    for (const auto& [key, use] : own.pools) sum.pools[key] += use;
    for (std::size_t i = 0; i < own.clients.size(); ++i) sum.clients[i] += own.clients[i];
    sum.plans += own.plans;
  }
  return sum;
}

namespace {

struct CounterLine {
  const char* name;
  const char* help;
  std::atomic<uint64_t> WorkerStats::*counter;
};

constexpr CounterLine kCounters[] = {
    {"pgmosaic_statements_total", "Statements and batches run.", &WorkerStats::statements},
    {"pgmosaic_transactions_total", "Explicit and distributed transactions committed.", &WorkerStats::transactions},
    {"pgmosaic_distributed_commits_total", "Transactions committed over several groups.",
     &WorkerStats::distributed_commits},
    {"pgmosaic_multi_group_statements_total", "Statements that went to several groups or were combined.",
     &WorkerStats::multi_group},
    {"pgmosaic_errors_total", "Error responses sent to clients.", &WorkerStats::errors},
    {"pgmosaic_client_bytes_received_total", "Bytes received from clients.", &WorkerStats::bytes_from_clients},
    {"pgmosaic_client_bytes_sent_total", "Bytes sent to clients.", &WorkerStats::bytes_to_clients},
    {"pgmosaic_plan_cache_hits_total", "Statements whose plan was in the shape cache.", &WorkerStats::plan_hits},
    {"pgmosaic_plan_cache_misses_total", "Statements that were planned.", &WorkerStats::plan_misses},
};

void write_pools(MetricsText& text, const PoolUses& pools, const RouterContext& context) {
  struct Gauge {
    const char* name;
    const char* help;
    int PoolUse::*value;
  };
  for (const Gauge& gauge :
       {Gauge{"pgmosaic_pool_backends_in_use", "Backends that work for a client.", &PoolUse::in_use},
        Gauge{"pgmosaic_pool_backends_idle", "Backends that wait for a client.", &PoolUse::idle},
        Gauge{"pgmosaic_pool_waiting_clients", "Clients that wait for a backend.", &PoolUse::waiting}}) {
    text.begin(MetricType::gauge, gauge.name, gauge.help);
    for (const auto& [key, use] : pools) {
      const auto& [user, database, group] = key;
      const std::string name = context.health ? context.health->group_name(group) : std::to_string(group);
      text.value({{"user", user}, {"database", database}, {"group", name}},
                 static_cast<uint64_t>(std::max(use.*gauge.value, 0)));
    }
  }
}

}  // namespace

std::string metrics_text(const RouterContext& context) {
  MetricsText text;
  text.gauge("pgmosaic_uptime_seconds", "Time since the router started.",
             std::chrono::duration<double>(std::chrono::steady_clock::now() - context.started).count());
  for (const CounterLine& line : kCounters) {
    text.begin(MetricType::counter, line.name, line.help);
    for (const auto& worker : context.workers) {
      const std::string index = std::to_string(worker->index);
      text.value({{"worker", index}}, (worker->stats.*line.counter).load(std::memory_order_relaxed));
    }
  }
  text.begin(MetricType::histogram, "pgmosaic_statement_seconds",
             "Time from a statement's arrival to the end of its answer.");
  for (const auto& worker : context.workers) {
    const std::string index = std::to_string(worker->index);
    text.histogram({{"worker", index}}, worker->stats.statement_time.snapshot());
  }
  const WorkerGauges gauges = published_gauges(context);
  text.begin(MetricType::gauge, "pgmosaic_clients", "Client connections by what they do.");
  for (std::size_t i = 0; i < kClientStates; ++i)
    text.value({{"state", client_state_name(static_cast<ClientState>(i))}}, static_cast<uint64_t>(gauges.clients[i]));
  text.gauge("pgmosaic_plan_cache_entries", "Statement shapes in the plan caches of all workers.",
             static_cast<double>(gauges.plans));
  write_pools(text, gauges.pools, context);
  text.begin(MetricType::counter, "pgmosaic_deadlocks_total", "Deadlocks over several groups that were ended.");
  text.value({}, context.deadlocks.load(std::memory_order_relaxed));
  if (context.health) {
    text.begin(MetricType::gauge, "pgmosaic_group_up", "Whether a group's PostgreSQL answers.");
    for (const GroupHealth& group : context.health->groups())
      text.value({{"group", group.name}}, static_cast<uint64_t>(group.up));
  }
  return text.take();
}

}  // namespace pgmosaic::router
