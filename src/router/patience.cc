#include "router/patience.h"

#include <algorithm>

#include "base/random.h"

namespace pgmosaic::router {

namespace {

#define PGMOSAIC_WAITS_FOR_EVER \
  "pg_catalog.current_setting('lock_timeout') = '0' AND pg_catalog.current_setting('statement_timeout') = '0'"
constexpr const char* kWaitsForEver = "SELECT " PGMOSAIC_WAITS_FOR_EVER;
constexpr const char* kWhereSo = " WHERE " PGMOSAIC_WAITS_FOR_EVER;
#undef PGMOSAIC_WAITS_FOR_EVER
constexpr uint64_t kPauseUs = 50'000;

}  // namespace

std::string Patience::give_way() const {
  return "SELECT pg_catalog.set_config('lock_timeout', " + lock_timeout() + ", true)" + kWhereSo;
}

int64_t Patience::pause_us() {
  // Gentle: others are held up for a third of the time at most.
  const uint64_t usual = gentle_ ? static_cast<uint64_t>(wait_ms_) * 2000 : kPauseUs;
  wait_ms_ = std::min(kMostMs, wait_ms_ * 2);
  return static_cast<int64_t>(usual / 2 + random_u64() % usual);
}

net::Task<bool> waits_for_ever(exec::Backend& backend) {
  auto rows = co_await backend.conn->query(kWaitsForEver);
  co_return rows.ok() && rows->rows[0][0] == "t";
}

}  // namespace pgmosaic::router
