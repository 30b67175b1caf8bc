#include "control/in_doubt.h"

#include <gtest/gtest.h>

namespace pgmosaic::control {
namespace {

using Round = InDoubt::Round;

exec::Gid gid(uint64_t number) { return {"c", 1, "r", number}; }

int looks(InDoubt& in_doubt, int rounds) {
  int looked = 0;
  for (int i = 0; i < rounds; ++i) looked += in_doubt.next_round() == Round::rest ? 0 : 1;
  return looked;
}

TEST(InDoubt, LooksForAWhileAndThenOnceAMinute) {
  InDoubt in_doubt;
  EXPECT_EQ(looks(in_doubt, 30), 30);  // after the start
  EXPECT_EQ(looks(in_doubt, 29), 0);
  EXPECT_EQ(in_doubt.next_round(), Round::look_at_all);
  EXPECT_EQ(looks(in_doubt, 59), 0);
  EXPECT_EQ(in_doubt.next_round(), Round::look_at_all);
  in_doubt.add(gid(1));
  EXPECT_EQ(looks(in_doubt, 40), 40);
  CommitLabels labels;
  in_doubt.end(in_doubt.begin(), labels);
  EXPECT_EQ(looks(in_doubt, 29), 29);
  EXPECT_EQ(looks(in_doubt, 29), 0);
}

TEST(InDoubt, SessionsEndWhatIsTheirs) {
  CommitLabels labels;
  InDoubt in_doubt;
  labels.begin(gid(1).text(), "db", {1, 2});
  labels.begin(gid(2).text(), "db", {1, 2});
  in_doubt.add(gid(2));
  exec::Gid parked = gid(3);
  parked.parked = true;
  const RecoveryLook look = in_doubt.begin();
  EXPECT_FALSE(InDoubt::ends(look, gid(1), labels));
  EXPECT_TRUE(InDoubt::ends(look, gid(2), labels));
  EXPECT_TRUE(InDoubt::ends(look, {"c", 1, "earlier", 4}, labels));
  EXPECT_TRUE(InDoubt::ends(look, gid(5), labels));  // over, and prepared late
  EXPECT_FALSE(InDoubt::ends(look, parked, labels));
}

TEST(InDoubt, EndsWhatEveryGroupHasSettled) {
  CommitLabels labels;
  InDoubt in_doubt;
  for (const uint64_t number : {1, 2}) {
    labels.begin(gid(number).text(), "db", {1, 2});
    in_doubt.add(gid(number));
  }
  RecoveryLook look = in_doubt.begin();
  look.complete = false;
  in_doubt.end(look, labels);
  EXPECT_TRUE(labels.is_open(gid(1).text()));
  look = in_doubt.begin();
  look.unsettled.insert(gid(2).text());
  in_doubt.add(gid(3));  // after the look began
  in_doubt.end(look, labels);
  EXPECT_FALSE(labels.is_open(gid(1).text()));
  EXPECT_TRUE(labels.is_open(gid(2).text()));
  EXPECT_EQ(in_doubt.begin().in_doubt, (Gids{gid(2).text(), gid(3).text()}));
}

}  // namespace
}  // namespace pgmosaic::control
