#include "router/deadlocks.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"
#include "pool/settings.h"
#include "router/health.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr int64_t kBetweenLooksUs = 50'000;
constexpr int kAnswerMs = 1000;  // a group that takes longer is left out of this look
constexpr int64_t kWithoutWaitsUs = 800'000;
constexpr int64_t kKeepUs = 30'000'000;  // connections without use

template <class T>
T number(const std::optional<std::string>& text) {
  T value{};
  if (text) std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

// Who waits, in words: the client's process id, where it is one of this router.
struct Party {
  std::string name, query;
  const SessionInfo* session = nullptr;
};

}  // namespace

void name_deadlock(Error& error, const Error& deadlock) {
  if (error.sqlstate != "57014") return;
  error.sqlstate = deadlock.sqlstate;
  error.message = deadlock.message;
  error.detail = deadlock.detail;
  error.hint = deadlock.hint;
}

Deadlocks::Deadlocks(net::EventLoop& loop, RouterContext& context, control::Cluster& cluster)
    : loop_(loop), context_(context), cluster_(cluster) {}

void Deadlocks::tick() {
  if (looking_ || loop_.now_us() < next_look_us_) return;
  int waits = 0;
  for (const auto& worker : context_.workers) waits += worker->long_waits.load(std::memory_order_relaxed);
  if (waits < 2) {
    if (loop_.now_us() - last_used_us_ > kKeepUs) connections_.clear();
    return;
  }
  looking_ = true;
  net::spawn(run());
}

net::Task<void> Deadlocks::run() {
  last_used_us_ = loop_.now_us();
  const Look before = co_await look();
  if (!before.cycles().empty()) {
    co_await loop_.sleep(kBetweenLooksUs);
    Look now = co_await look();
    // A wait that lasted from the one look to the other held its transaction in between.
    std::erase_if(now.waits, [&before](const control::LockWait& wait) {
      return std::none_of(before.waits.begin(), before.waits.end(),
                          [&wait](const control::LockWait& earlier) { return earlier.same(wait); });
    });
    for (const std::vector<std::size_t>& cycle : now.cycles()) co_await end_one(now, cycle);
  }
  // Long statements that wait for nobody are looked at less often.
  next_look_us_ = loop_.now_us() + (before.waits.empty() ? kWithoutWaitsUs : 0);
  looking_ = false;
}

// Sessions first: whoever waits by then, and still waits when the groups have answered, has kept its backends.
net::Task<Deadlocks::Look> Deadlocks::look() {
  Look result;
  std::mutex guard;
  auto collect = [&guard, &result](Worker& worker) {
    const int64_t now_us = worker.loop.now_us();
    std::vector<SessionInfo> own;
    for (Session* session : worker.sessions)
      if (session->spans_groups(now_us, 0)) own.push_back(session->info());
    std::lock_guard lock(guard);
    result.sessions.insert(result.sessions.end(), own.begin(), own.end());
  };
  co_await context_.on_each_worker(loop_, collect);
  std::set<catalog::GroupId> servers;
  for (SessionInfo& session : result.sessions)
    for (auto& [group, pid] : session.backends) servers.insert(group = server_of(group));
  for (const GroupHealth& group : context_.health->groups())
    if (!group.up) servers.erase(group.id);
  for (catalog::GroupId server : servers) {
    Status status = co_await ask(server, result.waits);
    if (!status.ok()) log_debug("router", "no lock waits of group {}: {}", name_of(server), status.error().message);
  }
  co_return result;
}

std::vector<std::vector<std::size_t>> Deadlocks::Look::cycles() const {
  std::vector<control::Participants> participants;
  for (const SessionInfo& session : sessions) participants.push_back({session.backends, session.committing});
  return control::find_cycles(waits, participants);
}

net::Task<Result<pool::ServerConn::Rows>> Deadlocks::question(catalog::GroupId server, std::string sql) {
  std::unique_ptr<pool::ServerConn>& conn = connections_[server];
  if (!conn || !conn->alive()) {
    conn.reset();
    const auto& groups = cluster_.groups();
    const auto found =
        std::find_if(groups.begin(), groups.end(), [&](const auto& each) { return each.group.id == server; });
    auto opened = co_await pool::ServerConn::connect(loop_, found->endpoint, cluster_.internal(),
                                                     context_.config()->internal.database, kAnswerMs);
    if (!opened.ok()) co_return std::move(opened.error());
    conn = std::move(*opened);
  }
  net::Stream& stream = conn->stream();
  bool timed_out = false;
  auto timer = loop_.start_timer(int64_t{kAnswerMs} * 1000, [&stream, &timed_out] {
    timed_out = true;
    stream.interrupt();
  });
  auto rows = co_await conn->query(sql);
  if (!timed_out) loop_.cancel_timer(timer);
  if (timed_out || !conn->alive()) conn.reset();
  if (timed_out) co_return make_error("08006", "no answer");
  co_return rows;
}

