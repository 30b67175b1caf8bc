#include "control/simulation/schedule.h"

#include <algorithm>

namespace pgmosaic::control::simulation {

namespace {

using Told = Clients::Client::Told;

constexpr uint64_t kMostSteps = 20'000;
constexpr int kRounds = 65;  // of tending: in one of them InDoubt looks at everything

class Schedule {
 public:
  Schedule(uint64_t seed, const Options& options)
      : options_(options),
        world_(seed,
               {.takes_trimming_back = options.sabotage == Sabotage::takes_trimming_back,
                .does_whatever_comes_late = options.sabotage == Sabotage::forgets_late},
               options.verbose) {}

  Outcome run() {
    plan();
    begin_router();
    while (good() && (!jobs_.empty() || world_.has_clients())) {
      happen();
      step(false);
    }
    come_to_rest();
    return finish();
  }

 private:
  bool good() const { return world_.violation.empty(); }

  void plan() {
    Random& random = world_.random;
    constexpr uint64_t kRates[] = {0, 200, 60, 25};
    fault_rate_ = kRates[random.below(4)];
    death_rate_ = random.one_in(2) ? 0 : 40 + random.below(200);
    constexpr std::string_view kLosses[] = {"PREPARE ",     "COMMIT",     "ROLLBACK PREPARED ",
                                            "INSERT INTO ", "WITH gone ", "SELECT pg_catalog.pgmosaic_log",
                                            "DELETE "};
    if (random.one_in(3)) loses_ = kLosses[random.below(std::size(kLosses))];
    if (!options_.loses.empty()) loses_ = options_.loses;
    pace_ = uint64_t{4} << random.below(5);
    clients_.all.resize(2 + random.below(5));
    const bool some_park = random.one_in(3);
    for (std::size_t number = 0; number < clients_.all.size(); ++number) {
      Clients::Client& client = clients_.all[number];
      client.groups = some_groups();
      jobs_.push_back(number);
      client.parks = (options_.parks || (some_park && random.one_in(2))) && client.groups[0] == kHome;
      if (client.parks) jobs_.push_back(kDecision + number);
    }
    for (uint64_t readers = random.below(5); readers > 0; --readers) jobs_.push_back(kReader);
    for (std::size_t i = jobs_.size(); i > 1; --i) std::swap(jobs_[i - 1], jobs_[random.below(i)]);
  }

  // Two or more, in any order.
  std::vector<uint32_t> some_groups() {
    std::vector<uint32_t> groups;
    for (const auto& server : world_.servers) groups.push_back(server->number);
    for (std::size_t i = groups.size(); i > 1; --i) std::swap(groups[i - 1], groups[world_.random.below(i)]);
    if (groups.size() > 2 && world_.random.one_in(2)) groups.pop_back();
    return groups;
  }

  void begin_router() {
    router_ = std::make_unique<Router>(world_, clients_, "r" + std::to_string(++routers_), options_.sabotage);
    world_.note("router r" + std::to_string(routers_) + " starts");
    world_.start("r" + std::to_string(routers_), World::Kind::tends, router_->run(),
                 uint64_t{1} << world_.random.below(5));
  }

  void end_router() {
    world_.note("router r" + std::to_string(routers_) + " dies");
    world_.end_processes();
    router_.reset();
  }

