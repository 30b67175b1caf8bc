// Takes rows out of the commit logs again (exec/untorn.h): first every group learns that the transactions of these
// labels are finished everywhere, then their rows go.
#include "base/log.h"
#include "control/cluster.h"

namespace pgmosaic::control {

namespace {

constexpr uint64_t kVacuumRows = 20'000;

std::string array_of(const std::set<uint64_t>& labels) {
  std::string list;
  for (const uint64_t label : labels) list += (list.empty() ? "" : ",") + std::to_string(label);
  return "'{" + list + "}'";
}

}  // namespace

net::Task<void> Cluster::trim(net::EventLoop& loop) {
  const CommitLabels::Round round = labels_.close();
  for (const auto& [database, closed] : round.databases) {
    if (closed.finished.empty()) continue;
    const std::string name = database;
    if (!snapshot()->databases.contains(name)) {  // dropped, or called otherwise now
      for (const auto& [label, groups] : closed.finished) labels_.forget(name, label);
      continue;
    }
    const bool done = co_await trim_database(loop, name, round.epoch, closed);
    if (done) {
      untrimmed_.erase(name);
    } else if (untrimmed_.insert(name).second) {  // said once
      log_warning("control", "the commit logs of database \"{}\" wait for a group", name);
    }
  }
}

// False: a group did not answer; what names it stays for the next time.
net::Task<bool> Cluster::trim_database(net::EventLoop& loop, const std::string& database, uint64_t epoch,
                                       const CommitLabels::Closed& closed) {
  const std::string router = pool::quote_literal(router_name_), number = std::to_string(epoch);
  const std::string set_epoch =
      "INSERT INTO pg_catalog.pgmosaic_epochs AS e (router, epoch) VALUES (" + router + ", " + number +
      ") ON CONFLICT (router) DO UPDATE SET epoch = excluded.epoch WHERE e.epoch < excluded.epoch";
  std::map<catalog::GroupId, std::unique_ptr<pool::ServerConn>> told;
  bool all = true;
  for (const GroupEndpoint& group : groups_) {
    auto conn = co_await connect(loop, group.group.id, database);
    auto set = conn.ok() ? Status{} : Status(std::move(conn.error()));
    if (set.ok()) {
      auto done = co_await (*conn)->query(set_epoch);
      if (!done.ok()) set = std::move(done.error());
    }
    all = all && set.ok();
    if (set.ok()) told[group.group.id] = std::move(*conn);
  }
  std::set<uint64_t> kept = closed.open;
  for (const auto& [label, groups] : closed.finished)
    for (const uint32_t group : groups)
      if (!told.contains(group)) kept.insert(label);
  const std::string labels = array_of(kept);
  const std::string remove = "WITH gone AS (DELETE FROM pg_catalog.pgmosaic_commit_log WHERE router = " + router +
                             " AND label <= " + number + " AND label <> ALL (" + labels +
                             "::bigint[]) AND NOT aborted), marked AS (UPDATE pg_catalog.pgmosaic_epochs SET "
                             "trimmed = " +
                             number + ", kept = " + labels + " WHERE router = " + router + ") SELECT n_dead_tup > " +
                             std::to_string(kVacuumRows) +
                             " FROM pg_catalog.pg_stat_all_tables WHERE relid = "
                             "'pg_catalog.pgmosaic_commit_log'::pg_catalog.regclass";
  for (auto& [group, conn] : told) {
    auto done = co_await conn->query(remove);
    all = all && done.ok();
    if (!done.ok()) {
      for (const auto& [label, groups] : closed.finished)
        if (groups.contains(group)) kept.insert(label);
    } else if (!done->rows.empty() && done->rows[0][0] == "t") {
      (void)(co_await conn->query("VACUUM pg_catalog.pgmosaic_commit_log"));
    }
  }
  for (const auto& [label, groups] : closed.finished)
    if (!kept.contains(label)) labels_.forget(database, label);
  co_return all;
}

// At the start, when all is settled and nobody reads yet.
net::Task<Status> Cluster::forget_commits(net::EventLoop& loop, const std::string& database) {
  std::string undecided;  // by their clients, or just now
  for (const std::string& gid : parked_.gids()) undecided += ", " + pool::quote_literal(gid);
  const std::string forget = "DELETE FROM pg_catalog.pgmosaic_commit_log WHERE NOT aborted AND gid NOT IN (''" +
                             undecided + "); DELETE FROM pg_catalog.pgmosaic_epochs";
  for (const GroupEndpoint& group : groups_) {
    auto conn = co_await connect(loop, group.group.id, database);
    if (!conn.ok()) co_return std::move(conn.error());
    auto done = co_await (*conn)->query(forget);
    if (!done.ok()) co_return group_error(group.group.id, std::move(done.error()));
  }
  co_return Status{};
}

}  // namespace pgmosaic::control
