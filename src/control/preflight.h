// Checks attached groups before a router serves them: what is wrong is said with the setting to change and where.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "control/cluster.h"

namespace pgmosaic::control {

// Connects to every group and checks version, settings, encoding, collations, time zone, extensions, clock and rights.
// What makes a group unfit is collected in the detail of one error (55000); what an operator should only know is
// logged. Blocks; called at start.
Status preflight(const Config& config, const std::vector<GroupEndpoint>& groups, const pool::Credentials& internal);

// The router lets in without a password only whom the groups let in without one: else the logins of those users would
// fail there, or ride on connections that others' passwords opened. Error 55000 names each [[auth]] rule that breaks
// this.
net::Task<Status> check_trust_rules(net::EventLoop& loop, const Config& config,
                                    const std::vector<GroupEndpoint>& groups, const pool::Credentials& internal);

// Shared by the two: "g2 (10.0.0.2 port 5432)".
std::string describe(const GroupEndpoint& group);
Error unfit(const std::vector<std::string>& findings);

}  // namespace pgmosaic::control
