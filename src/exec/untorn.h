// Whether the snapshots of several groups agree on every transaction over several of them (DESIGN §5; the idea is that
// of RAMP transactions, Bailis et al. 2014, on PostgreSQL's snapshots). Each such transaction leaves a row on every
// participant; a snapshot that shows it on one group and not on another is torn.
//
// Rows are labelled by their router, and taken away label by label (control/commit_labels.h): when all transactions of
// a label are finished on all groups, the router sets a new epoch on each group, and only then has the rows deleted and
// a mark left. So of snapshots with marks a reader asks for the epoch as well: it proves that a group's snapshot is
// behind the end of what another group has no rows of any more.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "exec/backends.h"

namespace pgmosaic::exec {

// What one snapshot tells of its group.
struct SeenCommits {
  struct Router {
    uint64_t epoch = 0;
    uint64_t trimmed = 0;     // labels up to here have no rows, …
    std::set<uint64_t> kept;  // … but for these
    bool operator==(const Router&) const = default;
  };
  // Of one label, and one other group: how many transactions, and the exclusive or of the hashes of their names.
  struct Sum {
    uint64_t count = 0, hashes = 0;
    bool operator==(const Sum&) const = default;
  };
  using Key = std::pair<std::string, uint64_t>;  // router, label
  std::map<std::string, Router> routers;
  std::map<GroupId, std::map<Key, Sum>> with;
  bool operator==(const SeenCommits&) const = default;
};

// The question to each group, and its answer. nullopt: not such an answer.
std::string seen_commits_sql(const std::vector<GroupId>& groups);
std::optional<SeenCommits> parse_seen_commits(std::string_view answer);

// Whether the snapshots of groups `a` and `b` agree. False may also mean that it cannot be told: look again.
bool agree(GroupId a, const SeenCommits& seen_a, GroupId b, const SeenCommits& seen_b);

// The same for what all groups of a read have answered. Error: one did not.
Result<bool> agree(const std::vector<GroupId>& groups, const std::vector<std::string>& answers);

// What one group has answered twice says the same, in whatever order its backends put it.
bool tells_the_same(const std::string& before, const std::string& behind);

// 40001: no snapshots that agree were to be had.
Error torn();

// What these connections are told in answer to `sql`, all at once: the last value of each one's last row. Error: of
// one.
net::Task<Result<std::vector<std::string>>> ask_all(std::vector<pool::ServerConn*> conns, std::string sql);

// Takes the snapshots of these backends, which have BEGIN ISOLATION LEVEL REPEATABLE READ queued or have run nothing
// else yet, by `sql`: locks, if any ("LOCK TABLE …; ": a TRUNCATE is seen by every snapshot), and seen_commits_sql().
// False: they do not agree. Error: of a group; the transaction must be rolled back.
net::Task<Result<bool>> take_snapshots(const std::vector<Backend*>& backends, std::string sql);

}  // namespace pgmosaic::exec
