// Between the moment when the home shows a new table and the moment when every worker knows what it is, a statement
// that names it would be taken for one about a local table, and its rows would be lost in the home's own, empty copy.
// So statements with names that the catalog does not know pass a gate, and a schema change that makes tables
// closes it around its commit: it waits for those inside – they end with 42P01 – and those outside wait until the
// catalog is published, and are planned again. Schema changes pass it while they look at the catalogs. Other statements
// never see it, but for those of views (view_use.h). A change whose outcome is not known leaves it closed until
// recovery knows.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/result.h"
#include "net/loop.h"
#include "net/task.h"

namespace pgmosaic::router {

// Of one router. Any thread.
class NameGate {
 public:
  bool enter(const std::string& database) {
    std::lock_guard lock(mutex_);
    Door& door = doors_[database];
    if (door.closed > 0) return false;
    ++door.inside;
    return true;
  }
  void leave(const std::string& database) {
    std::lock_guard lock(mutex_);
    --doors_[database].inside;
  }
  bool closed(const std::string& database) {
    std::lock_guard lock(mutex_);
    return doors_[database].closed > 0;
  }
  void close(const std::string& database) {
    std::lock_guard lock(mutex_);
    ++doors_[database].closed;
  }
  void open(const std::string& database) {
    std::lock_guard lock(mutex_);
    --doors_[database].closed;
  }
  bool empty(const std::string& database) {
    std::lock_guard lock(mutex_);
    return doors_[database].inside == 0;
  }

 private:
  struct Door {
    int inside = 0, closed = 0;
  };
  std::mutex mutex_;
  std::map<std::string, Door> doors_;
};

// One session's place inside.
class NamesHeld {
 public:
  explicit NamesHeld(NameGate& gate) : gate_(gate) {}
  ~NamesHeld() { leave(); }
  NamesHeld(const NamesHeld&) = delete;
  NamesHeld& operator=(const NamesHeld&) = delete;

  bool held() const { return !database_.empty(); }
  bool enter(const std::string& database) {
    if (held()) return true;
    if (!gate_.enter(database)) return false;
    database_ = database;
    return true;
  }
  void leave() {
    if (held()) gate_.leave(std::exchange(database_, {}));
  }

 private:
  NameGate& gate_;
  std::string database_;
};

// The gate closed by a schema change.
class NamesClosed {
 public:
  NamesClosed(NameGate& gate, std::string database) : gate_(gate), database_(std::move(database)) {
    gate_.close(database_);
  }
  ~NamesClosed() { gate_.open(database_); }
  NamesClosed(const NamesClosed&) = delete;
  NamesClosed& operator=(const NamesClosed&) = delete;

  bool alone() const { return gate_.empty(database_); }

 private:
  NameGate& gate_;
  const std::string database_;
};

// Around the commit of a change that makes names, if it does. Error (55P03): statements inside do not end.
net::Task<Result<std::shared_ptr<NamesClosed>>> close_names(net::EventLoop& loop, NameGate& gate, std::string database,
                                                            bool makes_names);

}  // namespace pgmosaic::router
