#include "pool/pool.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace pgmosaic::pool {

namespace {

constexpr int64_t kForeverUs = int64_t{365} * 24 * 3600 * 1'000'000;  // pool.wait_timeout_ms = 0
constexpr int kInternalConnections = 8;                               // of the internal role, all workers together
constexpr int kCancels = 20;                                          // of a statement that nobody waits for
constexpr int64_t kCancelAgainUs = 1'000'000;

}  // namespace

bool ConnectionCounter::may_open(const PoolLimits& limits, const Owner& owner) const {
  auto count = [](const std::map<std::string, int>& counts, const std::string& name) {
    const auto found = counts.find(name);
    return found == counts.end() ? 0 : found->second;
  };
  return (limits.per_user <= 0 || count(users_, owner.first) < limits.per_user) &&
         (limits.per_database <= 0 || count(databases_, owner.second) < limits.per_database);
}

uint64_t ConnectionCounter::start_waiting(const std::string& user, const std::string& database, GroupId group) {
  std::lock_guard lock(mutex_);
  shares_[group][{user, database}].tickets.insert(++last_ticket_);
  return last_ticket_;
}

void ConnectionCounter::stop_waiting(const PoolLimits& limits, const std::string& user, const std::string& database,
                                     GroupId group, uint64_t ticket) {
  bool others = false;
  {
    std::lock_guard lock(mutex_);
    shares_[group][{user, database}].tickets.erase(ticket);
    if (groups_[group] < limits.per_group)
      for (const auto& [owner, share] : shares_[group]) others = others || !share.tickets.empty();
  }
  if (others) wake_all();
}

bool ConnectionCounter::shall_yield(const PoolLimits& limits, const std::string& user, const std::string& database,
                                    GroupId group, uint64_t ticket) {
  std::lock_guard lock(mutex_);
  const Owner self{user, database};
  const int left = shares_[group][self].open - 1;
  for (const auto& [owner, share] : shares_[group]) {
    if (owner == self || share.tickets.empty() || !may_open(limits, owner)) continue;
    // Of equals only those who would have none take turns: closing and opening is dear.
    if (share.open < left || (share.open == 0 && left == 0 && *share.tickets.begin() < ticket)) return true;
  }
  return false;
}

bool ConnectionCounter::try_open(const PoolLimits& limits, const std::string& user, const std::string& database,
                                 GroupId group, uint64_t ticket) {
  std::lock_guard lock(mutex_);
  const bool unlimited = user == limits.unlimited_user;
  if (unlimited) {
    if (users_[user] >= kInternalConnections) return false;  // logins wait their turn
    ++users_[user], ++databases_[database], ++groups_[group];
    return true;
  }
  int& in_group = groups_[group];
  int& of_user = users_[user];
  int& of_database = databases_[database];
  if (limits.per_group > 0 && in_group >= limits.per_group) return false;
  if (limits.per_user > 0 && of_user >= limits.per_user) return false;
  if (limits.per_database > 0 && of_database >= limits.per_database) return false;
  std::map<Owner, Share>& shares = shares_[group];
  const Owner self{user, database};
  Share& own = shares[self];
  if (limits.per_group > 0) {
    int room = limits.per_group - in_group;
    for (const auto& [owner, share] : shares) {
      if (owner == self || share.tickets.empty() || !may_open(limits, owner)) continue;
      const bool longer = ticket == 0 || *share.tickets.begin() < ticket;
      if (share.open < own.open || (share.open == own.open && longer)) --room;
    }
    if (room <= 0) return false;
  }
  ++in_group, ++of_user, ++of_database, ++own.open;
  return true;
}

void ConnectionCounter::closed(const std::string& user, const std::string& database, GroupId group) {
  {
    std::lock_guard lock(mutex_);
    --groups_[group], --users_[user], --databases_[database];
    if (auto share = shares_[group].find({user, database}); share != shares_[group].end() && share->second.open > 0)
      --share->second.open;
  }
  if (waiting(group).load(std::memory_order_relaxed) > 0) wake_all();
}

PoolEntry& Pool::entry(const std::string& user, const std::string& database, GroupId group, bool trusted) {
  auto& slot = entries_[{user, database, group, trusted}];
  if (!slot) {
    slot = std::make_unique<PoolEntry>();
    slot->user = user;
    slot->database = database;
    slot->group = group;
    slot->trusted = trusted;
  }
  return *slot;
}

bool Pool::fit_for_reuse(const ServerConn& conn) const {
  return conn.alive() && conn.generation == generation_ &&
         (limits_.lifetime_ms == 0 || loop_.now_us() - conn.created_us < int64_t{limits_.lifetime_ms} * 1000);
}

