#include "exec/copy_lines.h"

#include <gtest/gtest.h>

namespace pgmosaic::exec {
namespace {

TEST(CopyLines, EveryLineOfManyRows) {
  CopyLines log;
  log.start_behind(2);
  struct Line {
    uint64_t group, client;
  };
  std::vector<Line> expected = {{1, 1}, {2, 2}};
  uint64_t client = 2, group = 2;
  for (uint64_t i = 0; i < 20'000; ++i) {
    const uint64_t lines = i % 11 == 0 ? 1 + i % 3 : 1;
    client += i % 97 == 0 ? 300 * i : i % 5;
    client += lines;
    if (i % 301 == 0) client -= 200;  // was undecided
    log.add(client, lines);
    log.sent(10);
    for (uint64_t line = lines; line-- > 0;) expected.push_back({++group, client - line});
  }
  EXPECT_EQ(log.group_lines(), group);
  for (const Line& line : expected) ASSERT_EQ(log.client_line(line.group), line.client) << line.group;
  EXPECT_EQ(log.client_line(group + 1), std::nullopt);
}

TEST(CopyLines, ForgetsWhatTheGroupHasLongWorkedOff) {
  CopyLines log;
  const uint64_t rows = CopyLines::kBytesInFlight / 100 * 3;
  for (uint64_t row = 1; row <= rows; ++row) {
    log.add(row * 4, 1);
    log.sent(100);
  }
  EXPECT_EQ(log.client_line(1), std::nullopt);
  EXPECT_EQ(log.client_line(rows / 3), std::nullopt);
  for (uint64_t row = rows - CopyLines::kBytesInFlight / 100; row <= rows; ++row)
    ASSERT_EQ(log.client_line(row), row * 4);
}

TEST(CopyLines, ForgetsWhatWouldTakeTooMuchMemory) {
  CopyLines log;
  const uint64_t rows = 2 * CopyLines::kMostBlocks * CopyLines::kBlockBytes;
  for (uint64_t row = 1; row <= rows; ++row) log.add(row * 4, 1);
  EXPECT_EQ(log.client_line(rows / 3), std::nullopt);
  EXPECT_EQ(log.client_line(rows / 4 * 3), rows * 3);
}

TEST(CopyLines, NothingButAHeader) {
  CopyLines log;
  EXPECT_EQ(log.client_line(1), std::nullopt);
  log.start_behind(3);
  EXPECT_EQ(log.client_line(3), 3u);
  EXPECT_EQ(log.client_line(4), std::nullopt);
}

}  // namespace
}  // namespace pgmosaic::exec
