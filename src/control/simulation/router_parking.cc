// What src/exec/parking.cc and parked.cc do of transactions that clients prepare.
#include "control/simulation/router.h"

namespace pgmosaic::control::simulation {

namespace {

using exec::TwoPhase;
using Told = Clients::Client::Told;

const std::string kDatabase = "db";

}  // namespace

std::string end_parked_sql(uint64_t number, bool commit) {
  return (commit ? "COMMIT PREPARED '" : "ROLLBACK PREPARED '") + parked_name(number) + "'";
}

void Router::end_commit(const exec::Gid& gid) {
  if (gid.parked) {
    clients_.intents.erase(gid.text());
    parked_.end(gid);
  }
  labels_.end(gid.text());
}

// As Backends::park().
net::Task<void> Router::park(uint64_t number, Connections& connections) {
  std::vector<uint32_t> others;
  for (const uint32_t group : clients_.all[number].groups)
    if (group != kHome) others.push_back(group);
  const std::string name = parked_name(number);
  TwoPhase machine = TwoPhase::park(kHome, others, {"c", 0, name_, number}, "PREPARE TRANSACTION '" + name + "'");
  const ParkedTransaction transaction{machine.gid(), kDatabase, name, others};
  clients_.intents[machine.gid().text()] = transaction;
  parked_.begin(transaction);
  machine.set_row({labels_.begin(machine.gid().text(), kDatabase, machine.groups()), "secret"});
  co_await prepare_others(machine, connections);
  if (machine.step() == TwoPhase::Step::commit_anchor)
    co_await tell_anchor(machine, connections, "PREPARE TRANSACTION");
  if (machine.step() == TwoPhase::Step::done) {
    parked_.prepared(machine.gid());
    co_return;
  }
  if (machine.step() == TwoPhase::Step::resolve) {
    machine.undecided();
  } else {
    co_await phase_two(machine, connections);
    clients_.all[number].told = Told::rolled_back;
  }
  if (machine.ended())
    end_commit(machine.gid());
  else
    parked_.leave(machine.gid());
}

// As src/router/prepared_transactions.cc and Cluster::settle_parked().
net::Task<void> Router::decide(uint64_t number, bool commit) {
  Connection home = co_await world_.connect(kHome);
  if (!home) co_return;
  const std::string name = parked_name(number);
  const std::string sql = end_parked_sql(number, commit);
  const Reply reply = co_await world_.query(home, sql);
  if (reply.ok()) clients_.all[number].told = commit ? Told::committed : Told::rolled_back;
  if (!reply.ok() && !reply.lost) co_return;
  for (const ParkedTransaction& transaction : parked_.named(kDatabase, name)) {
    const ParkedTransaction own = transaction;
    const std::optional<bool> settled = co_await settle_one(own, world_.random.below(4));
    if (!settled || !*settled) parked_.leave(own.gid);
  }
}

net::Task<std::optional<bool>> Router::settle_one(ParkedTransaction transaction, uint64_t tries) {
  for (;;) {
    const auto claim = parked_.claim(transaction.gid);
    if (claim == ParkedTransactions::Claim::gone) co_return true;
    if (claim == ParkedTransactions::Claim::ours) break;
    co_await world_.pause();
  }
  const std::optional<bool> settled = co_await settle_claimed(transaction, tries);
  parked_.release(transaction.gid);
  co_return settled;
}

// False: a client has yet to decide. nullopt: it cannot be told now.
net::Task<std::optional<bool>> Router::settle_claimed(ParkedTransaction transaction, uint64_t tries) {
  std::vector<uint32_t> participants{kHome};
  participants.insert(participants.end(), transaction.groups.begin(), transaction.groups.end());
  using Manner = exec::Inquiry::Manner;
  const bool over = parked_.was_prepared(transaction.gid) || sabotage_ == Sabotage::parks_late;
  exec::Inquiry inquiry(transaction.gid, participants, over ? Manner::glance : Manner::look);
  auto committed = co_await ask(std::move(inquiry));
  if (!committed.ok()) co_return std::nullopt;
  if (!*committed) co_return false;
  const bool told = co_await tell_groups(transaction.gid, transaction.groups, **committed, **committed ? tries : 0);
  if (!told) co_return std::nullopt;
  end_commit(transaction.gid);
  co_return true;
}

net::Task<bool> Router::recover_parked() {
  const auto intents = clients_.intents;
  for (const auto& [gid, transaction] : intents) {
    const ParkedTransaction found = transaction;
    parked_.found(found);
    const std::optional<bool> settled = co_await settle_one(found, 0);
    if (!settled) co_return false;
  }
  co_return true;
}

net::Task<void> Router::sweep_parked() {
  for (const auto& server : world_.servers) {
    Connection connection = co_await world_.connect(server->number);
    if (!connection) continue;
    const std::string list = "SELECT gid, database FROM pg_catalog.pg_prepared_xacts";
    const Reply found = co_await world_.query(connection, list);
    if (!found.ok()) continue;
    for (const std::string& name : found.values) {
      const auto prepared = exec::PreparedGid::parse(name);
      if (!prepared || !prepared->gid.parked) continue;
      if (clients_.intents.contains(prepared->gid.text()) || parked_.knows(prepared->gid)) continue;
      const std::string sql = exec::end_prepared_sql(prepared->gid, prepared->group, false);
      (void)(co_await world_.query(connection, sql));
    }
  }
}

net::Task<void> Router::tend_parked(InDoubt::Round round) {
  if (round != InDoubt::Round::rest) co_await sweep_parked();
  for (const ParkedTransaction& transaction : parked_.due(round == InDoubt::Round::look_at_all)) {
    const ParkedTransaction own = transaction;
    if (parked_.is_settling(own.gid)) continue;
    const std::optional<bool> settled = co_await settle_one(own, 0);
    if (settled && !*settled) parked_.undecided(own.gid);
  }
}

}  // namespace pgmosaic::control::simulation
