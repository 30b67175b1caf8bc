#include "router/server.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <thread>

#include "base/log.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

class SignalHandler final : public net::EventHandler {
 public:
  SignalHandler(net::EventLoop& loop, std::function<void(int)> callback) : loop_(loop), callback_(std::move(callback)) {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    loop_.add(fd_, this, EPOLLIN);
  }
  ~SignalHandler() {
    loop_.remove(fd_, this);
    ::close(fd_);
  }
  void on_events(uint32_t) override {
    signalfd_siginfo info;
    while (::read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) callback_(static_cast<int>(info.ssi_signo));
  }

 private:
  net::EventLoop& loop_;
  std::function<void(int)> callback_;
  int fd_;
};

int worker_count(const Config& config) {
  if (config.workers > 0) return config.workers;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2);
}

}  // namespace

Server::Server(Config config, CommandLine command_line, meta::Store& store, std::vector<control::GroupEndpoint> groups,
               pool::Credentials internal)
    : command_line_(std::move(command_line)),
      cluster_(store, std::move(groups), std::move(internal), config.internal.database) {
  context_.current_config = std::make_shared<const Config>(std::move(config));
  context_.commit = &cluster_;
  context_.control = &cluster_;
  context_.server_name = cluster_.router_name();
  signal(SIGPIPE, SIG_IGN);
}

Server::~Server() {
  listeners_.clear();
  http_.reset();
  for (auto& worker : context_.workers) worker->loop.stop();
  for (auto& worker : context_.workers) worker->join();
}

Status Server::open_cluster() {
  Status result;
  auto open = [](Server& server, Status& status) -> net::Task<void> {
    status = co_await server.cluster_.open(server.loop_);
    server.loop_.stop();
  };
  net::spawn(open(*this, result));
  loop_.run();
  loop_.restart();
  if (result.ok()) cluster_opened_ = true;
  return result;
}

Status Server::start_workers() {
  const auto config = context_.config();
  if (config->tls.mode != TlsMode::off) {
    TRY_ASSIGN(context_.tls, net::TlsContext::server(config->tls.cert_file, config->tls.key_file, config->tls.ca_file));
  }
  context_.connections.wake_all = [this] {
    for (auto& worker : context_.workers) {
      Worker* target = worker.get();
      target->loop.post([target] {
        target->pool.yield_idle();
        target->pool.retry_waiters();
      });
    }
  };
  for (int i = 0; i < worker_count(*config); ++i) {
    auto worker = std::make_unique<Worker>(context_, i);
    worker->apply_config(config);
    worker->snapshot = cluster_.snapshot();
    for (const auto& group : cluster_.groups()) worker->pool.set_endpoint(group.group.id, group.endpoint);
    worker->pool.set_credentials(cluster_.internal());
    context_.workers.push_back(std::move(worker));
  }
  for (auto& worker : context_.workers) worker->start();
  cluster_.set_announce([this](net::EventLoop& loop, catalog::SnapshotPtr snapshot) { return context_.announce(loop, std::move(snapshot)); });
  return {};
}

Status Server::listen() {
  const auto config = context_.config();
  auto accept = [this](int fd, net::Peer peer) {
    if (draining_) {
      ::close(fd);
      return;
    }
    // The worker with the fewest clients would need their counters; turns are as good for long-lived connections.
    context_.workers[next_worker_++ % context_.workers.size()]->accept(fd, std::move(peer));
  };
  port_ = static_cast<uint16_t>(config->port);
  for (const std::string& host : config->listen) {
    TRY_ASSIGN(auto listener, net::Listener::tcp(loop_, host, port_, accept));
    port_ = listener->port();
    listeners_.push_back(std::move(listener));
  }
  if (!config->unix_socket_dir.empty()) {
    TRY_ASSIGN(auto listener, net::Listener::unix_socket(loop_, config->unix_socket_dir, port_, accept));
    listeners_.push_back(std::move(listener));
  }
  return {};
}

Status Server::start_metrics() {
  const auto config = context_.config();
  if (config->metrics.port == 0) return {};
  TRY_ASSIGN(http_, net::HttpServer::start(loop_, config->metrics.listen, static_cast<uint16_t>(config->metrics.port),
                                           [this](std::string_view path) {
                                             net::HttpResponse response;
                                             if (path == "/metrics") {
                                               response.body = metrics_text(context_);
                                             } else if (path == "/health" || path == "/ready") {
                                               response.status = draining_ ? 503 : 200;
                                               response.body = draining_ ? "draining\n" : "ok\n";
                                             } else {
                                               response.status = 404;
                                               response.body = "not found\n";
                                             }
                                             return response;
                                           }));
  return {};
}

