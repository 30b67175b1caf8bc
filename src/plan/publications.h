// Publications that list no tables.
#pragma once

#include <string>
#include <vector>

#include "catalog/catalog.h"

namespace pgmosaic::plan {

struct WidePublication {
  std::string name;
  std::string schema;  // empty: FOR ALL TABLES
};

// Those that cover sharded tables, whose rows the home, which knows what they cover, does not have. As with functions,
// a change that brings one more is refused.
std::vector<Error> misplaced_publications(const catalog::Database& database,
                                          const std::vector<WidePublication>& publications);

}  // namespace pgmosaic::plan
