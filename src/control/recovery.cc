// The decision on transactions in doubt (DESIGN §5): the anchor's commit_log row, or an abort tombstone in its place.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "control/cluster.h"

namespace pgmosaic::control {

namespace {

constexpr std::string_view kIntentPrefix = "intents/";

std::string quoted(const std::string& text) { return pool::quote_literal(text); }

}  // namespace

exec::Gid Cluster::next_gid() {
  exec::Gid gid;
  gid.cluster = cluster_id_;
  gid.router = router_name_;
  gid.number = next_number_.fetch_add(1);
  return gid;
}

net::Task<Result<bool>> Cluster::resolve(net::EventLoop& loop, const std::string& database, const exec::Gid& gid,
                                         const std::vector<uint32_t>& participants) {
  auto conn = co_await connect(loop, gid.anchor, database);
  if (!conn.ok()) co_return std::move(conn.error());
  std::string groups;
  for (uint32_t group : participants) groups += (groups.empty() ? "" : ",") + std::to_string(group);
  // If the anchor's transaction still lives, this insert waits for it; if it committed, the key is taken.
  auto tombstone = co_await (*conn)->query("INSERT INTO pgmosaic.commit_log (gid, participants, aborted) VALUES (" +
                                           quoted(gid.text()) + ", '{" + groups + "}', true)");
  if (tombstone.ok()) co_return false;
  if (tombstone.error().sqlstate != "23505") co_return std::move(tombstone.error());
  auto row = co_await (*conn)->query("SELECT aborted FROM pgmosaic.commit_log WHERE gid = " + quoted(gid.text()));
  if (!row.ok()) co_return std::move(row.error());
  if (row->rows.empty()) co_return make_error("XX000", "decision row of " + gid.text() + " vanished");
  co_return row->rows[0][0] == "f";
}

void Cluster::leave_to_recovery(const std::string&, const exec::Gid& gid) {
  std::lock_guard lock(mutex_);
  in_doubt_.insert(gid.text());
}

// Settles the prepared transactions of one group: all of this cluster's dead routers, or just one.
net::Task<Status> Cluster::recover_group(net::EventLoop& loop, const GroupEndpoint& group, const std::string& only_gid) {
  auto conn = co_await connect(loop, group.group.id, internal_database_);
  if (!conn.ok()) co_return std::move(conn.error());
  auto rows = co_await (*conn)->query("SELECT gid, database FROM pg_catalog.pg_prepared_xacts ORDER BY prepared");
  if (!rows.ok()) co_return std::move(rows.error());
  for (const auto& row : rows->rows) {
    const auto gid = exec::Gid::parse(*row[0]);
    if (!gid || gid->cluster != cluster_id_) continue;  // somebody else's
    if (only_gid.empty() ? gid->router == router_name_ : *row[0] != only_gid) continue;
    const std::vector<uint32_t> participants = {gid->anchor, group.group.id};
    auto committed = co_await resolve(loop, *row[1], *gid, participants);
    if (!committed.ok()) co_return std::move(committed.error());
    auto database = co_await connect(loop, group.group.id, *row[1]);
    if (!database.ok()) co_return std::move(database.error());
    std::string sql = *committed ? "COMMIT PREPARED " : "ROLLBACK PREPARED ";
    sql += quoted(*row[0]);
    auto done = co_await (*database)->query(sql);
    if (!done.ok() && done.error().sqlstate != "42704") co_return group_error(group.group.id, std::move(done.error()));
    log_info("control", "recovered transaction {} at group {}: {}", *row[0], group.group.id,
             *committed ? "committed" : "rolled back");
  }
  co_return Status{};
}

net::Task<Status> Cluster::recover(net::EventLoop& loop, const std::string& only_gid) {
  for (const GroupEndpoint& group : groups_) CO_TRY(co_await recover_group(loop, group, only_gid));
  co_return Status{};
}

// Schema changes whose router died between the intent and the publication.
net::Task<Status> Cluster::recover_intents(net::EventLoop& loop) {
  CO_TRY_ASSIGN(auto found, store_.read_prefix(kIntentPrefix));
  for (const auto& entry : found.entries) {
    const std::string gid_text = entry.key.substr(kIntentPrefix.size());
    const auto gid = exec::Gid::parse(gid_text);
    const auto intent = nlohmann::json::parse(entry.value, nullptr, false);
    if (!gid || intent.is_discarded()) co_return make_error("XX001", "the metadata store's key " + entry.key + " is damaged");
    const std::string database = intent["database"];
    const std::vector<uint32_t> participants = {gid->anchor};
    auto committed = co_await resolve(loop, database, *gid, participants);
    if (!committed.ok()) co_return std::move(committed.error());
    meta::Txn txn;
    if (*committed) {
      for (const auto& table : intent["tables"])
        txn.puts.push_back({meta::table_key(database, table["oid"]), table["record"]});
      for (const auto& colocation : intent["colocations"])
        txn.puts.push_back({meta::colocation_key(database, colocation["id"]), colocation["record"]});
    }
    txn.deletes.push_back(entry.key);
    CO_TRY_ASSIGN(auto done, store_.commit(txn));
    CHECK(done.committed);
    log_info("control", "recovered schema change {}: {}", gid_text, *committed ? "published" : "dropped");
  }
  co_return Status{};
}

net::Task<void> Cluster::tend(net::EventLoop& loop) {
  std::set<std::string> work;
  {
    std::lock_guard lock(mutex_);
    work = in_doubt_;
  }
  for (const std::string& gid : work) {
    Status status = co_await recover(loop, gid);
    if (!status.ok()) {
      log_warning("control", "transaction {} stays in doubt: {}", gid, status.error().message);
      continue;
    }
    std::lock_guard lock(mutex_);
    in_doubt_.erase(gid);
  }
}

}  // namespace pgmosaic::control
