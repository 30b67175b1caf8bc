// Snapshots for a read over several groups that agree (exec/untorn.h): taken again until they do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "exec/row_reader.h"
#include "exec/untorn.h"
#include "router/worker.h"

namespace pgmosaic::router {

// 40001: no snapshots that agree were to be had.
Error torn();

// Of one statement, on its session's thread. The first time the question goes in front of the statement, in the same
// packet; what the statement answers is dropped where the snapshots do not agree. Later, and for COPY, first the one,
// then the other.
class SnapshotAttempts {
 public:
  // `tables`: what it reads, for LOCK TABLE.
  SnapshotAttempts(Worker& worker, exec::Backends& backends, std::string_view tables, bool in_front)
      : worker_(worker), backends_(backends), tables_(tables), in_front_(in_front) {}

  // REQUIRES: BEGIN ISOLATION LEVEL REPEATABLE READ is queued on the backends. Error: of a group, or torn() after a
  // long time. Then, or if again(), the transaction must be rolled back.
  net::Task<Status> take(const std::vector<exec::Backend*>& groups);
  // Behind sending the statement: the same for a question in front of it. After an error the readers must be finished.
  net::Task<Status> check(std::vector<exec::RowReader>& readers);
  bool again() const { return again_; }
  // Before the next attempt, outside of a transaction.
  net::Task<void> wait();

 private:
  Status judge(Result<bool> agreed);
  std::string question(const std::vector<exec::GroupId>& groups) const;

  Worker& worker_;
  exec::Backends& backends_;
  std::string_view tables_;
  std::optional<exec::GateClosed> gate_;
  int64_t since_us_ = 0;
  int attempts_ = 0;
  bool in_front_, asked_ = false, again_ = false, without_locks_ = false;
};

}  // namespace pgmosaic::router