  // What comes from outside.
  void happen() {
    Random& random = world_.random;
    if (fault_rate_ != 0 && random.one_in(fault_rate_)) world_.fault();
    if (!loses_.empty() && random.one_in(4)) world_.lose(loses_);
    if (router_ && random.one_in(death_rate_)) end_router();
    const bool next = !jobs_.empty() && random.one_in(pace_);
    if (!router_) {
      const bool down =
          std::any_of(world_.servers.begin(), world_.servers.end(), [](const auto& one) { return one->down; });
      if (random.one_in(down ? 64 : 8)) begin_router();
    } else if (next && router_->open()) {
      begin_job();
    } else if (next && jobs_.back() >= kDecision && jobs_.back() != kReader) {
      const uint64_t number = jobs_.back() - kDecision;
      jobs_.pop_back();
      world_.start("who tells the home's server about " + parked_name(number), World::Kind::client,
                   decide_directly(number, random.one_in(2)));
    }
    if (outcome_.steps > 2'000) jobs_.clear();
  }

  void begin_job() {
    const uint64_t job = jobs_.back();
    jobs_.pop_back();
    const std::string router = "r" + std::to_string(routers_);
    if (job == kReader)
      world_.start(router + "'s reader", World::Kind::client, router_->read(some_groups(), !world_.random.one_in(3)),
                   world_.random.one_in(3) ? 64 : 0);
    else if (job >= kDecision)
      begin_decision(job - kDecision);
    else
      world_.start(router + "'s transaction " + std::to_string(job), World::Kind::client, router_->transact(job));
  }

  void begin_decision(uint64_t number) {
    world_.start("who decides on " + parked_name(number), World::Kind::client,
                 router_->decide(number, world_.random.one_in(2)));
  }

  net::Task<void> decide_directly(uint64_t number, bool commit) {
    Connection home = co_await world_.connect(kHome);
    if (!home) co_return;
    const std::string sql = end_parked_sql(number, commit);
    const Reply reply = co_await world_.query(home, sql);
    if (reply.ok()) clients_.all[number].told = commit ? Told::committed : Told::rolled_back;
  }

  bool step(bool hurry) {
    ++outcome_.steps;
    if (outcome_.steps > kMostSteps) world_.violated("it does not come to an end");
    const bool done = world_.step(hurry);
    if (router_ && router_->failed()) end_router();
    uint64_t changes = 0;
    for (const auto& server : world_.servers) changes += server->changes;
    if (std::exchange(checked_, changes) != changes) check();
    return done;
  }

  void check() {
    Transactions committed = 0, tombstones = 0;
    for (const auto& server : world_.servers) {
      committed |= server->committed;
      tombstones |= server->logged(true);
    }
    for (uint64_t number = 0; number < clients_.all.size(); ++number) {
      const Transactions bit = Transactions{1} << number;
      const std::string name = "transaction " + std::to_string(number);
      if ((committed & bit) == 0) {
        if (clients_.all[number].told == Told::committed)
          world_.violated(name + " was said to be committed, and is not");
        continue;
      }
      if (clients_.all[number].told == Told::rolled_back)
        world_.violated(name + " was said to be rolled back, and is committed");
      bool everywhere = true, logged = true;
      for (const uint32_t group : clients_.all[number].groups) {
        const Server& server = world_.server(group);
        if ((server.committed & bit) != 0) {
          logged = logged && (server.logged(false) & bit) != 0;
          continue;
        }
        everywhere = false;
        if ((server.prepared_writes() & bit) == 0)
          world_.violated(name + " is committed on a group, and " +
                          ((server.rolled_back & bit) != 0 ? "rolled back" : "not prepared") + " on group " +
                          std::to_string(group));
      }
      if (everywhere) continue;
      if ((tombstones & bit) != 0) world_.violated(name + " is committed, and has a tombstone");
      if (!logged) world_.violated("the row of " + name + " is gone before all groups show it");
    }
  }

  // No faults any more.
  void come_to_rest() {
    for (const auto& server : world_.servers) server->down = false;
    world_.note("nothing breaks any more");
    // What lost connections are about may take longer than anybody looks for it.
    world_.orphans_sleep = router_ && router_->open() && world_.random.one_in(8);
    for (const uint64_t until = outcome_.steps + 1'000; good() && world_.orphans_sleep;) {
      const bool enough = outcome_.steps > until || router_->rounds() > kRounds / 2;
      world_.orphans_sleep = go_on() && !enough;
    }
    while (good() && (!router_ || !router_->open() || world_.has_clients() || world_.has_orphans()))
      if (!go_on()) world_.violated("nobody can go on");
    decide_at_last();
    if (!good()) return;
    for (const int until = router_->rounds() + kRounds; good() && router_->rounds() < until && !at_rest();) go_on();
    read_at_last();
    transact_at_last();
    for (const int until = router_->rounds() + kRounds; good() && router_->rounds() < until && !at_rest();) go_on();
  }

  void decide_at_last() {
    for (uint64_t number = 0; good() && number < clients_.all.size(); ++number) {
      const std::vector<Prepared>& prepared = world_.server(kHome).prepared;
      const auto named = [&](const Prepared& one) { return one.name == parked_name(number); };
      if (std::any_of(prepared.begin(), prepared.end(), named)) begin_decision(number);
      while (good() && world_.has_clients()) go_on();
    }
  }

  bool go_on() {
    if (!router_) begin_router();
    return step(true);
  }

  void transact_at_last() {
    const uint64_t last = clients_.all.size();
    clients_.all.emplace_back();
    for (const auto& server : world_.servers) {
      server->refuses = false;
      clients_.all[last].groups.push_back(server->number);
    }
    world_.start("the last transaction", World::Kind::client, router_->transact(last));
    while (good() && world_.has_clients()) go_on();
    if (clients_.all[last].told != Told::committed) world_.violated("the last transaction does not commit");
  }

  // Those of what clients prepared through earlier routers go with the next start (docs/design/010).
  bool has_rows(const Server& server) const {
    const std::string router = "r" + std::to_string(routers_);
    return std::any_of(server.log.begin(), server.log.end(), [&](const LogRow& row) {
      return !row.aborted && (row.router == router || !exec::Gid::parse(row.gid)->parked);
    });
  }

  bool at_rest() {
    for (const auto& server : world_.servers)
      if (!server->prepared.empty() || has_rows(*server)) return false;
    return router_->idle();
  }

  Outcome finish() {
    for (const auto& server : world_.servers) {
      const std::string group = " on group " + std::to_string(server->number);
      for (const Prepared& one : server->prepared) world_.violated(one.name + " stays prepared" + group);
      if (server->open_writes() != 0) world_.violated("a transaction stays open" + group);
      if (has_rows(*server)) world_.violated("a row stays in the commit log" + group);
    }
    if (good() && !router_->idle()) world_.violated("the commit logs stay to be trimmed");
    read_at_last();
    for (const auto& client : clients_.all) {
      const Server& server = world_.server(client.groups[0]);
      const bool committed = (server.committed >> (&client - clients_.all.data()) & 1) != 0;
      ++(committed ? outcome_.committed : outcome_.rolled_back);
    }
    outcome_.violation = world_.violation;
    outcome_.events = std::move(world_.events);
    outcome_.restarts = routers_ - 1;
    world_.end_processes();
    return std::move(outcome_);
  }

  void read_at_last() {
    if (!good()) return;
    std::vector<uint32_t> all;
    for (const auto& server : world_.servers) all.push_back(server->number);
    const uint64_t before = world_.reads;
    world_.start("the last reader", World::Kind::client, router_->read(all, true));
    while (good() && world_.has_clients()) step(true);
    if (good() && world_.reads == before) world_.violated("the last read does not pass");
    outcome_.reads = world_.reads;
  }

  static constexpr uint64_t kReader = UINT64_MAX, kDecision = 1'000;
  const Options options_;
  World world_;
  Clients clients_;
  std::unique_ptr<Router> router_;
  std::vector<uint64_t> jobs_;
  std::string_view loses_;  // see Options
  uint64_t fault_rate_ = 0, death_rate_ = 0, pace_ = 1, routers_ = 0, checked_ = 0;
  Outcome outcome_;
};

}  // namespace

Outcome simulate(uint64_t seed, const Options& options) { return Schedule(seed, options).run(); }

}  // namespace pgmosaic::control::simulation
