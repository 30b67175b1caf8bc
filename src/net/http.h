// A small HTTP/1.1 server for operators: /metrics, /health, /ready. GET and HEAD only, one request per connection.
//
// Runs on one EventLoop, on whose thread it is started and destroyed and on which the handler is called. A request
// may have kMaxRequestBytes and, with its answer, kTimeLimitMs; there are at most kMaxConnections at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/task.h"

namespace pgmosaic::net {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; version=0.0.4; charset=utf-8";
  std::string body;
};

// The head of a request at the front of `bytes`. status 0: incomplete; 200: `path` (without query) is valid; else what
// to answer.
struct HttpRequest {
  int status = 0;
  bool head = false;  // HEAD: the answer goes without its body
  std::string_view path;
};
HttpRequest parse_http_request(std::string_view bytes);
std::string format_http_response(const HttpResponse& response, bool head);

class HttpServer {
 public:
  static constexpr std::size_t kMaxRequestBytes = 8 * 1024;
  static constexpr std::size_t kMaxConnections = 64;
  static constexpr int kTimeLimitMs = 5000;
  using Handler = std::function<HttpResponse(std::string_view path)>;

  // port 0 picks a free one. Errors as Listener::tcp.
  static Result<std::unique_ptr<HttpServer>> start(EventLoop& loop, const std::string& host, uint16_t port,
                                                   Handler handler, int time_limit_ms = kTimeLimitMs);
  // Ends all connections. Not to be called by the handler.
  ~HttpServer();
  uint16_t port() const { return listener_->port(); }

 private:
  HttpServer(EventLoop& loop, Handler handler, int time_limit_ms)
      : loop_(loop), handler_(std::move(handler)), time_limit_ms_(time_limit_ms) {}
  void accept(int fd);
  Task<void> serve(int fd);
  // What to send; empty: the client is gone.
  Task<std::string> answer(Stream& stream);
  Task<void> drain(Stream& stream);

  EventLoop& loop_;
  Handler handler_;
  int time_limit_ms_;
  std::unique_ptr<Listener> listener_;
  std::set<Stream*> open_;
};

}  // namespace pgmosaic::net
