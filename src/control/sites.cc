#include "control/sites.h"

#include "base/check.h"
#include "pg/site_names.h"

namespace pgmosaic::control {

std::vector<GroupEndpoint> with_home(const std::vector<GroupEndpoint>& servers) {
  std::vector<GroupEndpoint> groups = servers;
  for (GroupEndpoint& group : groups) {
    if (!group.group.home) continue;
    GroupEndpoint home = group;
    home.group.id = kHomeGroup;
    home.group.name = kHomeName;
    group.group.home = false;
    group.group.beside_home = true;
    group.endpoint.shards_beside_home = true;
    groups.push_back(std::move(home));
    return groups;
  }
  CHECK(false);
}

}  // namespace pgmosaic::control
