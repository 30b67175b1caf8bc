// Checks attached groups before a router serves them: what is wrong is said with the setting to change and where.
#pragma once

#include <vector>

#include "base/config.h"
#include "control/cluster.h"

namespace pgmosaic::control {

// Connects to every group and checks version, settings, encoding, collations, time zone, extensions, clock and rights.
// All findings are in one error's detail. Blocks; called at start.
Status preflight(const Config& config, const std::vector<GroupEndpoint>& groups, const pool::Credentials& internal);

}  // namespace pgmosaic::control
