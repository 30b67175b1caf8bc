// One stock PostgreSQL server on this host, owned by us: made with initdb, started, watched, stopped.
//
// Directory (belongs to the server's account, mode 0700):
//   data/        the server's data directory; data.new/ while initdb runs
//   socket/      its Unix socket, for our own connections; where the path is too long for a socket address:
//                /tmp/pgmosaic-<hash of the directory>
//   server.log   what the server writes
//   port         the port it had last
//   lock         held by the process that manages the instance
//
// The server is a child of this process in a session of its own. The kernel sends it SIGINT (fast shutdown) when this
// process dies, kill -9 included; start() waits for the end of a server that an earlier process left and takes over.
//
// Roles: `internal_user` is the bootstrap superuser. It can log in through the Unix socket only, and only when the
// system account on the other end is ours (peer). Everybody else uses SCRAM, by TCP or socket.
//
// An instance is used by one thread at a time; its calls block.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/process.h"
#include "base/result.h"

namespace pgmosaic::agent {

struct InstanceOptions {
  std::string directory;             // made if missing, its parents too
  std::string bin_dir;               // of postgres and initdb; empty: find_bin_dir()
  std::string account = "postgres";  // runs the server if we are root
  std::string listen_address = "127.0.0.1";
  int port = 0;  // 0: the last one, or a free one
  std::string internal_user = "pgmosaic";
  // postgresql.conf settings over default_settings(); ALTER SYSTEM in turn wins over them.
  std::vector<std::pair<std::string, std::string>> settings;
  int start_timeout_ms = 120000;  // includes crash recovery
  int stop_timeout_ms = 60000;    // then immediate shutdown
};

// What the cluster needs of every server.
std::vector<std::pair<std::string, std::string>> default_settings();

// Directory of a supported PostgreSQL's programs: Debian's of version 15, what pg_config says, Debian's newer ones.
Result<std::string> find_bin_dir();

struct ServerExit {
  std::string reason;    // "exit code 1", "signal 9 (Killed)"
  std::string log_tail;  // since it was started
};

class PostgresInstance {
 public:
  // Prepares the directory and takes its lock. 55006: another process manages it.
  static Result<std::unique_ptr<PostgresInstance>> open(InstanceOptions options);
  ~PostgresInstance();  // stops the server
  PostgresInstance(const PostgresInstance&) = delete;
  PostgresInstance& operator=(const PostgresInstance&) = delete;

  // Makes the data directory if there is none, and starts the server; it accepts connections when this returns.
  // Errors: 58000 with the tail of the server's log in `detail`, 55006 if a given port is in use.
  Status start();
  // Fast shutdown. No error if it does not run.
  Status stop();
  // The server has ended without stop(): how. It is told once; start() may be called again. Does not block.
  std::optional<ServerExit> poll_exit();

  bool running() const { return server_ != 0; }
  pid_t pid() const { return server_; }
  const std::string& host() const { return options_.listen_address; }
  uint16_t port() const { return static_cast<uint16_t>(port_); }             // valid after start()
  const std::string& socket_directory() const { return socket_directory_; }  // connect with host=<this> port=<port()>
  const std::string& internal_user() const { return options_.internal_user; }
  const std::string& log_file() const { return log_file_; }

 private:
  explicit PostgresInstance(InstanceOptions options) : options_(std::move(options)) {}

  Status prepare();
  Status prepare_directory();
  Status take_lock();
  Status prepare_socket_directory();
  Status initialize();
  Status write_configuration() const;
  Status end_leftovers() const;
  Status choose_port();
  Status launch();
  Status wait_until_ready();
  bool says_ready() const;
  Error failure(const std::string& what) const;
  std::string program(const std::string& name) const { return options_.bin_dir + "/" + name; }

  InstanceOptions options_;
  std::optional<Account> account_;
  std::string data_;
  std::string log_file_;
  std::string socket_directory_;
  int lock_ = -1;
  int reservation_ = -1;  // a bound socket that keeps the port until the server has it
  int port_ = 0;
  pid_t server_ = 0;
  off_t log_start_ = 0;
};

// Starts all, in parallel. On an error those that did start are stopped again.
Status start_all(const std::vector<PostgresInstance*>& instances);
// Stops all, in parallel; the first error, after all have been tried.
Status stop_all(const std::vector<PostgresInstance*>& instances);

}  // namespace pgmosaic::agent
