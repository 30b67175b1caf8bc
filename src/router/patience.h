// How a schema change gives way. It may wait for a lock while others wait behind it, or wait crosswise for a statement
// that takes the same locks on several groups in another order: so it waits for a while only, lets the others pass, and
// tries again.
#pragma once

#include <cstdint>
#include <string>

#include "exec/backends.h"

namespace pgmosaic::router {

class Patience {
 public:
  // `gentle`: nobody shall notice; at first it waits for a moment.
  explicit Patience(bool gentle) : gentle_(gentle), wait_ms_(gentle ? 50 : kMostMs) {}

  std::string lock_timeout() const { return "'" + std::to_string(wait_ms_) + "ms'"; }
  // SQL that sets it for a transaction whose session waits for ever.
  std::string give_way() const;
  // Between two tries; the next one waits longer.
  int64_t pause_us();

 private:
  static constexpr int kMostMs = 400;
  const bool gentle_;
  int wait_ms_;
};

// Has neither the session nor its role or database a limit for waiting? REQUIRES: the backend is idle.
net::Task<bool> waits_for_ever(exec::Backend& backend);

}  // namespace pgmosaic::router
