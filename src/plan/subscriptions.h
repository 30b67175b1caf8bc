// Subscriptions: the home has them, and applies rows there, past the router.
#pragma once

#include <string>
#include <vector>

#include "catalog/catalog.h"

namespace pgmosaic::plan {

struct SubscribedTable {
  std::string subscription;
  catalog::Oid table = 0;
  catalog::Oid triggers_of = 0;  // it or one of its partitions, with a trigger that fires for applied rows; 0: none
};

// Those that would not have all rows, or all copies, where they are applied. As with publications, a change that brings
// one more is refused.
std::vector<Error> misplaced_subscriptions(const catalog::Database& database,
                                           const std::vector<SubscribedTable>& tables);

}  // namespace pgmosaic::plan
