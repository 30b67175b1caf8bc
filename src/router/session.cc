#include "router/session.h"

#include <algorithm>
#include <limits>

#include "base/log.h"
#include "exec/awake.h"
#include "router/admin.h"
#include "router/deadlocks.h"
#include "router/new_roles.h"
#include "router/saga_calls.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr std::size_t kMaxBuffered = 256u << 20;   // rows of a row-limited portal over several groups
constexpr int64_t kCancelPatienceUs = 3'000'000;   // time that a backend has to heed a cancel before it is cut off
constexpr int kNudgesInTime = 3;                   // that participants get in the time after which they would end
constexpr std::size_t kOutHighWater = 256 * 1024;  // bytes owed to a client before its statement waits

// Errors of a server or of the way to it: the client wants to know which. Those of a statement are as one PostgreSQL's.
bool is_operational(const Error& error) {
  if (error.sqlstate == "57014") return false;  // canceled: the client knows why
  for (std::string_view sqlstate_class : {"08", "53", "57", "58", "XX"})
    if (error.sqlstate.starts_with(sqlstate_class)) return true;
  return false;
}

// The shorter one of two limits; 0: none.
int shorter(int one, int other) { return one == 0 || other == 0 ? std::max(one, other) : std::min(one, other); }

}  // namespace

Session::Session(Worker& worker, int fd, net::Peer peer)
    : worker_(worker),
      client_(worker.loop, fd),
      peer_(std::move(peer)),
      backends_(worker.loop, worker.pool, *worker.context.commit),
      names_(worker.context.names),
      connected_us_(worker.loop.now_us()) {}

Session::~Session() {
  if (pid_ != 0) worker_.context.sessions.remove(pid_);
}

ExtendedState& Session::ext() {
  if (!extended_) extended_ = std::make_unique<ExtendedState>();
  return *extended_;
}

char Session::status_char() const {
  if (!backends_.in_transaction() || implicit_) return 'I';
  return failed_ ? 'E' : 'T';
}

void Session::put_error(Error error, std::string_view severity) {
  WorkerStats::add(worker_.stats.errors);
  const bool of_home = snapshot_ && error.node == "group " + std::to_string(snapshot_->home);
  if (deadlock_) name_deadlock(error, *deadlock_);
  if (!error.node.empty() && !of_home && error.detail.empty() && is_operational(error))
    error.detail = "It came from " + error.node + ".";
  if (error.sqlstate != "08006") {
    rename_leaves(error.message);
    rename_leaves(error.detail);
    rename_leaves(error.fields);
    rename_foreign_key(error);
  }
  pg::write_error(out_, error, severity);
  statement_failed_ = true;
  if (backends_.in_transaction()) failed_ = true;
}

void Session::put_ready() {
  if (suppress_ready_) return;
  // Notifications that came while the router was asking something of its own.
  for (auto& backend : backends_.all()) out_ += std::exchange(backend->conn->overheard, {});
  pg::write_ready(out_, status_char());
}

bool Session::send_now(std::string_view bytes) {
  WorkerStats::add(worker_.stats.bytes_to_clients, bytes.size());
  if (!out_.empty()) {
    out_.append(bytes);
    bytes = {};
  }
  std::string_view pending = out_.empty() ? bytes : std::string_view(out_);
  std::size_t sent = 0;
  while (sent < pending.size()) {
    const net::IoResult result = client_.write(pending.substr(sent));
    if (result.kind == net::IoResult::Kind::ok) {
      sent += result.bytes;
    } else if (result.kind == net::IoResult::Kind::would_block) {
      break;
    } else {
      client_gone_ = true;
      out_.clear();
      return false;
    }
  }
  if (out_.empty()) {
    out_.assign(bytes.substr(sent));
  } else if (sent == out_.size()) {
    out_.capacity() > 4096 ? std::string().swap(out_) : out_.clear();
  } else {
    out_.erase(0, sent);
  }
  return true;
}

net::Task<bool> Session::flush_out() {
  while (!out_.empty() && !client_gone_) {
    if (!send_now({}) || out_.empty()) break;
    const net::WaitStatus waited = co_await client_.writable();
    if (waited == net::WaitStatus::interrupted && closing_) co_return false;
  }
  co_return !client_gone_;
}

