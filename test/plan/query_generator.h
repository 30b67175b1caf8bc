#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace pgmosaic::plan {

// Random queries over the tables of planner_pgtest.cc: joins of all kinds, derived tables, sub-queries, aggregates, set
// operations. The same seed gives the same queries.
class QueryGenerator {
 public:
  explicit QueryGenerator(uint32_t seed);
  ~QueryGenerator();
  std::string statement();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgmosaic::plan
