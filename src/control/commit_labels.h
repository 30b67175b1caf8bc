// The labels of this router's transactions over several groups: which have rows in the commit logs that readers still
// need (exec/untorn.h). A label is closed by the next look of the trimmer; its rows go when all of its transactions are
// finished. No clock decides anything.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace pgmosaic::control {

// Any thread.
class CommitLabels {
 public:
  // What is closed, of one database.
  struct Closed {
    std::map<uint64_t, std::set<uint32_t>> finished;  // labels without open transactions, and their groups
    std::set<uint64_t> open;
  };
  struct Round {
    uint64_t epoch = 0;  // no later label is in it
    std::map<std::string, Closed> databases;
  };

  // Before the first row is written: the label of the transaction's rows.
  uint64_t begin(const std::string& gid, const std::string& database, const std::vector<uint32_t>& groups) {
    std::lock_guard lock(mutex_);
    Label& label = labels_[current_][database];
    label.groups.insert(groups.begin(), groups.end());
    ++label.open;
    open_[gid] = {current_, database};
    Traffic& traffic = traffic_[database];
    ++traffic.begun;
    ++traffic.open;
    return current_;
  }

  // All its groups show it, or none ever will.
  void end(const std::string& gid) {
    std::lock_guard lock(mutex_);
    const auto found = open_.find(gid);
    if (found == open_.end()) return;
    const auto& [number, database] = found->second;
    --labels_[number][database].open;
    Traffic& traffic = traffic_[database];
    if (--traffic.open == 0) traffic.quiet_since = Clock::now();
    open_.erase(found);
  }

  bool is_open(const std::string& gid) {
    std::lock_guard lock(mutex_);
    return open_.contains(gid);
  }

  // How many have begun in this database, where all of them have ended this long ago.
  std::optional<uint64_t> all_ended(const std::string& database, std::chrono::microseconds ago = {}) {
    std::lock_guard lock(mutex_);
    const auto found = traffic_.find(database);
    if (found == traffic_.end()) return 0;
    const Traffic& traffic = found->second;
    const bool ended = traffic.open == 0 && (ago.count() == 0 || Clock::now() - traffic.quiet_since >= ago);
    return ended ? std::optional(traffic.begun) : std::nullopt;
  }

  // Transactions from here on get another label.
  Round close() {
    std::lock_guard lock(mutex_);
    Round round;
    if (!labels_.empty()) ++current_;  // also for an older one: no snapshot from before its end may have this epoch
    round.epoch = current_ - 1;
    for (const auto& [number, databases] : labels_)
      for (const auto& [database, label] : databases) {
        if (label.open > 0)
          round.databases[database].open.insert(number);
        else
          round.databases[database].finished[number] = label.groups;
      }
    return round;
  }

  // No group has rows of it any more.
  void forget(const std::string& database, uint64_t number) {
    std::lock_guard lock(mutex_);
    const auto found = labels_.find(number);
    if (found == labels_.end()) return;
    found->second.erase(database);
    if (found->second.empty()) labels_.erase(found);
  }

 private:
  struct Label {
    int open = 0;
    std::set<uint32_t> groups;
  };
  using Clock = std::chrono::steady_clock;
  struct Traffic {
    uint64_t begun = 0, open = 0;
    Clock::time_point quiet_since = {};
  };
  std::mutex mutex_;
  uint64_t current_ = 1;
  std::map<std::string, Traffic> traffic_;                                  // by database
  std::map<uint64_t, std::map<std::string, Label>> labels_;                 // number, database
  std::unordered_map<std::string, std::pair<uint64_t, std::string>> open_;  // by gid
};

}  // namespace pgmosaic::control
