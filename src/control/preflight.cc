#include "control/preflight.h"

namespace pgmosaic::control {

Status preflight(const Config&, const std::vector<GroupEndpoint>&, const pool::Credentials&) { return {}; }

}  // namespace pgmosaic::control
