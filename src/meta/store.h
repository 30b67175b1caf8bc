// The metadata store: everything durable about the cluster is here, all else is cache. Few verbs, so that a store can
// be a file (sqlite_store.h), memory for tests (memory_store.h) or a consensus service.
//
// Keys are byte strings, ordered by bytes. Every commit that changes something gets the next revision; a key's version
// is the revision that last wrote it. A key bound to a lease vanishes, as if deleted, when the lease ends.
//
// Calls block (a file's fsync, at worst a busy lock), so a router makes them off its event loops. All stores may be
// called from any thread. Errors: 58030 (the store cannot be read or written), 55000 (the lease has ended).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pgmosaic::meta {

using Revision = uint64_t;
using LeaseId = uint64_t;  // 0: none

struct Entry {
  std::string key;
  std::string value;
  Revision version = 0;
  LeaseId lease = 0;

  bool operator==(const Entry&) const = default;
};

// Entries of one moment, in order of keys. Watching goes on from `revision`.
struct Entries {
  std::vector<Entry> entries;
  Revision revision = 0;
};

struct Txn {
  struct Compare {
    std::string key;
    Revision version = 0;  // 0: the key must be absent
  };
  struct Put {
    std::string key;
    std::string value;
    LeaseId lease = 0;
  };
  std::vector<Compare> compares;
  std::vector<Put> puts;
  std::vector<std::string> deletes;  // deleting an absent key is no error; a key must not be put and deleted
};

struct CommitResult {
  bool committed = false;  // false: a compare did not hold, nothing was done
  Revision revision = 0;   // committed: the version that all puts have now; else the store's revision
};

struct Change {
  std::string key;
  std::optional<std::string> value;  // nullopt: deleted, or its lease ended
  Revision version = 0;
};

// The last state of each key that changed, in order of versions: two changes of one key in between are seen as one.
struct Changes {
  std::vector<Change> changes;
  Revision revision = 0;  // pass it to the next call
  // The store no longer knows what was deleted since then: read the prefix anew, go on from that revision.
  bool compacted = false;
};

class Store {
 public:
  virtual ~Store() = default;

  virtual Result<std::optional<Entry>> get(std::string_view key) = 0;
  virtual Result<Entries> read_prefix(std::string_view prefix) = 0;
  // All or nothing, durable when it returns. 55000 if a put names a lease that has ended.
  virtual Result<CommitResult> commit(const Txn& txn) = 0;
  virtual Result<Changes> changes_since(Revision revision, std::string_view prefix) = 0;

  virtual Result<LeaseId> grant_lease(int64_t ttl_ms) = 0;
  // Starts the lease's time anew. 55000 if it has ended: its keys are gone, and others may have taken their place.
  virtual Status renew_lease(LeaseId lease) = 0;
  // Ends it at once. No error if it has ended.
  virtual Status revoke_lease(LeaseId lease) = 0;
};

// Milliseconds that never jump back or forth, equal in all processes of a host, running while the host is suspended.
using Clock = std::function<int64_t()>;
int64_t host_clock_ms();

// Tombstones (what changes_since knows of deletions) are kept for this many revisions.
inline constexpr Revision kKeptRevisions = 10000;

Error lease_ended(LeaseId lease);

// The smallest key behind all keys with this prefix; empty: there is none.
std::string prefix_end(std::string_view prefix);

// Takes `count` numbers of the sequence at `key` (first call: 1, …) and returns the first.
Result<uint64_t> allocate_ids(Store& store, const std::string& key, uint64_t count);

}  // namespace pgmosaic::meta
