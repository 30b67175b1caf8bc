#include "exec/untorn.h"

#include <gtest/gtest.h>

namespace pgmosaic::exec {
namespace {

SeenCommits seen(std::string_view answer) {
  auto parsed = parse_seen_commits(answer);
  EXPECT_TRUE(parsed.has_value()) << answer;
  return parsed.value_or(SeenCommits());
}

bool agree(std::string_view one, std::string_view two) {
  const bool forward = agree(1, seen(one), 2, seen(two));
  EXPECT_EQ(agree(2, seen(two), 1, seen(one)), forward);
  return forward;
}

TEST(Untorn, AnswersAreRead) {
  EXPECT_EQ(seen("|"), SeenCommits());
  const SeenCommits two = seen("r1 7 5 2,3;r2 1 0 |2 r1 6 10 -5;3 r2 1 1 9");
  EXPECT_EQ(two.routers.at("r1"), (SeenCommits::Router{7, 5, {2, 3}}));
  EXPECT_EQ(two.routers.at("r2"), (SeenCommits::Router{1, 0, {}}));
  EXPECT_EQ(two.with.at(2).at({"r1", 6}), (SeenCommits::Sum{10, static_cast<uint64_t>(-5)}));
  const SeenCommits sets = seen("|1,2 r 6 10 5;1,2,3 r 6 1 6");
  EXPECT_EQ(sets.with.at(2).at({"r", 6}), (SeenCommits::Sum{11, 3}));
  EXPECT_EQ(sets.with.at(3).at({"r", 6}), (SeenCommits::Sum{1, 6}));
  for (const char* text :
       {"", "r1 7|", "|1,x r 1 1 1", "| r 1 1 1", "r1 x 5 |", "|2 r1", "|x r1 1 1 1", "r1 1 1 x|", "|2 r1 1 1"})
    EXPECT_FALSE(parse_seen_commits(text).has_value()) << text;
}

TEST(Untorn, EqualSetsAgree) {
  EXPECT_TRUE(agree("|", "|"));
  EXPECT_TRUE(agree("|2 r 1 3 77", "|1 r 1 3 77"));
  EXPECT_TRUE(agree("|2 r 1 3 77;3 r 1 9 9", "|1 r 1 3 77"));  // group 3 is not read
}

TEST(Untorn, HalfOfATransactionIsSeen) {
  EXPECT_FALSE(agree("|2 r 1 3 77", "|1 r 1 2 70"));
  EXPECT_FALSE(agree("|2 r 1 1 77", "|"));
  EXPECT_FALSE(agree("|2 r 1 3 77", "|1 r 1 3 78"));
  EXPECT_FALSE(agree("|2 r 1 3 77;2 r 2 1 5", "|1 r 1 3 77"));
  EXPECT_FALSE(agree("|2 r 1 3 77", "|1 q 1 3 77"));
}

TEST(Untorn, TrimmedLabelsNeedTheEpoch) {
  // Group 2 has no rows of label 1 any more. Group 1 still has, and is behind the end of them:
  EXPECT_TRUE(agree("r 1 0 |2 r 1 3 77", "r 1 1 |"));
  // … or may be before, and lack one of them:
  EXPECT_FALSE(agree("|2 r 1 3 77", "r 1 1 |"));
  EXPECT_FALSE(agree("|", "r 1 1 |"));
  EXPECT_TRUE(agree("r 1 1 |", "r 1 1 |"));
  EXPECT_TRUE(agree("r 5 1 |", "r 1 1 |"));
}

TEST(Untorn, KeptLabelsAreCompared) {
  // Label 1 has a transaction in doubt, label 2 is gone.
  EXPECT_TRUE(agree("r 2 2 1|2 r 1 3 77", "r 2 2 1|1 r 1 3 77"));
  EXPECT_FALSE(agree("r 2 2 1|2 r 1 3 77", "r 2 2 1|1 r 1 2 70"));
  // Finished meanwhile, and gone from group 2 first.
  EXPECT_TRUE(agree("r 3 2 1|2 r 1 3 77", "r 3 3 |"));
}

TEST(Untorn, AnAnswersOrderMeansNothing) {
  EXPECT_TRUE(tells_the_same("|", "|"));
  EXPECT_TRUE(tells_the_same("q 1 0 ;r 2 1 1|2,3 r 1 3 77;3 r 1 9 9;2 q 1 1 5",
                             "r 2 1 1;q 1 0 |2 q 1 1 5;2,3 r 1 3 77;3 r 1 9 9"));
  EXPECT_FALSE(tells_the_same("q 1 0 ;r 2 1 |", "r 3 1 ;q 1 0 |"));
  EXPECT_FALSE(tells_the_same("|2 r 1 3 77;3 r 1 9 9", "|3 r 1 9 9;2 r 1 3 78"));
  EXPECT_FALSE(tells_the_same("", "|"));
  EXPECT_FALSE(tells_the_same("x", "y"));
}

TEST(Untorn, RoutersDoNotSpeakForEachOther) {
  EXPECT_FALSE(agree("r 9 0 |", "q 9 1 |"));
  EXPECT_TRUE(agree("r 9 0 ;q 1 0 |2 q 1 1 5", "q 9 1 |"));
}

}  // namespace
}  // namespace pgmosaic::exec
