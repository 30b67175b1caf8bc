// Sagas: work in several transactions, each with a compensation that takes it back (docs/design/014-sagas.md).
//
// A saga lives while its session does, in this router: so the router knows all that run. What is durable of them –
// control/install_saga_sql.h – is for the router that starts after this one was killed.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"

namespace pgmosaic::router {

struct Saga {
  std::string id, database, name, user;  // user: who logged in to begin it; empty: an earlier router's

  // The rest is guarded by Sagas.
  enum class State : uint8_t { running, ending, finished } state = State::running;
  int64_t deadline_us = 0;            // 0: none
  int last_step = 0, committing = 0;  // committing: transactions that bring steps
  bool working = false;               // somebody ends it just now
  int attempts = 0;                   // that failed
  int64_t due_us = 0;                 // the next one
  std::string error;                  // of the last one
};
using SagaPtr = std::shared_ptr<Saga>;

// Of one router. Any thread.
class Sagas {
 public:
  SagaPtr begin(std::string id, std::string database, std::string name, std::string user, int64_t deadline_us);
  // One without a session, of which a group told. Null: it is known already.
  SagaPtr adopt(std::string id, std::string database, std::string name);
  SagaPtr find(const std::string& database, const std::string& id);
  void forget(const Saga& saga);

  // A transaction with a step of it is about to commit: it is not ended before leave(). Error: it has ended.
  Status enter(Saga& saga);
  void leave(Saga& saga);
  bool quiet(const Saga& saga);
  int next_step(Saga& saga);
  Saga::State state(const Saga& saga);
  void finish(Saga& saga);
  // Its session is gone.
  void abandon(Saga& saga);

  // Whoever has claimed it runs end_saga() (saga_work.h). False: somebody else does just now.
  bool claim(Saga& saga);
  void release(Saga& saga, Status status, int64_t now_us);
  // Claimed: finished ones, and those whose owner is gone or whose time is over.
  std::vector<SagaPtr> due(int64_t now_us);

  struct Shown {
    const char* state;
    std::string error;
  };
  std::map<std::string, Shown> shown(const std::string& database);

  std::atomic<bool> look_again{true};  // the homes may know more

 private:
  std::mutex mutex_;
  std::map<std::string, SagaPtr> sagas_;  // by id
};

}  // namespace pgmosaic::router
