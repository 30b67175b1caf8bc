// Backends of REPEATABLE READ and SERIALIZABLE transactions. The snapshots of a REPEATABLE READ one are taken on all
// groups with its first statement, until they agree (exec/untorn.h): whatever it reads later, wherever, is as of them.
#include <algorithm>

#include "exec/untorn.h"

namespace pgmosaic::exec {

namespace {

constexpr int64_t kPatienceUs = 30'000'000;
constexpr int64_t kPauseUs = 2'000;
constexpr int kQuickAttempts = 5;

}  // namespace

void Backends::set_isolation(Isolation isolation, std::vector<GroupId> groups) {
  isolation_ = isolation;
  snapshot_groups_ = std::move(groups);
  serial_group_ = 0;
}

Error beyond_one_group() {
  return make_error("0A000", "a SERIALIZABLE transaction cannot reach rows of several groups",
                    "Use ISOLATION LEVEL REPEATABLE READ, or keep the transaction to one distribution key.");
}

Status Backends::may_reach(std::span<const GroupId> groups) {
  if (isolation_ != Isolation::serializable) return {};
  for (const GroupId group : groups) {
    if (serial_group_ == 0) serial_group_ = group;
    if (group != serial_group_) return beyond_one_group();
  }
  return {};
}

// The transaction has done nothing on them yet.
net::Task<void> Backends::begin_again(const std::vector<Backend*>& backends) {
  for (Backend* backend : backends) {
    backend->conn->add_internal_query("ROLLBACK");
    backend->conn->flush();
  }
  for (Backend* backend : backends) {
    (void)(co_await backend->conn->drain());
    backend->conn->settings = backend->settings_before;
    backend->begun = false;
    prepare(*backend);
  }
}

// `first` is the group that the statement at hand goes to: its now() is the transaction's.
net::Task<Status> Backends::take_transaction_snapshots(GroupId first) {
  const std::vector<GroupId> groups = std::exchange(snapshot_groups_, {});
  if (first_group_ == 0) first_group_ = first;
  const int64_t since_us = loop_.now_us();
  for (const auto& backend : held_)
    used_before_ = used_before_ || (backend->begun && (backend->wrote || backend->pinned));
  cancel_asked_ = false;
  std::optional<GateClosed> gate;
  for (int attempts = 1;; ++attempts) {
    if (attempts > 1 || used_before_) {
      gate.emplace(services_.gate(), database_, attempts - 1);
      co_await gate->drained(loop_);
    }
    auto backends = co_await get_all(groups);
    Status status;
    bool agreed = false;
    if (!backends.ok()) {
      status = std::move(backends.error());
    } else if (auto taken = co_await exec::take_snapshots(*backends, seen_commits_sql(groups)); taken.ok()) {
      agreed = *taken;
    } else {
      status = std::move(taken.error());
    }
    gate.reset();
    if (agreed) co_return Status{};
    if (status.ok() && cancel_asked_) status = make_error("57014", "canceling statement due to user request");
    if (!status.ok() || used_before_ || loop_.now_us() - since_us > kPatienceUs) {
      snapshot_groups_ = groups;
      if (!status.ok()) co_return status;
      co_return torn();
    }
    co_await begin_again(*backends);
    if (attempts > kQuickAttempts) co_await loop_.sleep(kPauseUs);
  }
}

}  // namespace pgmosaic::exec
