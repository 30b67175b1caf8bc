// Snapshots that agree (exec/untorn.h) can be rare where transactions over several groups end all the time: each shows
// itself on one group after the other. So a reader that has failed once closes this gate: further transactions wait a
// moment before they begin to show themselves, and when those under way have ended, the reader takes its snapshots.
// Correctness is not the gate's: who has waited long enough goes on. Of one router; others' transactions do not pass
// it.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "net/loop.h"
#include "net/task.h"

namespace pgmosaic::exec {

// Any thread.
class CommitGate {
 public:
  // A transaction begins to show itself on its groups, after at most 20 ms.
  net::Task<void> enter(net::EventLoop& loop, std::string database) {
    for (int i = 0; i < kWriterPolls && closed(database); ++i) co_await loop.sleep(kPollUs);
    std::lock_guard lock(mutex_);
    ++doors_[database].inside;
  }
  void leave(const std::string& database) {
    std::lock_guard lock(mutex_);
    --doors_[database].inside;
  }
  // A reader waits for those inside, at most 50 ms.
  net::Task<void> drained(net::EventLoop& loop, std::string database) {
    for (int i = 0; i < kReaderPolls && inside(database); ++i) co_await loop.sleep(kPollUs);
  }
  void close(const std::string& database) {
    std::lock_guard lock(mutex_);
    ++doors_[database].closed;
  }
  void open(const std::string& database) {
    std::lock_guard lock(mutex_);
    --doors_[database].closed;
  }

 private:
  static constexpr int64_t kPollUs = 200;
  static constexpr int kWriterPolls = 100, kReaderPolls = 250;
  struct Door {
    int inside = 0, closed = 0;
  };
  bool closed(const std::string& database) {
    std::lock_guard lock(mutex_);
    return doors_[database].closed > 0;
  }
  bool inside(const std::string& database) {
    std::lock_guard lock(mutex_);
    return doors_[database].inside > 0;
  }
  std::mutex mutex_;
  std::map<std::string, Door> doors_;
};

// A transaction that shows itself until the end of this object.
class Showing {
 public:
  Showing(CommitGate& gate, std::string database) : gate_(gate), database_(std::move(database)) {}
  ~Showing() {
    if (begun_) gate_.leave(database_);
  }
  Showing(const Showing&) = delete;
  Showing& operator=(const Showing&) = delete;
  net::Task<void> begin(net::EventLoop& loop) {
    co_await gate_.enter(loop, database_);
    begun_ = true;
  }

 private:
  CommitGate& gate_;
  const std::string database_;
  bool begun_ = false;
};

// The gate closed by a reader.
class GateClosed {
 public:
  GateClosed(CommitGate& gate, std::string database) : gate_(gate), database_(std::move(database)) {
    gate_.close(database_);
  }
  ~GateClosed() { gate_.open(database_); }
  GateClosed(const GateClosed&) = delete;
  GateClosed& operator=(const GateClosed&) = delete;

 private:
  CommitGate& gate_;
  const std::string database_;
};

}  // namespace pgmosaic::exec
