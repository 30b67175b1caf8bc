#include <gtest/gtest.h>

#include "pool/pool.h"

namespace pgmosaic::pool {
namespace {

constexpr GroupId kGroup = 1;

struct Shared {
  ConnectionCounter counter;
  PoolLimits limits;
  int woken = 0;
  explicit Shared(int per_group) {
    limits.per_group = per_group;
    counter.wake_all = [this] { ++woken; };
  }
  bool open(const char* user, uint64_t ticket = 0) { return counter.try_open(limits, user, "d", kGroup, ticket); }
  uint64_t wait(const char* user) { return counter.start_waiting(user, "d", kGroup); }
  void leave(const char* user, uint64_t ticket) { counter.stop_waiting(limits, user, "d", kGroup, ticket); }
  bool yields(const char* user, uint64_t ticket) { return counter.shall_yield(limits, user, "d", kGroup, ticket); }
  void close(const char* user) { counter.closed(user, "d", kGroup); }
};

TEST(ConnectionCounter, AFullGroupIsSharedOut) {
  Shared shared(4);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(shared.open("a"));
  const uint64_t own = shared.wait("a");
  EXPECT_FALSE(shared.yields("a", own));
  for (int got = 0; got < 2; ++got) {
    const uint64_t other = shared.wait("b");
    ASSERT_TRUE(shared.yields("a", own));  // though it has waited longer
    shared.close("a");
    EXPECT_FALSE(shared.open("a", own));
    EXPECT_FALSE(shared.open("a"));
    ASSERT_TRUE(shared.open("b", other));
    shared.leave("b", other);
  }
  shared.wait("b");  // two each: nobody gives up any more
  EXPECT_FALSE(shared.yields("a", own));
  EXPECT_FALSE(shared.yields("b", shared.wait("b")));
}

TEST(ConnectionCounter, OneBackendGoesAround) {
  Shared shared(1);
  ASSERT_TRUE(shared.open("a"));
  const uint64_t b = shared.wait("b"), a = shared.wait("a"), c = shared.wait("c");
  ASSERT_TRUE(shared.yields("a", a));
  shared.close("a");
  EXPECT_FALSE(shared.open("a", a));
  EXPECT_FALSE(shared.open("c", c));
  ASSERT_TRUE(shared.open("b", b));
  shared.leave("b", b);
  ASSERT_TRUE(shared.yields("b", shared.wait("b")));
  shared.close("b");
  EXPECT_FALSE(shared.open("c", c));
  ASSERT_TRUE(shared.open("a", a));
}

TEST(ConnectionCounter, WhoGivesUpHoldsNobodyBack) {
  Shared shared(1);
  ASSERT_TRUE(shared.open("a"));
  const uint64_t b = shared.wait("b"), a = shared.wait("a");
  shared.close("a");
  ASSERT_FALSE(shared.open("a", a));
  shared.woken = 0;
  shared.leave("b", b);
  EXPECT_EQ(shared.woken, 1);
  EXPECT_TRUE(shared.open("a", a));
}

TEST(ConnectionCounter, WhoMayNotHaveMoreHoldsNobodyBack) {
  Shared shared(3);
  shared.limits.per_user = 2;
  ASSERT_TRUE(shared.open("b"));
  ASSERT_TRUE(shared.counter.try_open(shared.limits, "b", "d", kGroup + 1));
  shared.wait("b");
  ASSERT_TRUE(shared.open("a"));
  ASSERT_TRUE(shared.open("a"));
  shared.close("a");
  EXPECT_FALSE(shared.yields("a", shared.wait("a")));
  EXPECT_TRUE(shared.open("a"));
}

}  // namespace
}  // namespace pgmosaic::pool
