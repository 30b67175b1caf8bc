#include "agent/instance.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "agent/instance_files.h"
#include "base/log.h"

namespace pgmosaic::agent {

namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr int kImmediateTimeoutMs = 10000;
constexpr int kInitdbTimeoutMs = 300000;
constexpr int kPortAttempts = 5;

Error system_error(const std::string& what, const std::string& hint = {}) {
  return make_error("58000", fmt::format("{}: {}", what, std::strerror(errno)), hint);
}

std::string unreachable_hint(const std::optional<Account>& account) {
  if (!account) return {};
  return fmt::format("Account \"{}\" needs the right to enter every directory of the path; choose another place.",
                     account->name);
}

// A directory that exists, belongs to `owner` and that nobody else may enter; made if missing.
Status private_directory(const std::string& path, uid_t owner) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return system_error(fmt::format("cannot create \"{}\"", path));
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return system_error(fmt::format("cannot look at \"{}\"", path));
  if (!S_ISDIR(info.st_mode) || info.st_uid != owner || (info.st_mode & 077) != 0) {
    return make_error("58000", fmt::format("\"{}\" must be a directory of the server's account with mode 0700", path));
  }
  return {};
}

Status in_parallel(const std::vector<PostgresInstance*>& instances, Status (PostgresInstance::*verb)()) {
  std::vector<Status> outcomes(instances.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < instances.size(); ++i) threads.emplace_back([&, i] { outcomes[i] = (instances[i]->*verb)(); });
  for (std::thread& thread : threads) thread.join();
  for (Status& outcome : outcomes) TRY(std::move(outcome));
  return {};
}

}  // namespace

Result<std::unique_ptr<PostgresInstance>> PostgresInstance::open(InstanceOptions options) {
  std::unique_ptr<PostgresInstance> instance(new PostgresInstance(std::move(options)));
  TRY(instance->prepare());
  return instance;
}

PostgresInstance::~PostgresInstance() {
  const Status stopped = stop();
  if (!stopped.ok()) log_error("agent", "{}", stopped.error().message);
  if (reservation_ >= 0) close(reservation_);
  if (lock_ >= 0) close(lock_);
}

Status PostgresInstance::prepare() {
  if (options_.bin_dir.empty()) {
    TRY_ASSIGN(options_.bin_dir, find_bin_dir());
  }
  TRY(check_bin_dir(options_.bin_dir));
  TRY_ASSIGN(account_, server_account(options_.account));
  TRY(prepare_directory());
  const FileRights rights(account_);
  TRY(take_lock());
  return prepare_socket_directory();
}

Status PostgresInstance::prepare_directory() {
  namespace fs = std::filesystem;
  std::error_code failed;
  fs::path path = fs::absolute(options_.directory).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  fs::create_directories(path.parent_path(), failed);
  if (failed) {
    return make_error("58000", fmt::format("cannot create \"{}\": {}", path.parent_path().string(), failed.message()));
  }
  const uid_t owner = account_ ? account_->uid : geteuid();
  const gid_t group = account_ ? account_->gid : getegid();
  const bool made = mkdir(path.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) return system_error(fmt::format("cannot create \"{}\"", path.string()));
  if (account_ && (made || fs::is_empty(path, failed)) && lchown(path.c_str(), owner, group) != 0) {
    return system_error(fmt::format("cannot give \"{}\" to account \"{}\"", path.string(), account_->name));
  }
  options_.directory = fs::canonical(path, failed).string();
  if (failed) return make_error("58000", fmt::format("cannot use \"{}\": {}", path.string(), failed.message()));
  struct stat info {};
  if (stat(options_.directory.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != owner) {
    return make_error("58000",
                      fmt::format("\"{}\" is not a directory of the account that runs the server", options_.directory),
                      account_ ? fmt::format("It must belong to \"{}\", or be empty.", account_->name) : "");
  }
  if (chmod(options_.directory.c_str(), 0700) != 0) {
    return system_error(fmt::format("cannot set the mode of \"{}\"", options_.directory));
  }
  data_ = options_.directory + "/data";
  log_file_ = options_.directory + "/server.log";
  return {};
}

Status PostgresInstance::take_lock() {
  const std::string path = options_.directory + "/lock";
  lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) return system_error(fmt::format("cannot open \"{}\"", path), unreachable_hint(account_));
  if (flock(lock_, LOCK_EX | LOCK_NB) == 0) return {};
  return make_error("55006", fmt::format("\"{}\" is in use by another process", options_.directory),
                    "Stop that process first, or use another directory.");
}

