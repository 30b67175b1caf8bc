#include "router/snapshots.h"

namespace pgmosaic::router {

namespace {

// A transaction that is committed on one group and in doubt on another tears all snapshots until recovery has found it.
constexpr int64_t kPatienceUs = 30'000'000;
constexpr int64_t kPauseUs = 2'000;
constexpr int kQuickAttempts = 5;

}  // namespace

Error torn() {
  return make_error("40001", "could not read several groups as of one moment",
                    "A transaction over several groups is committed on one of them and not on another: retry when all "
                    "groups answer.");
}

std::string SnapshotAttempts::question(const std::vector<exec::GroupId>& groups) const {
  const std::string lock = without_locks_ ? "" : "LOCK TABLE " + std::string(tables_) + " IN ACCESS SHARE MODE; ";
  return lock + exec::seen_commits_sql(groups);
}

Status SnapshotAttempts::judge(Result<bool> agreed) {
  gate_.reset();
  in_front_ = false;
  if (!agreed.ok()) {
    // Who may read some columns only may not lock the table.
    again_ = agreed.error().sqlstate == "42501" && !std::exchange(without_locks_, true);
    return std::move(agreed.error());
  }
  if (*agreed) return {};
  again_ = worker_.loop.now_us() - since_us_ < kPatienceUs;
  return torn();
}

net::Task<Status> SnapshotAttempts::take(const std::vector<exec::Backend*>& backends) {
  again_ = false;
  if (attempts_++ == 0) since_us_ = worker_.loop.now_us();
  std::vector<exec::GroupId> groups;
  for (const exec::Backend* backend : backends) groups.push_back(backend->group);
  std::string sql = question(groups);
  asked_ = in_front_;
  if (!in_front_) co_return judge(co_await exec::take_snapshots(backends, std::move(sql)));
  for (exec::Backend* backend : backends) backend->conn->add_internal_query(sql);
  co_return Status{};
}

net::Task<Status> SnapshotAttempts::check(std::vector<exec::RowReader>& readers) {
  if (!std::exchange(asked_, false)) co_return Status{};
  std::vector<exec::GroupId> groups;
  std::vector<std::string> answers;
  Status status;
  for (exec::RowReader& reader : readers) {
    auto value = co_await reader.value_in_front();
    if (!value.ok() && status.ok()) status = std::move(value.error());
    groups.push_back(reader.backend().group);
    answers.push_back(value.ok() ? std::move(*value) : std::string());
  }
  if (!status.ok()) co_return judge(std::move(status.error()));
  co_return judge(exec::agree(groups, answers));
}

net::Task<void> SnapshotAttempts::wait() {
  if (attempts_ > kQuickAttempts) co_await worker_.loop.sleep(kPauseUs);
  gate_.emplace(worker_.context.commit->gate(), backends_.database());
  co_await worker_.context.commit->gate().drained(worker_.loop, backends_.database());
}

}  // namespace pgmosaic::router
