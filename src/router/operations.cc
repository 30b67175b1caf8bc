#include "router/operations.h"

#include <chrono>
#include <ctime>

namespace pgmosaic::router {

std::string utc_text(int64_t ago_us) {
  const std::time_t at =
      std::chrono::system_clock::to_time_t(std::chrono::system_clock::now() - std::chrono::microseconds(ago_us));
  std::tm parts{};
  gmtime_r(&at, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S+00", &parts);
  return text;
}

}  // namespace pgmosaic::router
