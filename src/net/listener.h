// Accepts TCP or Unix-socket connections on one loop and hands the raw sockets to a callback.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/loop.h"

namespace pgmosaic::net {

// The far end of an accepted connection.
struct Peer {
  std::string address;  // "127.0.0.1", "::1"; empty for a Unix socket
  uint16_t port = 0;
  bool local = false;  // Unix socket
};

class Listener final : public EventHandler {
 public:
  using Callback = std::function<void(int fd, Peer peer)>;  // takes ownership of the non-blocking fd

  // port 0 picks a free one. Errors: 55006 (in use), F0000.
  static Result<std::unique_ptr<Listener>> tcp(EventLoop& loop, const std::string& host, uint16_t port,
                                               Callback callback);
  // Listens on DIR/.s.PGSQL.PORT.
  static Result<std::unique_ptr<Listener>> unix_socket(EventLoop& loop, const std::string& dir, uint16_t port,
                                                       Callback callback);
  ~Listener();
  uint16_t port() const { return port_; }
  void on_events(uint32_t events) override;

 private:
  Listener(EventLoop& loop, int fd, Callback callback);
  void pause(int error_number);
  EventLoop& loop_;
  int fd_;
  uint16_t port_ = 0;
  std::string unlink_path_;
  EventLoop::TimerId resume_timer_{};
  bool paused_ = false, complained_ = false;
  Callback callback_;
};

}  // namespace pgmosaic::net