net::Task<Status> Deadlocks::ask(catalog::GroupId server, std::vector<control::LockWait>& waits) {
  auto rows = co_await question(server, std::string(control::lock_waits_sql()));
  if (!rows.ok()) co_return std::move(rows.error());
  for (auto& row : rows->rows) {
    control::LockWait wait;
    wait.group = server;
    wait.waiter = number<uint32_t>(row[0]);
    wait.holder = number<uint32_t>(row[1]);
    wait.holder_gid = row[2].value_or("");
    wait.since = row[3].value_or("");
    wait.mode = row[4].value_or("");
    if (wait.holder == 0 && !control::modes_conflict(row[5].value_or(""), wait.mode)) continue;
    wait.object = row[6].value_or("");
    wait.query = row[7].value_or("");
    waits.push_back(std::move(wait));
  }
  co_return Status{};
}

net::Task<void> Deadlocks::end_one(const Look& look, const std::vector<std::size_t>& cycle) {
  auto party = [&](const control::LockWait& wait) {
    for (const SessionInfo& session : look.sessions)
      for (const auto& [server, pid] : session.backends)
        if (server == wait.group && pid == wait.waiter)
          return Party{std::to_string(session.pid), session.query.empty() ? wait.query : session.query, &session};
    return Party{std::to_string(wait.waiter) + " of group " + name_of(wait.group), wait.query};
  };
  // The victim began last; one in the middle of its commit only if all are.
  const control::LockWait* last = nullptr;
  Party victim;
  for (std::size_t at : cycle) {
    const control::LockWait& wait = look.waits[at];
    const Party candidate = party(wait);
    if (candidate.session == nullptr) continue;
    const bool commits = !candidate.session->committing.empty();
    const bool alike = last != nullptr && commits == !victim.session->committing.empty();
    const bool better = alike ? candidate.session->began_us > victim.session->began_us : last == nullptr || !commits;
    if (!better) continue;
    last = &wait;
    victim = candidate;
  }
  if (last == nullptr) co_return;

  std::vector<std::size_t> from_victim = cycle;
  const auto first = std::find_if(cycle.begin(), cycle.end(), [&](std::size_t at) { return &look.waits[at] == last; });
  std::rotate(from_victim.begin(), from_victim.begin() + (first - cycle.begin()), from_victim.end());
  std::string waits, queries;
  for (std::size_t i = 0; i < from_victim.size(); ++i) {
    const control::LockWait& wait = look.waits[from_victim[i]];
    const Party waiter = party(wait), holder = party(look.waits[from_victim[(i + 1) % from_victim.size()]]);
    waits += fmt::format("Process {} waits for {} on {} of group {}; blocked by process {}.\n", waiter.name, wait.mode,
                         wait.object, name_of(wait.group), holder.name);
    const bool shown = waiter.session != nullptr && waiter.session->user == victim.session->user;
    queries += fmt::format("{}Process {}: {}", queries.empty() ? "" : "\n", waiter.name,
                           shown ? waiter.query : "<insufficient privilege>");
  }
  Error error = make_error("40P01", "deadlock detected", "Retry the transaction.", waits + queries);
  log_info("router", "deadlock over groups, process {} is its victim: {}", victim.name, waits);
  context_.deadlocks.fetch_add(1, std::memory_order_relaxed);
  context_.sessions.break_deadlock(victim.session->pid, victim.session->query_start_us, std::move(error));
  // A commit is not cancelled by its session. Here it is known to wait for a lock, and not for a standby.
  if (!victim.session->committing.empty())
    for (const control::LockWait& wait : look.waits)
      if (party(wait).session == victim.session)
        (void)(co_await question(wait.group,
                                 "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_locks WHERE "
                                 "NOT granted AND pid = " +
                                     std::to_string(wait.waiter) +
                                     " AND waitstart::text = " + pool::quote_literal(wait.since)));
}

// Groups that share a server are one: PostgreSQL finds what is in a circle there.
catalog::GroupId Deadlocks::server_of(catalog::GroupId group) const {
  const control::GroupEndpoint* own = nullptr;
  for (const control::GroupEndpoint& candidate : cluster_.groups())
    if (candidate.group.id == group) own = &candidate;
  for (const control::GroupEndpoint& candidate : cluster_.groups())
    if (own != nullptr && candidate.endpoint.host == own->endpoint.host &&
        candidate.endpoint.port == own->endpoint.port)
      return candidate.group.id;
  return group;
}

std::string Deadlocks::name_of(catalog::GroupId server) const {
  return context_.health ? context_.health->group_name(server) : std::to_string(server);
}

}  // namespace pgmosaic::router
