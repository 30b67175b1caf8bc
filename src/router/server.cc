#include "router/server.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <thread>

#include "base/log.h"
#include "control/preflight.h"
#include "control/sites.h"
#include "router/metrics.h"
#include "router/saga_work.h"
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
    while (::read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info))
      callback_(static_cast<int>(info.ssi_signo));
  }

 private:
  net::EventLoop& loop_;
  std::function<void(int)> callback_;
  int fd_;
};

constexpr int64_t kDeadlockTickUs = 200'000;

int worker_count(const Config& config) {
  if (config.workers > 0) return config.workers;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2);
}

}  // namespace

Server::Server(Config config, CommandLine command_line, meta::Store& store, std::vector<control::GroupEndpoint> groups,
               pool::Credentials internal)
    : command_line_(std::move(command_line)),
      cluster_(store, control::with_home(groups), std::move(internal), config.internal.database) {
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
    const auto config = server.context_.config();
    status = co_await control::check_trust_rules(server.loop_, *config, server.cluster_.groups(),
                                                 server.cluster_.internal());
    if (status.ok()) status = co_await server.cluster_.open(server.loop_);
    server.loop_.stop();
  };
  net::spawn(open(*this, result));
  loop_.run();
  loop_.restart();
  if (stop_asked_) return {};
  if (result.ok()) cluster_opened_ = true;
  context_.mock_secret = cluster_.mock_secret();
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
  for (auto& worker : context_.workers) TRY(worker->start());
  cluster_.set_announce([this](net::EventLoop& loop, catalog::SnapshotPtr snapshot) {
    return context_.announce(loop, std::move(snapshot));
  });
  return {};
}

// What the workers may ask of the server, and the watch over the groups.
void Server::connect_services() {
  health_ =
      std::make_unique<Health>(loop_, cluster_.groups(), cluster_.internal(), context_.config()->internal.database);
  context_.health = health_.get();
  deadlocks_ = std::make_unique<Deadlocks>(loop_, context_, cluster_);
  context_.request_reload = [this](std::function<void(Status)> done) {
    loop_.post([this, done = std::move(done)] { start_reload(done); });
  };
  context_.request_shutdown = [this] {
    loop_.post([this] {
      if (!draining_) begin_drain();
    });
  };
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
                                           [this](std::string_view path) { return answer_http(path); }));
  return {};
}

// /health: the process lives and serves. /ready: it can also do something for a new client.
net::HttpResponse Server::answer_http(std::string_view path) const {
  net::HttpResponse response;
  if (path == "/metrics") {
    response.body = metrics_text(context_);
  } else if (path == "/health" || path == "/ready") {
    const bool cut_off = path == "/ready" && !health_->any_up();
    response.status = draining_ || cut_off ? 503 : 200;
    response.body = draining_ ? "draining\n" : cut_off ? "no group answers\n" : "ok\n";
    if (path == "/ready")
      for (const GroupHealth& group : health_->groups())
        response.body += "group " + group.name + (group.up ? " up\n" : " down\n");
  } else {
    response.status = 404;
    response.body = "not found\n";
  }
  return response;
}

Status Server::run(const std::function<void(uint16_t port)>& on_ready, const std::function<void()>& on_tick) {
  signals_ = std::make_unique<SignalHandler>(loop_, [this](int signal) { on_signal(signal); });
  TRY(open_cluster());
  if (stop_asked_) return {};
  connect_services();
  TRY(start_workers());
  TRY(listen());
  TRY(start_metrics());
  on_ready(port_);
  tick(on_tick);
  watch_deadlocks();
  loop_.run();
  return {};
}

void Server::on_signal(int signal) {
  if (signal == SIGHUP) {
    start_reload([](const Status&) {});
  } else if (!cluster_opened_ || draining_) {
    stop_asked_ = true;
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
            if (target->sessions.contains(session))
              session->terminate("57P01", "terminating connection due to administrator command");
        });
      }
      if (loop_.now_us() > drain_deadline_us_ + 5'000'000) loop_.stop();
    }
  }
  health_->probe();
  tend_sagas(context_, loop_.now_us());
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

void Server::watch_deadlocks() {
  deadlocks_->tick();
  loop_.start_timer(kDeadlockTickUs, [this] { watch_deadlocks(); });
}

void Server::start_reload(std::function<void(Status)> done) {
  auto drive = [](Server& server, std::function<void(Status)> then) -> net::Task<void> {
    Status status = co_await server.reload();
    if (!status.ok()) log_error("router", "configuration not reloaded: {}", status.error().message);
    then(std::move(status));
  };
  net::spawn(drive(*this, std::move(done)));
}

net::Task<Status> Server::reload() {
  auto loaded = load_config(command_line_);
  if (!loaded.ok()) co_return std::move(loaded.error());
  const auto before = context_.config();
  if (loaded->auth != before->auth)
    CO_TRY(co_await control::check_trust_rules(loop_, *loaded, cluster_.groups(), cluster_.internal()));
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
  co_return Status{};
}

}  // namespace pgmosaic::router