Status Server::run(const std::function<void(uint16_t port)>& on_ready, const std::function<void()>& on_tick) {
  signals_ = std::make_unique<SignalHandler>(loop_, [this](int signal) { on_signal(signal); });
  TRY(open_cluster());
  TRY(start_workers());
  TRY(listen());
  TRY(start_metrics());
  on_ready(port_);
  tick(on_tick);
  loop_.run();
  return {};
}

void Server::on_signal(int signal) {
  if (signal == SIGHUP) {
    reload();
  } else if (!cluster_opened_ || draining_) {
    loop_.stop();
  } else {
    begin_drain();
  }
}

// No new clients; who is between transactions goes now, the others when theirs ends or the time is up.
void Server::begin_drain() {
  draining_ = true;
  context_.draining = true;
  listeners_.clear();
  drain_deadline_us_ = loop_.now_us() + int64_t{context_.config()->timeouts.shutdown_ms} * 1000;
  log_info("router", "stopping: {} clients", context_.clients.load());
  for (auto& worker : context_.workers) {
    Worker* target = worker.get();
    target->loop.post([target] {
      const std::vector<Session*> all(target->sessions.begin(), target->sessions.end());
      for (Session* session : all)
        if (target->sessions.contains(session)) session->close_when_idle();
    });
  }
}

void Server::tick(const std::function<void()>& on_tick) {
  if (on_tick) on_tick();
  if (draining_) {
    if (context_.clients.load() == 0) {
      loop_.stop();
      return;
    }
    if (loop_.now_us() > drain_deadline_us_) {
      for (auto& worker : context_.workers) {
        Worker* target = worker.get();
        target->loop.post([target] {
          const std::vector<Session*> all(target->sessions.begin(), target->sessions.end());
          for (Session* session : all)
            if (target->sessions.contains(session)) session->terminate("57P01", "terminating connection due to administrator command");
        });
      }
      if (loop_.now_us() > drain_deadline_us_ + 5'000'000) loop_.stop();
    }
  }
  if (!tending_) {
    tending_ = true;
    auto tend = [](Server& server) -> net::Task<void> {
      co_await server.cluster_.tend(server.loop_);
      server.tending_ = false;
    };
    net::spawn(tend(*this));
  }
  loop_.start_timer(draining_ ? 50'000 : 1'000'000, [this, &on_tick] { tick(on_tick); });
}

void Server::reload() {
  auto loaded = load_config(command_line_);
  if (!loaded.ok()) {
    log_error("router", "configuration not reloaded: {}", loaded.error().message);
    return;
  }
  const auto before = context_.config();
  for (const SettingChange& change : changed_settings(*before, *loaded))
    log_info("router", "setting {} = {} (was {}){}", change.name, change.new_value, change.old_value,
             change.needs_restart ? ": takes effect at the next start" : "");
  auto next = std::make_shared<const Config>(apply_reload(*before, *loaded));
  {
    std::lock_guard lock(context_.config_mutex);
    context_.current_config = next;
  }
  log_level = next->log.level;
  for (auto& worker : context_.workers) {
    Worker* target = worker.get();
    target->loop.post([target, next] { target->apply_config(next); });
  }
}

std::string metrics_text(RouterContext& context) {
  std::string text;
  auto total = [&](const char* name, const char* help, std::atomic<uint64_t> WorkerStats::*counter) {
    uint64_t sum = 0;
    for (auto& worker : context.workers) sum += (worker->stats.*counter).load(std::memory_order_relaxed);
    text += fmt::format("# HELP {0} {1}\n# TYPE {0} counter\n{0} {2}\n", name, help, sum);
  };
  total("pgmosaic_statements_total", "Statements and batches run.", &WorkerStats::statements);
  total("pgmosaic_transactions_total", "Explicit and distributed transactions committed.", &WorkerStats::transactions);
  total("pgmosaic_errors_total", "Error responses sent to clients.", &WorkerStats::errors);
  total("pgmosaic_multi_group_statements_total", "Statements that went to several groups or were combined.", &WorkerStats::multi_group);
  total("pgmosaic_client_bytes_received_total", "Bytes received from clients.", &WorkerStats::bytes_from_clients);
  total("pgmosaic_client_bytes_sent_total", "Bytes sent to clients.", &WorkerStats::bytes_to_clients);
  total("pgmosaic_statement_microseconds_total", "Time spent in statements.", &WorkerStats::statement_us);
  total("pgmosaic_plan_cache_hits_total", "Statements whose plan was in the shape cache.", &WorkerStats::plan_hits);
  total("pgmosaic_plan_cache_misses_total", "Statements that were planned.", &WorkerStats::plan_misses);
  text += fmt::format("# HELP pgmosaic_clients Client connections.\n# TYPE pgmosaic_clients gauge\npgmosaic_clients {}\n", context.clients.load());
  return text;
}

}  // namespace pgmosaic::router
