// Child processes of a supervisor: started under another account, ended by the kernel when the supervisor dies in
// whatever way, and found again by a later supervisor.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace pgmosaic::agent {

// The unprivileged account that servers run as when we are root.
struct Account {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

// nullopt: we are not root, servers run as ourselves. 58000 if there is no such account or it is root's.
Result<std::optional<Account>> server_account(const std::string& name);

// Name of the account we run as; empty: it has none, as happens in containers.
std::string own_account_name();

// While it lives, this thread's file operations have the account's rights, and new files belong to it. So a server's
// account cannot lead us, through links, to files that only root may touch.
class FileRights {
 public:
  explicit FileRights(const std::optional<Account>& account);
  ~FileRights();
  FileRights(const FileRights&) = delete;
  FileRights& operator=(const FileRights&) = delete;

 private:
  bool changed_;
};

struct Command {
  std::vector<std::string> arguments;  // [0]: path of the program
  std::string directory;               // working directory
  std::string log_file;                // standard output and error are appended to it
  int death_signal = 0;                // sent to the child when this process dies; 0: none
};

// Starts a program in a session of its own (Ctrl-C does not reach it), with an environment that holds no PG…
// variables. 58000 if it could not be executed. Any thread, also one that ends soon: the kernel ties the death signal
// to the thread that forks, so one thread that lives as long as the process does all the forking.
Result<pid_t> spawn(const Command& command, const std::optional<Account>& account);

// Our child's status (as of waitpid) if it has ended within the time; 0: only looks.
std::optional<int> wait_for_exit(pid_t child, int timeout_ms);
// "exit code 1", "signal 9 (Killed)"
std::string describe_status(int status);

// Runs a program to its end. 58000 with the tail of its output if it fails or takes longer than `timeout_ms`.
Status run(const Command& command, const std::optional<Account>& account, int timeout_ms);

// Processes of program `name` whose working directory is `directory` (canonical).
std::vector<pid_t> processes_in(const std::string& directory, const std::string& name);

// The last lines of a file, from `offset` on.
std::string tail_of_file(const std::string& path, off_t offset, size_t lines);
off_t size_of_file(const std::string& path);

}  // namespace pgmosaic::agent