std::unique_ptr<ServerConn> Pool::try_acquire(PoolEntry& entry) {
  return held_back(entry) ? nullptr : take_idle(entry);
}

std::unique_ptr<ServerConn> Pool::take_idle(PoolEntry& entry) {
  while (!entry.idle.empty()) {
    std::unique_ptr<ServerConn> conn = std::move(entry.idle.back());
    entry.idle.pop_back();
    ++borrowed_;
    // Data on an idle connection is a notice of the server's end, or out of step: either way not for a client.
    if (conn->alive() && !conn->stream().has_input()) return conn;
    discard(std::move(conn));
  }
  return nullptr;
}

net::Task<Result<std::unique_ptr<ServerConn>>> Pool::open(PoolEntry& entry) {
  ++entry.total;
  auto endpoint = endpoints_.find(entry.group);
  auto credentials = credentials_.find(entry.user);
  CHECK(endpoint != endpoints_.end());
  Credentials login;
  if (credentials != credentials_.end() && !entry.trusted) login = credentials->second;
  login.user = entry.user;
  const uint64_t generation = generation_;
  auto opened =
      co_await ServerConn::connect(loop_, endpoint->second, login, entry.database, limits_.connect_timeout_ms);
  if (!opened.ok()) {
    --entry.total;
    counter_.closed(entry.user, entry.database, entry.group);
    co_return std::move(opened.error());
  }
  ServerConn& conn = **opened;
  conn.entry = &entry;
  conn.id = next_id_++;
  conn.generation = generation;
  conn.settings = settings_.empty();
  live_[conn.id] = &conn;
  ++borrowed_;
  co_return std::move(*opened);
}

net::Task<Result<std::unique_ptr<ServerConn>>> Pool::acquire(PoolEntry& entry, PoolWaiter& waiter) {
  const int64_t patience_us = limits_.wait_timeout_ms > 0 ? int64_t{limits_.wait_timeout_ms} * 1000 : kForeverUs;
  const int64_t deadline_us = loop_.now_us() + patience_us;
  for (;;) {
    if (!held_back(entry) || waiter.holds_others) {
      if (auto conn = take_idle(entry)) {
        stop_competing(entry, waiter);
        co_return conn;
      }
      if (counter_.try_open(limits_, entry.user, entry.database, entry.group, waiter.ticket)) {
        stop_competing(entry, waiter);
        co_return co_await open(entry);
      }
      if (evict_idle(entry.group, &entry)) continue;
    }
    Error busy = make_error("53300",
                            "no connection to group " + std::to_string(entry.group) + " for user \"" + entry.user +
                                "\" became free in time",
                            "Raise pool.size_per_group (and the servers' max_connections), or shorten transactions.");
    if (held_back(entry)) {
      busy.message = "database \"" + entry.database + "\" is paused";
      busy.hint = "An administrator has paused it; RESUME on the admin database ends that.";
    }
    const int64_t wait_us = deadline_us - loop_.now_us();
    if (wait_us <= 0 || waiting_ >= limits_.max_waiting) {
      stop_competing(entry, waiter);
      co_return Error(busy);
    }
    if (waiter.ticket == 0 && (!held_back(entry) || waiter.holds_others) && entry.user != limits_.unlimited_user)
      waiter.ticket = counter_.start_waiting(entry.user, entry.database, entry.group);
    const bool first_wait = !waiter.retry;
    waiter.retry = waiter.timed_out = false;
    first_wait ? entry.waiters.push_back(&waiter) : entry.waiters.push_front(&waiter);
    ++waiting_;
    counter_.waiting(entry.group).fetch_add(1);
    if (first_wait) counter_.wake_all();  // idle backends of other workers may make room
    auto timer = loop_.start_timer(wait_us, [&waiter] {
      waiter.timed_out = true;
      waiter.signal.notify();
    });
    co_await waiter.signal;
    counter_.waiting(entry.group).fetch_sub(1);
    --waiting_;
    std::erase(entry.waiters, &waiter);
    if (waiter.timed_out || waiter.abandoned || waiter.conn) stop_competing(entry, waiter);
    if (waiter.timed_out) {
      if (waiter.conn) release(std::move(waiter.conn));
      co_return Error(busy);
    }
    loop_.cancel_timer(timer);
    if (waiter.abandoned) {
      if (waiter.conn) release(std::move(waiter.conn));
      co_return make_error("57014", "canceling statement due to user request");
    }
    if (waiter.conn) co_return std::move(waiter.conn);
  }
}

