#include "control/wait_graph.h"

#include <gtest/gtest.h>

namespace pgmosaic::control {
namespace {

LockWait wait(catalog::GroupId group, uint32_t waiter, uint32_t holder, std::string gid = {}) {
  LockWait result;
  result.group = group;
  result.waiter = waiter;
  result.holder = holder;
  result.holder_gid = std::move(gid);
  result.since = "then";
  return result;
}

using Cycles = std::vector<std::vector<std::size_t>>;

TEST(WaitGraph, TwoTransactionsOnTwoGroups) {
  const std::vector<Participants> sessions = {{{{1, 10}, {2, 20}}, ""}, {{{1, 11}, {2, 21}}, ""}};
  EXPECT_EQ(find_cycles({wait(1, 10, 11), wait(2, 21, 20)}, sessions), (Cycles{{0, 1}}));
  EXPECT_EQ(find_cycles({wait(1, 10, 11), wait(2, 20, 21)}, sessions), Cycles{});  // the same one waits twice
  EXPECT_EQ(find_cycles({wait(1, 10, 11)}, sessions), Cycles{});
}

TEST(WaitGraph, WhatOneServerFindsItselfIsNone) {
  const std::vector<Participants> sessions = {{{{1, 10}, {2, 20}}, ""}, {{{1, 11}, {2, 21}}, ""}};
  EXPECT_EQ(find_cycles({wait(1, 10, 11), wait(1, 11, 10)}, sessions), Cycles{});
  // … but beside it there may be one over both.
  const Cycles found = find_cycles({wait(1, 10, 11), wait(1, 11, 10), wait(2, 21, 20)}, sessions);
  EXPECT_EQ(found, (Cycles{{0, 2}}));
}

TEST(WaitGraph, TwoBackendsOfASessionOnOneServer) {
  const std::vector<Participants> sessions = {{{{1, 10}, {1, 20}}, ""}, {{{1, 11}, {1, 21}}, ""}};
  EXPECT_EQ(find_cycles({wait(1, 10, 11), wait(1, 21, 20)}, sessions), (Cycles{{0, 1}}));
  EXPECT_EQ(find_cycles({wait(1, 10, 11), wait(1, 11, 10)}, sessions), Cycles{});
}

TEST(WaitGraph, BackendsOfOneGroupMayBeInTheCircle) {
  // 12 is of a transaction of one group alone; 5 of another router.
  const std::vector<Participants> sessions = {{{{1, 10}, {2, 20}}, ""}, {{{1, 11}, {2, 21}}, ""}};
  EXPECT_EQ(find_cycles({wait(2, 21, 20), wait(1, 12, 11), wait(1, 10, 12)}, sessions), (Cycles{{2, 1, 0}}));
  EXPECT_EQ(find_cycles({wait(2, 21, 5), wait(2, 5, 20), wait(1, 10, 11)}, sessions), (Cycles{{2, 0, 1}}));
}

TEST(WaitGraph, PidsOfTwoGroupsAreTwo) {
  const std::vector<Participants> sessions = {{{{1, 10}, {2, 20}}, ""}};
  EXPECT_EQ(find_cycles({wait(1, 10, 11), wait(2, 11, 20)}, sessions), Cycles{});
}

TEST(WaitGraph, APreparedPartHoldsForItsSession) {
  const std::vector<Participants> sessions = {{{{1, 10}, {2, 20}}, "pgmosaic_ab_1_r_7"}, {{{1, 11}, {2, 21}}, ""}};
  const LockWait prepared = wait(2, 21, 0, "pgmosaic_ab_1_r_7_2");
  EXPECT_EQ(find_cycles({wait(1, 10, 11), prepared}, sessions), (Cycles{{0, 1}}));
  EXPECT_EQ(find_cycles({wait(1, 10, 11), wait(2, 21, 0, "foreign")}, sessions), Cycles{});
}

TEST(WaitGraph, TwoCirclesApart) {
  const std::vector<Participants> sessions = {
      {{{1, 10}, {2, 20}}, ""}, {{{1, 11}, {2, 21}}, ""}, {{{1, 12}, {2, 22}}, ""}, {{{1, 13}, {2, 23}}, ""}};
  const auto found =
      find_cycles({wait(1, 10, 11), wait(2, 21, 20), wait(1, 12, 13), wait(2, 23, 22), wait(1, 13, 10)}, sessions);
  EXPECT_EQ(found, (Cycles{{0, 1}, {2, 3}}));
}

TEST(WaitGraph, Conflicts) {
  EXPECT_FALSE(modes_conflict("AccessShareLock", "RowExclusiveLock"));
  EXPECT_TRUE(modes_conflict("AccessShareLock", "AccessExclusiveLock"));
  EXPECT_TRUE(modes_conflict("RowExclusiveLock", "ShareLock"));
  EXPECT_FALSE(modes_conflict("ShareLock", "ShareLock"));
  EXPECT_TRUE(modes_conflict("ShareUpdateExclusiveLock", "ShareUpdateExclusiveLock"));
  EXPECT_TRUE(modes_conflict("ShareRowExclusiveLock", "ShareLock"));
  EXPECT_FALSE(modes_conflict("ExclusiveLock", "AccessShareLock"));
}

}  // namespace
}  // namespace pgmosaic::control
