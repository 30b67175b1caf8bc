#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "net/listener.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/task.h"
#include "net/tls.h"
#include "net/tls_test_certificate.h"

namespace pgmosaic::net {
namespace {

Task<void> stop_behind(EventLoop& loop, Task<void> task) {
  co_await task;
  loop.stop();
}

// Runs the loop on this thread until the task has ended. A loop runs once.
void run(EventLoop& loop, Task<void> task) {
  bool late = false;
  loop.start_timer(30'000'000, [&] {
    late = true;
    loop.stop();
  });
  spawn(stop_behind(loop, std::move(task)));
  loop.run();
  EXPECT_FALSE(late) << "the task did not end";
}

struct SocketPair {
  int fds[2];
  SocketPair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0); }
};

// Reads until `size` bytes are there or the stream ends.
Task<std::string> read_some(Stream& stream, std::size_t size) {
  std::string all;
  while (all.size() < size) {
    char buffer[4096];
    const IoResult result = stream.read(buffer, std::min(sizeof buffer, size - all.size()));
    if (result.kind == IoResult::Kind::ok) {
      all.append(buffer, result.bytes);
    } else if (result.kind != IoResult::Kind::would_block) {
      break;
    } else if (co_await stream.readable() == WaitStatus::interrupted) {
      break;
    }
  }
  co_return all;
}

// --- tasks ---

Task<int> one() { co_return 1; }
Task<int> sum_of_ones(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await one();
  co_return sum;
}
Task<int> nested(int depth) {
  if (depth == 0) co_return 0;
  const int below = co_await nested(depth - 1);
  co_return below + 1;
}
Task<void> store(Task<int> task, int& out) { out = co_await task; }

constexpr int kManyAwaits = 1'000'000;

TEST(Task, ReturnsValuesAndDoesNotGrowTheStack) {
  int result = 0;
  spawn(store(sum_of_ones(kManyAwaits), result));
  EXPECT_EQ(result, kManyAwaits);
  spawn(store(nested(1000), result));
  EXPECT_EQ(result, 1000);
}

TEST(Task, StartsLazily) {
  int result = 0;
  { Task<void> never = store(one(), result); }
  EXPECT_EQ(result, 0);
}

Task<void> wait_for(Signal& signal, int& count) {
  for (;;) {
    co_await signal;
    if (++count == 3) co_return;
  }
}

TEST(Task, SignalComesBeforeOrBehindTheWait) {
  Signal signal;
  int count = 0;
  signal.notify();
  spawn(wait_for(signal, count));
  EXPECT_EQ(count, 1);
  signal.notify();
  EXPECT_EQ(count, 2);
  signal.notify();
  EXPECT_EQ(count, 3);
}

Task<void> wait_for(Latch& latch, bool& open) {
  co_await latch;
  open = true;
}

TEST(Task, LatchWaitsForAll) {
  Latch latch(2);
  bool open = false;
  spawn(wait_for(latch, open));
  latch.done();
  EXPECT_FALSE(open);
  latch.done();
  EXPECT_TRUE(open);
}

// --- loop ---

