#include "router/health.h"

#include "base/log.h"

namespace pgmosaic::router {

namespace {

constexpr int kTimeoutMs = 3000;
constexpr int64_t kIntervalUs = 2'000'000;

}  // namespace

Health::Health(net::EventLoop& loop, const std::vector<control::GroupEndpoint>& groups, pool::Credentials internal,
               std::string database)
    : loop_(loop), internal_(std::move(internal)), database_(std::move(database)) {
  for (const control::GroupEndpoint& group : groups) {
    targets_.emplace_back().endpoint = group;
    // The cluster has just been opened over all of them.
    states_.push_back({group.group.id, group.group.name, true, {}});
  }
}

void Health::probe() {
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    if (targets_[i].asking || loop_.now_us() - targets_[i].asked_us < kIntervalUs) continue;
    targets_[i].asking = true;
    targets_[i].asked_us = loop_.now_us();
    net::spawn(ask(i));
  }
}

net::Task<Status> Health::query(Target& target) {
  if (!target.conn || !target.conn->alive()) {
    auto conn = co_await pool::ServerConn::connect(loop_, target.endpoint.endpoint, internal_, database_, kTimeoutMs);
    if (!conn.ok()) co_return std::move(conn.error());
    target.conn = std::move(*conn);
  }
  net::Stream& stream = target.conn->stream();
  bool timed_out = false;
  auto timer = loop_.start_timer(int64_t{kTimeoutMs} * 1000, [&stream, &timed_out] {
    timed_out = true;
    stream.interrupt();
  });
  auto rows = co_await target.conn->query("SELECT 1");
  if (!timed_out) loop_.cancel_timer(timer);
  if (timed_out) co_return make_error("08006", "no answer within " + std::to_string(kTimeoutMs) + " ms");
  if (!rows.ok()) co_return std::move(rows.error());
  co_return Status{};
}

net::Task<void> Health::ask(std::size_t index) {
  Target& target = targets_[index];
  const bool reused = target.conn != nullptr;
  Status status = co_await query(target);
  if (!status.ok()) target.conn.reset();
  if (!status.ok() && reused) {  // the connection may have been the only problem
    status = co_await query(target);
    if (!status.ok()) target.conn.reset();
  }
  note(index, status);
  target.asking = false;
}

void Health::note(std::size_t index, const Status& status) {
  std::lock_guard lock(mutex_);
  GroupHealth& state = states_[index];
  if (state.up != status.ok()) {
    if (status.ok()) {
      log_info("router", "group {} answers again", state.name);
    } else {
      log_warning("router", "group {} does not answer: {}", state.name, status.error().message);
    }
  }
  state.up = status.ok();
  state.problem = status.ok() ? std::string() : status.error().message;
}

std::vector<GroupHealth> Health::groups() const {
  std::lock_guard lock(mutex_);
  return states_;
}

bool Health::any_up() const {
  std::lock_guard lock(mutex_);
  for (const GroupHealth& state : states_)
    if (state.up) return true;
  return false;
}

std::string Health::group_name(catalog::GroupId id) const {
  for (const Target& target : targets_)
    if (target.endpoint.group.id == id) return target.endpoint.group.name;
  return std::to_string(id);
}

}  // namespace pgmosaic::router
