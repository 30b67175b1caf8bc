#include "agent/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

namespace pgmosaic::agent {

namespace {

constexpr size_t kPasswdMemory = 64 * 1024;

Error system_error(const std::string& what) {
  return make_error("58000", fmt::format("{}: {}", what, std::strerror(errno)));
}

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// Everything the child needs, made before the fork: a child of a threaded process may call only async-signal-safe
// functions until it execs.
struct Launch {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  const Command* command = nullptr;
  const Account* account = nullptr;
  int failure_pipe = -1;  // closed by a successful exec; else gets errno
};

[[noreturn]] void become(const Launch& launch, pid_t parent) {
  const auto fail = [&] {
    const int code = errno;
    (void)!write(launch.failure_pipe, &code, sizeof code);
    _exit(127);
  };
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGCHLD, SIGUSR1, SIGUSR2})
    signal(number, SIG_DFL);
  setsid();
  if (const Account* account = launch.account) {
    if (setgroups(account->groups.size(), account->groups.data()) != 0) fail();
    if (setgid(account->gid) != 0 || setuid(account->uid) != 0) fail();
  }
  umask(0077);
  if (chdir(launch.command->directory.c_str()) != 0) fail();
  const int null = open("/dev/null", O_RDONLY);
  const int log = open(launch.command->log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (null < 0 || log < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) fail();
  // Behind setuid, which clears it. The parent may have died before: then nobody would ever signal us.
  if (launch.command->death_signal != 0) {
    if (prctl(PR_SET_PDEATHSIG, launch.command->death_signal) != 0) fail();
    if (getppid() != parent) _exit(127);
  }
  execve(launch.arguments[0], launch.arguments.data(), launch.environment.data());
  fail();
  _exit(127);
}

// The one thread that forks. It is never ended: its death would be the servers'.
class Launcher {
 public:
  // The launcher of this process; a forked copy of a process gets one of its own.
  static Launcher& instance() {
    static std::mutex mutex;
    static Launcher* launcher = nullptr;
    static pid_t owner = 0;
    const std::lock_guard lock(mutex);
    if (owner != getpid()) {
      launcher = new Launcher();
      owner = getpid();
    }
    return *launcher;
  }

  pid_t fork_and_exec(const Launch& launch) {
    Request request{&launch};
    std::unique_lock lock(mutex_);
    requests_.push_back(&request);
    changed_.notify_all();
    changed_.wait(lock, [&] { return request.done; });
    errno = request.error;
    return request.child;
  }

 private:
  struct Request {
    const Launch* launch;
    pid_t child = -1;
    int error = 0;
    bool done = false;
  };

  Launcher() {
    std::thread([this] { serve(); }).detach();
  }

  void serve() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !requests_.empty(); });
      Request* request = requests_.front();
      requests_.pop_front();
      const pid_t self = getpid();
      request->child = fork();
      if (request->child == 0) become(*request->launch, self);
      request->error = errno;
      request->done = true;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request*> requests_;
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

}  // namespace

Result<std::optional<Account>> server_account(const std::string& name) {
  if (geteuid() != 0) return std::optional<Account>();
  passwd entry{};
  std::vector<char> memory(kPasswdMemory);
  passwd* found = nullptr;
  getpwnam_r(name.c_str(), &entry, memory.data(), memory.size(), &found);
  if (found == nullptr) {
    return make_error("58000", fmt::format("system account \"{}\" does not exist", name),
                      "PostgreSQL does not run as root. Name an unprivileged account, or start as one.");
  }
  if (entry.pw_uid == 0) {
    return make_error("58000", fmt::format("system account \"{}\" has the rights of root", name),
                      "PostgreSQL does not run as root. Name an unprivileged account.");
  }
  Account account{name, entry.pw_uid, entry.pw_gid, {}};
  int count = 64;
  account.groups.resize(static_cast<size_t>(count));
  if (getgrouplist(name.c_str(), account.gid, account.groups.data(), &count) < 0) {
    account.groups.resize(static_cast<size_t>(count));
    getgrouplist(name.c_str(), account.gid, account.groups.data(), &count);
  }
  account.groups.resize(static_cast<size_t>(count));
  return std::optional<Account>(std::move(account));
}