TEST(EventLoop, TimersRunInOrder) {
  EventLoop loop;
  std::string order;
  loop.start_timer(30'000, [&] { loop.stop(); });
  loop.start_timer(20'000, [&] { order += 'c'; });
  const auto cancelled = loop.start_timer(15'000, [&] { order += 'x'; });
  loop.start_timer(10'000, [&] {
    order += 'b';
    loop.cancel_timer(cancelled);
  });
  loop.start_timer(-5, [&] { order += 'a'; });
  loop.run();
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, PostsOfOneThreadStayInOrder) {
  EventLoop loop;
  constexpr int kPosts = 20'000;
  std::vector<int> seen[2];
  int ended = 0;
  auto post_all = [&](int number) {
    for (int i = 0; i < kPosts; ++i) loop.post([&seen, number, i] { seen[number].push_back(i); });
    loop.post([&] {
      if (++ended == 2) loop.stop();
    });
  };
  std::thread first(post_all, 0), second(post_all, 1);
  loop.run();
  first.join();
  second.join();
  for (const auto& numbers : seen) {
    ASSERT_EQ(numbers.size(), std::size_t{kPosts});
    for (int i = 0; i < kPosts; ++i) ASSERT_EQ(numbers[static_cast<std::size_t>(i)], i);
  }
}

TEST(EventLoop, StopFromAnotherThread) {
  EventLoop loop;
  std::thread stopper([&] { loop.stop(); });
  loop.run();
  stopper.join();
}

// Whoever comes first takes the other out of the loop.
struct Rival : EventHandler {
  EventLoop* loop = nullptr;
  Rival* other = nullptr;
  int fd = -1, calls = 0;
  void on_events(uint32_t) override {
    ++calls;
    loop->remove(other->fd, other);
    loop->remove(fd, this);
    loop->stop();
  }
};

TEST(EventLoop, ARemovedHandlerIsNotCalledInTheSameRound) {
  EventLoop loop;
  SocketPair a, b;
  Rival first, second;
  first.loop = second.loop = &loop;
  first.other = &second;
  second.other = &first;
  first.fd = a.fds[0];
  second.fd = b.fds[0];
  for (Rival* rival : {&first, &second}) loop.add(rival->fd, rival, EPOLLIN);
  for (int fd : {a.fds[1], b.fds[1]}) ASSERT_EQ(write(fd, "x", 1), 1);
  loop.run();
  EXPECT_EQ(first.calls + second.calls, 1);
  for (int fd : {a.fds[0], a.fds[1], b.fds[0], b.fds[1]}) close(fd);
}

Task<void> sleep_twice(EventLoop& loop, int64_t& slept_us) {
  const int64_t begin = loop.now_us();
  co_await loop.sleep(2000);
  co_await loop.sleep(3000);
  slept_us = loop.now_us() - begin;
}

TEST(EventLoop, Sleep) {
  EventLoop loop;
  int64_t slept_us = 0;
  run(loop, sleep_twice(loop, slept_us));
  EXPECT_GE(slept_us, 5000);
}

// --- streams ---

Task<void> send_and_close(EventLoop& loop, int fd, std::string_view data, Latch& latch) {
  {
    Stream stream(loop, fd);
    const bool sent = co_await stream.write_all(data);
    EXPECT_TRUE(sent);
  }
  latch.done();
}

Task<void> receive_slowly(EventLoop& loop, int fd, std::string& out, Latch& latch) {
  {
    Stream stream(loop, fd);
    for (;;) {
      const std::string part = co_await read_some(stream, 100'000);
      out += part;
      if (part.size() < 100'000) break;
      co_await loop.sleep(100);
    }
    EXPECT_TRUE(stream.hung_up());
  }
  latch.done();
}

Task<void> transfer(EventLoop& loop, const SocketPair& pair, std::string_view data, std::string& out) {
  Latch latch(2);
  spawn(send_and_close(loop, pair.fds[0], data, latch));
  spawn(receive_slowly(loop, pair.fds[1], out, latch));
  co_await latch;
}

TEST(Stream, MovesMuchDataToASlowReader) {
  EventLoop loop;
  SocketPair pair;
  std::string data, received;
  for (int i = 0; data.size() < 5'000'000; ++i) data += std::to_string(i);
  run(loop, transfer(loop, pair, data, received));
  EXPECT_TRUE(received == data);
}

Task<void> wait_readable(Stream& stream, std::vector<WaitStatus>& seen, int times) {
  for (int i = 0; i < times; ++i) seen.push_back(co_await stream.readable());
}

TEST(Stream, InterruptWakesTheWaiterOrTheNextWait) {
  EventLoop loop;
  SocketPair pair;
  Stream stream(loop, pair.fds[0]);
  std::vector<WaitStatus> seen;
  spawn(wait_readable(stream, seen, 3));
  EXPECT_EQ(seen.size(), 0u);
  stream.interrupt();
  EXPECT_EQ(seen, std::vector<WaitStatus>{WaitStatus::interrupted});
  stream.interrupt();
  stream.interrupt();
  EXPECT_EQ(seen.size(), 3u);
  stream.interrupt();  // nobody waits: kept for the next
  stream.interrupt();
  seen.clear();
  spawn(wait_readable(stream, seen, 1));
  EXPECT_EQ(seen, std::vector<WaitStatus>{WaitStatus::interrupted});
  EXPECT_FALSE(stream.take_interrupt());
  close(pair.fds[1]);
}

TEST(Stream, ClosingItWakesReaderAndWriter) {
  EventLoop loop;
  SocketPair pair;
  Stream stream(loop, pair.fds[0]);
  std::string much(1 << 20, 'x');
  while (stream.write(much).kind == IoResult::Kind::ok) continue;
  int ended = 0;
  auto ends = [](Task<bool> writing, int& count) -> Task<void> {
    const bool sent = co_await writing;
    EXPECT_FALSE(sent);
    ++count;
  };
  auto reads = [](Stream& from, int& count) -> Task<void> {
    const std::string nothing = co_await read_some(from, 1);
    EXPECT_EQ(nothing, "");
    ++count;
  };
  spawn(ends(stream.write_all("y"), ended));
  spawn(reads(stream, ended));
  EXPECT_EQ(ended, 0);
  stream.close();
  EXPECT_EQ(ended, 2);
  EXPECT_FALSE(stream.open());
  char byte;
  EXPECT_EQ(stream.read(&byte, 1).kind, IoResult::Kind::closed);
  EXPECT_EQ(stream.write("x").kind, IoResult::Kind::closed);
  close(pair.fds[1]);
}

TEST(Stream, HangUpHookRunsWhileNobodyWaits) {
  EventLoop loop;
  SocketPair pair;
  Stream stream(loop, pair.fds[0]);
  stream.on_hangup([](void* context) { static_cast<EventLoop*>(context)->stop(); }, &loop);
  ASSERT_EQ(write(pair.fds[1], "abc", 3), 3);
  close(pair.fds[1]);
  loop.run();
  EXPECT_TRUE(stream.hung_up());
  // what was sent before is still there
  char buffer[8];
  const IoResult result = stream.read(buffer, sizeof buffer);
  EXPECT_EQ(result.kind, IoResult::Kind::ok);
  EXPECT_EQ(result.bytes, 3u);
  EXPECT_TRUE(stream.can_read());
  EXPECT_EQ(stream.read(buffer, sizeof buffer).kind, IoResult::Kind::closed);
}

TEST(Stream, WritingToAPeerThatLeftFails) {
  EventLoop loop;
  SocketPair pair;
  Stream stream(loop, pair.fds[0]);
  close(pair.fds[1]);
  EXPECT_EQ(stream.write("x").kind, IoResult::Kind::failed);  // and no SIGPIPE
  EXPECT_NE(stream.error(), "");
  EXPECT_TRUE(stream.hung_up());
}

Task<void> wait_for_either(Stream& a, Stream& b, std::string& order) {
  while (order.size() < 2) {
    WaitSet set;
    set.read(a);
    set.read(b);
    const WaitStatus status = co_await set;
    EXPECT_EQ(status, WaitStatus::ready);
    char bytes[2];  // more room than bytes: the read empties the socket
    for (Stream* stream : {&a, &b})
      if (stream->can_read() && stream->read(bytes, 2).kind == IoResult::Kind::ok) order += bytes[0];
  }
  WaitSet set;
  set.read(a);
  set.read(b);
  const WaitStatus status = co_await set;
  order += status == WaitStatus::interrupted ? 'i' : 'r';
}

TEST(Stream, WaitSetWakesForAnyOfItsStreams) {
  EventLoop loop;
  SocketPair first, second;
  Stream a(loop, first.fds[0]), b(loop, second.fds[0]);
  std::string order;
  loop.start_timer(1000, [&] { ASSERT_EQ(write(second.fds[1], "b", 1), 1); });
  loop.start_timer(10'000, [&] { ASSERT_EQ(write(first.fds[1], "a", 1), 1); });
  loop.start_timer(20'000, [&] { b.interrupt(); });
  run(loop, wait_for_either(a, b, order));
  EXPECT_EQ(order, "bai");
  close(first.fds[1]);
  close(second.fds[1]);
}

// --- listener and connect ---

struct Accepted {
  EventLoop& loop;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<Peer> peers;
  Listener::Callback callback() {
    return [this](int fd, Peer peer) {
      streams.push_back(std::make_unique<Stream>(loop, fd));
      peers.push_back(std::move(peer));
      streams.back()->write("hello");
    };
  }
};

Task<void> connect_to(EventLoop& loop, std::string host, uint16_t port, std::string& greeting, Error& error) {
  auto stream = co_await connect(loop, host, port, 5000);
  if (!stream.ok()) {
    error = stream.error();
    co_return;
  }
  greeting = co_await read_some(**stream, 5);
}

TEST(Listener, Tcp) {
  for (const std::string host : {"127.0.0.1", "localhost", "::1"}) {
    EventLoop loop;
    Accepted accepted{loop, {}, {}};
    auto listener = Listener::tcp(loop, host, 0, accepted.callback());
    ASSERT_TRUE(listener.ok()) << listener.error().message;
    ASSERT_NE((*listener)->port(), 0);
    std::string greeting;
    Error error;
    run(loop, connect_to(loop, host, (*listener)->port(), greeting, error));
    EXPECT_EQ(greeting, "hello") << error.message;
    ASSERT_EQ(accepted.peers.size(), 1u);
    EXPECT_FALSE(accepted.peers[0].local);
    EXPECT_EQ(accepted.peers[0].address, host == "::1" ? "::1" : accepted.peers[0].address);
    EXPECT_NE(accepted.peers[0].port, 0);
  }
}

TEST(Listener, PortInUse) {
  EventLoop loop;
  auto first = Listener::tcp(loop, "127.0.0.1", 0, [](int fd, Peer) { close(fd); });
  ASSERT_TRUE(first.ok());
  auto second = Listener::tcp(loop, "127.0.0.1", (*first)->port(), [](int fd, Peer) { close(fd); });
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().sqlstate, "55006");
  EXPECT_FALSE(Listener::tcp(loop, "256.0.0.1", 0, [](int fd, Peer) { close(fd); }).ok());
}

struct TemporaryDirectory {
  std::string path = (std::filesystem::temp_directory_path() / "pgmosaic-net-XXXXXX").string();
  TemporaryDirectory() { EXPECT_NE(mkdtemp(path.data()), nullptr); }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
};

TEST(Listener, UnixSocket) {
  TemporaryDirectory directory;
  const std::string file = directory.path + "/.s.PGSQL.5432";
  {
    EventLoop loop;
    // left over from a process that died
    { std::unique_ptr<FILE, int (*)(FILE*)> stale(fopen(file.c_str(), "w"), fclose); }
    Accepted accepted{loop, {}, {}};
    auto listener = Listener::unix_socket(loop, directory.path, 5432, accepted.callback());
    ASSERT_TRUE(listener.ok()) << listener.error().message;
    auto second = Listener::unix_socket(loop, directory.path, 5432, accepted.callback());
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().sqlstate, "55006");
    std::string greeting;
    Error error;
    run(loop, connect_to(loop, directory.path, 5432, greeting, error));
    EXPECT_EQ(greeting, "hello") << error.message;
    ASSERT_FALSE(accepted.peers.empty());
    EXPECT_TRUE(accepted.peers.back().local);
    EXPECT_EQ(accepted.peers.back().address, "");
  }
  EXPECT_FALSE(std::filesystem::exists(file));
  EventLoop loop;
  EXPECT_FALSE(Listener::unix_socket(loop, directory.path + std::string(120, 'x'), 5432, {}).ok());
}

TEST(Connect, Refused) {
  uint16_t port = 0;
  {
    EventLoop loop;
    port = (*Listener::tcp(loop, "127.0.0.1", 0, [](int fd, Peer) { close(fd); }))->port();
  }
  TemporaryDirectory directory;
  for (const std::string& host : {std::string("127.0.0.1"), directory.path, std::string("no-such-host.invalid")}) {
    EventLoop loop;
    std::string greeting;
    Error error;
    run(loop, connect_to(loop, host, port, greeting, error));
    EXPECT_EQ(error.sqlstate, "08001");
    EXPECT_NE(error.message.find(host + " port " + std::to_string(port)), std::string::npos) << error.message;
  }
}

// --- TLS ---

Task<void> tls_echo(Stream& stream, TlsContext& context, std::size_t size, Status& status, std::string& binding) {
  status = co_await stream.start_tls(context, true);
  if (!status.ok()) {
    stream.close();
    co_return;
  }
  binding = stream.channel_binding();
  const std::string data = co_await read_some(stream, size);
  co_await stream.write_all(data);
}

struct TlsOutcome {
  Status server, client;
  std::string server_binding, client_binding;
  std::string received;
};

Task<void> tls_talk(EventLoop& loop, const SocketPair& pair, TlsContext& server_context, TlsContext& client_context,
                    std::string server_name, std::string_view data, TlsOutcome& outcome) {
  Stream server(loop, pair.fds[0]), client(loop, pair.fds[1]);
  spawn(tls_echo(server, server_context, data.size(), outcome.server, outcome.server_binding));
  outcome.client = co_await client.start_tls(client_context, false, server_name);
  if (!outcome.client.ok()) {
    client.close();
    co_await loop.sleep(1000);
    co_return;
  }
  outcome.client_binding = client.channel_binding();
  EXPECT_TRUE(client.tls());
  const bool sent = co_await client.write_all(data);
  EXPECT_TRUE(sent);
  outcome.received = co_await read_some(client, data.size());
}

class Tls : public ::testing::Test {
 protected:
  TlsOutcome talk(const std::string& ca_file, const std::string& server_name, std::string_view data = "x") {
    auto server = TlsContext::server(certificate_.cert_file(), certificate_.key_file(), "");
    auto client = TlsContext::client(ca_file);
    EXPECT_TRUE(server.ok() && client.ok());
    EventLoop loop;
    SocketPair pair;
    TlsOutcome outcome;
    run(loop, tls_talk(loop, pair, **server, **client, server_name, data, outcome));
    return outcome;
  }
  TestCertificate certificate_{"db.example"};
};

TEST_F(Tls, MovesMuchDataBothWays) {
  std::string data;
  for (int i = 0; data.size() < 150'000; ++i) data += std::to_string(i);
  const TlsOutcome outcome = talk("", "", data);
  EXPECT_TRUE(outcome.server.ok() && outcome.client.ok());
  EXPECT_TRUE(outcome.received == data);
  EXPECT_EQ(outcome.client_binding.size(), 32u);  // SHA-256
  EXPECT_EQ(outcome.client_binding, outcome.server_binding);
}

TEST_F(Tls, VerifiesCertificateAndName) {
  EXPECT_TRUE(talk(certificate_.cert_file(), "db.example").client.ok());
  EXPECT_FALSE(talk(certificate_.cert_file(), "other.example").client.ok());
  EXPECT_FALSE(talk(certificate_.cert_file(), "127.0.0.1").client.ok());
  TestCertificate stranger{"db.example"};
  const TlsOutcome outcome = talk(stranger.cert_file(), "db.example");
  ASSERT_FALSE(outcome.client.ok());
  EXPECT_EQ(outcome.client.error().sqlstate, "08000");
  EXPECT_NE(outcome.client.error().message.find("certificate verify failed"), std::string::npos);
}

TEST_F(Tls, FilesThatDoNotFit) {
  TestCertificate other{"db.example"};
  auto mixed = TlsContext::server(certificate_.cert_file(), other.key_file(), "");
  ASSERT_FALSE(mixed.ok());
  EXPECT_EQ(mixed.error().sqlstate, "F0000");
  EXPECT_FALSE(TlsContext::server("/nonexistent", other.key_file(), "").ok());
  EXPECT_FALSE(TlsContext::server(other.cert_file(), other.key_file(), "/nonexistent").ok());
  EXPECT_FALSE(TlsContext::client(other.key_file()).ok());
}

Task<void> handshake_with_garbage(EventLoop& loop, const SocketPair& pair, TlsContext& context, Status& status) {
  Stream server(loop, pair.fds[0]);
  status = co_await server.start_tls(context, true);
}

TEST_F(Tls, GarbageAndHangUpsEndTheHandshake) {
  auto context = TlsContext::server(certificate_.cert_file(), certificate_.key_file(), "");
  for (const std::string sent : {"GET / HTTP/1.1\r\n\r\n", ""}) {
    EventLoop loop;
    SocketPair pair;
    ASSERT_EQ(write(pair.fds[1], sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
    shutdown(pair.fds[1], SHUT_WR);
    Status status;
    run(loop, handshake_with_garbage(loop, pair, **context, status));
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().sqlstate, "08000");
    close(pair.fds[1]);
  }
}

}  // namespace
}  // namespace pgmosaic::net
