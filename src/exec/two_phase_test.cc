#include "exec/two_phase.h"

#include <gtest/gtest.h>

namespace pgmosaic::exec {
namespace {

using Step = TwoPhase::Step;
using Outcome = TwoPhase::Outcome;

Gid gid() { return {"c1", 0, "r1", 42}; }

TwoPhase machine(std::vector<TwoPhase::Participant> participants) {
  auto made = TwoPhase::make(std::move(participants), gid());
  EXPECT_TRUE(made.has_value());
  return *made;
}

TEST(Gid, TextAndBack) {
  const Gid original{"demo", 3, "a1b2", 18446744073709551615u};
  EXPECT_EQ(original.text(), "pgmosaic_demo_3_a1b2_18446744073709551615");
  const auto parsed = Gid::parse(original.text());
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->cluster, "demo");
  EXPECT_EQ(parsed->anchor, 3u);
  EXPECT_EQ(parsed->router, "a1b2");
  EXPECT_EQ(parsed->number, 18446744073709551615u);
}

TEST(Gid, OthersAreNotOurs) {
  for (const char* text : {"", "pgmosaic", "pgmosaic_c_1_r", "pgmosaic_c_1_r_5_6", "other_c_1_r_5", "pgmosaic_c_x_r_5",
                           "pgmosaic_c__r_5", "pgmosaic_c_1_r_", "pgmosaic_c_-1_r_5", "pgmosaic_c_1_r_5x",
                           "pgmosaic_c_1_r_18446744073709551616", "pgmosaic_c_4294967296_r_1", " pgmosaic_c_1_r_5"})
    EXPECT_FALSE(Gid::parse(text).has_value()) << text;
}

TEST(Gid, OfAClientsTransaction) {
  Gid original = gid();
  original.parked = true;
  EXPECT_EQ(original.text(), "pgmosaic-parked_c1_0_r1_42");
  EXPECT_TRUE(Gid::reserved(original.text()));
  const auto parsed = PreparedGid::parse(original.prepared_text(3));
  ASSERT_TRUE(parsed.has_value());
  EXPECT_TRUE(parsed->gid.parked);
  EXPECT_EQ(parsed->group, 3u);
  EXPECT_FALSE(PreparedGid::parse(gid().prepared_text(3))->gid.parked);
  for (const char* text : {"pgmosaic_c1_0_r1_42", "pgmosaic_c1_00_r1_42_3", "pgmosaic_c1_0_r1_42_03"})
    EXPECT_FALSE(PreparedGid::parse(text).has_value()) << text;
}

TEST(TwoPhase, TheAnchorIsTheFirstWriterOrTheOneThatCannotPrepare) {
  EXPECT_EQ(machine({{4}, {2}, {9}}).anchor(), 4u);
  EXPECT_EQ(machine({{4}, {2}, {9}}).others(), (std::vector<uint32_t>{2, 9}));
  EXPECT_EQ(machine({{4}, {2, true}, {9}}).anchor(), 2u);
  EXPECT_EQ(machine({{4}, {2, true}, {9}}).others(), (std::vector<uint32_t>{4, 9}));
  EXPECT_FALSE(TwoPhase::make({{1, true}, {2}, {3, true}}, gid()).has_value());
  EXPECT_EQ(machine({{4}, {2}}).gid().anchor, 4u);
}

TEST(TwoPhase, TheAnchorOfAClientsTransactionPreparesLast) {
  TwoPhase parks = TwoPhase::park(1, {2, 3}, gid(), "PREPARE TRANSACTION 'x'");
  EXPECT_EQ(parks.step(), Step::prepare);
  parks.prepared(2, Outcome::success);
  parks.prepared(3, Outcome::success);
  EXPECT_EQ(parks.step(), Step::commit_anchor);
  EXPECT_TRUE(parks.anchor_sql().ends_with("; PREPARE TRANSACTION 'x'"));
  TwoPhase lost = parks, refused = parks;
  parks.anchor_committed(Outcome::success);
  EXPECT_EQ(parks.step(), Step::done);
  EXPECT_FALSE(parks.committed());
  lost.anchor_committed(Outcome::unknown);
  EXPECT_EQ(lost.step(), Step::resolve);
  refused.anchor_committed(Outcome::failure);
  EXPECT_EQ(refused.step(), Step::abort);
  EXPECT_EQ(refused.prepared(), (std::vector<uint32_t>{2, 3}));
}

TEST(TwoPhase, Success) {
  TwoPhase commit = machine({{1}, {2}, {3}});
  EXPECT_EQ(commit.step(), Step::prepare);
  commit.prepared(3, Outcome::success);
  EXPECT_EQ(commit.step(), Step::prepare);
  commit.prepared(2, Outcome::success);
  EXPECT_EQ(commit.step(), Step::commit_anchor);
  EXPECT_FALSE(commit.committed());
  commit.anchor_committed(Outcome::success);
  EXPECT_EQ(commit.step(), Step::commit_prepared);
  EXPECT_TRUE(commit.committed());
  TwoPhase slow = commit;
  commit.told({});
  EXPECT_EQ(commit.step(), Step::done);
  EXPECT_TRUE(commit.ended());
  slow.told({3});
  EXPECT_EQ(slow.step(), Step::finish);
  EXPECT_EQ(slow.unfinished(), std::vector<uint32_t>{3});
  for (bool everywhere : {true, false}) {
    TwoPhase end = slow;
    end.finished(everywhere);
    EXPECT_EQ(end.step(), Step::done);
    EXPECT_EQ(end.ended(), everywhere);
  }
}

TEST(TwoPhase, OneParticipantOnly) {
  TwoPhase commit = machine({{5}});
  EXPECT_EQ(commit.step(), Step::commit_anchor);
  EXPECT_TRUE(commit.others().empty());
}

TEST(TwoPhase, AFailedPrepareAbortsOnceAllHaveAnswered) {
  TwoPhase commit = machine({{1}, {2}, {3}, {4}});
  commit.prepared(2, Outcome::failure);
  EXPECT_EQ(commit.step(), Step::prepare);
  commit.prepared(3, Outcome::unknown);
  commit.prepared(4, Outcome::success);
  EXPECT_EQ(commit.step(), Step::abort);
  EXPECT_FALSE(commit.committed());
  // where it was prepared, or may have been
  EXPECT_EQ(commit.prepared(), (std::vector<uint32_t>{3, 4}));
  commit.told({3});
  EXPECT_EQ(commit.step(), Step::done);
  EXPECT_FALSE(commit.ended());
}

TEST(TwoPhase, AnUnknownPrepareNeverCommits) {
  TwoPhase commit = machine({{1}, {2}});
  commit.prepared(2, Outcome::unknown);
  EXPECT_EQ(commit.step(), Step::abort);
}

TEST(TwoPhase, TheAnchorRefuses) {
  TwoPhase commit = machine({{1}, {2}});
  commit.prepared(2, Outcome::success);
  commit.anchor_committed(Outcome::failure);
  EXPECT_EQ(commit.step(), Step::abort);
  EXPECT_FALSE(commit.committed());
  EXPECT_EQ(commit.prepared(), std::vector<uint32_t>{2});
}

TEST(TwoPhase, TheAnchorDoesNotAnswer) {
  for (bool decision : {false, true}) {
    TwoPhase commit = machine({{1}, {2}});
    commit.prepared(2, Outcome::success);
    commit.anchor_committed(Outcome::unknown);
    EXPECT_EQ(commit.step(), Step::resolve);
    TwoPhase left = commit;
    left.undecided();
    EXPECT_EQ(left.step(), Step::done);
    EXPECT_FALSE(left.ended());
    commit.decided(decision);
    EXPECT_EQ(commit.step(), decision ? Step::commit_prepared : Step::abort);
    EXPECT_EQ(commit.committed(), decision);
  }
}

TEST(TwoPhase, StepsOutOfOrderAreBugs) {
  TwoPhase commit = machine({{1}, {2}});
  EXPECT_DEATH(commit.anchor_committed(Outcome::success), "commit_anchor");
  EXPECT_DEATH(commit.told({}), "");
  commit.prepared(2, Outcome::success);
  EXPECT_DEATH(commit.prepared(2, Outcome::success), "prepare");
}

TEST(TwoPhase, Statements) {
  TwoPhase commit = machine({{3}, {1}, {2}});
  commit.set_row({7, "hush"});
  const std::string name = "pgmosaic_c1_3_r1_42";
  // sha256 of "hush 1 pgmosaic_c1_3_r1_42 3,1,2 r1 7", and of the same for group 3.
  EXPECT_EQ(commit.prepare_sql(1),
            "SET CONSTRAINTS ALL IMMEDIATE; SELECT pg_catalog.pgmosaic_log_commit('" + name +
                "', '{3,1,2}', 'r1', 7, '1ceb2b625037811300bc3cd2eb9b59b4636709e270b5e72b6065fce955d0841e'); SET LOCAL "
                "ROLE none; PREPARE TRANSACTION '" +
                name + "_1'");
  EXPECT_EQ(commit.anchor_sql(),
            "SELECT pg_catalog.pgmosaic_log_commit('" + name +
                "', '{3,1,2}', 'r1', 7, '1992f848aef773b63f420812615955ee7a6870b912cc94a572ac734f097a823d'); COMMIT");
  EXPECT_EQ(commit.commit_prepared_sql(2), "COMMIT PREPARED '" + name + "_2'");
  EXPECT_EQ(commit.rollback_prepared_sql(2), "ROLLBACK PREPARED '" + name + "_2'");
}

// Every order and combination of answers ends, and commits only if all prepared and the anchor committed.
TEST(TwoPhase, AllOutcomes) {
  constexpr Outcome kOutcomes[] = {Outcome::success, Outcome::failure, Outcome::unknown};
  for (Outcome second : kOutcomes)
    for (Outcome third : kOutcomes)
      for (Outcome anchor : kOutcomes)
        for (bool decision : {false, true}) {
          TwoPhase commit = machine({{1}, {2}, {3}});
          commit.prepared(2, second);
          commit.prepared(3, third);
          const bool all_prepared = second == Outcome::success && third == Outcome::success;
          ASSERT_EQ(commit.step() == Step::commit_anchor, all_prepared);
          if (commit.step() == Step::commit_anchor) commit.anchor_committed(anchor);
          if (commit.step() == Step::resolve) commit.decided(decision);
          const bool expected =
              all_prepared && (anchor == Outcome::success || (anchor == Outcome::unknown && decision));
          EXPECT_EQ(commit.committed(), expected);
          EXPECT_EQ(commit.step(), expected ? Step::commit_prepared : Step::abort);
          commit.told({});
          EXPECT_EQ(commit.step(), Step::done);
        }
}

}  // namespace
}  // namespace pgmosaic::exec
