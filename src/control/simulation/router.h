// A router of the simulation: what src/exec/backends.cc and the rest of src/control do about transactions over several
// groups, around the same machines – TwoPhase, Inquiry, InDoubt, ParkedTransactions, CommitLabels, TrimRound, agree().
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/commit_labels.h"
#include "control/in_doubt.h"
#include "control/parked.h"
#include "control/simulation/world.h"
#include "exec/inquiry.h"
#include "exec/two_phase.h"

namespace pgmosaic::control::simulation {

// What a test breaks on purpose: the invariants must notice.
enum class Sabotage : uint8_t {
  none,
  skip_tombstone,       // recovery looks for the decision's row, and leaves none where there is none
  anchor_early,         // the anchor commits before the others have prepared
  lost_is_failed,       // an anchor that did not answer is taken for one that has not committed
  gives_up,             // who was left to recovery is looked for once
  trims_unseen,         // rows go though a group has not learnt the epoch
  trims_undone,         // rows go before all groups show their transaction
  takes_trimming_back,  // an older mark replaces a later one
  forgets_late,         // what a start makes a group forget is forgotten also when another router has started since
  no_check,             // readers do not ask
  no_epochs,            // readers do not compare epochs
  quiet_before,         // a reader that does not ask does not look again afterwards
  forgets_early,        // a start takes the rows of earlier routers before it has settled their transactions
  parks_late,           // no tombstone stays of what a home may yet prepare
  forgets_parked,       // a start forgets what clients have prepared
  acknowledges_early    // the client hears of success before the anchor has committed
};

// What clients know, and what they were told.
struct Clients {
  struct Client {
    std::vector<uint32_t> groups = {};
    bool parks = false;  // says PREPARE TRANSACTION rather than COMMIT, and decides later
    enum class Told : uint8_t { nothing, committed, rolled_back } told = Told::nothing;
  };
  std::vector<Client> all = {};  // by transaction
  // In the metadata store, by gid.
  std::map<std::string, ParkedTransaction> intents = {};
};

inline constexpr uint32_t kHome = 1;
// As its client calls what it has prepared.
inline std::string parked_name(uint64_t number) { return "p" + std::to_string(number); }

std::string end_parked_sql(uint64_t number, bool commit);

class Router {
 public:
  Router(World& world, Clients& clients, std::string name, Sabotage sabotage)
      : world_(world), clients_(clients), name_(std::move(name)), sabotage_(sabotage) {}

  bool open() const { return open_; }
  bool failed() const { return failed_; }  // it could not start
  int rounds() const { return rounds_; }
  // Nothing is in the commit logs for its sake.
  bool idle() { return labels_.close().databases.empty() && parked_.gids().empty(); }

  net::Task<void> run();  // settles what earlier routers left, then tends
  net::Task<void> transact(uint64_t number);
  net::Task<void> decide(uint64_t number, bool commit);  // on what was prepared
  net::Task<void> read(std::vector<uint32_t> groups, bool asks);

 private:
  using Connections = std::vector<Connection>;  // by group

  net::Task<bool> begin();
  net::Task<bool> install();
  net::Task<bool> write(uint64_t number, Connections& connections);
  net::Task<void> roll_back(Connections& connections);
  net::Task<void> commit(uint64_t number, Connections& connections);
  net::Task<void> park(uint64_t number, Connections& connections);
  net::Task<void> prepare_others(exec::TwoPhase& machine, Connections& connections);
  net::Task<void> tell_anchor(exec::TwoPhase& machine, Connections& connections, const char* tag);
  net::Task<void> phase_two(exec::TwoPhase& machine, Connections& connections);
  net::Task<Result<std::optional<bool>>> ask(exec::Inquiry inquiry);
  net::Task<std::optional<bool>> resolve(exec::Gid gid, std::vector<uint32_t> participants);
  net::Task<std::optional<bool>> look_only(exec::Gid gid);
  net::Task<bool> tell_groups(exec::Gid gid, std::vector<uint32_t> groups, bool commit, uint64_t tries);
  net::Task<RecoveryLook> recover();
  net::Task<bool> recover_group(uint32_t group, RecoveryLook& look);
  net::Task<void> tend();
  void end_commit(const exec::Gid& gid);
  net::Task<std::optional<bool>> settle_one(ParkedTransaction transaction, uint64_t tries);
  net::Task<std::optional<bool>> settle_claimed(ParkedTransaction transaction, uint64_t tries);
  net::Task<bool> recover_parked();
  net::Task<void> sweep_parked();
  net::Task<void> tend_parked(InDoubt::Round round);
  net::Task<void> trim();
  std::optional<uint64_t> quiet();
  net::Task<bool> take_snapshots(const std::vector<uint32_t>& groups, std::string sql, std::vector<Reply>& replies);
  void check_read(const std::vector<uint32_t>& groups, const std::vector<Reply>& replies);

  World& world_;
  Clients& clients_;
  const std::string name_;
  const Sabotage sabotage_;
  CommitLabels labels_;
  InDoubt in_doubt_;
  ParkedTransactions parked_;
  bool open_ = false, failed_ = false;
  int rounds_ = 0;
};

}  // namespace pgmosaic::control::simulation
