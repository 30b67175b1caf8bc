#include "pool/server_conn.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "net/loop.h"
#include "pg/message.h"

namespace pgmosaic::pool {
namespace {

std::string message(char type, const std::string& body) {
  std::string out;
  pg::MessageWriter(out, type).bytes(body);
  return out;
}

const std::string kReady = message('Z', "I");
std::string tag(const std::string& text) { return message('C', text + std::string(1, '\0')); }

std::string notice(const std::string& text) {
  return message('N', "SWARNING" + std::string(1, '\0') + "M" + text + std::string(2, '\0'));
}

// A server that answers each message of a client with the next of `answers`; then it closes. One client.
class FakeServer {
 public:
  explicit FakeServer(std::vector<std::string> answers) : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answers = std::move(answers)] {
      const int client = accept(listener_, nullptr, nullptr);
      char buffer[4096];
      for (const std::string& answer : answers) {
        if (read(client, buffer, sizeof buffer) <= 0) break;
        if (write(client, answer.data(), answer.size()) < 0) break;
      }
      (void)!read(client, buffer, sizeof buffer);
      close(client);
    });
  }
  ~FakeServer() {
    thread_.join();
    close(listener_);
  }
  Endpoint endpoint() const {
    Endpoint endpoint;
    endpoint.host = "127.0.0.1";
    endpoint.port = port_;
    return endpoint;
  }

 private:
  int listener_;
  uint16_t port_ = 0;
  std::thread thread_;
};

const std::string kWelcome = message('R', std::string(4, '\0')) + message('K', std::string(8, '\1')) + kReady;

net::Task<Result<std::unique_ptr<ServerConn>>> open(net::EventLoop& loop, const FakeServer& server) {
  return ServerConn::connect(loop, server.endpoint(), {"user", {}, {}}, "database", 10000);
}

// A server says something behind its answer, and closes. What another connection reads meanwhile must not be taken for
// its answer to the next question.
TEST(ServerConn, WhatComesBehindAnAnswerIsKept) {
  const std::string answer = tag("PREPARE TRANSACTION") + kReady;
  FakeServer first({kWelcome, answer + notice("terminating connection due to immediate shutdown command")});
  // Behind a notice as long as that answer, in the same place of the scratch memory, what looks like success.
  FakeServer second({kWelcome, notice(std::string(answer.size() - notice("").size(), 'x')) + tag("COMMIT") + kReady});
  net::EventLoop loop;
  Result<ServerConn::Rows> prepared = ServerConn::Rows(), anchor = ServerConn::Rows(), commit = ServerConn::Rows();
  auto work = [&]() -> net::Task<void> {
    auto one = co_await open(loop, first);
    auto other = co_await open(loop, second);
    if (one.ok() && other.ok()) {
      prepared = co_await (*one)->query("PREPARE TRANSACTION 'x'");
      anchor = co_await (*other)->query("COMMIT");
      commit = co_await (*one)->query("COMMIT PREPARED 'x'");
    }
    loop.stop();
  };
  net::spawn(work());
  loop.run();
  ASSERT_TRUE(prepared.ok() && anchor.ok());
  EXPECT_EQ(prepared->tag, "PREPARE TRANSACTION");
  EXPECT_EQ(anchor->tag, "COMMIT");
  ASSERT_FALSE(commit.ok()) << commit->tag;
  EXPECT_EQ(commit.error().sqlstate, "08006");
}

// Behind BEGIN that fails nothing may run: the connection ends.
TEST(ServerConn, AVitalStatementThatFailsEndsTheConnection) {
  FakeServer server({kWelcome, message('E', "SERROR" + std::string(1, '\0') + "C57014" + std::string(1, '\0') +
                                                "Mcanceled" + std::string(2, '\0'))});
  net::EventLoop loop;
  Result<ServerConn::Rows> rows = ServerConn::Rows();
  bool alive = true;
  auto work = [&]() -> net::Task<void> {
    auto conn = co_await open(loop, server);
    if (conn.ok()) {
      (*conn)->add_vital_statement("BEGIN");
      rows = co_await (*conn)->query("INSERT INTO t VALUES (1)");
      alive = (*conn)->alive();
    }
    loop.stop();
  };
  net::spawn(work());
  loop.run();
  ASSERT_FALSE(rows.ok());
  EXPECT_EQ(rows.error().sqlstate, "57014");
  EXPECT_FALSE(alive);
}

}  // namespace
}  // namespace pgmosaic::pool
