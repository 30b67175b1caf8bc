#include "router/worker.h"

#include <pthread.h>
#include <unistd.h>

#include <cstring>

#include "base/log.h"
#include "router/session.h"
#include "sql/parse.h"

namespace pgmosaic::router {

namespace {

constexpr int64_t kTickUs = 200'000;
constexpr int kTicksPerSweep = 5;
constexpr std::size_t kMaxStatementIds = 100'000;  // texts remembered; then numbering goes on and the table starts anew

}  // namespace

Worker::Worker(RouterContext& router, int number)
    : context(router), index(number), pool(loop, router.connections, settings) {}

Worker::~Worker() { join(); }

Status Worker::start() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, sql::kPlannerStack);
  pthread_t thread{};
  auto work = [](void* self) -> void* {
    auto& worker = *static_cast<Worker*>(self);
    worker.schedule_tick();
    worker.loop.run();
    return nullptr;
  };
  const int failed = pthread_create(&thread, &attributes, work, this);
  pthread_attr_destroy(&attributes);
  if (failed != 0)
    return make_error("53200", std::string("cannot start a worker thread: ") + std::strerror(failed),
                      "Each reserves 512 MB of address space for its stack: set workers lower, or allow more.");
  thread_ = thread;
  return {};
}

void Worker::join() {
  if (thread_) pthread_join(*std::exchange(thread_, std::nullopt), nullptr);
}

void Worker::apply_config(std::shared_ptr<const Config> changed) {
  config = std::move(changed);
  pool::PoolLimits limits;
  limits.per_group = config->pool.size_per_group;
  limits.per_user = config->pool.size_per_user;
  limits.per_database = config->pool.size_per_database;
  limits.max_waiting = config->pool.max_waiting;
  limits.wait_timeout_ms = config->pool.wait_timeout_ms;
  limits.idle_timeout_ms = config->pool.idle_timeout_ms;
  limits.lifetime_ms = config->pool.lifetime_ms;
  limits.connect_timeout_ms = config->pool.connect_timeout_ms;
  limits.unlimited_user = config->internal.user;
  pool.set_limits(limits);
}

void Worker::accept(int fd, net::Peer peer) {
  // Far beyond the limit there is not even an answer: each would cost a login's memory and time.
  if (context.clients.load() >= config->max_client_connections + 200) {
    ::close(fd);
    return;
  }
  loop.post([this, fd, peer = std::move(peer)]() mutable {
    if (!peer.local)
      net::set_socket_options(
          fd, {config->tcp_keepalive.idle_s, config->tcp_keepalive.interval_s, config->tcp_keepalive.count});
    begin(new Session(*this, fd, std::move(peer)));
  });
}

void Worker::begin(Session* session) {
  sessions.insert(session);
  context.clients.fetch_add(1);
  net::spawn(session->run());
}

Session* Worker::open_inner(int fd, bool trusted) {
  auto* session = new Session(*this, fd, {.local = true});
  session->serve_router(trusted);
  begin(session);
  return session;
}

void Worker::session_ended(Session* session) {
  sessions.erase(session);
  context.clients.fetch_sub(1);
  // Its coroutine is still on the stack: destroy it in the next round.
  loop.post([session] { delete session; });
}

// Plans and numbers of statements belong to one epoch: nobody will find those of the last one again.
void Worker::adopt(const catalog::SnapshotPtr& changed) {
  if (snapshot != nullptr && snapshot->epoch >= changed->epoch) return;
  snapshot = changed;
  plan_settings.clear();
  forget_plans();
  statement_ids_.clear();
}

uint32_t Worker::statement_id(const std::string& sql, const std::vector<uint32_t>& types, uint64_t epoch) {
  std::string key = std::to_string(epoch);
  for (uint32_t type : types) key += ',' + std::to_string(type);
  key += ';' + sql;
  if (statement_ids_.size() > kMaxStatementIds) statement_ids_.clear();
  auto [it, inserted] = statement_ids_.try_emplace(std::move(key), 0);
  if (inserted) it->second = next_statement_id_++;
  return it->second;
}

WorkerGauges Worker::gauges() const {
  std::lock_guard lock(gauges_mutex_);
  return gauges_;
}

void Worker::schedule_tick() {
  loop.start_timer(kTickUs, [this] {
    const int64_t now_us = loop.now_us();
    // A tick may end sessions.
    const std::vector<Session*> all(sessions.begin(), sessions.end());
    int waits = 0;
    const int64_t patience_us = int64_t{config->timeouts.deadlock_ms} * 1000;
    for (Session* session : all) {
      if (!sessions.contains(session)) continue;
      if (patience_us > 0 && session->spans_groups(now_us, patience_us)) ++waits;
      session->tick(now_us);
    }
    long_waits.store(waits, std::memory_order_relaxed);
    if (++ticks_ % kTicksPerSweep == 0) {
      pool.sweep();
      WorkerGauges now = measure(*this);
      std::lock_guard lock(gauges_mutex_);
      gauges_ = std::move(now);
    }
    schedule_tick();
  });
}

}  // namespace pgmosaic::router
