#include "control/trim_round.h"

#include <gtest/gtest.h>

namespace pgmosaic::control {
namespace {

// Labels 1 (groups 1 and 2) and 2 (groups 2 and 3) are finished, label 3 is not.
CommitLabels::Round three_labels(CommitLabels& labels) {
  labels.begin("a", "db", {1, 2});
  labels.end("a");
  labels.close();
  labels.begin("b", "db", {2, 3});
  labels.end("b");
  labels.close();
  labels.begin("c", "db", {1, 2});
  return labels.close();
}

std::set<uint64_t> left(CommitLabels& labels) {
  std::set<uint64_t> numbers;
  CommitLabels::Round round = labels.close();
  for (const auto& [label, groups] : round.databases["db"].finished) numbers.insert(label);
  return numbers;
}

bool keeps(const TrimRound& round, const char* labels) {
  return round.remove_sql(7).find("label <> ALL ('{" + std::string(labels) + "}'::bigint[])") != std::string::npos;
}

class TrimRoundTest : public testing::Test {
 protected:
  CommitLabels labels;
  CommitLabels::Round now = three_labels(labels);
  TrimRound round = TrimRound("r", now.epoch, now.databases["db"]);
};

TEST_F(TrimRoundTest, AllGroupsAnswer) {
  EXPECT_NE(round.epoch_sql().find("VALUES ('r', 3)"), std::string::npos);
  EXPECT_TRUE(keeps(round, "3"));
  round.forget("db", labels);
  EXPECT_EQ(left(labels), std::set<uint64_t>());
}

TEST_F(TrimRoundTest, RowsStayWhereAGroupOfTheirTransactionsHasNoEpoch) {
  round.untold(1);
  EXPECT_TRUE(keeps(round, "1,3"));
  round.forget("db", labels);
  EXPECT_EQ(left(labels), (std::set<uint64_t>{1, 2}));
}

TEST_F(TrimRoundTest, ThereIsAnotherRoundForAGroupWithoutRows) {
  round.untold(4);
  EXPECT_TRUE(keeps(round, "3"));
  round.forget("db", labels);
  EXPECT_EQ(left(labels), (std::set<uint64_t>{1, 2}));
}

TEST_F(TrimRoundTest, WhatMayStillHaveRowsIsNotForgotten) {
  round.failed(3);
  round.forget("db", labels);
  EXPECT_EQ(left(labels), std::set<uint64_t>{2});
}

TEST_F(TrimRoundTest, WhatComesLateTakesNothingBack) {
  EXPECT_NE(round.remove_sql(7).find("SET trimmed = 3, kept = '{3}' WHERE router = 'r' AND trimmed < 3)"),
            std::string::npos)
      << round.remove_sql(7);
}

}  // namespace
}  // namespace pgmosaic::control
