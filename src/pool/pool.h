// Pool: the backend connections of one worker, keyed by (user, database, group).
//
// Limits hold over all workers (ConnectionCounter); everything else is the worker's own. A session borrows a ServerConn
// with acquire() and gives it back with release(); who waits is served in order. A wait ends with a connection, a
// clear error (53300) after wait_timeout_ms, or because the session abandoned it.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "net/loop.h"
#include "net/task.h"
#include "pool/server_conn.h"

namespace pgmosaic::pool {

using GroupId = uint32_t;

struct PoolLimits {
  int per_group = 20, per_user = 0, per_database = 0;  // backends over all workers; 0: no limit
  std::string unlimited_user;                          // the internal role: its connections count for no limit
  int max_waiting = 10000;
  int wait_timeout_ms = 15000, idle_timeout_ms = 600000, lifetime_ms = 3600000, connect_timeout_ms = 5000;
};

// Counts open backends over all workers. Thread-safe; touched only when a connection is opened or closed.
class ConnectionCounter {
 public:
  //
  // Where a group is full, its users (of a database) get backends in turn: who waits and has fewer goes first, of
  // equals who has waited longer. `ticket` is the asking session's, 0 if it has not waited yet.
  bool try_open(const PoolLimits& limits, const std::string& user, const std::string& database, GroupId group,
                uint64_t ticket = 0);
  uint64_t start_waiting(const std::string& user, const std::string& database, GroupId group);
  // The session has a backend or has given up; others may have held back for it.
  void stop_waiting(const PoolLimits& limits, const std::string& user, const std::string& database, GroupId group,
                    uint64_t ticket);
  // Shall this user give up a backend that has just become free, although its own session with `ticket` waits?
  bool shall_yield(const PoolLimits& limits, const std::string& user, const std::string& database, GroupId group,
                   uint64_t ticket);
  void closed(const std::string& user, const std::string& database, GroupId group);
  // Sessions of any worker that wait for a backend of the group.
  std::atomic<int>& waiting(GroupId group) { return waiting_[group % waiting_.size()]; }
  // Asks every worker to give up idle backends / to try again; set by the router.
  std::function<void()> wake_all = [] {};

 private:
  using Owner = std::pair<std::string, std::string>;  // user, database
  struct Share {
    int open = 0;
    std::set<uint64_t> tickets;  // of the sessions that wait
  };
  bool may_open(const PoolLimits& limits, const Owner& owner) const;
  std::array<std::atomic<int>, 256> waiting_{};
  std::mutex mutex_;
  std::map<GroupId, std::map<Owner, Share>> shares_;
  uint64_t last_ticket_ = 0;
  std::map<GroupId, int> groups_;
  std::map<std::string, int> users_, databases_;
};

struct PoolWaiter {
  net::Signal signal;
  std::unique_ptr<ServerConn> conn;
  bool retry = false, timed_out = false, abandoned = false;
  uint64_t ticket = 0;        // see ConnectionCounter; 0: does not compete for room
  bool holds_others = false;  // its session holds backends already: a pause must let it finish
};

struct PoolEntry {
  std::string user, database;
  GroupId group = 0;
  bool trusted = false;                           // no password on either side
  std::vector<std::unique_ptr<ServerConn>> idle;  // last used at the back
  int total = 0;                                  // idle, borrowed, being cleaned
  std::deque<PoolWaiter*> waiters;
};

class Pool {
 public:
  Pool(net::EventLoop& loop, ConnectionCounter& counter, SettingsRegistry& settings)
      : loop_(loop), counter_(counter), settings_(settings) {}

  void set_limits(const PoolLimits& limits) { limits_ = limits; }
  const PoolLimits& limits() const { return limits_; }
  void set_endpoint(GroupId group, Endpoint endpoint) { endpoints_[group] = std::move(endpoint); }
  // What to log in with as this user from now on.
  void set_credentials(const Credentials& credentials) { credentials_[credentials.user] = credentials; }

