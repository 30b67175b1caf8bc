#include "net/http.h"

#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace pgmosaic::net {

namespace {

constexpr std::size_t kMaxDrainedBytes = 256 * 1024;

const char* reason_of(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Status";
  }
}

// Cuts the first line off, without its line end. False: there is no complete line.
bool take_line(std::string_view& bytes, std::string_view& line) {
  const std::size_t end = bytes.find('\n');
  if (end == std::string_view::npos) return false;
  line = bytes.substr(0, end);
  bytes.remove_prefix(end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return true;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool equals_ignoring_case(std::string_view left, std::string_view right) {
  return left.size() == right.size() && strncasecmp(left.data(), right.data(), left.size()) == 0;
}

// METHOD SP target SP HTTP/1.x. Sets status to 200 or to what is wrong.
void parse_request_line(std::string_view line, HttpRequest& request, bool& needs_host) {
  const std::size_t first = line.find(' '), last = line.rfind(' ');
  request.status = 400;
  if (first == std::string_view::npos || first == last) return;
  const std::string_view method = line.substr(0, first), version = line.substr(last + 1);
  std::string_view target = line.substr(first + 1, last - first - 1);
  if (!is_token(method) || target.find_first_of(" \t") != std::string_view::npos) return;
  if (version.size() != 8 || !version.starts_with("HTTP/") || version[6] != '.') return;
  if (version[5] != '1') {
    request.status = 505;
    return;
  }
  needs_host = version[7] != '0';
  if (target.starts_with("http://")) {  // as a proxy gets it
    target.remove_prefix(7);
    const std::size_t slash = target.find('/');
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  if (!target.starts_with('/') && target != "*") return;
  request.head = method == "HEAD";
  request.status = method == "GET" || request.head ? 200 : 405;
  if (request.status == 200 && target == "*") request.status = 400;
  request.path = target.substr(0, target.find_first_of("?#"));
}

}  // namespace

HttpRequest parse_http_request(std::string_view bytes) {
  HttpRequest request;
  std::string_view rest = bytes, line;
  do {  // empty lines in front of a request are allowed
    if (!take_line(rest, line)) {
      request.status = bytes.size() >= HttpServer::kMaxRequestBytes ? 431 : 0;
      return request;
    }
  } while (line.empty());
  bool needs_host = false, has_host = false;
  parse_request_line(line, request, needs_host);
  const int status = request.status;
  while (take_line(rest, line)) {
    if (static_cast<std::size_t>(rest.data() - bytes.data()) > HttpServer::kMaxRequestBytes) break;
    if (line.empty()) {
      if (needs_host && !has_host && status == 200) request.status = 400;
      return request;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
      request.status = 400;
      return request;
    }
    if (equals_ignoring_case(line.substr(0, colon), "host")) {
      if (has_host) request.status = 400;
      if (has_host) return request;
      has_host = true;
    }
  }
  request.status = bytes.size() >= HttpServer::kMaxRequestBytes ? 431 : 0;
  return request;
}

std::string format_http_response(const HttpResponse& response, bool head) {
  std::string text = "HTTP/1.1 " + std::to_string(response.status) + " " + reason_of(response.status) + "\r\n";
  text += "Content-Type: " + response.content_type + "\r\n";
  text += "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
  if (response.status == 405) text += "Allow: GET, HEAD\r\n";
  text += "Cache-Control: no-store\r\nConnection: close\r\n\r\n";
  if (!head) text += response.body;
  return text;
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(EventLoop& loop, const std::string& host, uint16_t port,
                                                      Handler handler, int time_limit_ms) {
  std::unique_ptr<HttpServer> server(new HttpServer(loop, std::move(handler), time_limit_ms));
  HttpServer* raw = server.get();
  TRY_ASSIGN(server->listener_, Listener::tcp(loop, host, port, [raw](int fd, Peer) { raw->accept(fd); }));
  return server;
}

HttpServer::~HttpServer() {
  listener_.reset();
  const std::set<Stream*> open = open_;
  for (Stream* stream : open) stream->interrupt();  // its coroutine ends at once
  CHECK(open_.empty());
}

void HttpServer::accept(int fd) {
  if (open_.size() >= kMaxConnections) {
    ::close(fd);
    return;
  }
  spawn(serve(fd));
}

Task<void> HttpServer::serve(int fd) {
  Stream stream(loop_, fd);
  open_.insert(&stream);
  Stream* raw = &stream;
  const EventLoop::TimerId timer = loop_.start_timer(int64_t{time_limit_ms_} * 1000, [raw] { raw->interrupt(); });
  const std::string text = co_await answer(stream);
  bool sent = false;
  if (!text.empty()) sent = co_await stream.write_all(text);
  if (sent) co_await drain(stream);
  loop_.cancel_timer(timer);
  open_.erase(raw);
}

// Closing over unread bytes would reset the connection and may take the answer with it: wait for the client to close.
Task<void> HttpServer::drain(Stream& stream) {
  shutdown(stream.fd(), SHUT_WR);
  for (std::size_t drained = 0; drained < kMaxDrainedBytes;) {
    const IoResult result = stream.read(loop_.scratch(), EventLoop::kScratchSize);
    if (result.kind == IoResult::Kind::ok) {
      drained += result.bytes;
    } else if (result.kind == IoResult::Kind::would_block) {
      if (co_await stream.readable() == WaitStatus::interrupted) co_return;
    } else {
      co_return;
    }
  }
}

Task<std::string> HttpServer::answer(Stream& stream) {
  std::string received;
  HttpRequest request;
  while (request.status == 0) {
    const std::size_t room = std::max<std::size_t>(kMaxRequestBytes - received.size(), 1);
    const IoResult result = stream.read(loop_.scratch(), room);
    if (result.kind == IoResult::Kind::ok) {
      received.append(loop_.scratch(), result.bytes);
      request = parse_http_request(received);
    } else if (result.kind == IoResult::Kind::would_block) {
      if (co_await stream.readable() == WaitStatus::interrupted) {
        const HttpResponse late{408, "text/plain; charset=utf-8", "request timeout\n"};
        stream.write(format_http_response(late, false));
        co_return std::string();
      }
    } else {
      co_return std::string();
    }
  }
  if (request.status == 200) co_return format_http_response(handler_(request.path), request.head);
  std::string body = reason_of(request.status);
  body += '\n';
  co_return format_http_response({request.status, "text/plain; charset=utf-8", std::move(body)}, request.head);
}

}  // namespace pgmosaic::net
