// One schedule of the simulation: a few transactions over two or three groups, readers, and a router that trims, dies
// and is replaced by another one, which recovers; with faults at any step. In the end all can be reached and nothing
// breaks any more: then nothing may be left.
//
// Invariants, after each step:
//   - what is committed on one group is committed or prepared on all others of the transaction, and rolled back on none
//   - what a client was told to be committed is, what it was told to be rolled back is not
//   - a tombstone is of nothing that commits
//   - a row of the commit log is gone only where all groups show its transaction
//   - a read that passes shows all of a transaction or nothing
// In the end:
//   - nothing is open or prepared, no row but tombstones is in the logs; a last transaction commits, and a last read
//     passes
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "control/simulation/router.h"

namespace pgmosaic::control::simulation {

struct Outcome {
  std::string violation;            // empty: none
  std::vector<std::string> events;  // if wanted
  uint64_t steps = 0, committed = 0, rolled_back = 0, reads = 0, restarts = 0;
};

struct Options {
  Sabotage sabotage = Sabotage::none;
  std::string_view loses = {};  // connections are often lost at statements that begin so; empty: at what the seed says
  bool parks = false;           // as many transactions as can
  bool verbose = false;
};

Outcome simulate(uint64_t seed, const Options& options);

}  // namespace pgmosaic::control::simulation