  // Null: none of this user's sessions has proved any to this worker.
  const Credentials* credentials(const std::string& user) const {
    const auto found = credentials_.find(user);
    return found == credentials_.end() ? nullptr : &found->second;
  }

  // Stable for the life of the pool. `trusted`: for sessions that came in without a password. Their backends are logged
  // in without one too, so that only the group's own trust lets them in, never a key that another session proved.
  PoolEntry& entry(const std::string& user, const std::string& database, GroupId group, bool trusted = false);

  // An idle backend, or null. Never waits.
  std::unique_ptr<ServerConn> try_acquire(PoolEntry& entry);
  // `waiter` lives until the task ends; abandon(waiter) ends the wait with 57014.
  net::Task<Result<std::unique_ptr<ServerConn>>> acquire(PoolEntry& entry, PoolWaiter& waiter);
  void abandon(PoolWaiter& waiter);
  // Takes a backend back: to a waiter, to the idle list, or closes it when it is not clean.
  void release(std::unique_ptr<ServerConn> conn);
  // Closes a backend whatever its state; what it still runs is cancelled.
  void discard(std::unique_ptr<ServerConn> conn);

  // Asks the group to cancel what this backend does. The backend serves nobody else before that has happened.
  net::Task<void> cancel(ServerConn& conn);

  // Every second: lifetime, idle timeout, dead connections.
  void sweep();
  // Backends opened before now are closed as soon as they are idle (role or database settings changed, failover).
  void renew();
  // No backend of the database (empty: of any) goes to a client that holds none; the internal role goes on.
  void pause(const std::string& database);
  // Ends the pause of the database; empty: every pause.
  void resume(const std::string& database);
  bool paused(const std::string& database) const { return paused_ || paused_databases_.contains(database); }
  // Backends of the database (empty: of any) that are not idle; those of the internal role do not count.
  int in_use(const std::string& database) const;
  void retry_waiters();  // another worker closed a backend
  void yield_idle();     // other sessions wait: close idle backends of groups at their limit
  int borrowed() const { return borrowed_; }
  using Entries = std::map<std::tuple<std::string, std::string, GroupId, bool>, std::unique_ptr<PoolEntry>>;
  const Entries& entries() const { return entries_; }
  const std::unordered_map<uint64_t, ServerConn*>& connections() const { return live_; }
  // Before DROP DATABASE: PostgreSQL refuses while our idle backends are connected.
  void close_idle_of(const std::string& database);

 private:
  net::Task<Result<std::unique_ptr<ServerConn>>> open(PoolEntry& entry);
  net::Task<void> clean(std::unique_ptr<ServerConn> conn);
  net::Task<void> wind_down(std::unique_ptr<ServerConn> conn);
  void close_counted(std::unique_ptr<ServerConn> conn);
  void make_idle(std::unique_ptr<ServerConn> conn);
  bool evict_idle(GroupId group, const PoolEntry* except);
  bool fit_for_reuse(const ServerConn& conn) const;
  std::unique_ptr<ServerConn> take_idle(PoolEntry& entry);
  bool held_back(const PoolEntry& entry) const {
    return paused(entry.database) && entry.user != limits_.unlimited_user;
  }
  PoolWaiter* next_waiter(const PoolEntry& entry) const;
  void stop_competing(const PoolEntry& entry, PoolWaiter& waiter);

  net::EventLoop& loop_;
  ConnectionCounter& counter_;
  SettingsRegistry& settings_;
  PoolLimits limits_;
  Entries entries_;
  std::map<GroupId, Endpoint> endpoints_;
  std::map<std::string, Credentials> credentials_;
  std::unordered_map<uint64_t, ServerConn*> live_;
  std::unordered_map<uint64_t, std::unique_ptr<ServerConn>> parked_;  // released while a cancel was under way
  uint64_t next_id_ = 1, generation_ = 1;
  bool paused_ = false;
  std::set<std::string> paused_databases_;
  int waiting_ = 0, borrowed_ = 0;
};

}  // namespace pgmosaic::pool
