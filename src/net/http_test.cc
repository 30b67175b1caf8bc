#include "net/http.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

namespace pgmosaic::net {
namespace {

constexpr std::size_t kLarge = 20'000'000;  // more than the kernel keeps for one connection

// --- requests ---

TEST(HttpRequest, Paths) {
  EXPECT_EQ(parse_http_request("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").path, "/metrics");
  EXPECT_EQ(parse_http_request("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
  EXPECT_EQ(parse_http_request("\r\nGET / HTTP/1.0\n\n").path, "/");
  EXPECT_EQ(parse_http_request("GET /a?b=c HTTP/1.1\r\nhOSt:\r\nX-Y: z\r\n\r\nbody").path, "/a");
  EXPECT_EQ(parse_http_request("GET http://host:1/a/b HTTP/1.1\r\nHost: x\r\n\r\n").path, "/a/b");
  EXPECT_EQ(parse_http_request("GET http://host HTTP/1.1\r\nHost: x\r\n\r\n").path, "/");
  EXPECT_FALSE(parse_http_request("GET / HTTP/1.0\r\n\r\n").head);
  EXPECT_TRUE(parse_http_request("HEAD / HTTP/1.0\r\n\r\n").head);
}

TEST(HttpRequest, EveryPrefixIsIncomplete) {
  const std::string request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n";
  for (std::size_t size = 0; size < request.size(); ++size)
    EXPECT_EQ(parse_http_request(std::string_view(request).substr(0, size)).status, 0) << size;
}

TEST(HttpRequest, Refused) {
  for (const char* bad :
       {"GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "G@T / HTTP/1.0\r\n\r\n",
        "GET  / HTTP/1.0\r\n\r\n", "GET nopath HTTP/1.0\r\n\r\n", "GET / FTP/1.0\r\n\r\n", "GET * HTTP/1.0\r\n\r\n",
        "\x16\x03\x01\x02\n\n"})
    EXPECT_EQ(parse_http_request(bad).status, 400) << bad;
  EXPECT_EQ(parse_http_request("POST / HTTP/1.1\r\nHost: x\r\n\r\n").status, 405);
  EXPECT_EQ(parse_http_request("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").status, 405);
  EXPECT_EQ(parse_http_request("GET / HTTP/2.0\r\n\r\n").status, 505);
  const std::string long_line(HttpServer::kMaxRequestBytes, 'a');
  EXPECT_EQ(parse_http_request("GET /" + long_line).status, 431);
  EXPECT_EQ(parse_http_request("GET / HTTP/1.1\r\nX: " + long_line).status, 431);
}

TEST(HttpResponse, Format) {
  EXPECT_EQ(format_http_response({404, "text/plain", "gone\n"}, false),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\ngone\n");
  EXPECT_TRUE(format_http_response({200, "text/plain", "gone\n"}, true).ends_with("\r\n\r\n"));
  EXPECT_NE(format_http_response({405, "text/plain", ""}, false).find("Allow: GET, HEAD\r\n"), std::string::npos);
}

// --- the server ---

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override { start(HttpServer::kTimeLimitMs); }
  void TearDown() override { stop(); }

  void start(int time_limit_ms) {
    thread_ = std::thread([this] { loop_->run(); });
    on_loop([this, time_limit_ms] {
      auto handler = [](std::string_view path) -> HttpResponse {
        if (path == "/metrics") return {.body = "a 1\n"};
        if (path == "/large") return {.body = std::string(kLarge, 'x')};
        return {404, "text/plain", "not found\n"};
      };
      auto started = HttpServer::start(*loop_, "127.0.0.1", 0, handler, time_limit_ms);
      ASSERT_TRUE(started.ok());
      server_ = std::move(*started);
    });
  }
  void stop() {
    if (!thread_.joinable()) return;
    on_loop([this] { server_.reset(); });
    loop_->stop();
    thread_.join();
  }
  void restart(int time_limit_ms) {
    stop();
    loop_ = std::make_unique<EventLoop>();
    start(time_limit_ms);
  }
  void on_loop(std::function<void()> work) {
    std::promise<void> done;
    loop_->post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  int open_socket() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval limit{20, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(server_->port());
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static void send_all(int fd, std::string_view data) {
    while (!data.empty()) {
      const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      data.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  static std::string read_all(int fd) {
    std::string all;
    char buffer[65536];
    for (ssize_t got; (got = recv(fd, buffer, sizeof buffer, 0)) > 0;)
      all.append(buffer, static_cast<std::size_t>(got));
    close(fd);
    return all;
  }
  std::string ask(std::string_view request) {
    const int fd = open_socket();
    send_all(fd, request);
    return read_all(fd);
  }

  std::unique_ptr<EventLoop> loop_ = std::make_unique<EventLoop>();
  std::thread thread_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, Answers) {
  const std::string metrics = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(metrics.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")) << metrics;
  EXPECT_TRUE(metrics.ends_with("Connection: close\r\n\r\na 1\n")) << metrics;
  EXPECT_TRUE(ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("Connection: close\r\n\r\n"));
  EXPECT_TRUE(ask("GET /other HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_TRUE(ask("PUT /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_TRUE(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

TEST_F(HttpServerTest, ARequestInPieces) {
  const int fd = open_socket();
  for (char byte : std::string("GET /metrics HTTP/1.0\r\n\r\n")) send_all(fd, {&byte, 1});
  EXPECT_TRUE(read_all(fd).ends_with("\r\n\r\na 1\n"));
}

TEST_F(HttpServerTest, LargeAnswers) {
  const std::string answer = ask("GET /large HTTP/1.0\r\n\r\n");
  EXPECT_NE(answer.find("Content-Length: 20000000\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with(std::string(kLarge, 'x')));
}

TEST_F(HttpServerTest, TooLargeRequestsStillGetTheirAnswer) {
  EXPECT_TRUE(ask("GET /" + std::string(100'000, 'a')).starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(ask("GET / HTTP/1.1\r\nX: " + std::string(50'000, 'a')).starts_with("HTTP/1.1 431 "));
  // a body, though nobody asked for one
  EXPECT_TRUE(ask("GET /metrics HTTP/1.0\r\n\r\n" + std::string(100'000, 'a')).ends_with("a 1\n"));
}

TEST_F(HttpServerTest, SlowClientsAreCutOff) {
  restart(50);
  const int silent = open_socket(), slow = open_socket(), never_closes = open_socket();
  send_all(slow, "GET /metr");
  send_all(never_closes, "GET /metrics HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(read_all(silent).starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(read_all(slow).starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(read_all(never_closes).ends_with("a 1\n"));
  // a client that does not read its answer
  const int deaf = open_socket();
  send_all(deaf, "GET /large HTTP/1.0\r\n\r\n");
  char byte;
  ASSERT_EQ(recv(deaf, &byte, 1, MSG_PEEK), 1);
  const int other = open_socket();
  EXPECT_TRUE(read_all(other).starts_with("HTTP/1.1 408 "));  // its time limit is behind that of the deaf one
  EXPECT_LT(read_all(deaf).size(), kLarge);
}

TEST_F(HttpServerTest, ManyConnections) {
  std::vector<int> open;
  for (std::size_t i = 0; i < HttpServer::kMaxConnections; ++i) open.push_back(open_socket());
  EXPECT_EQ(ask("GET /metrics HTTP/1.0\r\n\r\n"), "");  // one too many: closed
  for (int fd : open) {
    send_all(fd, "GET /metrics HTTP/1.0\r\n\r\n");
    EXPECT_TRUE(read_all(fd).ends_with("a 1\n"));
  }
}

TEST_F(HttpServerTest, StoppingEndsOpenConnections) {
  const int fd = open_socket();
  send_all(fd, "GET /metr");
  const int closed = open_socket();
  close(closed);
  stop();
  EXPECT_FALSE(read_all(fd).ends_with("a 1\n"));
}

}  // namespace
}  // namespace pgmosaic::net
