#include "control/wait_graph.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "exec/two_phase.h"

namespace pgmosaic::control {

std::string_view lock_waits_sql() {
  // pg_blocking_pids() knows conflicts, queues and parallel workers; a prepared transaction is 0 to it. Its locks have
  // no pid, and its virtual transaction is '-1/xid'. A holder that is at work may be about to end, whatever other parts
  // of its session wait for (VACUUM on several groups); if it keeps its locks it will be idle, and found by a later
  // look.
  return R"sql(SELECT DISTINCT coalesce(a.leader_pid, w.pid), b.pid, coalesce(p.gid, ''), coalesce(w.waitstart::text, ''),
  w.mode, coalesce(p.mode, ''),
  CASE w.locktype WHEN 'transactionid' THEN 'transaction ' || w.transactionid
    WHEN 'relation' THEN 'relation ' || w.relation || ' of database ' || w.database
    WHEN 'tuple' THEN 'tuple (' || w.page || ',' || w.tuple || ') of relation ' || w.relation || ' of database ' || w.database
    WHEN 'advisory' THEN 'advisory lock [' || w.database || ',' || w.classid || ',' || w.objid || ',' || w.objsubid || ']'
    ELSE w.locktype END,
  left(a.query, 1024)
FROM pg_catalog.pg_locks w
JOIN pg_catalog.pg_stat_activity a ON a.pid = w.pid
CROSS JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) b (pid)
LEFT JOIN LATERAL (SELECT x.gid, h.mode FROM pg_catalog.pg_locks h
    JOIN pg_catalog.pg_prepared_xacts x ON h.virtualtransaction = '-1/' || x.transaction
    WHERE b.pid = 0 AND h.pid IS NULL AND h.granted AND h.locktype = w.locktype
      AND (h.database, h.relation, h.page, h.tuple, h.virtualxid, h.transactionid, h.classid, h.objid, h.objsubid)
        IS NOT DISTINCT FROM
        (w.database, w.relation, w.page, w.tuple, w.virtualxid, w.transactionid, w.classid, w.objid, w.objsubid)) p ON true
LEFT JOIN pg_catalog.pg_stat_activity holder ON holder.pid = b.pid
WHERE NOT w.granted AND (b.pid <> 0 OR p.gid IS NOT NULL) AND (holder.pid IS NULL OR holder.state <> 'active'
  OR coalesce(holder.wait_event_type, '') IN ('Lock', 'Client')))sql";
}

bool modes_conflict(std::string_view held, std::string_view wanted) {
  static constexpr std::array<std::string_view, 8> kModes = {
      "AccessShareLock", "RowShareLock",          "RowExclusiveLock", "ShareUpdateExclusiveLock",
      "ShareLock",       "ShareRowExclusiveLock", "ExclusiveLock",    "AccessExclusiveLock"};
  // By mode, from the weakest: the modes that exclude it (PostgreSQL's manual, "Table-Level Locks"), a bit for each.
  static constexpr std::array<unsigned, 8> kExcluded = {0x80, 0xc0, 0xf0, 0xf8, 0xec, 0xfc, 0xfe, 0xff};
  const auto number = [](std::string_view mode) {
    return static_cast<std::size_t>(std::find(kModes.begin(), kModes.end(), mode) - kModes.begin());
  };
  const std::size_t first = number(held), second = number(wanted);
  if (first == kModes.size() || second == kModes.size()) return true;
  return (kExcluded[first] >> second & 1) != 0;
}

namespace {

class Graph {
  using Place = std::pair<catalog::GroupId, uint32_t>;  // a backend; 0: a prepared transaction

 public:
  Graph(const std::vector<LockWait>& waits, const std::vector<Participants>& sessions) : waits_(waits) {
    for (const Participants& session : sessions) {
      const std::size_t node = nodes_++;
      for (const auto& [group, pid] : session.backends) backends_[{group, pid}] = node;
      if (!session.committing.empty()) prepared_[session.committing] = node;
    }
    for (const LockWait& wait : waits) {
      waiters_.push_back(of(backends_, Place(wait.group, wait.waiter)));
      holders_.push_back(wait.holder != 0 ? of(backends_, Place(wait.group, wait.holder))
                                          : of(prepared_, whole(wait.holder_gid)));
    }
    done_.resize(nodes_);
  }

  std::vector<std::vector<std::size_t>> cycles() {
    std::vector<std::vector<std::size_t>> found;
    for (std::size_t node = 0; node < nodes_; ++node)
      if (auto cycle = through(node)) {
        for (std::size_t wait : *cycle) done_[waiters_[wait]] = true;
        found.push_back(std::move(*cycle));
      }
    return found;
  }

 private:
  // The gid of a transaction that a group has prepared; other routers' and foreign ones are nodes of their own.
  static std::string whole(const std::string& prepared) {
    const auto parsed = exec::PreparedGid::parse(prepared);
    return parsed ? parsed->gid.text() : prepared;
  }

  template <class Key>
  std::size_t of(std::map<Key, std::size_t>& known, const Key& key) {
    const auto [it, added] = known.try_emplace(key, nodes_);
    if (added) ++nodes_;
    return it->second;
  }

  // The shortest cycle that begins with a wait of `start` and that no PostgreSQL sees: somewhere on it the holder of
  // one wait and the waiter of the next are two backends of one session. Breadth first over (node, backend by which one
  // came there, first waiter, whether there was such a place).
  std::optional<std::vector<std::size_t>> through(std::size_t start) const {
    if (done_[start]) return std::nullopt;
    struct Step {
      std::size_t node, wait, before;  // before: position in steps
      Place holder, first;
      bool joined;
    };
    constexpr std::size_t kNone = SIZE_MAX;
    std::vector<Step> steps{{start, kNone, kNone, {}, {}, false}};
    std::set<std::tuple<std::size_t, Place, Place, bool>> seen;
    for (std::size_t at = 0; at < steps.size(); ++at) {
      for (std::size_t wait = 0; wait < waits_.size(); ++wait) {
        const Step from = steps[at];
        if (waiters_[wait] != from.node || done_[holders_[wait]]) continue;
        const Place waiter(waits_[wait].group, waits_[wait].waiter), holder(waits_[wait].group, waits_[wait].holder);
        const bool begins = from.wait == kNone;
        Step to{holders_[wait], wait, at, holder, begins ? waiter : from.first, from.joined};
        to.joined = to.joined || (!begins && from.holder != waiter);
        if (to.node == start && (to.joined || to.holder != to.first)) return path(steps, to);
        if (to.node != start && seen.insert({to.node, to.holder, to.first, to.joined}).second) steps.push_back(to);
      }
    }
    return std::nullopt;
  }

  template <class Step>
  static std::vector<std::size_t> path(const std::vector<Step>& steps, Step last) {
    std::vector<std::size_t> result;
    for (; last.wait != SIZE_MAX; last = steps[last.before]) result.push_back(last.wait);
    std::reverse(result.begin(), result.end());
    return result;
  }

  const std::vector<LockWait>& waits_;
  std::size_t nodes_ = 0;
  std::map<Place, std::size_t> backends_;
  std::map<std::string, std::size_t> prepared_;
  std::vector<std::size_t> waiters_, holders_;  // by wait
  std::vector<bool> done_;
};

}  // namespace

std::vector<std::vector<std::size_t>> find_cycles(const std::vector<LockWait>& waits,
                                                  const std::vector<Participants>& sessions) {
  return Graph(waits, sessions).cycles();
}

}  // namespace pgmosaic::control
