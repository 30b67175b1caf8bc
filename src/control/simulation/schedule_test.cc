// Replay: PGMOSAIC_SEED=17 build/release/control_test --gtest_filter=CommitSimulation.Schedules prints what happens in
// schedule 17. PGMOSAIC_SCHEDULES=1000000 runs so many (`./x soak simulation`).
#include "control/simulation/schedule.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <ostream>

namespace pgmosaic::control::simulation {
namespace {

std::string told(uint64_t seed) {
  const Outcome outcome = simulate(seed, {.verbose = true});
  std::string text;
  for (const std::string& event : outcome.events) text += event + "\n";
  return text + "PGMOSAIC_SEED=" + std::to_string(seed) + ": " +
         (outcome.violation.empty() ? "nothing is violated" : outcome.violation) + "\n";
}

uint64_t number_of(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(CommitSimulation, Schedules) {
  if (std::getenv("PGMOSAIC_SEED") != nullptr) {
    const uint64_t seed = number_of("PGMOSAIC_SEED", 0);
    std::printf("%s", told(seed).c_str());
    ASSERT_EQ(simulate(seed, {}).violation, "");
    return;
  }
  const uint64_t schedules = number_of("PGMOSAIC_SCHEDULES", 20'000), first = number_of("PGMOSAIC_FIRST_SEED", 1);
  Outcome all;
  const std::clock_t began = std::clock();
  for (uint64_t seed = first; seed < first + schedules; ++seed) {
    const Outcome outcome = simulate(seed, {});
    ASSERT_EQ(outcome.violation, "") << told(seed);
    all.steps += outcome.steps;
    all.committed += outcome.committed;
    all.rolled_back += outcome.rolled_back;
    all.reads += outcome.reads;
    all.restarts += outcome.restarts;
  }
  const double seconds = static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
  std::printf(
      "%llu schedules from seed %llu: %llu steps, %llu transactions committed, %llu not, %llu reads passed, %llu "
      "routers replaced; %.0f schedules in a second of CPU\n",
      static_cast<unsigned long long>(schedules), static_cast<unsigned long long>(first),
      static_cast<unsigned long long>(all.steps), static_cast<unsigned long long>(all.committed),
      static_cast<unsigned long long>(all.rolled_back), static_cast<unsigned long long>(all.reads),
      static_cast<unsigned long long>(all.restarts), static_cast<double>(schedules) / seconds);
  // It is worth nothing if it does nothing.
  EXPECT_GT(all.committed, schedules);
  EXPECT_GT(all.rolled_back, schedules / 4);
  EXPECT_GT(all.reads, schedules);
  EXPECT_GT(all.restarts, schedules / 10);
}

TEST(CommitSimulation, ASeedIsAlwaysTheSameSchedule) {
  for (uint64_t seed = 1; seed < 50; ++seed) {
    EXPECT_EQ(told(seed), told(seed));
    EXPECT_EQ(simulate(seed, {.verbose = true}).steps, simulate(seed, {}).steps);
  }
}

struct Broken {
  Sabotage sabotage;
  const char* name;
  // Where it is rare to be noticed.
  std::string_view loses = {};
  bool parks = false;
};
void PrintTo(const Broken& broken, std::ostream* out) { *out << broken.name; }

class CommitSimulationFinds : public testing::TestWithParam<Broken> {};

TEST_P(CommitSimulationFinds, WhatIsBroken) {
  constexpr uint64_t kEnough = 60'000;
  for (uint64_t seed = 1; seed < kEnough; ++seed) {
    const Outcome outcome =
        simulate(seed, {.sabotage = GetParam().sabotage, .loses = GetParam().loses, .parks = GetParam().parks});
    if (outcome.violation.empty()) continue;
    std::printf("%s, seed %llu: %s\n", GetParam().name, static_cast<unsigned long long>(seed),
                outcome.violation.c_str());
    return;
  }
  FAIL() << "nothing is noticed of " << GetParam().name << " in " << kEnough << " schedules";
}

INSTANTIATE_TEST_SUITE_P(
    Sabotage, CommitSimulationFinds,
    testing::Values(Broken{Sabotage::skip_tombstone, "skip_tombstone"}, Broken{Sabotage::anchor_early, "anchor_early"},
                    Broken{Sabotage::lost_is_failed, "lost_is_failed"}, Broken{Sabotage::gives_up, "gives_up"},
                    Broken{Sabotage::trims_unseen, "trims_unseen"}, Broken{Sabotage::trims_undone, "trims_undone"},
                    Broken{Sabotage::takes_trimming_back, "takes_trimming_back", "WITH gone "},
                    Broken{Sabotage::forgets_late, "forgets_late", "DELETE "}, Broken{Sabotage::no_check, "no_check"},
                    Broken{Sabotage::no_epochs, "no_epochs"}, Broken{Sabotage::quiet_before, "quiet_before"},
                    Broken{Sabotage::forgets_early, "forgets_early"},
                    Broken{Sabotage::parks_late, "parks_late", "SELECT pg_catalog.pgmosaic_log", true},
                    Broken{Sabotage::forgets_parked, "forgets_parked", "", true},
                    Broken{Sabotage::acknowledges_early, "acknowledges_early"}),
    [](const auto& broken) { return std::string(broken.param.name); });

}  // namespace
}  // namespace pgmosaic::control::simulation
