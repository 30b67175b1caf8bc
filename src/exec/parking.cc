// PREPARE TRANSACTION of a client's own (two_phase.h: parked). What concerns the home alone stays there, as in one
// PostgreSQL; of several groups all others prepare before the home does, so that what its user sees is all there.
#include "exec/backends.h"

namespace pgmosaic::exec {

net::Task<Status> Backends::prepare_transaction(GroupId home, std::string_view sql, Parking parking) {
  auto joined = co_await get(home);  // it may have had nothing to do yet
  if (!joined.ok()) co_return co_await undone(std::move(joined.error()));
  std::vector<Backend*> readers;
  for (auto& backend : held_) {
    if (!backend->begun) continue;
    backend->conn->finishing = true;
    if (backend->group == home) continue;
    if (backend->wrote || parking.staged) {
      parking.groups.push_back(backend->group);
    } else {
      readers.push_back(backend.get());
    }
  }
  Status status;
  if (lost_participant()) {
    status = make_error("08006", "the transaction lost its connection to a group and was rolled back",
                        "Retry the transaction.");
  } else if (parking.groups.empty()) {
    status = co_await commit_one_phase(readers, held(home), sql, "PREPARE TRANSACTION");
  } else {
    status = co_await commit_one_phase(readers, nullptr);
    if (status.ok()) status = co_await park(home, sql, parking);
  }
  committing_.clear();
  for (auto& backend : held_)
    if (backend->conn->alive()) backend->conn->finishing = false;
  if (!status.ok() && in_transaction_) co_return co_await undone(std::move(status.error()));
  if (in_transaction_) end_transaction(true);
  co_return status;
}

net::Task<Status> Backends::park(GroupId home, std::string_view sql, const Parking& parking) {
  TwoPhase machine = TwoPhase::park(home, parking.groups, services_.next_gid(), std::string(sql));
  committing_ = machine.gid().text();
  CO_TRY(services_.begin_parking(machine.gid(), parking));
  machine.set_row(services_.begin_commit(machine.gid(), database_, machine.groups()));
  Status failure = co_await prepare_others(machine);
  if (machine.step() == TwoPhase::Step::commit_anchor) failure = co_await tell_anchor(machine, "PREPARE TRANSACTION");
  if (machine.step() == TwoPhase::Step::done) {
    services_.parked(machine.gid());
    co_return Status{};
  }
  if (machine.step() == TwoPhase::Step::resolve) {
    machine.undecided();
    services_.leave_to_recovery(database_, machine.gid());
    end_transaction(false);
    co_return make_error("08007",
                         "the connection to the group was lost during PREPARE TRANSACTION: the outcome of the "
                         "transaction is unknown",
                         "pg_prepared_xacts shows it if it is prepared.");
  }
  co_await phase_two(machine);
  co_return failure;
}

}  // namespace pgmosaic::exec
