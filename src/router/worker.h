// Worker: one thread with its event loop, sessions, backend pool and plan caches. Workers share nothing but the
// RouterContext.
#pragma once

#include <pthread.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/metrics.h"
#include "catalog/catalog.h"
#include "net/listener.h"
#include "net/loop.h"
#include "plan/plan.h"
#include "pool/pool.h"
#include "router/context.h"
#include "router/extended.h"
#include "router/metrics.h"
#include "router/plan_settings.h"
#include "router/read_times.h"
#include "router/shape_cache.h"
#include "sql/shape.h"

namespace pgmosaic::router {

// Counters of one worker; written by its thread, read by any (relaxed).
struct WorkerStats {
  std::atomic<uint64_t> statements{0}, transactions{0}, distributed_commits{0}, errors{0};
  std::atomic<uint64_t> bytes_from_clients{0}, bytes_to_clients{0}, multi_group{0};
  std::atomic<uint64_t> plan_hits{0}, plan_misses{0};
  LatencyHistogram statement_time;
  static void add(std::atomic<uint64_t>& counter, uint64_t amount = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
};

// What a (user, database, startup settings) gets at login, learnt from a real backend.
struct Greeting {
  std::string parameter_status;  // messages
};

class Worker {
 public:
  Worker(RouterContext& context, int index);
  ~Worker();

  Status start();  // starts the thread
  void join();
  void accept(int fd, net::Peer peer);  // any thread
  // A session whose client is this router; on the worker's thread.
  Session* open_inner(int fd, bool trusted);
  WorkerGauges gauges() const;  // any thread; as of the last second

  // The members below belong to the worker's thread.
  RouterContext& context;
  const int index;
  net::EventLoop loop;
  pool::SettingsRegistry settings;
  pool::Pool pool;
  sql::Shape shape;  // of the statement at hand; not kept over suspensions
  ShapeCache plans;
  ReadTimes read_times;
  catalog::SnapshotPtr snapshot;
  std::shared_ptr<const Config> config;
  WorkerStats stats;
  std::atomic<int> long_waits{0};  // statements over groups that run for timeouts.deadlock_ms; as of the last tick
  std::unordered_set<Session*> sessions;
  std::unordered_map<std::string, Greeting> greetings;
  std::unordered_map<std::string, PlanSettingsPtr> plan_settings;

  // Number of a prepared statement's text on this worker's backends ("pgm_<n>").
  uint32_t statement_id(const std::string& sql, const std::vector<uint32_t>& types, uint64_t epoch);
  uint32_t new_statement_id() { return next_statement_id_++; }
  // Unnamed statements of any session, by hash of text, types and context: parsed again and again they stay one.
  std::unordered_map<uint64_t, PreparedPtr> unnamed_statements;
  uint64_t next_unnamed_serial = 1;
  uint32_t refused_leaves = 0;  // times a full backend had no room for a leaf's statement
  // Forgets what was planned; statements prepared on leaves get new names.
  void forget_plans() {
    plans.clear();
    unnamed_statements.clear();
  }
  void session_ended(Session* session);
  void apply_config(std::shared_ptr<const Config> config);
  void adopt(const catalog::SnapshotPtr& changed);  // the catalog, unless it has a newer one
  void forget_greetings() {
    greetings.clear();
    plan_settings.clear();
  }

 private:
  void begin(Session* session);
  void schedule_tick();
  std::optional<pthread_t> thread_;
  std::unordered_map<std::string, uint32_t> statement_ids_;
  uint32_t next_statement_id_ = 1;
  int ticks_ = 0;
  mutable std::mutex gauges_mutex_;
  WorkerGauges gauges_;
};

}  // namespace pgmosaic::router
