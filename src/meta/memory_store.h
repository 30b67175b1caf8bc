// The store's twin in memory, for tests: same contract, a clock that the test turns.
#pragma once

#include <map>
#include <mutex>

#include "meta/store.h"

namespace pgmosaic::meta {

class MemoryStore : public Store {
 public:
  explicit MemoryStore(Clock clock = host_clock_ms) : clock_(std::move(clock)) {}

  Result<std::optional<Entry>> get(std::string_view key) override;
  Result<Entries> read_prefix(std::string_view prefix) override;
  Result<CommitResult> commit(const Txn& txn) override;
  Result<Changes> changes_since(Revision revision, std::string_view prefix) override;
  Result<LeaseId> grant_lease(int64_t ttl_ms) override;
  Status renew_lease(LeaseId lease) override;
  Status revoke_lease(LeaseId lease) override;

 private:
  struct Cell {
    std::optional<std::string> value;  // nullopt: tombstone
    Revision version = 0;
    LeaseId lease = 0;
  };
  struct Lease {
    int64_t ttl_ms = 0;
    int64_t deadline_ms = 0;
  };

  void expire();
  void end_lease(LeaseId lease);
  void forget_tombstones();
  Revision version_of(std::string_view key) const;

  std::mutex mutex_;
  Clock clock_;
  std::map<std::string, Cell, std::less<>> cells_;
  std::map<LeaseId, Lease> leases_;
  Revision revision_ = 0;
  Revision compacted_ = 0;
  LeaseId next_lease_ = 1;
};

}  // namespace pgmosaic::meta
