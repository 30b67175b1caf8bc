// Which tables' rows move from group to group right now.
//
// A transaction that moved a row commits on one group after the other. A statement over several groups that changes or
// locks rows may meanwhile look for the row on one group when it is there no more, and on the other when it is not
// there yet; where it waited for the row it finds it deleted. On one PostgreSQL it would have found the row, or 40001
// if the row moved between partitions. So such a statement watches: if a move of its table was committed beside it, it
// has failed, and runs again where that can be done. Then such
// commits give way to it for a moment.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "catalog/catalog.h"

namespace pgmosaic::router {

// Of one router. Any thread.
class MoveLog {
 public:
  using Key = std::pair<std::string, catalog::Oid>;  // database, table
  struct State {
    int committing = 0;     // transactions
    uint64_t finished = 0;  // of them
    int waiting = 0;        // statements that commits give way to
  };

  State look(const Key& key) {
    std::lock_guard lock(mutex_);
    const auto found = tables_.find(key);
    return found == tables_.end() ? State() : found->second;
  }
  void wait(const Key& key, int change) {
    std::lock_guard lock(mutex_);
    tables_[key].waiting += change;
  }
  void begin(const Key& key) {
    std::lock_guard lock(mutex_);
    ++tables_[key].committing;
  }
  void end(const Key& key) {
    std::lock_guard lock(mutex_);
    State& state = tables_[key];
    --state.committing;
    ++state.finished;
  }

 private:
  std::mutex mutex_;
  std::map<Key, State> tables_;
};

// Around the attempts of a statement.
class MovesGiveWay {
 public:
  MovesGiveWay(MoveLog& log, MoveLog::Key key) : log_(log), key_(std::move(key)) { log_.wait(key_, 1); }
  ~MovesGiveWay() { log_.wait(key_, -1); }
  MovesGiveWay(const MovesGiveWay&) = delete;
  MovesGiveWay& operator=(const MovesGiveWay&) = delete;

 private:
  MoveLog& log_;
  const MoveLog::Key key_;
};

// Around the commit of a transaction that moved rows of these tables.
class MovesCommitting {
 public:
  MovesCommitting(MoveLog& log, std::string database, std::set<catalog::Oid> tables)
      : log_(log), database_(std::move(database)), tables_(std::move(tables)) {
    for (const catalog::Oid table : tables_) log_.begin({database_, table});
  }
  ~MovesCommitting() {
    for (const catalog::Oid table : tables_) log_.end({database_, table});
  }
  MovesCommitting(const MovesCommitting&) = delete;
  MovesCommitting& operator=(const MovesCommitting&) = delete;

 private:
  MoveLog& log_;
  const std::string database_;
  const std::set<catalog::Oid> tables_;
};

// Around a statement. `table` 0: there is nothing to watch.
class MoveWatch {
 public:
  MoveWatch(MoveLog& log, const std::string& database, catalog::Oid table)
      : log_(log), key_(table != 0 ? database : std::string(), table) {
    if (table != 0) before_ = log_.look(key_);
  }
  // Some of its rows may have been on no group that the statement looked at.
  bool moved() const {
    if (key_.second == 0) return false;
    const MoveLog::State now = log_.look(key_);
    return before_.committing > 0 || now.committing > 0 || now.finished != before_.finished;
  }

 private:
  MoveLog& log_;
  const MoveLog::Key key_;
  MoveLog::State before_;
};

}  // namespace pgmosaic::router
