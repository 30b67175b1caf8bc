// Long commands that this router runs in steps, and how far each group is: SHOW OPERATIONS and pgmosaic.operations.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "catalog/catalog.h"

namespace pgmosaic::router {

// Wall-clock time of a moment that is so long ago.
std::string utc_text(int64_t ago_us);

struct OperationInfo {
  uint64_t id = 0;
  std::string kind, database, user, object;  // kind: "CREATE INDEX CONCURRENTLY", …
  uint32_t pid = 0;                          // the client's
  int64_t started_us = 0;                    // of the loops' clock
  struct Part {
    std::string state;
    uint64_t done = 0, total = 0;  // parts of the object: leaves of an index
  };
  std::map<catalog::GroupId, Part> parts;
};

// Of one router. Any thread.
class Operations {
 public:
  uint64_t add(OperationInfo info) {
    std::lock_guard lock(mutex_);
    info.id = ++last_id_;
    running_[info.id] = std::move(info);
    return last_id_;
  }
  void remove(uint64_t id) {
    std::lock_guard lock(mutex_);
    running_.erase(id);
  }
  template <class Change>
  void change(uint64_t id, Change change) {
    std::lock_guard lock(mutex_);
    change(running_.at(id));
  }
  std::vector<OperationInfo> list() const {
    std::lock_guard lock(mutex_);
    std::vector<OperationInfo> infos;
    for (const auto& [id, info] : running_) infos.push_back(info);
    return infos;
  }

 private:
  mutable std::mutex mutex_;
  std::map<uint64_t, OperationInfo> running_;
  uint64_t last_id_ = 0;
};

// One that is under way; it ends with this.
class Operation {
 public:
  Operation(Operations& operations, OperationInfo info)
      : operations_(operations), id_(operations.add(std::move(info))) {}
  ~Operation() { operations_.remove(id_); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  void name(const std::string& object) {
    operations_.change(id_, [&](OperationInfo& info) { info.object = object; });
  }
  void part(catalog::GroupId group, const char* state, uint64_t done = 0, uint64_t total = 0) {
    operations_.change(id_, [&](OperationInfo& info) { info.parts[group] = {state, done, total}; });
  }
  void state(catalog::GroupId group, const char* state) {
    operations_.change(id_, [&](OperationInfo& info) { info.parts[group].state = state; });
  }

 private:
  Operations& operations_;
  const uint64_t id_;
};

}  // namespace pgmosaic::router
