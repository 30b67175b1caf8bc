// What all workers of one router share. Set up by server.cc before the workers start; afterwards either immutable or
// guarded as said at each member.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/config.h"
#include "catalog/catalog.h"
#include "exec/backends.h"
#include "net/tls.h"
#include "pool/pool.h"
#include "router/move_log.h"
#include "router/name_gate.h"
#include "router/operations.h"
#include "router/sagas.h"
#include "router/sequence_blocks.h"

namespace pgmosaic::exec {
class ClusterControl;
}

namespace pgmosaic::router {

class Health;
class Session;
class Worker;

// Finds a session by the process id that its client got in BackendKeyData. Thread-safe.
class SessionDirectory {
 public:
  struct Entry {
    Worker* worker = nullptr;
    Session* session = nullptr;
    uint32_t secret = 0;
  };
  // Returns the new session's pid and secret.
  std::pair<uint32_t, uint32_t> add(Worker* worker, Session* session);
  void remove(uint32_t pid);
  // Cancels what the session runs if the secret fits; runs on the session's worker.
  void cancel(uint32_t pid, uint32_t secret);
  // The same for an administrator, without the secret. `terminate` ends the session. False: no such session.
  bool signal(uint32_t pid, bool terminate);
  // Ends the statement that it has waited in since then, if it still does, with `error`; router/deadlocks.h.
  void break_deadlock(uint32_t pid, int64_t since_us, Error error);
  std::size_t size() const;

 private:
  void post(uint32_t pid, Worker* worker, std::function<void(Session&)> work);
  mutable std::mutex mutex_;
  std::map<uint32_t, Entry> entries_;
  uint32_t next_pid_ = 1000;
};

enum class ClientState : uint8_t { login, idle, idle_in_transaction, active, waiting };  // waiting: for a backend
inline constexpr std::size_t kClientStates = 5;
const char* client_state_name(ClientState state);

// A session as SHOW CLIENTS and pgmosaic.activity see it.
struct SessionInfo {
  uint32_t pid = 0;
  std::string user, database, application, address, state, query;
  uint16_t port = 0;
  int64_t connected_us = 0, query_start_us = 0, began_us = 0;   // the latter: its transaction
  std::vector<std::pair<catalog::GroupId, uint32_t>> backends;  // group, backend pid
  std::string committing;                                       // gid, while it is prepared and committed
};

struct RouterContext {
  // Runs `work` on every worker's thread, one after another or at once; resumes on `loop` when all have done it.
  net::Task<void> on_each_worker(net::EventLoop& loop, std::function<void(Worker&)> work);
  // Asks every worker; resumes on `loop`.
  net::Task<std::vector<SessionInfo>> all_sessions(net::EventLoop& loop);
  // Closes idle backends of a database on every worker.
  net::Task<void> leave_database(net::EventLoop& loop, std::string database);
  // Backends opened before now serve no new client (role or database settings changed).
  // `changed`: what roles log in with from now on.
  net::Task<void> renew_pools(net::EventLoop& loop, std::vector<pool::Credentials> changed);
  // Hands the catalog to every worker; returns when all use it.
  net::Task<void> announce(net::EventLoop& loop, catalog::SnapshotPtr snapshot);

  std::shared_ptr<const Config> config() const {
    std::lock_guard lock(config_mutex);
    return current_config;
  }
  mutable std::mutex config_mutex;
  std::shared_ptr<const Config> current_config;

  pool::ConnectionCounter connections;
  SessionDirectory sessions;
  NameGate names;
  Operations operations;
  MoveLog moves;
  SequenceBlocks blocks;
  Sagas sagas;
  std::shared_ptr<net::TlsContext> tls;  // null: no TLS for clients
  std::vector<std::unique_ptr<Worker>> workers;
  exec::CommitServices* commit = nullptr;
  exec::ClusterControl* control = nullptr;
  std::atomic<int> clients{0};
  std::atomic<uint64_t> deadlocks{0};  // ended, over several groups
  std::atomic<bool> draining{false};
  bool record_queries = true;  // keep each session's query text for pgmosaic.activity
  std::string server_name;     // of this router, in gids
  std::string mock_secret;     // for users who do not exist; set before the workers start
  // RELOAD and SHUTDOWN of the admin database; set by the server, called on any thread.
  std::function<void(std::function<void(Status)>)> request_reload;
  std::function<void()> request_shutdown;
  Health* health = nullptr;  // set before the workers start
  const std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
};

}  // namespace pgmosaic::router
