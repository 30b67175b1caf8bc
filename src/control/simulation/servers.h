// In-memory twins of PostgreSQL servers, as far as commits over several of them go: transactions that are open on a
// connection, prepared and committed ones, the commit log with its key, for which an INSERT waits while another
// transaction that has it may still commit, the epochs, and what snapshots show of it all. They understand the very SQL
// that the router sends, one statement a step, so that anything can happen in between:
//
//   cut      the client's end of a connection is gone; what was sent may be run later, in part, or never
//   crash    open transactions are gone, prepared and committed ones are not
//   down     nobody can connect
//
// Beside SQL there are WRITE n (transaction n changes rows here) and READ. A router's secret is its name.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "exec/two_phase.h"
#include "exec/untorn.h"

namespace pgmosaic::control::simulation {

// splitmix64: the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool one_in(uint64_t n) { return n != 0 && below(n) == 0; }

 private:
  uint64_t state_;
};

// A set of transactions, by number.
using Transactions = uint64_t;

struct Reply {
  bool lost = false;
  std::string sqlstate = {}, tag = {};  // sqlstate empty: success
  std::vector<std::string> values = {};
  Transactions shown = 0;  // what the snapshot shows the rows of
  bool ok() const { return !lost && sqlstate.empty(); }
};

struct LogRow {
  std::string gid, router = {};
  std::vector<uint32_t> participants = {};
  bool aborted = false;
  uint64_t label = 0;
  Transactions transaction = 0;  // the number is in the gid
};

struct Transaction {
  bool open = false, explicit_ = false, failed = false, impatient = false;
  Transactions writes = 0;
  std::vector<LogRow> rows = {};
  std::vector<std::string> deleted = {};                       // gids
  std::vector<std::function<void(class Server&)>> later = {};  // what its COMMIT does besides
};

// A backend, and its client's end of the connection.
struct Session {
  int number = 0;
  class Server* server = nullptr;
  std::vector<std::string> statements = {};  // of the query under way
  std::size_t at = 0;
  bool busy = false, begun = false, blocked = false, orphan = false, gone = false;
  uint64_t slowness = 1;       // one in so many draws of it counts
  std::string finishing = {};  // the prepared transaction that COMMIT or ROLLBACK PREPARED is about
  Transaction transaction = {};
  Reply answer = {};                // as far as the query is
  std::optional<Reply> reply = {};  // for the client
};

struct Prepared {
  std::string name;
  Transaction transaction;
  bool busy = false;
};

// What a test breaks on purpose.
struct ServerSabotage {
  bool takes_trimming_back = false;       // a late UPDATE of the mark is not held up by its WHERE
  bool does_whatever_comes_late = false;  // also of routers that are gone
};

class Server {
 public:
  Server(uint32_t number, Random& random, ServerSabotage sabotage)
      : number(number), random_(random), sabotage_(sabotage) {}

  std::shared_ptr<Session> connect(int session_number);
  void send(Session& session, std::string_view sql);
  // Runs the next statement of its query, or ends it. REQUIRES: can_step().
  void step(Session& session);
  static bool can_step(const Session& session) {
    return !session.gone && !session.blocked && (session.busy || session.orphan);
  }
  // The client's end is gone.
  void cut(Session& session, bool before_arrival);
  void terminate(Session& session);
  void crash();

  const uint32_t number;
  bool down = false, refuses = false;  // refuses: sometimes, deferred constraints
  Transactions committed = 0, rolled_back = 0;
  std::vector<LogRow> log;
  std::map<std::string, exec::SeenCommits::Router> epochs;
  std::vector<Prepared> prepared;
  std::vector<std::shared_ptr<Session>> sessions;
  std::string trusted_router;
  uint64_t changes = 0;  // of what lasts

  Transactions prepared_writes() const;
  Transactions open_writes() const;
  Transactions logged(bool aborted) const;

 private:
  enum class Taken : uint8_t { no, maybe, yes };
  bool run(Session& session, std::string_view sql);  // false: it waits
  bool run_in_transaction(Session& session, std::string_view sql);
  bool end_prepared(Session& session, std::string_view sql);
  bool insert(Session& session, LogRow row);
  void prepare(Session& session, std::string_view sql);
  void set_epoch(Session& session, std::string_view sql);
  void remove(Session& session, std::string_view sql);
  void forget(Session& session, std::string_view sql);
  std::string seen_commits(std::string_view sql) const;
  bool in_force(std::string_view sql) const;
  void finish_query(Session& session);
  void fail(Session& session, const char* sqlstate);
  void commit(Transaction& transaction);
  void roll_back(Transaction& transaction);
  void wake();
  Taken taken(const Session& by, const std::string& gid) const;
  Prepared* find_prepared(std::string_view name);

  Random& random_;
  const ServerSabotage sabotage_;
};

}  // namespace pgmosaic::control::simulation
