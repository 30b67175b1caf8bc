// Transactions over several groups that clients have prepared themselves (exec/two_phase.h: parked): which there are,
// and who sees to them.
//
// Lifecycle: a session begins one, which is durable before the first group prepares; until all have, it is the
// session's. Then it is nobody's, for any time and over restarts, until a client decides: what it tells the home is the
// decision, and its session brings it to the other groups. Where that fails, or its outcome is not known, the router
// looks every second; at all others once a minute, since the home's server can be told directly.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "exec/control.h"

namespace pgmosaic::control {

struct ParkedTransaction {
  exec::Gid gid;
  std::string database, name;
  std::vector<uint32_t> groups = {};  // besides the home
  exec::ClusterControl::Parked of_client = {};
};

// Any thread.
class ParkedTransactions {
 public:
  void begin(ParkedTransaction transaction) {
    std::lock_guard lock(mutex_);
    const std::string gid = transaction.gid.text();
    all_[gid] = {std::move(transaction)};
  }
  // Of a router that is gone: nobody prepares it any more.
  void found(ParkedTransaction transaction) {
    const exec::Gid gid = transaction.gid;
    begin(std::move(transaction));
    leave(gid);
  }
  // By its session: all groups have it.
  void prepared(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    if (found == all_.end()) return;
    found->second.preparing = false;
    found->second.prepared = true;
    found->second.looks = 1;  // whoever was told of it beside us may have decided already
  }
  // Its session has done what it can: it is looked at.
  void leave(const exec::Gid& gid, std::shared_ptr<void> held = nullptr) {
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    if (found == all_.end()) return;
    found->second.preparing = false;
    found->second.looks = kLooks;
    if (held) found->second.held = std::move(held);
  }
  void end(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    all_.erase(gid.text());
  }

  // Those of this name that a client can decide on: one, or beside it such as are decided and not finished.
  std::vector<ParkedTransaction> named(const std::string& database, const std::string& name) {
    std::lock_guard lock(mutex_);
    std::vector<ParkedTransaction> named;
    for (const auto& [gid, entry] : all_)
      if (!entry.preparing && entry.transaction.database == database && entry.transaction.name == name)
        named.push_back(entry.transaction);
    return named;
  }
  // Those to look at now; `all`: the others, too.
  std::vector<ParkedTransaction> due(bool all) {
    std::lock_guard lock(mutex_);
    std::vector<ParkedTransaction> due;
    for (const auto& [gid, entry] : all_)
      if (!entry.preparing && (all || entry.looks > 0)) due.push_back(entry.transaction);
    return due;
  }
  bool any(const std::string& database) {
    std::lock_guard lock(mutex_);
    return std::any_of(all_.begin(), all_.end(),
                       [&](const auto& entry) { return entry.second.transaction.database == database; });
  }
  std::vector<std::string> gids() {
    std::lock_guard lock(mutex_);
    std::vector<std::string> gids;
    for (const auto& [gid, entry] : all_) gids.push_back(gid);
    return gids;
  }

  enum class Claim : uint8_t { ours, taken, gone };
  // One at a time settles it.
  Claim claim(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    if (found == all_.end()) return Claim::gone;
    return std::exchange(found->second.settling, true) ? Claim::taken : Claim::ours;
  }
  void release(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    if (found != all_.end()) found->second.settling = false;
  }
  bool knows(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    return all_.contains(gid.text());
  }
  bool is_settling(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    return found != all_.end() && found->second.settling;
  }
  // What it makes is published.
  void let_go(const exec::Gid& gid) {
    std::shared_ptr<void> held;
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    if (found != all_.end()) held = std::exchange(found->second.held, nullptr);
  }
  // Whether its home had prepared it for certain: then it need not be kept from doing so later.
  bool was_prepared(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    return found != all_.end() && found->second.prepared;
  }
  // A client has yet to decide, as far as its home tells.
  void undecided(const exec::Gid& gid) {
    std::shared_ptr<void> held;
    std::lock_guard lock(mutex_);
    const auto found = all_.find(gid.text());
    if (found == all_.end() || found->second.looks == 0 || --found->second.looks > 0) return;
    held = std::exchange(found->second.held, nullptr);
  }

 private:
  static constexpr int kLooks = 30;
  struct Entry {
    ParkedTransaction transaction;
    bool preparing = true, prepared = false, settling = false;
    int looks = 0;               // to come, a second apart
    std::shared_ptr<void> held;  // let go when the outcome is published
  };
  std::mutex mutex_;
  std::map<std::string, Entry> all_;  // by gid
};

}  // namespace pgmosaic::control
