// The decision on transactions in doubt (DESIGN §5): the anchor's commit_log row, or an abort tombstone in its place.
#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "control/cluster.h"
#include "control/intents.h"
#include "pg/digest.h"

namespace pgmosaic::control {

namespace {

constexpr int kLooks = 30;  // seconds that a transaction in doubt is looked for
constexpr int64_t kFinishPatienceUs = 10'000'000;
constexpr int64_t kFinishRetryUs = 100'000;

std::string quoted(const std::string& text) { return pool::quote_literal(text); }

}  // namespace

exec::CommitRow Cluster::begin_commit(const exec::Gid& gid, const std::string& database,
                                      const std::vector<uint32_t>& groups) {
  return {labels_.begin(gid.text(), database, groups), commit_secret_};
}

std::string Cluster::sign_note(catalog::GroupId group, std::string_view note) const {
  return pg::sha256_hex("saga " + commit_secret_ + " " + std::to_string(group) + " " + std::string(note));
}

exec::Gid Cluster::next_gid() {
  exec::Gid gid;
  gid.cluster = cluster_id_;
  gid.router = router_name_;
  gid.number = random_u64() >> 1;  // not to be guessed: decision rows can be written by any user
  return gid;
}

net::Task<Result<bool>> Cluster::resolve(net::EventLoop& loop, const std::string& database, const exec::Gid& gid,
                                         const std::vector<uint32_t>& participants) {
  auto conn = co_await connect(loop, gid.anchor, database);
  if (!conn.ok()) co_return std::move(conn.error());
  std::string groups;
  for (uint32_t group : participants) groups += (groups.empty() ? "" : ",") + std::to_string(group);
  // If the anchor's transaction still lives, this insert waits for it; if it committed, the key is taken.
  auto tombstone =
      co_await (*conn)->query("INSERT INTO pg_catalog.pgmosaic_commit_log (gid, participants, aborted) VALUES (" +
                              quoted(gid.text()) + ", '{" + groups + "}', true)");
  if (tombstone.ok()) co_return false;
  if (tombstone.error().sqlstate != "23505") co_return std::move(tombstone.error());
  auto row =
      co_await (*conn)->query("SELECT aborted FROM pg_catalog.pgmosaic_commit_log WHERE gid = " + quoted(gid.text()));
  if (!row.ok()) co_return std::move(row.error());
  if (row->rows.empty()) co_return make_error("XX000", "decision row of " + gid.text() + " vanished");
  co_return row->rows[0][0] == "f";
}

net::Task<Status> Cluster::finish(net::EventLoop& loop, std::string database, exec::Gid gid,
                                  std::vector<uint32_t> groups) {
  co_return co_await tell_groups(loop, std::move(database), std::move(gid), std::move(groups), true, kFinishPatienceUs);
}

net::Task<Status> Cluster::tell_groups(net::EventLoop& loop, std::string database, exec::Gid gid,
                                       std::vector<uint32_t> groups, bool commit, int64_t patience_us) {
  const int64_t deadline_us = loop.now_us() + patience_us;
  while (!groups.empty()) {
    Status status;
    auto conn = co_await connect(loop, groups.back(), database);
    if (!conn.ok()) {
      status = std::move(conn.error());
    } else {
      const std::string sql =
          (commit ? "COMMIT PREPARED " : "ROLLBACK PREPARED ") + quoted(gid.prepared_text(groups.back()));
      auto done = co_await (*conn)->query(sql);
      // 42704: the lost connection has done it after all. 55000: it is still about it.
      if (!done.ok() && done.error().sqlstate != "42704") status = group_error(groups.back(), std::move(done.error()));
    }
    if (status.ok()) {
      groups.pop_back();
    } else if (loop.now_us() > deadline_us) {
      co_return make_error("08006", "group " + status.error().node + " cannot show it yet: " + status.error().message);
    } else {
      co_await loop.sleep(kFinishRetryUs);
    }
  }
  co_return Status{};
}

void Cluster::leave_to_recovery(const std::string&, const exec::Gid& gid) {
  if (gid.parked) return parked_.leave(gid);
  std::lock_guard lock(mutex_);
  in_doubt_.insert(gid.text());
}

net::Task<Status> Cluster::recover_prepared(net::EventLoop& loop, const GroupEndpoint& group, std::string database,
                                            exec::Gid gid) {
  const std::vector<uint32_t> participants = {gid.anchor, group.group.id};
  auto committed = co_await resolve(loop, database, gid, participants);
  if (!committed.ok()) co_return std::move(committed.error());
  auto conn = co_await connect(loop, group.group.id, database);
  if (!conn.ok()) co_return std::move(conn.error());
  const std::string sql =
      (*committed ? "COMMIT PREPARED " : "ROLLBACK PREPARED ") + quoted(gid.prepared_text(group.group.id));
  auto done = co_await (*conn)->query(sql);
  if (!done.ok() && done.error().sqlstate != "42704") co_return group_error(group.group.id, std::move(done.error()));
  log_info("control", "recovered transaction {} at group {}: {}", gid.text(), group.group.id,
           *committed ? "committed" : "rolled back");
  co_return Status{};
}

// Settles the prepared transactions of one group. One that cannot be settled does not hold up the others.
net::Task<Status> Cluster::recover_group(net::EventLoop& loop, const GroupEndpoint& group,
                                         const std::vector<std::string>& databases, const Gids& only, int& settled) {
  auto conn = co_await connect(loop, group.group.id, internal_database_);
  if (!conn.ok()) co_return std::move(conn.error());
  auto rows = co_await (*conn)->query("SELECT gid, database FROM pg_catalog.pg_prepared_xacts ORDER BY prepared");
  if (!rows.ok()) co_return std::move(rows.error());
  Status result;
  for (const auto& row : rows->rows) {
    const auto prepared = exec::PreparedGid::parse(*row[0]);
    if (!prepared || prepared->gid.parked || prepared->gid.cluster != cluster_id_ || prepared->group != group.group.id)
      continue;
    const exec::Gid& gid = prepared->gid;
    if (only.empty() ? gid.router == router_name_ : !only.contains(gid.text())) continue;
    const auto database = std::find_if(databases.begin(), databases.end(), [&](const std::string& name) {
      return group.endpoint.database_name(name) == *row[1];
    });
    if (database == databases.end()) continue;  // dropped meanwhile
    Status status = co_await recover_prepared(loop, group, *database, gid);
    if (status.ok()) ++settled;
    if (!status.ok() && result.ok()) result = std::move(status);
  }
  co_return result;
}

net::Task<Status> Cluster::recover(net::EventLoop& loop, const Gids& only, int& settled) {
  CO_TRY_ASSIGN(const std::vector<std::string> databases, co_await list_databases(loop));
  Status result;
  for (const GroupEndpoint& group : groups_) {
    Status status = co_await recover_group(loop, group, databases, only, settled);
    if (!status.ok() && result.ok()) result = std::move(status);
  }
  co_return result;
}

// Schema changes whose router died between the intent and the publication. A live one must not be touched: the
// tombstone could overtake its commit.
net::Task<Status> Cluster::recover_intents(net::EventLoop& loop, const Gids& only, int& settled) {
  CO_TRY_ASSIGN(auto found, store_.read_prefix(kIntentPrefix));
  for (const auto& entry : found.entries) {
    const std::string gid_text = entry.key.substr(kIntentPrefix.size());
    if (!only.empty() && !only.contains(gid_text)) continue;
    const auto gid = exec::Gid::parse(gid_text);
    if (!gid) co_return make_error("XX001", "the metadata store's key " + entry.key + " is damaged");
    if (gid->parked) continue;
    meta::Txn txn;
    std::string database;
    std::set<catalog::ColocationId> colocations;
    CO_TRY(put_intended(entry, txn, database, colocations));
    const std::vector<uint32_t> participants = {gid->anchor};
    auto committed = co_await resolve(loop, database, *gid, participants);
    if (!committed.ok()) co_return std::move(committed.error());
    if (!*committed) txn.puts.clear();
    txn.deletes.push_back(entry.key);
    CO_TRY_ASSIGN(auto done, store_.commit(txn));
    CHECK(done.committed);
    ++settled;
    log_info("control", "recovered schema change {}: {}", gid_text, *committed ? "published" : "dropped");
  }
  co_return Status{};
}

// One look at the transactions in doubt; the databases `unpublished` are read again in any case.
net::Task<Status> Cluster::look(net::EventLoop& loop, const Gids& work, std::set<std::string> unpublished) {
  int settled = 0;
  Status status = co_await recover(loop, work, settled);
  Status intents = co_await recover_intents(loop, work, settled);
  if (status.ok()) status = std::move(intents);
  if (settled > 0)  // one of them may have changed the schema
    for (const auto& [name, database] : snapshot()->databases) unpublished.insert(name);
  for (const std::string& database : unpublished) {
    Status loaded = co_await reload(loop, database);
    if (!loaded.ok() && status.ok()) status = std::move(loaded);
  }
  co_return status;
}

void Cluster::settle_later(const std::string& database, const std::string& gid, std::shared_ptr<void> held) {
  std::lock_guard lock(mutex_);
  unsettled_[gid] = {database, std::move(held)};
}

net::Task<void> Cluster::tend(net::EventLoop& loop) {
  Gids in_doubt, changes;
  std::set<std::string> unpublished;
  {
    std::lock_guard lock(mutex_);
    in_doubt = in_doubt_;
    for (const auto& [gid, change] : unsettled_) {
      changes.insert(gid);
      unpublished.insert(change.database);
    }
  }
  Gids work = in_doubt;
  work.insert(changes.begin(), changes.end());
  if (!work.empty()) {
    Status status = co_await look(loop, work, std::move(unpublished));
    if (!status.ok()) log_warning("control", "{} transactions stay in doubt: {}", work.size(), status.error().message);
    std::lock_guard lock(mutex_);
    if (status.ok())
      for (const std::string& gid : changes) unsettled_.erase(gid);
    // A PREPARE whose connection was lost may end later than the first look, and is rolled back then.
    for (const std::string& gid : in_doubt) {
      if (status.ok()) labels_.end(gid);
      if (!status.ok() || ++looks_[gid] < kLooks) continue;
      in_doubt_.erase(gid);
      looks_.erase(gid);
    }
  }
  co_await tend_parked(loop);
  if (start_looks_ > 0) {  // a group may have been about a PREPARE of the router before when this one started
    --start_looks_;
    const Gids all;
    int settled = 0;
    Status status = co_await recover(loop, all, settled);
    if (!status.ok()) log_warning("control", "transactions of an earlier router: {}", status.error().message);
  }
  co_await trim(loop);
}

}  // namespace pgmosaic::control
