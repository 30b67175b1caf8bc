// One round of trimming the commit logs of a database (exec/untorn.h), without I/O: first every group that answers
// learns the epoch, then those have the rows deleted, and marked as trimmed, of which all groups have learnt it.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "control/commit_labels.h"
#include "pool/settings.h"

namespace pgmosaic::control {

class TrimRound {
 public:
  TrimRound(const std::string& router, uint64_t epoch, CommitLabels::Closed closed)
      : router_(pool::quote_literal(router)), epoch_(std::to_string(epoch)), closed_(std::move(closed)) {
    kept_ = closed_.open;
  }

  // To all groups.
  std::string epoch_sql() const {
    return "INSERT INTO pg_catalog.pgmosaic_epochs AS e (router, epoch) VALUES (" + router_ + ", " + epoch_ +
           ") ON CONFLICT (router) DO UPDATE SET epoch = excluded.epoch WHERE e.epoch < excluded.epoch";
  }
  // This group may not have learnt the epoch. Where rows go without it, readers of both cannot tell any more, so there
  // has to be another round, also if it has no rows of these labels.
  void untold(uint32_t group) {
    all_told_ = false;
    failed(group);
  }
  // This group may still have the rows.
  void failed(uint32_t group) {
    for (const auto& [label, groups] : closed_.finished)
      if (groups.contains(group)) kept_.insert(label);
  }

  // To those that have the epoch, when all others are known as untold. One of an earlier round can come late, and takes
  // nothing back.
  std::string remove_sql(uint64_t vacuum_rows) const {
    std::string kept;
    for (const uint64_t label : kept_) kept += (kept.empty() ? "" : ",") + std::to_string(label);
    kept = "'{" + kept + "}'";
    return "WITH gone AS (DELETE FROM pg_catalog.pgmosaic_commit_log WHERE router = " + router_ +
           " AND label <= " + epoch_ + " AND label <> ALL (" + kept +
           "::bigint[]) AND NOT aborted), marked AS (UPDATE pg_catalog.pgmosaic_epochs SET trimmed = " + epoch_ +
           ", kept = " + kept + " WHERE router = " + router_ + " AND trimmed < " + epoch_ + ") SELECT n_dead_tup > " +
           std::to_string(vacuum_rows) +
           " FROM pg_catalog.pg_stat_all_tables WHERE relid = 'pg_catalog.pgmosaic_commit_log'::pg_catalog.regclass";
  }

  // After the last answer.
  void forget(const std::string& database, CommitLabels& labels) const {
    if (!all_told_) return;
    for (const auto& [label, groups] : closed_.finished)
      if (!kept_.contains(label)) labels.forget(database, label);
  }

 private:
  const std::string router_, epoch_;
  CommitLabels::Closed closed_;
  std::set<uint64_t> kept_;
  bool all_told_ = true;
};

}  // namespace pgmosaic::control
