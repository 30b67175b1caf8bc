// A throw-away PostgreSQL for tests: made with initdb in a temporary directory, on a free port of 127.0.0.1, as an
// unprivileged account when the test runs as root. It is gone, with its directory, when the object dies or the test
// process does, in whatever way.
//
//   PostgresServer server;
//   PgConnection connection(server.conninfo());  // harness/pg_connection.h
//   connection.value("SELECT 1");
//
// Needs initdb and postgres from $PGMOSAIC_PG_BIN, $PATH or Debian's directories. Failures throw std::runtime_error.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace pgmosaic::test {

struct PostgresOptions {
  std::vector<std::string> settings;  // "name=value", for the command line of postgres
  std::vector<std::string> initdb_arguments = {"--encoding=UTF8", "--locale=C"};
};

class PostgresServer {
 public:
  explicit PostgresServer(const PostgresOptions& options = {}) {
    // Another process may take the port between our look and the server's bind.
    for (int attempt = 1; !start(options); ++attempt)
      if (attempt == 5) throw std::runtime_error("PostgreSQL does not start: " + logs_);
  }

  ~PostgresServer() { stop(); }
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  uint16_t port() const { return port_; }
  std::string conninfo(const std::string& database = "postgres") const {
    return "host=127.0.0.1 port=" + std::to_string(port_) + " user=postgres dbname=" + database;
  }

 private:
  static std::string program(const std::string& name) {
    std::vector<std::string> directories;
    if (const char* chosen = std::getenv("PGMOSAIC_PG_BIN")) directories.emplace_back(chosen);
    std::stringstream path(std::getenv("PATH") == nullptr ? "" : std::getenv("PATH"));
    for (std::string directory; std::getline(path, directory, ':');) directories.push_back(directory);
    for (int version = 30; version >= 15; --version)
      directories.push_back("/usr/lib/postgresql/" + std::to_string(version) + "/bin");
    for (const std::string& directory : directories)
      if (access((directory + "/" + name).c_str(), X_OK) == 0) return directory + "/" + name;
    throw std::runtime_error("no " + name + " found; set PGMOSAIC_PG_BIN");
  }

  // The account that runs the server; nullptr: our own.
  static const passwd* account() {
    if (geteuid() != 0) return nullptr;
    const passwd* entry = getpwnam("postgres");
    if (entry == nullptr) entry = getpwnam("nobody");
    if (entry == nullptr) throw std::runtime_error("no unprivileged account for PostgreSQL");
    return entry;
  }

  static std::string make_directory() {
    std::string name = (std::filesystem::temp_directory_path() / "pgmosaic-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    const passwd* owner = account();
    if (owner != nullptr && chown(name.c_str(), owner->pw_uid, owner->pw_gid) != 0)
      throw std::runtime_error("chown failed");
    return name;
  }

  static uint16_t free_port() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const bool bound = bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                       getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
    close(fd);
    if (!bound) throw std::runtime_error("no free port");
    return ntohs(address.sin_port);
  }

  static int wait_for(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // In a child: becomes the unprivileged account for good.
  static void drop_privileges(const passwd* who) {
    if (who == nullptr) return;
    if (setgroups(0, nullptr) != 0 || setgid(who->pw_gid) != 0 || setuid(who->pw_uid) != 0) _exit(126);
  }

  // In a child: runs the program; the kernel stops it when the parent of this child dies.
  static void become(const std::vector<std::string>& command, const std::string& log) {
    prctl(PR_SET_PDEATHSIG, SIGQUIT);  // to PostgreSQL: immediate shutdown
    const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    const int null = open("/dev/null", O_RDONLY);
    if (fd < 0 || null < 0) _exit(126);
    dup2(null, 0);
    dup2(fd, 1);
    dup2(fd, 2);
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }

  static pid_t spawn(const std::vector<std::string>& command, const std::string& log) {
    const pid_t pid = fork();
    if (pid == 0) become(command, log);
    return pid;
  }

  // A PostgreSQL that just starts may forget an immediate shutdown, and ignores all later ones: then SIGKILL.
  static void end_server(pid_t server) {
    kill(server, SIGQUIT);
    int status = 0;
    for (int waited_ms = 0; waitpid(server, &status, WNOHANG) == 0; waited_ms += 10) {
      if (waited_ms == 3000) kill(server, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  // The guard is a process between us and the server: it ends the server and removes the directory when our end of a
  // pipe closes. It ends early only if initdb fails.
  [[noreturn]] void guard(int test_end, const passwd* who, const PostgresOptions& options) const {
    setsid();  // Ctrl-C reaches the test only; the guard learns of it by the pipe
    if (chdir(directory_.c_str()) != 0) _exit(126);
    drop_privileges(who);
    close_range(3, static_cast<unsigned>(test_end) - 1, 0);
    close_range(static_cast<unsigned>(test_end) + 1, ~0U, 0);
    std::vector<std::string> initdb = {program("initdb"),  "-D", "data", "-U", "postgres", "-A", "trust", "--no-sync",
                                       "--no-instructions"};
    initdb.insert(initdb.end(), options.initdb_arguments.begin(), options.initdb_arguments.end());
    if (wait_for(spawn(initdb, "initdb.log")) != 0) _exit(1);
    std::vector<std::string> postgres = {program("postgres"), "-D", "data"};
    std::vector<std::string> settings = {"port=" + std::to_string(port_), "listen_addresses=127.0.0.1",
                                         "unix_socket_directories=", "fsync=off", "max_connections=200"};
    settings.insert(settings.end(), options.settings.begin(), options.settings.end());
    for (const std::string& setting : settings) postgres.insert(postgres.end(), {"-c", setting});
    const pid_t server = spawn(postgres, "postgres.log");
    char byte = 0;
    while (read(test_end, &byte, 1) < 0 && errno == EINTR) continue;
    end_server(server);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
    _exit(0);
  }

  // False if PostgreSQL does not come up; `logs_` tells why.
  bool start(const PostgresOptions& options) {
    directory_ = make_directory();
    port_ = free_port();
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
    const passwd* who = account();
    guard_ = fork();
    if (guard_ < 0) throw std::runtime_error("fork failed");
    if (guard_ == 0) guard(ends[0], who, options);
    close(ends[0]);
    pipe_ = ends[1];
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline) {
      if (PQping(conninfo().c_str()) == PQPING_OK) return true;
      logs_ = read_file("initdb.log") + read_file("postgres.log");
      if (logs_.find("could not create any TCP/IP sockets") != std::string::npos) break;
      if (guard_has_ended()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    stop();
    return false;
  }

  bool guard_has_ended() const {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(guard_), &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == guard_;
  }

  void stop() {
    if (guard_ <= 0) return;
    close(pipe_);
    wait_for(guard_);
    guard_ = -1;
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);  // what a failed initdb left
  }

  std::string read_file(const std::string& name) const {
    std::ifstream in(directory_ + "/" + name);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }

  std::string directory_;
  uint16_t port_ = 0;
  pid_t guard_ = -1;
  int pipe_ = -1;
  std::string logs_;
};

}  // namespace pgmosaic::test