void Pool::stop_competing(const PoolEntry& entry, PoolWaiter& waiter) {
  if (const uint64_t ticket = std::exchange(waiter.ticket, 0))
    counter_.stop_waiting(limits_, entry.user, entry.database, entry.group, ticket);
}

void Pool::abandon(PoolWaiter& waiter) {
  waiter.abandoned = true;
  waiter.signal.notify();
}

void Pool::discard(std::unique_ptr<ServerConn> conn) {
  if (!conn) return;
  live_.erase(conn->id);
  if (!conn->idle() && conn->stream().open() && !conn->stream().hung_up()) {
    net::spawn(wind_down(std::move(conn)));
  } else {
    close_counted(std::move(conn));
  }
}

// In mid-statement PostgreSQL would not notice a closed socket before it writes to it, perhaps in an hour: the
// statement is cancelled. A cancel that comes before the statement has begun is lost, so it is repeated until the
// backend is gone.
net::Task<void> Pool::wind_down(std::unique_ptr<ServerConn> conn) {
  net::Stream& stream = conn->stream();
  stream.shutdown_write();  // the end of a backend that waits for us, in COPY or between statements
  stream.take_interrupt();
  char sink[2048];  // not the loop's scratch memory: whoever discards may have borrowed it
  bool gone = false;
  for (int tries = 0; tries < kCancels && !gone; ++tries) {
    if (!conn->finishing) co_await cancel_backend(loop_, conn->endpoint(), conn->pid, conn->secret);
    bool fired = false;
    auto timer = loop_.start_timer(kCancelAgainUs, [&stream, &fired] {
      fired = true;
      stream.interrupt();
    });
    for (;;) {
      const net::IoResult result = stream.read(sink, sizeof sink);
      if (result.kind == net::IoResult::Kind::ok) continue;
      gone = result.kind != net::IoResult::Kind::would_block;
      if (gone) break;
      const net::WaitStatus waited = co_await stream.readable();
      if (waited == net::WaitStatus::interrupted) break;
    }
    if (!fired) loop_.cancel_timer(timer);
  }
  close_counted(std::move(conn));
}

void Pool::close_counted(std::unique_ptr<ServerConn> conn) {
  PoolEntry& entry = *conn->entry;
  conn->close();
  conn.reset();
  --entry.total;
  --borrowed_;
  counter_.closed(entry.user, entry.database, entry.group);
  // Not on the stack of a session that has only looked for a backend.
  if (waiting_ > 0) loop_.start_timer(0, [this] { retry_waiters(); });
}

void Pool::release(std::unique_ptr<ServerConn> conn) {
  if (conn->cancelling) {
    const uint64_t id = conn->id;
    parked_[id] = std::move(conn);
    return;
  }
  if (!conn->idle() || conn->has_unsent() || conn->transaction_status != 'I' || conn->open_batch() || conn->poisoned ||
      conn->stream().take_interrupt() || !fit_for_reuse(*conn)) {
    discard(std::move(conn));
    return;
  }
  if (conn->tainted) {
    net::spawn(clean(std::move(conn)));
    return;
  }
  make_idle(std::move(conn));
}

net::Task<void> Pool::clean(std::unique_ptr<ServerConn> conn) {
  net::Stream& stream = conn->stream();
  auto timer = loop_.start_timer(int64_t{limits_.connect_timeout_ms} * 1000, [&stream] { stream.interrupt(); });
  auto done = co_await conn->query("DISCARD ALL");
  loop_.cancel_timer(timer);
  if (!done.ok() || conn->transaction_status != 'I') {
    discard(std::move(conn));
    co_return;
  }
  conn->tainted = conn->knows_numbers = false;
  conn->settings = settings_.empty();
  conn->forget_all_statements();
  make_idle(std::move(conn));
}

void Pool::make_idle(std::unique_ptr<ServerConn> conn) {
  conn->overheard.clear();  // notifications for the session before
  PoolEntry& entry = *conn->entry;
  if (PoolWaiter* waiter = next_waiter(entry)) {
    if (waiter->ticket != 0 && counter_.shall_yield(limits_, entry.user, entry.database, entry.group, waiter->ticket)) {
      discard(std::move(conn));
      return;
    }
    std::erase(entry.waiters, waiter);
    waiter->conn = std::move(conn);
    waiter->signal.notify();
    return;
  }
  --borrowed_;
  conn->idle_since_us = loop_.now_us();
  entry.idle.push_back(std::move(conn));
  // Somebody waits for another user's or database's backend of this group: make room.
  if (counter_.waiting(entry.group).load(std::memory_order_relaxed) > 0) yield_idle();
}

