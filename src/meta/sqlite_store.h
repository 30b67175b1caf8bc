// The embedded store: one SQLite file, shared by all processes of one host. Write-ahead log, synchronous=FULL: a commit
// that returned survives kill -9 and power failure.
//
// Leases are measured by the host's boot clock (host_clock_ms), which no clock adjustment moves; the file remembers
// the boot, and leases of an earlier boot have ended. Expired leases are removed by whoever calls next.
//
// Tables (format 1):
//   facts   (name TEXT PRIMARY KEY, value)                       format, revision, compacted, next_lease, boot
//   entries (key BLOB PRIMARY KEY, value BLOB, version, lease)   value NULL: deleted, kept for changes_since
//   leases  (id INTEGER PRIMARY KEY, ttl_ms, deadline_ms)
#pragma once

#include <memory>
#include <string>

#include "meta/store.h"

namespace pgmosaic::meta {

struct SqliteOptions {
  Clock clock = host_clock_ms;
  std::string boot_id;          // empty: the running kernel's; tests give one
  int busy_timeout_ms = 10000;  // wait for other processes' commits
};

// Opens or creates (mode 0600) the file.
Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& path, SqliteOptions options = {});

}  // namespace pgmosaic::meta
