// What becomes of transactions that clients have prepared over several groups (parked.h). The decision is what the home
// was told: its row in the commit log is there, or will never be, or the transaction that wrote it is still prepared.
#include "base/log.h"
#include "control/cluster.h"
#include "control/intents.h"

namespace pgmosaic::control {

namespace {

constexpr int64_t kPatienceUs = 10'000'000;
constexpr int64_t kPollUs = 5'000;

}  // namespace

Status Cluster::begin_parking(const exec::Gid& gid, const exec::Parking& parking) {
  meta::Txn txn;
  txn.puts.push_back({std::string(kIntentPrefix) + gid.text(), encode_intent(parking)});
  TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  ParkedTransaction transaction{gid, parking.database, parking.name, parking.groups};
  transaction.of_client = {parking.staged != nullptr, parking.staged && parking.staged->makes_names,
                           parking.moved_tables};
  parked_.begin(std::move(transaction));
  return {};
}

void Cluster::end_commit(const exec::Gid& gid) {
  if (gid.parked) {
    forget(gid.text());
    parked_.end(gid);
  }
  labels_.end(gid.text());
}

// What earlier routers left was settled before this one began (open()), but for what clients prepared through them.
std::optional<uint64_t> Cluster::quiet(const std::string& database, std::chrono::microseconds for_so_long) {
  return parked_.any(database) ? std::nullopt : labels_.all_ended(database, for_so_long);
}

std::optional<exec::ClusterControl::Parked> Cluster::find_parked(const std::string& database, const std::string& name) {
  std::optional<Parked> found;
  for (const ParkedTransaction& transaction : parked_.named(database, name)) {
    if (!found) found.emplace();
    const Parked& one = transaction.of_client;
    found->changes_schema = found->changes_schema || one.changes_schema;
    found->makes_names = found->makes_names || one.makes_names;
    found->moved_tables.insert(one.moved_tables.begin(), one.moved_tables.end());
  }
  return found;
}

net::Task<void> Cluster::settle_parked(net::EventLoop& loop, std::string database, std::string name,
                                       std::shared_ptr<void> held) {
  for (const ParkedTransaction& transaction : parked_.named(database, name)) {
    const ParkedTransaction own = transaction;
    auto settled = co_await settle_one(loop, own, kPatienceUs);
    if (settled.ok() && *settled) continue;
    if (!settled.ok()) log_warning("control", "{} is not settled yet: {}", own.gid.text(), settled.error().message);
    parked_.leave(own.gid, held);
  }
}

// Who does it already is waited for.
net::Task<Result<bool>> Cluster::settle_one(net::EventLoop& loop, ParkedTransaction transaction, int64_t patience_us) {
  for (;;) {
    const auto claim = parked_.claim(transaction.gid);
    if (claim == ParkedTransactions::Claim::gone) co_return true;
    if (claim == ParkedTransactions::Claim::ours) break;
    co_await loop.sleep(kPollUs);
  }
  auto settled = co_await settle_claimed(loop, transaction, patience_us);
  parked_.release(transaction.gid);
  co_return settled;
}

// False: a client has yet to decide.
net::Task<Result<bool>> Cluster::settle_claimed(net::EventLoop& loop, const ParkedTransaction& transaction,
                                                int64_t patience_us) {
  std::vector<uint32_t> participants{home_};
  participants.insert(participants.end(), transaction.groups.begin(), transaction.groups.end());
  using Manner = exec::Inquiry::Manner;
  exec::Inquiry inquiry(transaction.gid, participants,
                        parked_.was_prepared(transaction.gid) ? Manner::glance : Manner::look);
  CO_TRY_ASSIGN(const std::optional<bool> committed, co_await ask(loop, transaction.database, std::move(inquiry)));
  if (!committed) co_return false;
  Status told = co_await tell_groups(loop, transaction.database, transaction.gid, transaction.groups, *committed,
                                     *committed ? patience_us : 0);
  if (*committed && transaction.of_client.changes_schema) CO_TRY(co_await publish_parked(loop, transaction));
  parked_.let_go(transaction.gid);  // its names are known now
  if (!told.ok()) co_return std::move(told.error());
  end_commit(transaction.gid);
  log_info("control", "transaction {} that its client had prepared: {}", transaction.gid.text(),
           *committed ? "committed" : "rolled back");
  co_return true;
}

net::Task<Status> Cluster::publish_parked(net::EventLoop& loop, const ParkedTransaction& transaction) {
  CO_TRY_ASSIGN(const auto intent, store_.get(std::string(kIntentPrefix) + transaction.gid.text()));
  if (!intent) co_return Status{};
  meta::Txn txn;
  std::string database;
  std::set<catalog::ColocationId> colocations;
  CO_TRY(put_intended(*intent, txn, database, colocations));
  if (!txn.puts.empty()) {
    CO_TRY_ASSIGN(auto done, store_.commit(txn));
    CHECK(done.committed);
  }
  {
    std::lock_guard lock(mutex_);
    std::erase_if(pending_[transaction.database],
                  [&](const catalog::Colocation& placed) { return colocations.contains(placed.id); });
  }
  if (snapshot() == nullptr) co_return Status{};  // the start looks at all databases anyway
  co_return co_await reload(loop, transaction.database);
}

net::Task<Status> Cluster::recover_parked(net::EventLoop& loop) {
  CO_TRY_ASSIGN(const auto intents, store_.read_prefix(kIntentPrefix));
  for (const auto& entry : intents.entries) {
    CO_TRY_ASSIGN(auto transaction, decode_parked(entry));
    if (!transaction) continue;
    const ParkedTransaction found = std::move(*transaction);
    parked_.found(found);
    auto settled = co_await settle_one(loop, found, 0);
    if (!settled.ok()) co_return std::move(settled.error());
  }
  co_return Status{};
}

// Prepared on a group though nobody knows of them any more: what was given up while the group was still about it. Those
// that commit are known until all groups have.
net::Task<void> Cluster::sweep_parked(net::EventLoop& loop) {
  auto databases = co_await list_databases(loop);
  if (!databases.ok()) co_return;
  for (const GroupEndpoint& group : groups_) {
    auto conn = co_await connect(loop, group.group.id, internal_database_);
    if (!conn.ok()) continue;
    auto rows = co_await (*conn)->query("SELECT gid, database FROM pg_catalog.pg_prepared_xacts");
    if (!rows.ok()) continue;
    for (const auto& row : rows->rows) {
      const auto prepared = exec::PreparedGid::parse(*row[0]);
      if (!prepared || !prepared->gid.parked || prepared->gid.cluster != cluster_id_) continue;
      const auto intent = store_.get(std::string(kIntentPrefix) + prepared->gid.text());
      if (!intent.ok() || intent->has_value() || parked_.knows(prepared->gid)) continue;
      for (const std::string& name : *databases) {
        if (group.endpoint.database_name(name) != *row[1]) continue;
        auto there = co_await connect(loop, group.group.id, name);
        if (!there.ok()) continue;
        const std::string sql = exec::end_prepared_sql(prepared->gid, prepared->group, false);
        auto done = co_await (*there)->query(sql);
        if (done.ok()) log_info("control", "rolled back {}, which nobody has prepared", *row[0]);
      }
    }
  }
}

net::Task<void> Cluster::tend_parked(net::EventLoop& loop, InDoubt::Round round) {
  if (round != InDoubt::Round::rest) co_await sweep_parked(loop);
  for (const ParkedTransaction& transaction : parked_.due(round == InDoubt::Round::look_at_all)) {
    const ParkedTransaction own = transaction;
    if (parked_.is_settling(own.gid)) continue;
    auto settled = co_await settle_one(loop, own, 0);
    if (!settled.ok()) log_warning("control", "{} is not settled yet: {}", own.gid.text(), settled.error().message);
    if (settled.ok() && !*settled) parked_.undecided(own.gid);
  }
}

}  // namespace pgmosaic::control
