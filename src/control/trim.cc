// Takes rows out of the commit logs again (exec/untorn.h): first every group learns that the transactions of these
// labels are finished everywhere, then their rows go.
#include "base/log.h"
#include "control/cluster.h"
#include "control/commit_secret.h"
#include "control/trim_round.h"

namespace pgmosaic::control {

namespace {

constexpr uint64_t kVacuumRows = 20'000;

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
  TrimRound round(router_name_, epoch, closed);
  const std::string set_epoch = round.epoch_sql();
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
    if (set.ok())
      told[group.group.id] = std::move(*conn);
    else
      round.untold(group.group.id);
  }
  const std::string remove = round.remove_sql(kVacuumRows);
  for (auto& [group, conn] : told) {
    auto done = co_await conn->query(remove);
    all = all && done.ok();
    if (!done.ok()) {
      round.failed(group);
    } else if (!done->rows.empty() && done->rows[0][0] == "t") {
      (void)(co_await conn->query("VACUUM pg_catalog.pgmosaic_commit_log"));
    }
  }
  round.forget(database, labels_);
  co_return all;
}

// At the start, when all is settled and nobody reads yet.
net::Task<Status> Cluster::forget_commits(net::EventLoop& loop, const std::string& database) {
  const std::string forget = forget_commits_sql(parked_.gids(), commit_secret_);
  for (const GroupEndpoint& group : groups_) {
    auto conn = co_await connect(loop, group.group.id, database);
    if (!conn.ok()) co_return std::move(conn.error());
    auto done = co_await (*conn)->query(forget);
    if (!done.ok()) co_return group_error(group.group.id, std::move(done.error()));
  }
  co_return Status{};
}

}  // namespace pgmosaic::control
