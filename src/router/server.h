// Server: the router as a whole. Opens the cluster, starts workers and listeners, handles signals, drains.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/config.h"
#include "control/cluster.h"
#include "meta/store.h"
#include "net/http.h"
#include "net/listener.h"
#include "net/loop.h"
#include "router/context.h"
#include "router/deadlocks.h"
#include "router/health.h"

namespace pgmosaic::router {

class Server {
 public:
  Server(Config config, CommandLine command_line, meta::Store& store, std::vector<control::GroupEndpoint> groups,
         pool::Credentials internal);
  ~Server();

  // Runs until a signal or request_stop(). `on_ready` is called with the port once clients may connect; `on_tick`
  // once per second on the main loop (supervision of servers).
  Status run(const std::function<void(uint16_t port)>& on_ready, const std::function<void()>& on_tick);

  // Reads the configuration file again. An error leaves everything as it is.
  net::Task<Status> reload();

 private:
  Status open_cluster();
  void connect_services();
  Status start_workers();
  Status listen();
  Status start_metrics();
  void install_signals();
  void on_signal(int signal);
  void begin_drain();
  void start_reload(std::function<void(Status)> done);
  net::HttpResponse answer_http(std::string_view path) const;
  void tick(const std::function<void()>& on_tick);
  void watch_deadlocks();

  net::EventLoop loop_;
  RouterContext context_;
  CommandLine command_line_;
  control::Cluster cluster_;
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  std::unique_ptr<net::HttpServer> http_;
  std::unique_ptr<net::EventHandler> signals_;
  std::unique_ptr<Health> health_;
  std::size_t next_worker_ = 0;
  uint16_t port_ = 0;
  bool draining_ = false, cluster_opened_ = false, stop_asked_ = false;
  int64_t drain_deadline_us_ = 0;
  bool tending_ = false;
  std::unique_ptr<Deadlocks> deadlocks_;
};

}  // namespace pgmosaic::router
