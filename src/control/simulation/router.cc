#include "control/simulation/router.h"

#include <algorithm>

#include "control/commit_secret.h"
#include "control/trim_round.h"
#include "exec/untorn.h"

namespace pgmosaic::control::simulation {

namespace {

using exec::TwoPhase;
using Outcome = TwoPhase::Outcome;
using Told = Clients::Client::Told;

const std::string kDatabase = "db";

Error error_of(const Reply& reply) { return make_error(reply.lost ? "08006" : reply.sqlstate, "simulated"); }

}  // namespace

net::Task<void> Router::run() {
  const bool begun = co_await begin();
  failed_ = !begun;
  open_ = begun;
  while (begun) {
    co_await world_.pause();
    co_await tend();
    ++rounds_;
  }
}

// As Cluster::open().
net::Task<bool> Router::begin() {
  const bool installed = co_await install();
  if (!installed) co_return false;
  const bool early = sabotage_ == Sabotage::forgets_early;
  for (int pass = 0; pass < 2; ++pass) {
    if ((pass == 0) != early) {
      RecoveryLook look = co_await recover();
      if (!look.status.ok()) co_return false;
      const bool settled = co_await recover_parked();
      if (!settled) co_return false;
      continue;
    }
    std::vector<std::string> undecided = parked_.gids();
    if (sabotage_ == Sabotage::forgets_parked) undecided.clear();
    const std::string forget = forget_commits_sql(undecided, name_);
    for (const auto& server : world_.servers) {
      Connection connection = co_await world_.connect(server->number);
      if (!connection) co_return false;
      const Reply forgotten = co_await world_.query(connection, forget);
      if (!forgotten.ok()) co_return false;
    }
  }
  co_return true;
}

net::Task<bool> Router::install() {
  const std::string look(kSecretsSql);
  for (const auto& server : world_.servers) {
    Connection connection = co_await world_.connect(server->number);
    if (!connection) co_return false;
    const Reply found = co_await world_.query(connection, look);
    if (!found.ok()) co_return false;
    const std::string replace = replace_secret_sql(found.values, name_, server->number);
    const Reply replaced = co_await world_.query(connection, replace);
    if (!replaced.ok()) co_return false;
    const Reply now = co_await world_.query(connection, look);
    if (!now.ok() || now.values != std::vector<std::string>{name_}) co_return false;
  }
  co_return true;
}

net::Task<void> Router::transact(uint64_t number) {
  Connections connections(world_.servers.size() + 1);
  const bool written = co_await write(number, connections);
  if (!written)
    clients_.all[number].told = Told::rolled_back;
  else if (clients_.all[number].parks)
    co_await park(number, connections);
  else
    co_await commit(number, connections);
  co_await roll_back(connections);
}

net::Task<bool> Router::write(uint64_t number, Connections& connections) {
  const std::string sql = "BEGIN; WRITE " + std::to_string(number);
  for (const uint32_t group : clients_.all[number].groups) {
    connections[group] = co_await world_.connect(group);
    if (!connections[group]) co_return false;
    const Reply reply = co_await world_.query(connections[group], sql);
    if (!reply.ok()) co_return false;
  }
  co_return true;
}

net::Task<void> Router::roll_back(Connections& connections) {
  const std::string sql = "ROLLBACK";
  for (Connection& connection : connections)
    if (connection && !connection->busy) (void)(co_await world_.query(connection, sql));
}

// As Backends::commit_two_phase().
net::Task<void> Router::commit(uint64_t number, Connections& connections) {
  std::vector<TwoPhase::Participant> participants;
  for (const uint32_t group : clients_.all[number].groups) participants.push_back({group, false});
  TwoPhase machine = TwoPhase::make(std::move(participants), {"c", 0, name_, number}).value();
  machine.set_row({labels_.begin(machine.gid().text(), kDatabase, machine.groups()), "secret"});
  co_await prepare_others(machine, connections);
  if (machine.step() == TwoPhase::Step::commit_anchor) co_await tell_anchor(machine, connections, "COMMIT");
  if (machine.step() == TwoPhase::Step::resolve) {
    const std::optional<bool> decision = co_await resolve(machine.gid(), machine.groups());
    if (decision)
      machine.decided(*decision);
    else
      machine.undecided();
  }
  const bool decided = machine.step() != TwoPhase::Step::done;
  if (decided) {
    if (sabotage_ == Sabotage::trims_undone) labels_.end(machine.gid().text());
    co_await phase_two(machine, connections);
  }
  if (machine.ended())
    end_commit(machine.gid());
  else
    in_doubt_.add(machine.gid());
  if (decided) clients_.all[number].told = machine.committed() ? Told::committed : Told::rolled_back;
}

net::Task<void> Router::prepare_others(TwoPhase& machine, Connections& connections) {
  for (const uint32_t group : machine.others()) world_.send(connections[group], machine.prepare_sql(group));
  const std::vector<uint32_t> others = machine.others();
  const bool waits = sabotage_ != Sabotage::anchor_early;
  for (const uint32_t group : others) {
    if (!waits) {
      machine.prepared(group, Outcome::success);
      continue;
    }
    const Reply reply = co_await world_.reply(connections[group]);
    machine.prepared(group, reply.ok() && reply.tag == "PREPARE TRANSACTION" ? Outcome::success
                            : reply.lost                                     ? Outcome::unknown
                                                                             : Outcome::failure);
  }
  if (waits) co_return;
  co_await tell_anchor(machine, connections, "COMMIT");
  for (const uint32_t group : others) (void)(co_await world_.reply(connections[group]));
}

net::Task<void> Router::tell_anchor(TwoPhase& machine, Connections& connections, const char* tag) {
  if (sabotage_ == Sabotage::acknowledges_early) clients_.all[machine.gid().number].told = Told::committed;
  const std::string sql = machine.anchor_sql();
  const Reply reply = co_await world_.query(connections[machine.anchor()], sql);
  const bool unknown = reply.lost && sabotage_ != Sabotage::lost_is_failed;
  machine.anchor_committed(reply.ok() && reply.tag == tag ? Outcome::success
                           : unknown                      ? Outcome::unknown
                                                          : Outcome::failure);
}

net::Task<void> Router::phase_two(TwoPhase& machine, Connections& connections) {
  const bool commit = machine.step() == TwoPhase::Step::commit_prepared;
  const std::vector<uint32_t> prepared = machine.prepared();
  for (const uint32_t group : prepared)
    world_.send(connections[group], commit ? machine.commit_prepared_sql(group) : machine.rollback_prepared_sql(group));
  std::vector<uint32_t> unfinished;
  for (const uint32_t group : prepared) {
    const Reply reply = co_await world_.reply(connections[group]);
    if (!reply.ok()) unfinished.push_back(group);
  }
  machine.told(std::move(unfinished));
  if (machine.step() != TwoPhase::Step::finish) co_return;
  const bool everywhere = co_await tell_groups(machine.gid(), machine.unfinished(), true, world_.random.below(4));
  machine.finished(everywhere);
}

// As Cluster::ask().
net::Task<Result<std::optional<bool>>> Router::ask(exec::Inquiry inquiry) {
  Connection connection = co_await world_.connect(inquiry.anchor());
  if (!connection) co_return make_error("08006", "simulated");
  while (inquiry.step() == exec::Inquiry::Step::ask) {
    const std::string sql = inquiry.sql();
    const Reply reply = co_await world_.query(connection, sql);
    if (!reply.ok())
      inquiry.refused(error_of(reply));
    else if (reply.values.empty())
      inquiry.answered(std::nullopt);
    else
      inquiry.answered(reply.values.back());
  }
  if (inquiry.decision().ok()) co_return std::optional<bool>(*inquiry.decision());
  if (inquiry.decision().error().sqlstate == "XX000") world_.violated("the decision's row has vanished");
  co_return Error(inquiry.decision().error());
}

net::Task<std::optional<bool>> Router::resolve(exec::Gid gid, std::vector<uint32_t> participants) {
  if (sabotage_ == Sabotage::skip_tombstone) co_return co_await look_only(std::move(gid));
  exec::Inquiry inquiry(gid, participants, exec::Inquiry::Manner::wait);
  auto decision = co_await ask(std::move(inquiry));
  if (!decision.ok()) co_return std::nullopt;
  co_return *decision;
}

net::Task<std::optional<bool>> Router::look_only(exec::Gid gid) {
  Connection connection = co_await world_.connect(gid.anchor);
  if (!connection) co_return std::nullopt;
  const std::string sql = "SELECT aborted FROM pg_catalog.pgmosaic_commit_log WHERE gid = '" + gid.text() + "'";
  const Reply row = co_await world_.query(connection, sql);
  if (!row.ok()) co_return std::nullopt;
  co_return !row.values.empty();
}

net::Task<bool> Router::tell_groups(exec::Gid gid, std::vector<uint32_t> groups, bool commit, uint64_t tries) {
  while (!groups.empty()) {
    Connection connection = co_await world_.connect(groups.back());
    if (connection) {
      const std::string sql = exec::end_prepared_sql(gid, groups.back(), commit);
      const Reply reply = co_await world_.query(connection, sql);
      if (reply.ok() || exec::is_ended(error_of(reply))) {
        groups.pop_back();
        continue;
      }
    }
    if (tries-- == 0) co_return false;
    co_await world_.pause();
  }
  co_return true;
}

// As Cluster::recover_group().
net::Task<bool> Router::recover_group(uint32_t group, RecoveryLook& look) {
  Connection connection = co_await world_.connect(group);
  if (!connection) co_return false;
  const std::string list = "SELECT gid, database FROM pg_catalog.pg_prepared_xacts ORDER BY prepared";
  const Reply found = co_await world_.query(connection, list);
  if (!found.ok()) co_return false;
  for (const std::string& name : found.values) {
    const auto prepared = exec::PreparedGid::parse(name);
    if (!prepared || prepared->group != group || !InDoubt::ends(look, prepared->gid, labels_)) continue;
    const exec::Gid& gid = prepared->gid;
    const std::vector<uint32_t> participants = {gid.anchor, group}, here = {group};
    const std::optional<bool> committed = co_await resolve(gid, participants);
    bool settled = committed.has_value();
    if (settled) settled = co_await tell_groups(gid, here, *committed, 0);
    if (settled) {
      ++look.settled;
    } else {
      look.unsettled.insert(gid.text());
      look.failed(make_error("08006", "simulated"));
    }
  }
  co_return true;
}

net::Task<RecoveryLook> Router::recover() {
  RecoveryLook look = in_doubt_.begin();
  for (const auto& server : world_.servers) {
    const bool told = co_await recover_group(server->number, look);
    if (told) continue;
    look.complete = false;
    look.failed(make_error("08006", "simulated"));
  }
  co_return look;
}

net::Task<void> Router::tend() {
  const InDoubt::Round round = in_doubt_.next_round();
  if (round != InDoubt::Round::rest && !(sabotage_ == Sabotage::gives_up && rounds_ > 2)) {
    const RecoveryLook look = co_await recover();
    in_doubt_.end(look, labels_);
  }
  co_await tend_parked(round);
  co_await trim();
}

// As Cluster::trim_database().
net::Task<void> Router::trim() {
  const CommitLabels::Round now = labels_.close();
  const auto closed = now.databases.find(kDatabase);
  if (closed == now.databases.end() || closed->second.finished.empty()) co_return;
  TrimRound round(name_, now.epoch, closed->second);
  const std::string set_epoch = round.epoch_sql();
  Connections told(world_.servers.size() + 1);
  for (const auto& server : world_.servers) {
    Connection connection = co_await world_.connect(server->number);
    bool set = static_cast<bool>(connection);
    if (set) {
      const Reply reply = co_await world_.query(connection, set_epoch);
      set = reply.ok();
    }
    if (set)
      told[server->number] = std::move(connection);
    else if (sabotage_ != Sabotage::trims_unseen)
      round.untold(server->number);
  }
  const std::string remove = round.remove_sql(20'000);
  for (const auto& server : world_.servers) {
    if (!told[server->number]) continue;
    const Reply reply = co_await world_.query(told[server->number], remove);
    if (!reply.ok()) round.failed(server->number);
  }
  round.forget(kDatabase, labels_);
}

// As Snapshots of src/router, exec::take_snapshots() and what goes unasked.
net::Task<void> Router::read(std::vector<uint32_t> groups, bool asks) {
  const bool checks = asks && sabotage_ != Sabotage::no_check;
  const std::string sql = asks ? exec::seen_commits_sql(groups) : "READ";
  for (uint64_t tries = 1 + world_.random.below(3); tries > 0; --tries) {
    const auto before = quiet();
    if (!asks && !before) co_return;
    std::vector<Reply> replies;
    const bool taken = co_await take_snapshots(groups, sql, replies);
    if (!taken) continue;
    if (!asks && sabotage_ != Sabotage::quiet_before && quiet() != before) continue;
    std::vector<std::string> answers;
    for (const Reply& reply : replies) {
      answers.push_back(asks ? reply.values.back() : "|");
      if (sabotage_ == Sabotage::no_epochs) answers.back().erase(0, answers.back().find('|'));
    }
    auto agreed = exec::agree(groups, answers);
    if (!agreed.ok()) world_.violated(agreed.error().message);
    if (checks && !(agreed.ok() && *agreed)) continue;
    check_read(groups, replies);
    co_return;
  }
}

// As Cluster::quiet().
std::optional<uint64_t> Router::quiet() { return parked_.any(kDatabase) ? std::nullopt : labels_.all_ended(kDatabase); }

net::Task<bool> Router::take_snapshots(const std::vector<uint32_t>& groups, std::string sql,
                                       std::vector<Reply>& replies) {
  const bool one_by_one = world_.random.one_in(2);
  Connections connections(groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    connections[i] = co_await world_.connect(groups[i]);
    if (!connections[i]) co_return false;
    world_.send(connections[i], "BEGIN ISOLATION LEVEL REPEATABLE READ; " + sql);
    if (!one_by_one) continue;
    replies.push_back(co_await world_.reply(connections[i]));
    if (!replies.back().ok()) co_return false;
  }
  if (one_by_one) co_return true;
  for (Connection& connection : connections) {
    replies.push_back(co_await world_.reply(connection));
    if (!replies.back().ok()) co_return false;
  }
  co_return true;
}

void Router::check_read(const std::vector<uint32_t>& groups, const std::vector<Reply>& replies) {
  world_.note(name_ + ": a read has passed");
  ++world_.reads;
  for (std::size_t i = 0; i < groups.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      const Transactions differs = replies[i].shown ^ replies[j].shown;
      for (uint64_t number = 0; number < clients_.all.size(); ++number) {
        const std::vector<uint32_t>& of = clients_.all[number].groups;
        const auto takes_part = [&](uint32_t group) { return std::find(of.begin(), of.end(), group) != of.end(); };
        if ((differs >> number & 1) != 0 && takes_part(groups[i]) && takes_part(groups[j]))
          world_.violated("a torn read: transaction " + std::to_string(number) + " on one of groups " +
                          std::to_string(groups[j]) + " and " + std::to_string(groups[i]));
      }
    }
}

}  // namespace pgmosaic::control::simulation
