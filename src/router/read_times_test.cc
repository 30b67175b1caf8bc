#include "router/read_times.h"

#include <gtest/gtest.h>

namespace pgmosaic::router {
namespace {

using std::chrono::milliseconds;

TEST(ReadTimes, AnUnknownShapeTakesLong) { EXPECT_GE(ReadTimes().of(1), std::chrono::seconds(1)); }

TEST(ReadTimes, TheLastOnesCountMost) {
  ReadTimes times;
  times.note(1, milliseconds(100));
  EXPECT_EQ(times.of(1), milliseconds(100));
  times.note(1, milliseconds(200));
  EXPECT_EQ(times.of(1), milliseconds(125));
  for (int i = 0; i < 50; ++i) times.note(1, milliseconds(200));
  EXPECT_GT(times.of(1), milliseconds(199));
  EXPECT_GE(times.of(2), std::chrono::seconds(1));
}

TEST(ReadTimes, DoesNotGrowForEver) {
  ReadTimes times;
  times.note(0, milliseconds(1));
  for (uint64_t shape = 1; shape <= 10'000; ++shape) times.note(shape, milliseconds(1));
  EXPECT_GE(times.of(0), std::chrono::seconds(1));
  EXPECT_EQ(times.of(10'000), milliseconds(1));
}

}  // namespace
}  // namespace pgmosaic::router
