// Which prepared transactions recovery ends, and when it looks for them. Those that the sessions of this router are
// about are theirs; all others, of this router and of those before it, nobody performs any more. A group can be about a
// PREPARE for long after the connection was lost, so nobody knows when the last of them has ended.
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>

#include "base/result.h"
#include "control/commit_labels.h"
#include "exec/two_phase.h"

namespace pgmosaic::control {

using Gids = std::set<std::string>;

// One look at what all groups have prepared.
struct RecoveryLook {
  Gids in_doubt = {};    // when it began
  bool complete = true;  // each group has told
  Gids unsettled = {};   // found, and still there
  int settled = 0;
  Status status = {};  // the first error

  void failed(Status why) {
    if (status.ok()) status = std::move(why);
  }
  bool settles(const std::string& gid) const { return complete && !unsettled.contains(gid); }
};

// Any thread.
class InDoubt {
 public:
  // Its session leaves it to recovery.
  void add(const exec::Gid& gid) {
    std::lock_guard lock(mutex_);
    gids_.insert(gid.text());
    looks_ = kLooks;
  }

  enum class Round : uint8_t { rest, look, look_at_all };
  // Every second: is there anything to look for?
  Round next_round() {
    std::lock_guard lock(mutex_);
    round_ = (round_ + 1) % kRoundsBetween;
    if (!gids_.empty()) looks_ = kLooks;
    const bool look = looks_ > 0;
    if (look) --looks_;
    if (round_ == 0) return Round::look_at_all;
    return look ? Round::look : Round::rest;
  }

  RecoveryLook begin() {
    std::lock_guard lock(mutex_);
    return {.in_doubt = gids_};
  }
  // Whether recovery ends what was found prepared, rather than its session or its client.
  static bool ends(const RecoveryLook& look, const exec::Gid& gid, CommitLabels& labels) {
    return !gid.parked && (look.in_doubt.contains(gid.text()) || !labels.is_open(gid.text()));
  }
  void end(const RecoveryLook& look, CommitLabels& labels) {
    for (const std::string& gid : look.in_doubt) {
      if (!look.settles(gid)) continue;
      labels.end(gid);
      std::lock_guard lock(mutex_);
      gids_.erase(gid);
    }
  }

 private:
  static constexpr int kLooks = 30, kRoundsBetween = 60;
  std::mutex mutex_;
  Gids gids_;
  int round_ = 0;
  int looks_ = kLooks;  // to come, a second apart; after a start, too: for what was prepared beside it
};

}  // namespace pgmosaic::control
