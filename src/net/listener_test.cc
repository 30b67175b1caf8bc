#include "net/listener.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "net/loop.h"

namespace pgmosaic::net {
namespace {

int64_t cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

// No descriptors left: the listener pauses instead of spinning, and goes on when there are some again.
TEST(Listener, NoDescriptorsLeft) {
  EventLoop loop;
  int accepted = 0;
  auto listener = Listener::tcp(loop, "127.0.0.1", 0, [&](int fd, Peer) {
    close(fd);
    ++accepted;
    loop.stop();
  });
  ASSERT_TRUE(listener.ok());
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons((*listener)->port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::vector<int> hoard;
  rlimit limit{}, low{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  low = limit;
  low.rlim_cur = static_cast<rlim_t>(client) + 32;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (int fd = dup(client); fd >= 0; fd = dup(client)) hoard.push_back(fd);
  ASSERT_EQ(errno, EMFILE);
  ASSERT_EQ(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  loop.start_timer(400'000, [&] { loop.stop(); });
  const int64_t before_us = cpu_us();
  loop.run();
  EXPECT_LT(cpu_us() - before_us, 100'000);
  EXPECT_EQ(accepted, 0);
  for (int fd : hoard) close(fd);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  loop.restart();
  loop.start_timer(30'000'000, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(accepted, 1);
  close(client);
}

}  // namespace
}  // namespace pgmosaic::net
