// The decision on transactions in doubt (DESIGN §5): the anchor's commit_log row, or an abort tombstone in its place.
#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "control/cluster.h"
#include "control/intents.h"
#include "exec/inquiry.h"
#include "pg/digest.h"

namespace pgmosaic::control {

namespace {

constexpr int64_t kFinishPatienceUs = 10'000'000;
constexpr int64_t kFinishRetryUs = 100'000;

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

net::Task<Result<std::optional<bool>>> Cluster::ask(net::EventLoop& loop, const std::string& database,
                                                    exec::Inquiry inquiry) {
  auto conn = co_await connect(loop, inquiry.anchor(), database);
  if (!conn.ok()) co_return std::move(conn.error());
  while (inquiry.step() == exec::Inquiry::Step::ask) {
    const std::string sql = inquiry.sql();
    auto answer = co_await (*conn)->query(sql);
    if (!answer.ok()) {
      inquiry.refused(group_error(inquiry.anchor(), std::move(answer.error())));
    } else if (answer->rows.empty()) {
      inquiry.answered(std::nullopt);
    } else {
      inquiry.answered(answer->rows[0][0]);
    }
  }
  if (!inquiry.decision().ok()) co_return Error(inquiry.decision().error());
  co_return std::optional<bool>(*inquiry.decision());
}

net::Task<Result<bool>> Cluster::resolve(net::EventLoop& loop, const std::string& database, const exec::Gid& gid,
                                         const std::vector<uint32_t>& participants) {
  exec::Inquiry inquiry(gid, participants, exec::Inquiry::Manner::wait);
  CO_TRY_ASSIGN(const std::optional<bool> committed, co_await ask(loop, database, std::move(inquiry)));
  co_return committed.value();
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
      const std::string sql = exec::end_prepared_sql(gid, groups.back(), commit);
      auto done = co_await (*conn)->query(sql);
      if (!done.ok() && !exec::is_ended(done.error())) status = group_error(groups.back(), std::move(done.error()));
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
  in_doubt_.add(gid);
}

net::Task<Status> Cluster::recover_prepared(net::EventLoop& loop, const GroupEndpoint& group, std::string database,
                                            exec::Gid gid) {
  const std::vector<uint32_t> participants = {gid.anchor, group.group.id};
  auto committed = co_await resolve(loop, database, gid, participants);
  if (!committed.ok()) co_return std::move(committed.error());
  const std::vector<uint32_t> here = {group.group.id};
  CO_TRY(co_await tell_groups(loop, database, gid, here, *committed, 0));
  log_info("control", "recovered transaction {} at group {}: {}", gid.text(), group.group.id,
           *committed ? "committed" : "rolled back");
  co_return Status{};
}

// Settles the prepared transactions of one group. One that cannot be settled does not hold up the others.
net::Task<Status> Cluster::recover_group(net::EventLoop& loop, const GroupEndpoint& group,
                                         const std::vector<std::string>& databases, RecoveryLook& look) {
  auto conn = co_await connect(loop, group.group.id, internal_database_);
  if (!conn.ok()) co_return std::move(conn.error());
  auto rows = co_await (*conn)->query("SELECT gid, database FROM pg_catalog.pg_prepared_xacts ORDER BY prepared");
  if (!rows.ok()) co_return group_error(group.group.id, std::move(rows.error()));
  for (const auto& row : rows->rows) {
    const auto prepared = exec::PreparedGid::parse(*row[0]);
    if (!prepared || prepared->gid.cluster != cluster_id_ || prepared->group != group.group.id) continue;
    const exec::Gid& gid = prepared->gid;
    if (!InDoubt::ends(look, gid, labels_)) continue;
    const auto database = std::find_if(databases.begin(), databases.end(), [&](const std::string& name) {
      return group.endpoint.database_name(name) == *row[1];
    });
    if (database == databases.end()) continue;  // dropped meanwhile
    // It may have been in phase two when the list was made, and its session be done with it since.
    const std::string still = "SELECT FROM pg_catalog.pg_prepared_xacts WHERE gid = " + pool::quote_literal(*row[0]);
    auto there = co_await (*conn)->query(still);
    if (there.ok() && there->rows.empty()) continue;
    Status status = co_await recover_prepared(loop, group, *database, gid);
    if (status.ok()) {
      ++look.settled;
    } else {
      look.unsettled.insert(gid.text());
      look.failed(std::move(status));
    }
  }
  co_return Status{};
}

net::Task<RecoveryLook> Cluster::recover(net::EventLoop& loop) {
  RecoveryLook look = in_doubt_.begin();
  auto databases = co_await list_databases(loop);
  if (!databases.ok()) {
    look.complete = false;
    look.failed(std::move(databases.error()));
    co_return look;
  }
  for (const GroupEndpoint& group : groups_) {
    Status status = co_await recover_group(loop, group, *databases, look);
    look.complete = look.complete && status.ok();
    if (!status.ok()) look.failed(std::move(status));
  }
  co_return look;
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

void Cluster::settle_later(const std::string& database, const std::string& gid, std::shared_ptr<void> held) {
  std::lock_guard lock(mutex_);
  unsettled_[gid] = {database, std::move(held)};
}

// One look at what nobody performs any more, and at schema changes that are not published.
net::Task<void> Cluster::look(net::EventLoop& loop, const std::map<std::string, SchemaChange>& changes) {
  RecoveryLook look = co_await recover(loop);
  Gids doubts = look.in_doubt;
  doubts.insert(look.unsettled.begin(), look.unsettled.end());
  if (!look.status.ok() && !doubts.empty())
    log_warning("control", "{} transactions stay in doubt: {}", doubts.size(), look.status.error().message);
  Gids work = look.in_doubt;
  std::set<std::string> unpublished;
  for (const auto& [gid, change] : changes) {
    work.insert(gid);
    unpublished.insert(change.database);
  }
  Status published;
  if (!work.empty()) published = co_await recover_intents(loop, work, look.settled);
  if (look.settled > 0)  // one of them may have changed the schema
    for (const auto& [name, database] : snapshot()->databases) unpublished.insert(name);
  for (const std::string& database : unpublished) {
    Status loaded = co_await reload(loop, database);
    if (!loaded.ok() && published.ok()) published = std::move(loaded);
  }
  if (!published.ok()) {
    log_warning("control", "schema changes stay in doubt: {}", published.error().message);
    co_return;
  }
  in_doubt_.end(look, labels_);
  std::lock_guard lock(mutex_);
  for (const auto& [gid, change] : changes)
    if (look.settles(gid)) unsettled_.erase(gid);
}

net::Task<void> Cluster::tend(net::EventLoop& loop) {
  const InDoubt::Round round = in_doubt_.next_round();
  std::map<std::string, SchemaChange> changes;
  {
    std::lock_guard lock(mutex_);
    changes = unsettled_;
  }
  if (round != InDoubt::Round::rest || !changes.empty()) co_await look(loop, changes);
  co_await tend_parked(loop, round);
  co_await trim(loop);
}

}  // namespace pgmosaic::control
