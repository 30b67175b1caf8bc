#include "exec/backends.h"

#include <algorithm>

#include "base/log.h"
#include "pg/frontend.h"

namespace pgmosaic::exec {

void Backends::open_session(std::string user, std::string database, pool::Settings settings) {
  user_ = std::move(user);
  database_ = std::move(database);
  settings_ = std::move(settings);
}

Backend* Backends::held(GroupId group) {
  for (auto& backend : held_)
    if (backend->group == group) return backend.get();
  return nullptr;
}

namespace {

// Backend objects are recycled, so that a statement in transaction pooling allocates nothing.
thread_local std::vector<std::unique_ptr<Backend>> spare_backends;

}  // namespace

pool::PoolEntry& Backends::entry(GroupId group) {
  for (const auto& [known, entry] : entries_)
    if (known == group) return *entry;
  return *entries_.emplace_back(group, &pool_.entry(user_, database_, group, trusted_)).second;
}

Backend* Backends::adopt(GroupId group, std::unique_ptr<pool::ServerConn> conn) {
  std::unique_ptr<Backend> backend;
  if (spare_backends.empty()) {
    backend = std::make_unique<Backend>();
  } else {
    backend = std::move(spare_backends.back());
    spare_backends.pop_back();
    *backend = Backend{};
  }
  backend->group = group;
  backend->conn = std::move(conn);
  backend->conn->client_pid = client_pid_;
  held_.push_back(std::move(backend));
  if (keep_all_) forget_numbers(*held_.back());
  prepare(*held_.back());
  return held_.back().get();
}

Backend* Backends::get_now(GroupId group) {
  if (has_role() || lost_participant() || owes_snapshots()) return nullptr;  // get() settles it
  Backend* backend = held(group);
  if (backend != nullptr) {
    prepare(*backend);
  } else if (auto conn = pool_.try_acquire(entry(group))) {
    backend = adopt(group, std::move(conn));
  }
  if (backend != nullptr) backend->settle_first = false;  // back to the user's own identity: that may go along
  return backend;
}

net::Task<Result<Backend*>> Backends::settle(Backend* backend) {
  if (!std::exchange(backend->settle_first, false)) co_return backend;
  Status status = co_await backend->conn->drain();
  if (status.ok()) co_return backend;
  Error error = std::move(status.error());
  drop(*backend);
  co_return error;
}

// Waits where cancel() finds it.
net::Task<Result<std::unique_ptr<pool::ServerConn>>> Backends::acquire(GroupId group) {
  pool::PoolWaiter waiter;
  waiter.holds_others = !held_.empty();
  waiting_ = &waiter;
  auto acquired = co_await pool_.acquire(entry(group), waiter);
  waiting_ = nullptr;
  if (!acquired.ok()) acquired.error().node = "group " + std::to_string(group);
  co_return acquired;
}

net::Task<Result<pool::ServerConn*>> Backends::borrow(GroupId group) {
  CHECK(borrowed_ == nullptr);
  auto acquired = co_await acquire(group);
  if (!acquired.ok()) co_return std::move(acquired.error());
  borrowed_ = std::move(*acquired);
  borrowed_->apply_settings(settings_);
  co_return borrowed_.get();
}

void Backends::give_back() {
  CHECK(borrowed_ != nullptr);
  pool_.release(std::move(borrowed_));
}

net::Task<Result<Backend*>> Backends::get(GroupId group) {
  if (lost_participant())  // another backend would know nothing of what the transaction has done
    co_return make_error("08006", "the transaction has lost its connection to a group",
                         "Roll back, and retry the transaction.");
  used_before_ = used_before_ || touch_ == Touch::locks;
  if (owes_snapshots() && touch_ == Touch::rows) CO_TRY(co_await take_transaction_snapshots(group));
  if (Backend* backend = held(group)) {
    prepare(*backend);
    co_return co_await settle(backend);
  }
  if (auto idle = pool_.try_acquire(entry(group))) co_return co_await settle(adopt(group, std::move(idle)));
  auto acquired = co_await acquire(group);
  if (!acquired.ok()) co_return std::move(acquired.error());
  co_return co_await settle(adopt(group, std::move(*acquired)));
}

net::Task<Result<std::vector<Backend*>>> Backends::get_all(const std::vector<GroupId>& groups) {
  std::vector<Backend*> result;
  for (GroupId group : groups) {
    auto backend = co_await get(group);
    if (!backend.ok()) co_return std::move(backend.error());
    result.push_back(*backend);
  }
  co_return result;
}

void Backends::use_oid_map(Backend& backend) {
  std::shared_ptr<const pg::OidMap>& in_use = backend.conn->oid_map;
  const auto found = oid_maps_ ? oid_maps_->find(backend.group) : catalog::OidMaps::const_iterator();
  if (!oid_maps_ || found == oid_maps_->end()) {
    in_use.reset();
  } else if (in_use != found->second) {
    in_use = found->second;
  }
}

void Backends::prepare(Backend& backend) {
  pool::ServerConn& conn = *backend.conn;
  use_oid_map(backend);
  if (backend.begun) return;
  if (conn.settings != settings_) {
    // A role must be in force before anything else of the session is sent.
    const bool identity = settings_->contains("role") || settings_->contains("session_authorization") ||
                          conn.settings->contains("role") || conn.settings->contains("session_authorization");
    backend.settle_first = identity;
    if (conn.apply_settings(settings_)) backend.unnamed_statement = 0;
  }
  if (!in_transaction_) return;
  backend.begun = true;
  if (first_group_ == 0) first_group_ = backend.group;
  backend.settings_before = conn.settings;
  backend.joined_at = replay_.size();
  conn.add_vital_statement(begin_sql_);
  for (const Replay& replay : replay_) conn.add_vital_statement(replay.sql);
  backend.unnamed_statement = 0;
}

void Backends::begin(std::string begin_sql) {
  CHECK(!in_transaction_);
  in_transaction_ = true;
  began_us_ = loop_.now_us();
  lost_participant_ = false;
  first_group_ = 0;
  set_isolation(Isolation::read_committed);
  touch_ = Touch::rows;
  used_before_ = false;
  begin_sql_ = std::move(begin_sql);
  settings_at_begin_ = settings_;
  replay_.clear();
  for (auto& backend : held_) {
    backend->begun = backend->wrote = false;
    backend->not_preparable = backend->pinned;  // temporary tables, session locks
  }
}

void Backends::begin_around(std::string begin_sql, const std::vector<Backend*>& joined) {
  std::vector<bool> wrote, not_preparable;
  for (Backend* backend : joined) {
    wrote.push_back(backend->wrote);
    not_preparable.push_back(backend->not_preparable);
  }
  begin(std::move(begin_sql));
  if (!joined.empty()) first_group_ = joined[0]->group;
  for (std::size_t i = 0; i < joined.size(); ++i) {
    joined[i]->begun = true;
    joined[i]->wrote = wrote[i];
    joined[i]->not_preparable = not_preparable[i];
    joined[i]->settings_before = joined[i]->conn->settings;
    joined[i]->joined_at = 0;
  }
}

void Backends::savepoint(const std::string& name, std::shared_ptr<const StagedSchema> staged) {
  replay_.push_back({Replay::Kind::savepoint, name, "SAVEPOINT " + pool::quote_identifier(name), settings_,
                     std::move(staged), next_moment()});
}

bool Backends::has_savepoint(const std::string& name) const {
  return std::any_of(replay_.begin(), replay_.end(), [&](const Replay& replay) {
    return replay.kind == Replay::Kind::savepoint && replay.name == name;
  });
}

namespace {

template <class Replays>
auto find_savepoint(Replays& replays, const std::string& name) {
  using Kind = decltype(replays.front().kind);
  auto found = std::find_if(replays.rbegin(), replays.rend(),
                            [&](const auto& replay) { return replay.kind == Kind::savepoint && replay.name == name; });
  return found == replays.rend() ? replays.end() : found.base() - 1;
}

}  // namespace

uint64_t Backends::moment_of(const std::string& savepoint) const {
  const auto found = find_savepoint(replay_, savepoint);
  return found == replay_.end() ? 0 : found->moment;
}

void Backends::released(const std::string& name) {
  auto found = find_savepoint(replay_, name);
  if (found == replay_.end()) return;
  // Savepoints set after it go with it; SET LOCALs since then stay in force.
  const std::size_t from = static_cast<std::size_t>(found - replay_.begin());
  std::vector<Replay> kept;
  std::vector<std::size_t> position(replay_.size() + 1);  // old position -> new position
  for (std::size_t i = 0; i < replay_.size(); ++i) {
    position[i] = kept.size();
    if (i < from || replay_[i].kind == Replay::Kind::local) kept.push_back(replay_[i]);
  }
  position[replay_.size()] = kept.size();
  for (auto& backend : held_)
    if (backend->begun) backend->joined_at = position[std::min(backend->joined_at, replay_.size())];
  for (auto& [role, at] : roles_) at = position[std::min(at, replay_.size())];
  replay_ = std::move(kept);
}

std::vector<std::string> Backends::take_lost_roles() {
  std::vector<std::string> lost;
  std::erase_if(roles_, [&](auto& role) {
    const bool gone = !in_transaction_ || role.second > replay_.size();
    if (gone) lost.push_back(std::move(role.first));
    return gone;
  });
  return lost;
}

std::shared_ptr<const StagedSchema> Backends::rolled_back_to(const std::string& name) {
  auto found = find_savepoint(replay_, name);
  if (found == replay_.end()) return nullptr;
  std::shared_ptr<const StagedSchema> staged = found->staged;
  const std::size_t position = static_cast<std::size_t>(found - replay_.begin());
  settings_ = found->settings;
  constexpr std::size_t kLost = SIZE_MAX;
  for (auto& [role, at] : roles_)
    if (at > position) at = kLost;
  replay_.erase(found + 1, replay_.end());
  for (auto& backend : held_) {
    if (!backend->begun || backend->joined_at <= position) continue;
    // It joined with the later settings applied outside the transaction.
    const std::string sql = pool::transition_sql(*backend->settings_before, *settings_);
    if (!sql.empty()) {
      backend->conn->add_internal_query(sql, true);
      // What SET LOCAL had put over them stays on top.
      for (const Replay& replay : replay_)
        if (replay.kind == Replay::Kind::local) backend->conn->add_internal_query(replay.sql, true);
    }
    backend->joined_at = replay_.size();
  }
  return staged;
}

void Backends::end_transaction(bool committed) {
  in_transaction_ = false;
  first_group_ = 0;
  set_isolation(Isolation::read_committed);
  if (!committed) settings_ = settings_at_begin_;
  for (auto& backend : held_) {
    if (backend->begun) backend->conn->settings = committed ? settings_ : backend->settings_before;
    backend->begun = backend->wrote = backend->not_preparable = false;
  }
  replay_.clear();
  remade_roles_.clear();
  moved_tables_.clear();
}

net::Task<Status> Backends::run_on(Backend& backend, std::string_view sql, const char* expected_tag) {
  auto rows = co_await backend.conn->query(sql);
  if (!rows.ok()) {
    rows.error().node = "group " + std::to_string(backend.group);
    co_return std::move(rows.error());
  }
  notices_ += rows->notices;
  if (rows->tag != expected_tag)
    co_return make_error("40000", "the transaction was rolled back by group " + std::to_string(backend.group));
  co_return Status{};
}

net::Task<void> Backends::rollback() {
  std::vector<Backend*> participants;
  for (auto& backend : held_)
    if (backend->begun && backend->conn->alive()) participants.push_back(backend.get());
  for (Backend* backend : participants) {
    backend->conn->add_internal_query("ROLLBACK");
    backend->conn->flush();
  }
  for (Backend* backend : participants) (void)(co_await backend->conn->drain());
  end_transaction(false);
}

net::Task<void> Backends::fail_participants() {
  std::vector<Backend*> failing;
  for (auto& backend : held_)
    if (backend->begun && backend->conn->transaction_status == 'T' && backend->conn->alive() && backend->conn->idle())
      failing.push_back(backend.get());
  for (Backend* backend : failing) {
    backend->conn->add_internal_query("ROLLBACK TO \"the transaction has failed on another group\"");
    backend->conn->flush();
  }
  for (Backend* backend : failing) {
    const bool poisoned = backend->conn->poisoned;
    (void)(co_await backend->conn->drain());
    backend->conn->poisoned = poisoned;
  }
}

net::Task<Status> Backends::commit(CommitHook* hook) {
  for (auto& backend : held_) backend->conn->finishing = backend->begun;
  Status status = co_await commit_participants(hook);
  committing_.clear();
  // Of a lost connection nobody knows how far it is: pool::Pool::wind_down must not cancel it either.
  for (auto& backend : held_)
    if (backend->conn->alive()) backend->conn->finishing = false;
  co_return status;
}

net::Task<Status> Backends::commit_participants(CommitHook* hook) {
  std::vector<Backend*> readers, writers;
  for (auto& backend : held_)
    if (backend->begun) (backend->wrote ? writers : readers).push_back(backend.get());
  if (lost_participant()) {
    co_await rollback();
    co_return make_error("08006", "the transaction lost its connection to a group and was rolled back",
                         "Retry the transaction.");
  }
  Status status;
  if (writers.size() <= 1 && hook == nullptr) {
    status = co_await commit_one_phase(readers, writers.empty() ? nullptr : writers[0]);
  } else {
    // Readers first: a serialization failure of one must stop the whole transaction.
    status = co_await commit_one_phase(readers, nullptr);
    if (status.ok()) status = co_await commit_two_phase(writers, hook);
  }
  if (!status.ok() && in_transaction_) co_return co_await undone(std::move(status.error()));
  end_transaction(true);
  co_return status;
}

net::Task<void> Backends::finish_reads() {
  for (auto& backend : held_)
    if (backend->begun && backend->conn->alive()) (void)(co_await backend->conn->drain());
  end_transaction(true);
}

net::Task<Status> Backends::undone(Error error) {
  co_await rollback();
  co_return error;
}

net::Task<Status> Backends::commit_one_phase(const std::vector<Backend*>& readers, Backend* writer,
                                             std::string_view sql, const char* tag) {
  for (Backend* reader : readers) {
    reader->conn->add_internal_query("COMMIT");
    reader->conn->flush();
  }
  Status result;
  for (Backend* reader : readers) {
    Status status = co_await reader->conn->drain();
    reader->conn->settings = settings_;
    reader->begun = false;
    if (!status.ok() && result.ok()) result = std::move(status);
  }
  if (result.ok() && writer != nullptr) {
    result = co_await run_on(*writer, sql, tag);
    if (!result.ok() && result.error().sqlstate == "08006") {
      result.error().sqlstate = "08007";
      result.error().message = std::string("the connection to the group was lost during ") + tag +
                               ": the outcome of the transaction is unknown";
    }
  }
  co_return result;
}

// PREPARE TRANSACTION of all but the anchor. Error: the first that one of them has.
net::Task<Status> Backends::prepare_others(TwoPhase& machine) {
  for (GroupId group : machine.others()) {
    held(group)->conn->add_internal_query(machine.prepare_sql(group));
    held(group)->conn->flush();
  }
  Status failure;
  for (GroupId group : std::vector<uint32_t>(machine.others())) {
    pool::ServerConn& conn = *held(group)->conn;
    pool::ServerConn::Rows rows;
    Status status = co_await conn.drain(&rows);
    notices_ += rows.notices;
    const bool lost = !conn.alive();
    const bool good = status.ok() && rows.tag == "PREPARE TRANSACTION";
    if (status.ok() && !good)
      status = make_error("40000", "the transaction was rolled back by group " + std::to_string(group));
    if (!status.ok() && failure.ok()) failure = std::move(status);
    machine.prepared(group, good   ? TwoPhase::Outcome::success
                            : lost ? TwoPhase::Outcome::unknown
                                   : TwoPhase::Outcome::failure);
  }
  co_return failure;
}

net::Task<Status> Backends::tell_anchor(TwoPhase& machine, const char* tag) {
  pool::ServerConn& conn = *held(machine.anchor())->conn;
  Status status = co_await run_on(*held(machine.anchor()), machine.anchor_sql(), tag);
  const bool lost = !status.ok() && !conn.alive();
  machine.anchor_committed(status.ok() ? TwoPhase::Outcome::success
                           : lost      ? TwoPhase::Outcome::unknown
                                       : TwoPhase::Outcome::failure);
  co_return status;
}

net::Task<Status> Backends::commit_two_phase(const std::vector<Backend*>& writers, CommitHook* hook) {
  std::vector<TwoPhase::Participant> participants;
  for (Backend* writer : writers) participants.push_back({writer->group, writer->not_preparable});
  auto made = TwoPhase::make(participants, services_.next_gid());
  if (!made)
    co_return make_error("0A000", "two groups of this transaction cannot be prepared",
                         "Use temporary tables or NOTIFY on one group only, or split the transaction.");
  TwoPhase& machine = *made;
  if (hook != nullptr) CO_TRY(hook->before(machine.gid()));
  committing_ = machine.gid().text();
  machine.set_row(services_.begin_commit(machine.gid(), database_, machine.groups()));
  Status failure = co_await prepare_others(machine);
  Showing showing(services_.gate(), database_);
  if (machine.step() == TwoPhase::Step::commit_anchor && !machine.others().empty()) co_await showing.begin(loop_);
  if (machine.step() == TwoPhase::Step::commit_anchor) failure = co_await tell_anchor(machine, "COMMIT");
  if (machine.step() == TwoPhase::Step::resolve) {
    auto decision = co_await services_.resolve(loop_, database_, machine.gid(), machine.groups());
    if (!decision.ok()) {
      machine.undecided();
      services_.leave_to_recovery(database_, machine.gid());
      end_transaction(false);
      co_return make_error("08007",
                           "the outcome of the transaction is not known yet: group " +
                               std::to_string(machine.anchor()) +
                               " does not answer; it is committed or rolled back as a whole when it does",
                           "Check with a new transaction before you repeat it.", "Transaction " + machine.gid().text());
    }
    machine.decided(*decision);
  }
  const bool commit = machine.step() == TwoPhase::Step::commit_prepared;
  co_await phase_two(machine);
  if (hook != nullptr) hook->after(machine.gid(), commit);
  if (!commit) co_return failure;
  ++two_phase_commits_;
  co_return Status{};  // decided and durable, also where a group has yet to show it
}

// Tells the groups the decision, and waits a while for those that do not answer: a client reads its own writes. Groups
// that still do not are left to recovery.
net::Task<void> Backends::phase_two(TwoPhase& machine) {
  const bool commit = machine.step() == TwoPhase::Step::commit_prepared;
  std::vector<uint32_t> unfinished;
  // The owner of a prepared transaction is the login user: a role in force may not finish it.
  auto role = settings_->find("role");
  for (GroupId group : machine.prepared()) {
    pool::ServerConn& conn = *held(group)->conn;
    if (role != settings_->end()) conn.add_internal_query("SET ROLE none");
    conn.add_internal_query(commit ? machine.commit_prepared_sql(group) : machine.rollback_prepared_sql(group));
    if (role != settings_->end()) conn.add_internal_query(role->second);
    conn.flush();
  }
  for (GroupId group : machine.prepared()) {
    Status status = co_await held(group)->conn->drain();
    if (!status.ok()) {
      log_warning("exec", "phase two of {} failed at group {}: {}", machine.gid().text(), group,
                  status.error().message);
      unfinished.push_back(group);
    }
    held(group)->begun = false;
    held(group)->conn->settings = settings_;  // PREPARE has kept them, whatever becomes of the rest
  }
  machine.told(std::move(unfinished));
  if (machine.step() == TwoPhase::Step::finish) {
    Status finished = co_await services_.finish(loop_, database_, machine.gid(), machine.unfinished());
    machine.finished(finished.ok());
  }
  if (machine.ended())
    services_.end_commit(machine.gid());
  else
    services_.leave_to_recovery(database_, machine.gid());
}

// In the middle of a batch of the extended protocol it goes along with that, else it is a query of its own.
void Backends::forget_numbers(Backend& backend) {
  pool::ServerConn& conn = *backend.conn;
  if (!std::exchange(conn.knows_numbers, false)) return;
  backend.knows_last = false;
  if (!conn.open_batch()) {
    conn.add_internal_query(kForgetSequences);
    return;
  }
  conn.write_parse("", kForgetSequences, {});
  pg::write_bind_text(conn.out(), "", "", {}, 0);
  pg::write_execute(conn.out(), "", 0);
  using Kind = pool::RequestKind;
  for (Kind kind : {Kind::parse, Kind::bind, Kind::execute})
    conn.expect({.kind = kind, .internal = true, .forgets = true});
  backend.unnamed_statement = 0;
}

Backend* Backends::with_draws() {
  if (in_transaction_) return nullptr;
  for (auto& backend : held_)
    if (backend->draws.draws() && !(keeps(*backend) && backend->knows_last) && backend->conn->alive())
      return backend.get();
  return nullptr;
}

void Backends::forget_draws() {
  for (auto& backend : held_) {
    backend->draws = {};
    backend->knows_last = false;
    backend->conn->knows_numbers = backend->conn->knows_numbers || std::exchange(backend->drew, false);
  }
}

void Backends::release_idle() {
  if (in_transaction_) return;
  for (std::size_t i = 0; i < held_.size();) {
    const bool reusable = held_[i]->conn->alive() && !held_[i]->conn->open_batch();
    if (reusable && (held_[i]->pinned || keep_all_ || held_[i]->draws.draws())) {
      ++i;
      continue;
    }
    if (held_[i]->pinned) lost_pinned_ = true;
    if (held_[i]->draws.any()) lost_draws_.add(held_[i]->draws);
    std::unique_ptr<pool::ServerConn> conn = std::move(held_[i]->conn);
    conn->knows_numbers = conn->knows_numbers || held_[i]->drew;
    if (held_.size() > 1) std::swap(held_[i], held_.back());
    if (spare_backends.size() < 64) spare_backends.push_back(std::move(held_.back()));
    held_.pop_back();
    pool_.release(std::move(conn));
  }
}

void Backends::drop(Backend& backend) {
  if (backend.begun && in_transaction_) lost_participant_ = true;
  if (backend.pinned) lost_pinned_ = true;
  lost_draws_.add(backend.draws);
  lost_draws_.unknown = lost_draws_.unknown || (keep_all_ && backend.drew);
  for (std::size_t i = 0; i < held_.size(); ++i) {
    if (held_[i].get() != &backend) continue;
    std::unique_ptr<pool::ServerConn> conn = std::move(held_[i]->conn);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    pool_.discard(std::move(conn));
    return;
  }
}

void Backends::drop_all() {
  if (borrowed_ != nullptr) pool_.discard(std::move(borrowed_));
  while (!held_.empty()) {
    std::unique_ptr<pool::ServerConn> conn = std::move(held_.back()->conn);
    held_.pop_back();
    pool_.discard(std::move(conn));
  }
}

void Backends::unpin_all() {
  for (auto& backend : held_) {
    if (!backend->pinned) continue;
    backend->pinned = false;
    backend->conn->tainted = true;
  }
}

void Backends::cancel() {
  cancel_asked_ = true;
  if (waiting_ != nullptr) {
    pool_.abandon(*waiting_);  // resumes the session, which may be elsewhere by now
    return;
  }
  if (borrowed_ != nullptr && !borrowed_->idle()) net::spawn(pool_.cancel(*borrowed_));
  for (auto& backend : held_)
    if (!backend->conn->idle()) net::spawn(pool_.cancel(*backend->conn));
}

}  // namespace pgmosaic::exec
