// Where the home is. The schema as declared, local tables and a copy of the reference tables are in databases of the
// user's names on one of the servers; the shards that the same server owns are in databases beside them, so that
// nothing of ours is seen in the catalogs that clients read. To everything else these are two groups
// (docs/design/004-home.md).
#pragma once

#include <vector>

#include "control/cluster.h"

namespace pgmosaic::control {

inline constexpr catalog::GroupId kHomeGroup = 1'000'000;
inline constexpr const char* kHomeName = "home";

// `servers`: one group per server, one of them marked as home. Result: the groups that hold shards, in this order, and
// the home behind them.
std::vector<GroupEndpoint> with_home(const std::vector<GroupEndpoint>& servers);

}  // namespace pgmosaic::control