net::Task<bool> Session::throttle() {
  if (buffering_) co_return !client_gone_ && out_.size() < kMaxBuffered;
  if (out_.size() > kOutHighWater) co_return co_await flush_out();
  if (client_gone_) backends_.cancel();
  co_return !client_gone_;
}

net::Task<void> Session::run() {
  client_.on_hangup(
      [](void* self) {
        auto* session = static_cast<Session*>(self);
        session->client_gone_ = true;
        session->backends_.cancel();
      },
      this);
  if (co_await login()) {
    state_ = State::idle;
    for (;;) {
      if (nudged_) co_await hear_participants();
      if (copy_rest_ > 0) {  // the end of a CopyData message whose COPY has failed
        const std::size_t skip = std::min<std::size_t>(copy_rest_, in_.view().size());
        in_.consume(skip);
        copy_rest_ -= static_cast<uint32_t>(skip);
      }
      pg::MessageView message;
      uint32_t length = 0;
      pg::FrameStatus frame = pg::FrameStatus::incomplete;
      if (!backends_.lost_pinned()) frame = pg::peek_message(in_.view(), message, length);
      if (frame == pg::FrameStatus::complete) {
        in_.consume(length);
        bool go_on = true;
        if (exec::Backend* backend = try_fast(message)) {
          go_on = co_await relay_fast(*backend);
        } else {
          go_on = co_await handle(message);
        }
        if (!go_on) break;
        if (nudged_) co_await hear_participants();
        if (failed_ && state_ == State::idle && backends_.in_transaction()) {
          in_.own();
          send_now({});
          state_ = State::active;  // cancel() and terminate() reach it
          active_since_us_ = worker_.loop.now_us();
          co_await backends_.fail_participants();
          report_changes(backends_.first_group());  // settings went back
          watch_parameters();                       // told once
          state_ = State::idle;
          drop_broken_backends();
        }
        if (sequences_change_ && state_ == State::idle && !backends_.in_transaction()) sequences_change_.reset();
        if (backends_.with_draws() != nullptr && state_ == State::idle) {
          in_.own();
          const bool flushed = co_await flush_out();
          if (!flushed) break;
          state_ = State::active;  // cancel() reaches it
          active_since_us_ = worker_.loop.now_us();
          co_await numbers_.read_all();
          state_ = State::idle;
          drop_broken_backends();
          backends_.release_idle();
        }
        continue;
      }
      if (frame == pg::FrameStatus::malformed) {
        put_error(make_error("08P01", "invalid message length"), "FATAL");
        break;
      }
      if (!co_await next_input()) break;
    }
  }
  co_await end();
}

net::Task<bool> Session::next_input() {
  if (!out_.empty()) {
    const bool flushed = co_await flush_out();
    if (!flushed) co_return false;
  }
  for (bool woken = false;;) {  // by the router's clock: the client has not spoken
    const bool between = !backends_.in_transaction();
    // One PostgreSQL would end with its sessions; to go on without their temporary tables and locks would be worse. (A
    // lambda: what it needs does not stay in this coroutine's frame, which every idle client has.)
    if (backends_.lost_pinned())
      [this] {
        terminate(
            "08006",
            "the session's connection to a group was lost, and with it temporary tables, session locks or LISTENs");
      }();
    if ((close_when_idle_ && between) || closing_) {
      if (!termination_) terminate("57P01", "terminating connection due to administrator command");
      put_error(*termination_, "FATAL");
      co_return false;
    }
    if (client_gone_) co_return false;
    in_.own();
    if (nudged_) {
      co_await hear_participants();
      woken = true;
      continue;
    }
    // The limits on idle time may be others now: RESET ALL, ROLLBACK.
    if (plan_settings_ && plan_settings_->limits_idle_time() && !context_current() &&
        (!extended_ || extended_->current == nullptr)) {
      const State before = std::exchange(state_, State::active);
      active_since_us_ = worker_.loop.now_us();
      (void)(co_await refresh_context());
      state_ = before;
      backends_.release_idle();
      if (closing_) continue;
    }
    if (!std::exchange(woken, false)) idle_since_us_ = worker_.loop.now_us();
    net::WaitSet wait;
    wait.read(client_);
    for (auto& backend : backends_.all())
      if (backend->pinned && !backends_.in_transaction()) wait.read(backend->conn->stream());
    const net::WaitStatus waited = co_await wait;
    if (waited == net::WaitStatus::interrupted) continue;
    if (!client_.can_read()) {
      // A pinned backend spoke: a notification, or its end.
      const bool told = co_await pass_notifications();
      if (!told) co_return false;
      if (backends_.lost_pinned()) co_return true;
      continue;
    }
    char* scratch = worker_.loop.scratch();
    const net::IoResult result = client_.read(scratch, net::EventLoop::kScratchSize);
    if (result.kind == net::IoResult::Kind::would_block) continue;
    if (result.kind != net::IoResult::Kind::ok) co_return false;
    WorkerStats::add(worker_.stats.bytes_from_clients, result.bytes);
    in_.feed({scratch, result.bytes});
    co_return true;
  }
}

