#include "control/sites.h"

#include "base/check.h"
#include "pg/site_names.h"

namespace pgmosaic::control {

std::vector<GroupEndpoint> with_home(const std::vector<GroupEndpoint>& servers) {
  std::vector<GroupEndpoint> groups(1);
  for (const GroupEndpoint& server : servers) {
    GroupEndpoint group = server;
    group.group.id = kHomeGroup + static_cast<catalog::GroupId>(groups.size());
    if (server.group.home) {
      groups[0] = server;
      groups[0].group.id = kHomeGroup;
      groups[0].group.name = kHomeName;
      group.group.home = false;
      group.group.beside_home = true;
      group.endpoint.shards_beside_home = true;
    }
    groups.push_back(std::move(group));
  }
  CHECK(groups[0].group.home);
  return groups;
}

}  // namespace pgmosaic::control
