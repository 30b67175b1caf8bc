// Snapshots for a read over several groups that agree (exec/untorn.h): taken again until they do.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exec/row_reader.h"
#include "exec/untorn.h"
#include "router/worker.h"

namespace pgmosaic::router {

// Of one statement, on its session's thread.
//
// While no transaction over groups is about to show itself, any snapshots agree: the first attempt asks nothing, and
// looks whether one has begun meanwhile when all groups have answered, which for most statements is at their end. The
// next one has the questions along with the statement, in the same packet; what it answers is dropped where the
// snapshots do not agree. Later, and for COPY, first they, then the rows.
class SnapshotAttempts {
 public:
  // own: a REPEATABLE READ transaction of the statement's own, whose snapshots the question takes.
  // block: a READ COMMITTED one of the client's. The statement's snapshots are those of its portals, which are bound
  // between two questions: they show what both answers do, if these are equal. COPY has no portal; the second question
  // goes to other connections when it has begun.
  enum class Place : uint8_t { own, block };

  // `tables`: what it reads, for LOCK TABLE.
  SnapshotAttempts(Worker& worker, exec::Backends& backends, Place place, std::string_view tables, bool is_copy)
      : worker_(worker), backends_(backends), tables_(tables), place_(place), along_(!is_copy), is_copy_(is_copy) {}
  ~SnapshotAttempts();

  // The first attempt need not ask, if there is reason to hope that it will not have to be repeated. REQUIRES: a
  // SELECT, whose first answer comes behind its snapshot. `sql`: its text.
  void hope(std::string_view sql);

  // Whether this attempt needs neither questions nor a transaction.
  bool unasked() const { return quiet_.has_value(); }
  // REQUIRES: BEGIN is queued on the backends, if it must be. Error: of a group, or torn() after a long time. Then, or
  // if again(), an own transaction must be rolled back.
  net::Task<Status> take(const std::vector<exec::Backend*>& groups);
  // What the statement's requests need of it.
  void apply(exec::Request& request) const;
  // Behind sending the statement. After an error the readers must be finished.
  net::Task<Status> check(std::vector<exec::RowReader>& readers);
  bool again() const { return again_; }
  // The attempt has failed, as this deadlock's victim if it is one. An unasked one, of which nothing has gone anywhere,
  // need not tell.
  void give_way(std::unique_ptr<Error>& deadlock);
  bool in_block() const { return place_ == Place::block; }
  void give_up() { again_ = false; }
  // Before the next attempt; for an own one outside of a transaction.
  net::Task<void> wait();

 private:
  void repeat();  // the next attempt asks
  Status judge(Result<bool> agreed);
  net::Task<Result<bool>> answers(std::vector<exec::RowReader>& readers);
  net::Task<Status> connect_beside(const std::vector<exec::GroupId>& groups);
  net::Task<Result<exec::Backend*>> wait_at_home();
  std::string lock_sql() const;
  std::string question(const std::vector<exec::GroupId>& groups) const;

  Worker& worker_;
  exec::Backends& backends_;
  std::string_view tables_;
  std::string question_;
  std::optional<exec::GateClosed> gate_;
  std::optional<uint64_t> quiet_;  // CommitServices::quiet() when the attempt began
  std::optional<uint64_t> shape_;  // of a SELECT; its time is noted
  std::chrono::steady_clock::time_point began_;
  int64_t since_us_ = 0;
  int attempts_ = 0;
  Place place_;
  bool along_;  // with the statement, in one packet
  bool is_copy_;
  std::vector<std::unique_ptr<pool::ServerConn>> beside_;  // one for each group
  bool asked_ = false, again_ = false, without_locks_ = false, checked_ = false, at_once_ = false;
  bool locked_out_ = false;  // somebody has a lock against readers
};

}  // namespace pgmosaic::router