net::Task<void> Session::hear_participants() {
  in_.own();
  const State before = std::exchange(state_, State::active);  // cancel() and terminate() reach it
  if (before == State::idle) active_since_us_ = worker_.loop.now_us();
  nudged_us_ = std::numeric_limits<int64_t>::max();  // not now
  co_await exec::hear_participants(backends_);
  nudged_us_ = worker_.loop.now_us();
  state_ = before;
  nudged_ = false;
  drop_broken_backends();
}

// What a pinned backend says while the client is idle: notifications and notices go to the client.
net::Task<bool> Session::pass_notifications() {
  for (std::size_t i = 0; i < backends_.all().size(); ++i) {
    exec::Backend& backend = *backends_.all()[i];
    if (!backend.pinned || !backend.conn->stream().has_input()) continue;
    const bool received = backend.conn->receive();
    pool::Reply reply;
    while (backend.conn->next_reply(reply, false) == pool::ReplyStatus::reply) out_ += reply.message.whole;
    backend.conn->own_input();
    if (received && backend.conn->alive()) continue;
    drop_backend(backend);
    break;
  }
  co_return co_await flush_out();
}

net::Task<bool> Session::handle(pg::MessageView message) {
  if (admin_) co_return co_await admin_message(message);
  // Behind an error of the extended protocol all is dropped until Sync.
  if (extended_ && extended_->skip_to_sync && message.type != 'S' && message.type != 'X') co_return true;
  switch (message.type) {
    case 'Q': co_return co_await simple_query(message.whole);
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
    case 'H':
    case 'S': co_return co_await extended(message);
    case 'X': co_return false;
    case 'd':
    case 'c':
    case 'f': co_return true;  // left over from a COPY that has failed
    case 'F': co_return co_await function_call(message);
    default:
      put_error(make_error("08P01", fmt::format("invalid frontend message type {}", static_cast<int>(message.type))),
                "FATAL");
      co_return false;
  }
}

// The client has gone or must go: roll back, give back what is clean, say the last words.
net::Task<void> Session::end() {
  client_.on_hangup(nullptr, nullptr);
  if (backends_.in_transaction()) {
    // A backend in mid-statement is closed; PostgreSQL rolls back there.
    bool clean = true;
    for (auto& backend : backends_.all())
      if (!backend->conn->idle() || backend->conn->has_unsent()) clean = false;
    if (clean) {
      co_await backends_.rollback();
      co_await drop_unborn_roles(backends_, snapshot_->home);
    } else {
      backends_.drop_all();
    }
  }
  SagaCalls(*this).session_ended();
  backends_.unpin_all();
  backends_.forget_draws();
  backends_.release_idle();
  backends_.drop_all();
  if (!client_gone_ && !out_.empty()) send_now({});
  worker_.session_ended(this);  // destroys this
}

void Session::cancel(std::unique_ptr<Error> deadlock) {
  if (admin_) admin_->cancel();
  if (state_ != State::active) return;
  if (deadlock) {
    deadlock_ = std::move(deadlock);
  } else {
    cancelled_ = true;
  }
  backends_.cancel();
}

bool Session::spans_groups(int64_t now_us, int64_t running_us) {
  return state_ == State::active && backends_.all().size() > 1 && now_us - active_since_us_ >= running_us;
}

