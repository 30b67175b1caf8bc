#include "exec/inquiry.h"

#include <gtest/gtest.h>

namespace pgmosaic::exec {
namespace {

using Manner = Inquiry::Manner;
using Step = Inquiry::Step;

Inquiry inquiry(Manner manner) { return {Gid{"c", 1, "r'", 7}, {1, 2}, manner}; }

TEST(Inquiry, TheTombstoneWins) {
  for (const Manner manner : {Manner::wait, Manner::look, Manner::glance}) {
    Inquiry asked = inquiry(manner);
    EXPECT_NE(asked.sql().find("VALUES ('pgmosaic_c_1_r''_7', '{1,2}', true)"), std::string::npos) << asked.sql();
    EXPECT_EQ(asked.sql().ends_with("; ROLLBACK"), manner == Manner::glance);
    EXPECT_EQ(asked.sql().find("lock_timeout") == std::string::npos, manner == Manner::wait);
    asked.answered(std::nullopt);
    ASSERT_EQ(asked.step(), Step::over);
    EXPECT_EQ(*asked.decision(), std::optional(false));
  }
}

TEST(Inquiry, TheRowTells) {
  for (const Manner manner : {Manner::wait, Manner::look, Manner::glance})
    for (const char* aborted : {"t", "f"}) {
      Inquiry asked = inquiry(manner);
      asked.refused(make_error("23505", "duplicate key"));
      ASSERT_EQ(asked.step(), Step::ask);
      EXPECT_EQ(asked.sql().starts_with("ROLLBACK; "), manner != Manner::wait);
      EXPECT_TRUE(
          asked.sql().ends_with("SELECT aborted FROM pg_catalog.pgmosaic_commit_log WHERE gid = "
                                "'pgmosaic_c_1_r''_7'"));
      asked.answered(aborted);
      ASSERT_EQ(asked.step(), Step::over);
      EXPECT_EQ(*asked.decision(), std::optional(*aborted == 'f'));
    }
}

TEST(Inquiry, WithoutAnAnswerNothingIsDecided) {
  for (const Manner manner : {Manner::wait, Manner::look})
    for (const bool taken : {false, true})
      for (const char* sqlstate : {"08006", "57P03", "40001"}) {
        Inquiry asked = inquiry(manner);
        if (taken) asked.refused(make_error("23505", "duplicate key"));
        asked.refused(make_error(sqlstate, "no"));
        ASSERT_EQ(asked.step(), Step::over);
        EXPECT_EQ(asked.decision().error().sqlstate, sqlstate);
      }
  Inquiry vanished = inquiry(Manner::wait);
  vanished.refused(make_error("23505", "duplicate key"));
  vanished.answered(std::nullopt);
  EXPECT_EQ(vanished.decision().error().sqlstate, "XX000");
}

TEST(Inquiry, AClientHasYetToDecide) {
  Inquiry asked = inquiry(Manner::glance);
  asked.refused(make_error("55P03", "lock timeout"));
  ASSERT_EQ(asked.step(), Step::over);
  EXPECT_EQ(*asked.decision(), std::nullopt);
  Inquiry commits = inquiry(Manner::wait);
  commits.refused(make_error("55P03", "lock timeout"));
  EXPECT_FALSE(commits.decision().ok());
}

}  // namespace
}  // namespace pgmosaic::exec
