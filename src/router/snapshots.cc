#include "router/snapshots.h"

#include <algorithm>

#include "exec/control.h"

namespace pgmosaic::router {

namespace {

// A transaction that is committed on one group and in doubt on another tears all snapshots until recovery has found it.
constexpr int64_t kPatienceUs = 30'000'000;
constexpr int64_t kPauseUs = 2'000, kCancelPollUs = 500;
constexpr int kQuietFactor = 2;  // times what the statement takes
constexpr std::chrono::milliseconds kLeastQuiet{1};
constexpr int kAttemptsAlong = 3, kQuickAttempts = 5;
constexpr std::string_view kPortal = "pgmosaic_snapshot";

}  // namespace

// Within a block the statement has its locks when it is bound.
std::string SnapshotAttempts::question(const std::vector<exec::GroupId>& groups) const {
  std::string sql;
  if (place_ == Place::own && !without_locks_) sql = lock_sql() + (locked_out_ ? "; " : " NOWAIT; ");
  return sql + exec::seen_commits_sql(groups);
}

std::string SnapshotAttempts::lock_sql() const {
  return "LOCK TABLE " + std::string(tables_) + " IN ACCESS SHARE MODE";
}

Status SnapshotAttempts::judge(Result<bool> agreed) {
  gate_.reset();
  along_ = along_ && agreed.ok() && attempts_ < kAttemptsAlong;
  if (!agreed.ok()) {
    const std::string& sqlstate = agreed.error().sqlstate;
    if (place_ == Place::own && sqlstate == "42501") {  // who may read some columns only may not lock the table
      again_ = !std::exchange(without_locks_, true);
    } else if (place_ == Place::own && sqlstate == "55P03") {
      again_ = !std::exchange(locked_out_, true);
    }
    return std::move(agreed.error());
  }
  checked_ = *agreed;
  if (checked_) return {};
  again_ = worker_.loop.now_us() - since_us_ < kPatienceUs;
  return exec::torn();
}

// Whoever locks the tables against readers does so at the home first. Waiting there, and for nobody elsewhere, this
// cannot be part of a deadlock over groups.
net::Task<Result<exec::Backend*>> SnapshotAttempts::wait_at_home() {
  auto home = co_await backends_.get(worker_.snapshot->home);
  if (!home.ok()) co_return std::move(home.error());
  auto locked = co_await (*home)->conn->query(lock_sql());
  if (!locked.ok()) co_return std::move(locked.error());
  co_return *home;
}

net::Task<Status> SnapshotAttempts::take(const std::vector<exec::Backend*>& backends) {
  if (attempts_++ == 0) since_us_ = worker_.loop.now_us();
  began_ = std::chrono::steady_clock::now();
  checked_ = false;
  backends_.gives_way = unasked() && place_ == Place::own;
  if (unasked()) co_return Status{};
  std::vector<exec::GroupId> groups;
  for (const exec::Backend* backend : backends) groups.push_back(backend->group);
  question_ = question(groups);
  asked_ = along_ || place_ == Place::block;
  if (is_copy_ && asked_ && beside_.empty()) CO_TRY(co_await connect_beside(groups));
  if (asked_) {
    for (exec::Backend* backend : backends) backend->conn->add_internal_query(question_);
    co_return Status{};
  }
  exec::Backend* home = nullptr;
  if (locked_out_ && !without_locks_) {
    CO_TRY_ASSIGN(home, co_await wait_at_home());
  }
  Status agreed = judge(co_await exec::take_snapshots(backends, question_));
  const bool beside = home != nullptr && std::find(backends.begin(), backends.end(), home) == backends.end();
  if (agreed.ok() && beside) {  // the groups have their locks; what commits there is the statement's
    home->conn->add_internal_query("COMMIT");
    home->conn->flush();
  }
  co_return agreed;
}

void SnapshotAttempts::apply(exec::Request& request) const {
  if (unasked()) return;
  request.commit = place_ == Place::own;
  if (place_ == Place::own || is_copy_) return;
  request.portal = kPortal;
  request.behind_bind = question_;
  request.later = !along_;
}

net::Task<Status> SnapshotAttempts::connect_beside(const std::vector<exec::GroupId>& groups) {
  for (const exec::GroupId group : groups) {
    auto conn = co_await worker_.context.control->connect(worker_.loop, group, backends_.database());
    if (!conn.ok()) co_return std::move(conn.error());
    beside_.push_back(std::move(*conn));
  }
  co_return Status{};
}

// Of all groups, read to the end of what is in front of the rows.
net::Task<Result<bool>> SnapshotAttempts::answers(std::vector<exec::RowReader>& readers) {
  std::vector<exec::GroupId> groups;
  std::vector<std::string> before, behind;
  Status status;
  const bool encloses = place_ == Place::block;
  const std::size_t asked = encloses && !is_copy_ ? 2 : 1;
  for (exec::RowReader& reader : readers) {
    auto values = co_await reader.values_in_front();
    if (!values.ok() && status.ok()) status = std::move(values.error());
    const std::size_t answered = values.ok() ? values->size() : 0;
    groups.push_back(reader.backend().group);
    before.push_back(answered < asked ? std::string() : std::move((*values)[answered - asked]));
    behind.push_back(asked == 1 || answered < asked ? before.back() : std::move(values->back()));
  }
  for (exec::RowReader& reader : readers) {
    if (!encloses || !is_copy_ || !status.ok()) break;
    status = co_await reader.until_copy_out();
  }
  if (!status.ok()) co_return std::move(status.error());
  if (encloses && is_copy_) {
    std::vector<pool::ServerConn*> conns;
    for (const auto& conn : beside_) conns.push_back(conn.get());
    CO_TRY_ASSIGN(behind, co_await exec::ask_all(std::move(conns), question_));
  }
  if (!std::equal(before.begin(), before.end(), behind.begin(), behind.end(), exec::tells_the_same)) co_return false;
  co_return exec::agree(groups, before);
}

SnapshotAttempts::~SnapshotAttempts() {
  backends_.gives_way = false;
  if (!shape_ || !checked_) return;
  const auto taken = std::chrono::steady_clock::now() - began_;
  worker_.read_times.note(*shape_, std::chrono::duration_cast<ReadTimes::Time>(taken));
}

void SnapshotAttempts::hope(std::string_view sql) {
  sql::scan_shape(sql, worker_.shape);
  shape_ = worker_.shape.hash;
  const ReadTimes::Time quiet = kQuietFactor * worker_.read_times.of(*shape_) + kLeastQuiet;
  quiet_ = worker_.context.commit->quiet(backends_.database(), quiet);
}

void SnapshotAttempts::give_way(std::unique_ptr<Error>& deadlock) {
  if (!deadlock || !unasked() || checked_) return;
  deadlock.reset();
  repeat();
}

void SnapshotAttempts::repeat() {
  quiet_.reset();
  again_ = at_once_ = true;
}

net::Task<Status> SnapshotAttempts::check(std::vector<exec::RowReader>& readers) {
  if (unasked()) {
    for (exec::RowReader& reader : readers) co_await reader.until_answer();
    backends_.gives_way = false;
    checked_ = worker_.context.commit->quiet(backends_.database()) == quiet_;
    if (checked_) co_return Status{};
    repeat();
    co_return exec::torn();
  }
  if (!std::exchange(asked_, false)) co_return Status{};
  const bool executes = !along_ && !is_copy_ && place_ == Place::block;
  Status agreed = judge(co_await answers(readers));
  if (!agreed.ok() || !executes) co_return agreed;
  for (exec::RowReader& reader : readers) reader.send_rest();
  co_return agreed;
}

net::Task<void> SnapshotAttempts::wait() {
  again_ = false;
  // A deadlock's end may still be under way to a group that had answered already.
  for (const auto& backend : backends_.all())
    while (backend->conn->cancelling) co_await worker_.loop.sleep(kCancelPollUs);
  if (std::exchange(at_once_, false)) co_return;
  if (attempts_ > kQuickAttempts) co_await worker_.loop.sleep(kPauseUs);
  gate_.emplace(worker_.context.commit->gate(), backends_.database(), attempts_);
  co_await gate_->drained(worker_.loop);
}

}  // namespace pgmosaic::router