void Session::terminate(const char* sqlstate, std::string message) {
  if (!termination_) termination_ = std::make_unique<Error>(make_error(sqlstate, std::move(message)));
  if (!std::exchange(closing_, true)) closing_since_us_ = worker_.loop.now_us();
  if (state_ == State::active || backends_.waiting()) {
    backends_.cancel();
  } else {
    client_.interrupt();
  }
}

void Session::close_when_idle() {
  close_when_idle_ = true;
  if (state_ == State::idle && !backends_.in_transaction()) client_.interrupt();
}

void Session::tick(int64_t now_us) {
  const Config& config = *worker_.config;
  const int in_transaction_ms = plan_settings_ ? plan_settings_->idle_in_transaction_ms : 0;
  const int between_ms = plan_settings_ ? plan_settings_->idle_session_ms : 0;
  auto over = [now_us](int64_t since_us, int limit_ms) {
    return limit_ms > 0 && now_us - since_us > int64_t{limit_ms} * 1000;
  };
  if (state_ == State::active && client_.hung_up()) {
    // Its last request and its end may have come in one event; and a cancel is lost where it overtakes the statement.
    client_gone_ = true;
    if (!std::exchange(closing_, true)) closing_since_us_ = now_us;
  }
  if (closing_ && state_ == State::active) {
    if (backends_.waiting()) {
      backends_.cancel();  // the session runs inside it and may end
      return;
    }
    for (auto& backend : backends_.all()) {
      if (backend->conn->idle()) continue;
      if (backend->conn->finishing) return;  // a COMMIT under way is not cancelled
      if (now_us - closing_since_us_ < kCancelPatienceUs) {
        backends_.cancel();  // again: one that overtook its statement is lost
      } else {
        backend->conn->stream().interrupt();  // one per tick: the session runs inside it and may end
      }
      return;
    }
    client_.interrupt();
    return;
  }
  if (state_ == State::login) {
    if (over(connected_us_, config.timeouts.client_login_ms)) return terminate("08006", "login took too long");
  } else if (state_ == State::active) {
    if (!timed_out_ && over(active_since_us_, config.timeouts.query_ms)) {
      timed_out_ = true;
      log_info("router", "statement of user={} database={} exceeded timeouts.query_ms", backends_.user(),
               backends_.database());
      return backends_.cancel();
    }
  } else if (backends_.in_transaction()) {
    if (over(idle_since_us_, shorter(config.timeouts.idle_in_transaction_ms, in_transaction_ms)))
      return terminate("25P03", "terminating connection due to idle-in-transaction timeout");
  } else if (over(idle_since_us_, shorter(config.timeouts.client_idle_ms, between_ms))) {
    return terminate("57P05", "terminating connection due to idle-session timeout");
  }
  if (state_ == State::login || !over(nudged_us_, in_transaction_ms / kNudgesInTime)) return;
  nudged_us_ = now_us;
  nudged_ = exec::nudge_participants(backends_) || nudged_;
  if (nudged_ && state_ == State::idle) client_.interrupt();
}

ClientState Session::client_state() const {
  if (state_ == State::login) return ClientState::login;
  if (state_ == State::active) return backends_.waiting() ? ClientState::waiting : ClientState::active;
  return backends_.in_transaction() ? ClientState::idle_in_transaction : ClientState::idle;
}

SessionInfo Session::info() {
  SessionInfo result{};
  result.pid = pid_;
  result.user = backends_.user();
  result.database = backends_.database();
  result.application = application_name_;
  result.address = peer_.local ? "unix" : peer_.address;
  result.port = peer_.port;
  result.state = client_state_name(client_state());
  result.query = last_query_;
  result.connected_us = connected_us_;
  result.query_start_us = active_since_us_;
  for (auto& backend : backends_.all()) result.backends.emplace_back(backend->group, backend->conn->pid);
  result.committing = backends_.committing();
  result.began_us = backends_.in_transaction() ? backends_.began_us()
                    : backends_.gives_way      ? std::numeric_limits<int64_t>::max()
                                               : active_since_us_;
  return result;
}

}  // namespace pgmosaic::router