Status PostgresInstance::prepare_socket_directory() {
  socket_directory_ = options_.directory + "/socket";
  const std::string longest = socket_directory_ + "/.s.PGSQL.65535";
  if (longest.size() >= sizeof(sockaddr_un::sun_path)) socket_directory_ = short_socket_directory(options_.directory);
  return private_directory(socket_directory_, account_ ? account_->uid : geteuid());
}

Status PostgresInstance::start() {
  CHECK(server_ == 0);
  const FileRights rights(account_);
  TRY(end_leftovers());
  TRY(initialize());
  // Another program may take a free port between our look and the server's bind; then the next one will do.
  for (int attempt = 1;; ++attempt) {
    TRY(choose_port());
    TRY(write_configuration());
    const Status started = launch();
    if (reservation_ >= 0) close(std::exchange(reservation_, -1));
    if (started.ok()) break;
    const bool port_taken = started.error().sqlstate == "55006";
    if (!port_taken || options_.port != 0 || attempt == kPortAttempts) return Error(started.error());
    std::filesystem::remove(options_.directory + "/port");
  }
  log_info("agent", "PostgreSQL server {} in {} accepts connections on port {}", server_, options_.directory, port_);
  return write_file(options_.directory + "/port", fmt::format("{}\n", port_));
}

// A server (or initdb) that an earlier supervisor left. The kernel has told it to shut down when that one died, so
// mostly this waits; a postmaster that was killed leaves backends which must end before a new one may start.
Status PostgresInstance::end_leftovers() const {
  const auto started = SteadyClock::now();
  int last_signal = 0;
  for (;;) {
    std::vector<pid_t> left = processes_in(data_, "postgres");
    const pid_t postmaster = read_pid_file(data_).pid;
    const bool has_postmaster = std::find(left.begin(), left.end(), postmaster) != left.end();
    for (const auto& [directory, name] : {std::pair{options_.directory, "initdb"}, {data_ + ".new", "postgres"}})
      for (const pid_t pid : processes_in(directory, name)) left.push_back(pid);
    if (left.empty()) return {};

    const auto waited = std::chrono::duration_cast<milliseconds>(SteadyClock::now() - started).count();
    if (waited > options_.stop_timeout_ms + kImmediateTimeoutMs) {
      return make_error(
          "55006", fmt::format("process {} of an earlier start of \"{}\" does not end", left[0], options_.directory),
          "End it by hand.");
    }
    const int number = has_postmaster && waited < options_.stop_timeout_ms ? SIGINT : SIGQUIT;
    if (number != last_signal) {
      log_warning("agent", "stopping server process {} that was left running in {}", left[0], options_.directory);
      if (has_postmaster) left = {postmaster};
      for (const pid_t pid : left) kill(pid, number);
      last_signal = number;
    }
    poll(nullptr, 0, 10);
  }
}

// initdb works beside the final name, so that an interrupted one is never taken for a data directory.
Status PostgresInstance::initialize() {
  namespace fs = std::filesystem;
  std::error_code failed;
  if (fs::exists(data_ + "/PG_VERSION", failed)) return {};
  const std::string fresh = data_ + ".new";
  fs::remove_all(fresh, failed);
  if (failed) return make_error("58000", fmt::format("cannot remove \"{}\": {}", fresh, failed.message()));
  Command command{{program("initdb"), "-D", fresh, "-U", options_.internal_user, "--encoding=UTF8", "--locale=C.UTF-8",
                   "--data-checksums", "--auth-local=reject", "--auth-host=reject", "--no-instructions"},
                  options_.directory,
                  log_file_,
                  SIGTERM};
  const auto unsafe = [](const auto& setting) { return setting.first == "fsync" && setting.second == "off"; };
  if (std::any_of(options_.settings.begin(), options_.settings.end(), unsafe))
    command.arguments.emplace_back("--no-sync");
  TRY(run(command, account_, kInitdbTimeoutMs));
  std::ofstream(fresh + "/postgresql.conf", std::ios::app)
      << "\n# Written at every start; settings below this line or by ALTER SYSTEM win over it.\ninclude_if_exists "
         "'pgmosaic.conf'\n";
  fs::rename(fresh, data_, failed);
  if (failed) return make_error("58000", fmt::format("cannot rename \"{}\": {}", fresh, failed.message()));
  return {};
}

