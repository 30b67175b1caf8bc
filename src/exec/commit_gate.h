// Snapshots that agree (exec/untorn.h) can be rare where transactions over several groups end all the time: each shows
// itself on one group after the other. So a reader that has failed once closes this gate: further transactions wait a
// moment before they begin to show themselves, and when those under way have ended, the reader takes its snapshots.
// Correctness is not the gate's: who has waited long enough goes on. The more often the reader has failed, the longer
// that is, so that none starves where there are more sessions than processors. Of one router; others' transactions do
// not pass it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "net/loop.h"
#include "net/task.h"

namespace pgmosaic::exec {

// Any thread.
class CommitGate {
 public:
  // A transaction begins to show itself on its groups, at the latest when it has waited as long as the most patient
  // reader may ask for.
  net::Task<void> enter(net::EventLoop& loop, std::string database) {
    for (int64_t waited_us = 0; waited_us < asked_of_writers_us(database); waited_us += kPollUs)
      co_await loop.sleep(kPollUs);
    std::lock_guard lock(mutex_);
    ++doors_[database].inside;
  }
  void leave(const std::string& database) {
    std::lock_guard lock(mutex_);
    --doors_[database].inside;
  }
  // A reader waits for those inside, at most.
  net::Task<void> drained(net::EventLoop& loop, std::string database, int failures) {
    const int64_t longest_us = kReadersPatienceUs * factor(failures);
    for (int64_t waited_us = 0; waited_us < longest_us && inside(database); waited_us += kPollUs)
      co_await loop.sleep(kPollUs);
  }
  // By a reader that has failed as many times.
  void close(const std::string& database, int failures) {
    std::lock_guard lock(mutex_);
    doors_[database].closed_us.insert(kWritersPatienceUs * factor(failures));
  }
  void open(const std::string& database, int failures) {
    std::lock_guard lock(mutex_);
    auto& closed = doors_[database].closed_us;
    closed.erase(closed.find(kWritersPatienceUs * factor(failures)));
  }

 private:
  static constexpr int64_t kPollUs = 200, kWritersPatienceUs = 20'000, kReadersPatienceUs = 50'000;
  static constexpr int kUsualFailures = 4, kMostDoublings = 5;
  struct Door {
    int inside = 0;
    std::multiset<int64_t> closed_us;  // how long each reader may keep others waiting
  };
  static int64_t factor(int failures) { return 1 << std::clamp(failures - kUsualFailures, 0, kMostDoublings); }
  int64_t asked_of_writers_us(const std::string& database) {
    std::lock_guard lock(mutex_);
    const auto& closed = doors_[database].closed_us;
    return closed.empty() ? 0 : *closed.rbegin();
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

// The gate closed by a reader, which has failed `failures` times.
class GateClosed {
 public:
  GateClosed(CommitGate& gate, std::string database, int failures)
      : gate_(gate), database_(std::move(database)), failures_(failures) {
    gate_.close(database_, failures_);
  }
  ~GateClosed() { gate_.open(database_, failures_); }
  GateClosed(const GateClosed&) = delete;
  GateClosed& operator=(const GateClosed&) = delete;
  // Those who are inside have left, or it takes them too long.
  net::Task<void> drained(net::EventLoop& loop) { return gate_.drained(loop, database_, failures_); }

 private:
  CommitGate& gate_;
  const std::string database_;
  const int failures_;
};

}  // namespace pgmosaic::exec