// The first that a pause does not hold back.
PoolWaiter* Pool::next_waiter(const PoolEntry& entry) const {
  const bool held = held_back(entry);
  for (PoolWaiter* waiter : entry.waiters)
    if (!held || waiter->holds_others) return waiter;
  return nullptr;
}

int Pool::in_use(const std::string& database) const {
  int result = 0;
  for (const auto& [key, entry] : entries_)
    if ((database.empty() || entry->database == database) && entry->user != limits_.unlimited_user)
      result += entry->total - static_cast<int>(entry->idle.size());
  return result;
}

bool Pool::evict_idle(GroupId group, const PoolEntry* except) {
  for (auto& [key, candidate] : entries_) {
    if (candidate.get() == except || candidate->group != group || candidate->idle.empty()) continue;
    std::unique_ptr<ServerConn> oldest = std::move(candidate->idle.front());
    candidate->idle.erase(candidate->idle.begin());
    ++borrowed_;
    discard(std::move(oldest));
    return true;
  }
  return false;
}

void Pool::yield_idle() {
  for (auto& [key, entry] : entries_) {
    if (entry->idle.empty() || counter_.waiting(entry->group).load(std::memory_order_relaxed) == 0) continue;
    evict_idle(entry->group, nullptr);
    return;
  }
}

void Pool::retry_waiters() {
  // Waking a waiter may change the queues; collect first.
  std::vector<PoolWaiter*> woken;
  for (auto& [key, entry] : entries_)
    if (PoolWaiter* waiter = next_waiter(*entry)) woken.push_back(waiter);
  for (PoolWaiter* waiter : woken) {
    bool still_waits = false;
    for (auto& [key, entry] : entries_)
      if (std::find(entry->waiters.begin(), entry->waiters.end(), waiter) != entry->waiters.end()) still_waits = true;
    if (!still_waits) continue;
    waiter->retry = true;
    waiter->signal.notify();
  }
}

void Pool::pause(const std::string& database) {
  database.empty() ? void(paused_ = true) : void(paused_databases_.insert(database));
  for (auto& [key, entry] : entries_)
    for (PoolWaiter* waiter : entry->waiters)
      if (held_back(*entry) && !waiter->holds_others) stop_competing(*entry, *waiter);
}

void Pool::resume(const std::string& database) {
  if (database.empty()) {
    paused_ = false;
    paused_databases_.clear();
  } else {
    paused_databases_.erase(database);
  }
  // Each round wakes the first of every queue; who was served makes room for the next.
  for (int rounds = waiting_; rounds > 0; --rounds) loop_.start_timer(0, [this] { retry_waiters(); });
}

net::Task<void> Pool::cancel(ServerConn& conn) {
  const uint64_t id = conn.id;
  const Endpoint endpoint = conn.endpoint();
  const uint32_t pid = conn.pid, secret = conn.secret;
  if (conn.cancelling || conn.finishing) co_return;
  conn.cancelling = true;
  const bool delivered = co_await cancel_backend(loop_, endpoint, pid, secret);
  auto alive = live_.find(id);
  if (alive == live_.end()) co_return;
  // It may still arrive: then it must find nobody.
  if (!delivered) alive->second->mark_broken();
  alive->second->cancelling = false;
  auto parked = parked_.find(id);
  if (parked == parked_.end()) co_return;
  std::unique_ptr<ServerConn> returned = std::move(parked->second);
  parked_.erase(parked);
  release(std::move(returned));
}

void Pool::sweep() {
  const int64_t now_us = loop_.now_us();
  for (auto& [key, entry] : entries_) {
    std::vector<std::unique_ptr<ServerConn>> keep, drop;
    for (auto& conn : entry->idle) {
      const bool stale =
          limits_.idle_timeout_ms > 0 && now_us - conn->idle_since_us > int64_t{limits_.idle_timeout_ms} * 1000;
      (stale || !fit_for_reuse(*conn) || conn->stream().has_input() ? drop : keep).push_back(std::move(conn));
    }
    entry->idle = std::move(keep);
    for (auto& conn : drop) {
      ++borrowed_;
      discard(std::move(conn));
    }
  }
}

void Pool::renew() {
  ++generation_;
  sweep();
}

void Pool::close_idle_of(const std::string& database) {
  for (auto& [key, entry] : entries_) {
    if (entry->database != database) continue;
    while (!entry->idle.empty()) {
      std::unique_ptr<ServerConn> conn = std::move(entry->idle.back());
      entry->idle.pop_back();
      ++borrowed_;
      discard(std::move(conn));
    }
  }
}

}  // namespace pgmosaic::pool