Status PostgresInstance::write_configuration() const {
  std::vector<std::pair<std::string, std::string>> settings = default_settings();
  settings.insert(settings.end(), options_.settings.begin(), options_.settings.end());
  settings.emplace_back("hba_file", data_ + "/pgmosaic_hba.conf");
  settings.emplace_back("ident_file", data_ + "/pgmosaic_ident.conf");
  TRY(write_file(data_ + "/pgmosaic.conf", settings_text(settings)));
  std::vector<std::string> system_users;
  const std::string self = own_account_name();
  if (!self.empty()) system_users.push_back(self);
  if (account_) system_users.push_back(account_->name);
  TRY(write_file(data_ + "/pgmosaic_hba.conf", hba_text(options_.internal_user, !self.empty())));
  return write_file(data_ + "/pgmosaic_ident.conf", ident_text(options_.internal_user, system_users));
}

Status PostgresInstance::choose_port() {
  const auto reserve = [&](int port) {
    const PortReservation got = reserve_port(options_.listen_address, port);
    reservation_ = got.socket;
    return got.free;
  };
  port_ = options_.port;
  if (port_ != 0) {
    if (reserve(port_)) return {};
    return make_error("55006", fmt::format("port {} of {} is in use", port_, options_.listen_address),
                      "Stop the program that uses it, or choose another port.");
  }
  std::ifstream(options_.directory + "/port") >> port_;
  if (port_ > 0 && port_ < 65536 && reserve(port_)) return {};
  for (int attempt = 0; attempt < 100; ++attempt) {
    port_ = random_port();
    if (reserve(port_)) return {};
  }
  return make_error("55006", fmt::format("no free port was found on {}", options_.listen_address));
}

Status PostgresInstance::launch() {
  const Command command{{program("postgres"), "-D", data_, "-c", fmt::format("port={}", port_), "-c",
                         "listen_addresses=" + options_.listen_address, "-c",
                         fmt::format("unix_socket_directories=\"{}\"", socket_directory_)},
                        options_.directory,
                        log_file_,
                        SIGINT};
  log_start_ = size_of_file(log_file_);
  TRY_ASSIGN(server_, spawn(command, account_));
  return wait_until_ready();
}

Status PostgresInstance::wait_until_ready() {
  const auto deadline = SteadyClock::now() + milliseconds(options_.start_timeout_ms);
  for (;;) {
    if (says_ready()) return {};
    if (const auto status = wait_for_exit(server_, 10)) {
      server_ = 0;
      Error error = failure("did not start, " + describe_status(*status));
      if (error.detail.find("Address already in use") != std::string::npos) {
        error.sqlstate = "55006";
        error.message = fmt::format("port {} of {} is in use", port_, options_.listen_address);
      }
      return error;
    }
    if (SteadyClock::now() >= deadline) {
      Error error = failure(fmt::format("did not accept connections within {} ms", options_.start_timeout_ms));
      TRY(stop());
      return error;
    }
  }
}

// postmaster.pid tells, once the server's main loop accepts connections.
bool PostgresInstance::says_ready() const {
  const PidFile file = read_pid_file(data_);
  return file.pid == server_ && (file.status == "ready" || file.status == "standby");
}

Error PostgresInstance::failure(const std::string& what) const {
  return make_error("58000", fmt::format("PostgreSQL server in \"{}\" {}", options_.directory, what),
                    fmt::format("Its log is {}.", log_file_), tail_of_file(log_file_, log_start_, 15));
}

Status PostgresInstance::stop() {
  if (server_ == 0) return {};
  const std::pair<int, int> steps[] = {
      {SIGINT, options_.stop_timeout_ms}, {SIGQUIT, kImmediateTimeoutMs}, {SIGKILL, kImmediateTimeoutMs}};
  for (const auto& [number, timeout_ms] : steps) {
    kill(server_, number);
    if (wait_for_exit(server_, timeout_ms)) {
      server_ = 0;
      return {};
    }
    log_warning("agent", "server process {} in {} has not ended {} ms after signal {}", server_, options_.directory,
                timeout_ms, number);
  }
  return make_error("58000", fmt::format("server process {} in \"{}\" does not end", server_, options_.directory));
}

std::optional<ServerExit> PostgresInstance::poll_exit() {
  if (server_ == 0) return std::nullopt;
  const auto status = wait_for_exit(server_, 0);
  if (!status) return std::nullopt;
  server_ = 0;
  const FileRights rights(account_);
  return ServerExit{describe_status(*status), tail_of_file(log_file_, log_start_, 15)};
}

Status start_all(const std::vector<PostgresInstance*>& instances) {
  Status started = in_parallel(instances, &PostgresInstance::start);
  if (started.ok()) return started;
  const Status stopped = stop_all(instances);
  if (!stopped.ok()) log_error("agent", "{}", stopped.error().message);
  return started;
}

Status stop_all(const std::vector<PostgresInstance*>& instances) {
  return in_parallel(instances, &PostgresInstance::stop);
}

}  // namespace pgmosaic::agent
