#include "control/commit_labels.h"

#include <gtest/gtest.h>

namespace pgmosaic::control {
namespace {

using Groups = std::set<uint32_t>;

TEST(CommitLabels, ALabelIsClosedByTheNextRound) {
  CommitLabels labels;
  EXPECT_EQ(labels.begin("a", "db", {1, 2}), 1u);
  EXPECT_EQ(labels.begin("b", "db", {2, 3}), 1u);
  labels.end("a");
  auto round = labels.close();
  EXPECT_EQ(round.epoch, 1u);
  EXPECT_EQ(round.databases["db"].open, std::set<uint64_t>{1});
  EXPECT_TRUE(round.databases["db"].finished.empty());
  EXPECT_EQ(labels.begin("c", "db", {1}), 2u);
  labels.end("b");
  round = labels.close();
  EXPECT_EQ(round.epoch, 2u);
  EXPECT_EQ(round.databases["db"].open, std::set<uint64_t>{2});
  EXPECT_EQ(round.databases["db"].finished.at(1), (Groups{1, 2, 3}));
}

// A snapshot from before the end of a label must not have the epoch under which its rows go.
TEST(CommitLabels, WhatEndsLateHasAnEpochOfItsOwn) {
  CommitLabels labels;
  EXPECT_EQ(labels.close().epoch, 0u);
  labels.begin("a", "db", {1, 2});
  const uint64_t open = labels.close().epoch;
  labels.end("a");
  EXPECT_GT(labels.close().epoch, open);
  labels.forget("db", 1);
  const uint64_t idle = labels.close().epoch;
  EXPECT_EQ(labels.close().epoch, idle);
}

TEST(CommitLabels, TellsWhetherAllHaveEnded) {
  CommitLabels labels;
  EXPECT_EQ(labels.all_ended("db"), 0u);
  labels.begin("a", "db", {1, 2});
  labels.begin("b", "db", {1, 2});
  labels.end("a");
  EXPECT_EQ(labels.all_ended("db"), std::nullopt);
  EXPECT_EQ(labels.all_ended("other"), 0u);
  labels.end("b");
  labels.end("b");
  EXPECT_EQ(labels.all_ended("db"), 2u);
  labels.begin("c", "db", {1, 2});
  labels.end("c");
  EXPECT_EQ(labels.all_ended("db"), 3u);
  EXPECT_EQ(labels.all_ended("db", std::chrono::hours(1)), std::nullopt);
  EXPECT_EQ(labels.all_ended("other", std::chrono::hours(1)), 0u);
}

TEST(CommitLabels, WhatIsNotForgottenIsToldAgain) {
  CommitLabels labels;
  labels.begin("a", "one", {1, 2});
  labels.begin("b", "two", {1});
  labels.end("a");
  labels.end("b");
  labels.end("never begun");
  EXPECT_EQ(labels.close().databases.size(), 2u);
  labels.forget("one", 1);
  labels.forget("one", 7);
  auto round = labels.close();
  EXPECT_EQ(round.databases.size(), 1u);
  EXPECT_EQ(round.databases["two"].finished.at(1), Groups{1});
  labels.forget("two", 1);
  EXPECT_TRUE(labels.close().databases.empty());
}

}  // namespace
}  // namespace pgmosaic::control
