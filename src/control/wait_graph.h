// Wait-for graph over several groups (DESIGN §5): who waits for whom in each group's PostgreSQL, joined where one
// session has several backends. PostgreSQL ends the cycles of backends itself; those that only the sessions close are
// found here. Pure: the questions and the victims are router/deadlocks.cc's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catalog/catalog.h"

namespace pgmosaic::control {

// One backend waits for another one, or for a prepared transaction.
struct LockWait {
  catalog::GroupId group = 0;
  uint32_t waiter = 0, holder = 0;  // of the server; holder 0: `holder_gid`
  std::string holder_gid;           // as prepared on the group
  std::string since;                // when this wait began, by the group's clock: tells one wait from the next
  std::string mode, object;         // "ShareLock", "transaction 742"
  std::string query;                // what the waiter runs

  bool same(const LockWait& other) const {
    return group == other.group && waiter == other.waiter && holder == other.holder && holder_gid == other.holder_gid &&
           since == other.since && !since.empty();
  }
};

// What one session of a router holds.
struct Participants {
  std::vector<std::pair<catalog::GroupId, uint32_t>> backends;  // group, pid of the server
  std::string committing;                                       // gid, while it is prepared; exec/two_phase.h
};

// The question for a group: rows of waiter, holder, holder_gid, since, mode, mode of the prepared holder, object,
// query. REQUIRES: a role that may see everybody's queries.
std::string_view lock_waits_sql();
// Whether PostgreSQL's table locks of these modes ("RowShareLock", …) exclude each other; other names do.
bool modes_conflict(std::string_view held, std::string_view wanted);

// Cycles of waits that no PostgreSQL sees, no two with a transaction in common; each as indices into `waits`, the
// holder of one being, or being of the session of, the waiter of the next.
std::vector<std::vector<std::size_t>> find_cycles(const std::vector<LockWait>& waits,
                                                  const std::vector<Participants>& sessions);

}  // namespace pgmosaic::control