std::string own_account_name() {
  passwd entry{};
  std::vector<char> memory(kPasswdMemory);
  passwd* found = nullptr;
  getpwuid_r(geteuid(), &entry, memory.data(), memory.size(), &found);
  return found == nullptr ? std::string() : std::string(entry.pw_name);
}

FileRights::FileRights(const std::optional<Account>& account) : changed_(account.has_value()) {
  if (!changed_) return;
  setfsgid(account->gid);
  setfsuid(account->uid);
}

FileRights::~FileRights() {
  if (!changed_) return;
  setfsuid(geteuid());
  setfsgid(getegid());
}

Result<pid_t> spawn(const Command& command, const std::optional<Account>& account) {
  CHECK(!command.arguments.empty());
  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "HOME=/"};
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot create a pipe");
  Launch launch{pointers(arguments), pointers(environment), &command, account ? &*account : nullptr, ends[1]};
  const pid_t child = Launcher::instance().fork_and_exec(launch);
  const int fork_error = errno;
  close(ends[1]);
  int failure = 0;
  ssize_t got = 0;
  if (child > 0) {
    do got = read(ends[0], &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
  }
  close(ends[0]);
  if (child > 0 && got == 0) return child;
  if (child > 0) waitpid(child, nullptr, 0);
  errno = child > 0 ? failure : fork_error;
  return system_error(fmt::format("cannot start {}", command.arguments[0]));
}

std::optional<int> wait_for_exit(pid_t child, int timeout_ms) {
  const int64_t deadline = now_ms() + timeout_ms;
  const int pidfd = timeout_ms > 0 ? open_pidfd(child) : -1;
  std::optional<int> result;
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) result = status;
    if (ended < 0 && errno == ECHILD) result = 0;
    const int64_t left = deadline - now_ms();
    if (result || left <= 0) break;
    // Without pidfds (an old kernel) this is a look every 10 ms.
    pollfd waited{pidfd, POLLIN, 0};
    poll(&waited, 1, static_cast<int>(pidfd >= 0 ? left : std::min<int64_t>(left, 10)));
  }
  if (pidfd >= 0) close(pidfd);
  return result;
}

std::string describe_status(int status) {
  if (WIFEXITED(status)) return fmt::format("exit code {}", WEXITSTATUS(status));
  return fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

Status run(const Command& command, const std::optional<Account>& account, int timeout_ms) {
  const off_t log_start = size_of_file(command.log_file);
  TRY_ASSIGN(const pid_t child, spawn(command, account));
  std::optional<int> status = wait_for_exit(child, timeout_ms);
  std::string outcome;
  if (!status) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    outcome = fmt::format("took more than {} ms", timeout_ms);
  } else if (*status == 0) {
    return {};
  } else {
    outcome = "ended with " + describe_status(*status);
  }
  return make_error("58000", fmt::format("{} {}", command.arguments[0], outcome), {},
                    tail_of_file(command.log_file, log_start, 20));
}

std::vector<pid_t> processes_in(const std::string& directory, const std::string& name) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string text = entry.path().filename().string();
    pid_t pid = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), pid);
    if (ec != std::errc() || end != text.data() + text.size()) continue;
    // A zombie has neither link; a program that was replaced since shows as "postgres (deleted)".
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path() / "cwd", gone) != directory || gone) continue;
    const std::string program = std::filesystem::read_symlink(entry.path() / "exe", gone).filename().string();
    if (!gone && (program == name || program == name + " (deleted)")) found.push_back(pid);
  }
  return found;
}

off_t size_of_file(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? info.st_size : 0;
}

std::string tail_of_file(const std::string& path, off_t offset, size_t lines) {
  std::ifstream in(path, std::ios::binary);
  // Only the end matters: a server may have written gigabytes.
  constexpr off_t kEnough = 64 * 1024;
  in.seekg(std::max(offset, size_of_file(path) - kEnough));
  std::deque<std::string> last;
  for (std::string line; std::getline(in, line);) {
    last.push_back(std::move(line));
    if (last.size() > lines) last.pop_front();
  }
  std::string text;
  for (const std::string& line : last) text += (text.empty() ? "" : "\n") + line;
  return text;
}

}  // namespace pgmosaic::agent
