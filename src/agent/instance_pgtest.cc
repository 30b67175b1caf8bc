#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/instance.h"
#include "harness/pg_connection.h"

namespace pgmosaic::agent {
namespace {

using test::PgConnection;

std::string message_of(const Status& status) {
  return status.ok() ? "success" : status.error().message + "\n" + status.error().detail;
}

#define ASSERT_OK(expression)                         \
  do {                                                \
    const Status status_ = (expression);              \
    ASSERT_TRUE(status_.ok()) << message_of(status_); \
  } while (false)

InstanceOptions fast_options(const std::string& directory) {
  InstanceOptions options;
  options.directory = directory;
  options.settings = {{"fsync", "off"}, {"shared_buffers", "16MB"}};
  return options;
}

// What a second process of this program does instead of tests: it manages one instance until it is killed.
[[noreturn]] void supervise(const std::string& directory, int report) {
  auto instance = PostgresInstance::open(fast_options(directory));
  if (!instance.ok() || !(*instance)->start().ok()) _exit(1);
  const pid_t server = (*instance)->pid();
  if (write(report, &server, sizeof server) != sizeof server) _exit(1);
  close(report);
  for (;;) pause();
}

// Before main(), which is not ours.
const bool tests_run_here = [] {
  const char* directory = std::getenv("SUPERVISED_DIRECTORY");
  if (directory != nullptr) supervise(directory, std::atoi(std::getenv("REPORT_TO")));
  return true;
}();

class InstanceTest : public testing::Test {
 protected:
  InstanceTest() {
    std::string name = (std::filesystem::temp_directory_path() / "pgmosaic-agent-XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    CHECK(chmod(name.c_str(), 0755) == 0);
    base_ = name;
    options_ = fast_options(base_ + "/g1");
  }
  ~InstanceTest() override { std::filesystem::remove_all(base_); }

  static std::unique_ptr<PostgresInstance> open(const InstanceOptions& options) {
    auto instance = PostgresInstance::open(options);
    EXPECT_TRUE(instance.ok()) << instance.error().message;
    return instance.ok() ? std::move(*instance) : nullptr;
  }

  // As the internal role, through the private socket.
  static std::string conninfo(const PostgresInstance& instance) {
    return "host=" + instance.socket_directory() + " port=" + std::to_string(instance.port()) +
           " user=" + instance.internal_user() + " dbname=postgres";
  }
  static std::string tcp(const PostgresInstance& instance, const std::string& user, const std::string& password) {
    return "host=127.0.0.1 port=" + std::to_string(instance.port()) + " user=" + user + " password=" + password +
           " dbname=postgres sslmode=disable";
  }
  static std::string login_error(const std::string& conninfo) {
    try {
      PgConnection connection(conninfo);
      return "no error";
    } catch (const std::runtime_error& e) {
      return e.what();
    }
  }

  // Waits for any process, child or not, to end.
  static bool ends_within(pid_t pid, int timeout_ms) {
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0) return errno == ESRCH;
    pollfd waited{pidfd, POLLIN, 0};
    const bool ended = poll(&waited, 1, timeout_ms) == 1;
    close(pidfd);
    return ended;
  }

  // A process of its own that manages the instance until it is killed; returns its pid and the server's. It is this
  // program again, see supervise().
  std::pair<pid_t, pid_t> start_supervisor() {
    int ends[2];
    CHECK(pipe(ends) == 0);
    const std::string variables[] = {"SUPERVISED_DIRECTORY=" + options_.directory,
                                     "REPORT_TO=" + std::to_string(ends[1])};
    const char* arguments[] = {"supervisor", nullptr};
    const char* environment[] = {variables[0].c_str(), variables[1].c_str(), nullptr};
    CHECK(tests_run_here);
    const pid_t supervisor = fork();
    CHECK(supervisor >= 0);
    if (supervisor == 0) {
      close(ends[0]);
      execve("/proc/self/exe", const_cast<char**>(arguments), const_cast<char**>(environment));
      _exit(127);
    }
    close(ends[1]);
    pid_t server = 0;
    EXPECT_EQ(read(ends[0], &server, sizeof server), static_cast<ssize_t>(sizeof server));
    close(ends[0]);
    return {supervisor, server};
  }

  static void kill_9(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }

  std::string base_;
  InstanceOptions options_;
};

TEST_F(InstanceTest, a_restart_finds_data_and_port_again) {
  uint16_t port = 0;
  {
    auto instance = open(options_);
    ASSERT_OK(instance->start());
    port = instance->port();
    PgConnection connection(conninfo(*instance));
    connection.execute("CREATE TABLE t AS SELECT 42 AS x");
    ASSERT_OK(instance->stop());
    EXPECT_FALSE(instance->running());
    ASSERT_OK(instance->stop());
    ASSERT_OK(instance->start());
    EXPECT_EQ(PgConnection(conninfo(*instance)).value("SELECT x FROM t"), "42");
  }
  auto instance = open(options_);
  ASSERT_OK(instance->start());
  EXPECT_EQ(instance->port(), port);
  EXPECT_EQ(PgConnection(conninfo(*instance)).value("SELECT x FROM t"), "42");
}

TEST_F(InstanceTest, the_server_has_the_settings_and_the_account_it_should) {
  options_.settings.emplace_back("max_connections", "77");
  options_.settings.emplace_back("search_path", "it's, \"a\\b\"");
  auto instance = open(options_);
  ASSERT_OK(instance->start());
  PgConnection connection(conninfo(*instance));
  const auto show = [&](const std::string& name) { return connection.value("SHOW " + name); };
  EXPECT_EQ(show("max_connections"), "77");
  EXPECT_EQ(show("search_path"), "it's, \"a\\b\"");
  EXPECT_EQ(show("max_prepared_transactions"), "200");
  EXPECT_EQ(show("wal_level"), "logical");
  EXPECT_EQ(show("password_encryption"), "scram-sha-256");
  EXPECT_EQ(show("server_encoding"), "UTF8");
  EXPECT_EQ(show("lc_collate"), "C.UTF-8");
  EXPECT_EQ(show("timezone"), "UTC");
  EXPECT_EQ(show("listen_addresses"), "127.0.0.1");
  EXPECT_EQ(show("data_checksums"), "on");
  connection.execute("ALTER SYSTEM SET work_mem = '12MB'");
  ASSERT_OK(instance->stop());
  ASSERT_OK(instance->start());
  EXPECT_EQ(PgConnection(conninfo(*instance)).value("SHOW work_mem"), "12MB");

  struct stat info {};
  ASSERT_EQ(stat(("/proc/" + std::to_string(instance->pid())).c_str(), &info), 0);
  const uid_t expected = geteuid() == 0 ? getpwnam(options_.account.c_str())->pw_uid : geteuid();
  EXPECT_EQ(info.st_uid, expected);
  for (const std::string& path : {options_.directory, options_.directory + "/data", instance->socket_directory()}) {
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, expected) << path;
    EXPECT_EQ(info.st_mode & 0777, 0700U) << path;
  }
  EXPECT_EQ(getsid(instance->pid()), instance->pid()) << "Ctrl-C must not reach the server";
}

TEST_F(InstanceTest, users_need_scram_and_the_internal_role_needs_the_socket) {
  auto instance = open(options_);
  ASSERT_OK(instance->start());
  PgConnection internal(conninfo(*instance));
  EXPECT_EQ(internal.value("SELECT current_user || ' ' || usesuper FROM pg_user WHERE usename = current_user"),
            "pgmosaic true");
  internal.execute("CREATE ROLE ann LOGIN PASSWORD 'secret'");
  internal.execute("ALTER ROLE pgmosaic PASSWORD 'secret'");
  EXPECT_EQ(PgConnection(tcp(*instance, "ann", "secret")).value("SELECT current_user"), "ann");
  EXPECT_NE(login_error(tcp(*instance, "ann", "wrong")).find("password authentication failed"), std::string::npos);
  EXPECT_NE(login_error(tcp(*instance, "pgmosaic", "secret")).find("pg_hba.conf rejects connection"),
            std::string::npos);
  const std::string socket = "host=" + instance->socket_directory() + " port=" + std::to_string(instance->port()) +
                             " user=ann dbname=postgres";
  EXPECT_EQ(PgConnection(socket + " password=secret").value("SELECT current_user"), "ann");
  EXPECT_NE(login_error(socket + " passfile=/dev/null").find("no password supplied"), std::string::npos);
}

TEST_F(InstanceTest, a_crash_is_reported_and_a_new_start_recovers) {
  auto instance = open(options_);
  ASSERT_OK(instance->start());
  EXPECT_FALSE(instance->poll_exit().has_value());
  PgConnection connection(conninfo(*instance));
  connection.execute("CREATE TABLE t AS SELECT 42 AS x");
  // A backend that does not notice by itself that its postmaster is gone.
  PgConnection busy(conninfo(*instance));
  ASSERT_EQ(PQsendQuery(busy.get(), "DO $$ BEGIN LOOP END LOOP; END $$"), 1);
  const std::string state =
      "SELECT state FROM pg_stat_activity WHERE pid = " + std::to_string(PQbackendPID(busy.get()));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (connection.value(state) != "active") ASSERT_LT(std::chrono::steady_clock::now(), deadline);

  const pid_t server = instance->pid();
  ASSERT_EQ(kill(server, SIGKILL), 0);
  ASSERT_TRUE(ends_within(server, 10000));
  const auto exit = instance->poll_exit();
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->reason, "signal 9 (Killed)");
  EXPECT_NE(exit->log_tail.find("ready to accept connections"), std::string::npos) << exit->log_tail;
  EXPECT_FALSE(instance->running());
  EXPECT_FALSE(instance->poll_exit().has_value());
  ASSERT_OK(instance->start());
  EXPECT_EQ(PgConnection(conninfo(*instance)).value("SELECT x FROM t"), "42");
}

TEST_F(InstanceTest, kill_9_of_the_supervisor_ends_the_server) {
  const auto [supervisor, server] = start_supervisor();
  ASSERT_GT(server, 0);
  EXPECT_EQ(processes_in(options_.directory + "/data", "postgres").empty(), false);
  kill_9(supervisor);
  EXPECT_TRUE(ends_within(server, 20000));
  std::ifstream log(options_.directory + "/server.log");
  const std::string text((std::istreambuf_iterator<char>(log)), {});
  EXPECT_NE(text.find("received fast shutdown request"), std::string::npos) << text;
}

TEST_F(InstanceTest, a_start_takes_over_what_a_killed_supervisor_left) {
  const auto [supervisor, server] = start_supervisor();
  ASSERT_GT(server, 0);
  // The server cannot obey the kernel's signal before we let it.
  ASSERT_EQ(kill(server, SIGSTOP), 0);
  kill_9(supervisor);
  auto instance = open(options_);
  ASSERT_EQ(kill(server, 0), 0);
  std::thread later([pid = server] { kill(pid, SIGCONT); });
  ASSERT_OK(instance->start());
  later.join();
  EXPECT_NE(instance->pid(), server);
  EXPECT_EQ(PgConnection(conninfo(*instance)).value("SELECT 1"), "1");
}

TEST_F(InstanceTest, the_server_outlives_the_thread_that_started_it) {
  auto instance = open(options_);
  std::thread starter([&] { EXPECT_TRUE(instance->start().ok()); });
  starter.join();
  // If the thread's end had told the server to shut down, a later connection would fail.
  for (int i = 0; i < 20; ++i) EXPECT_EQ(PgConnection(conninfo(*instance)).value("SELECT 1"), "1");
  EXPECT_FALSE(instance->poll_exit().has_value());
}

TEST_F(InstanceTest, a_port_in_use_is_an_error_if_given_and_avoided_if_not) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int port = ntohs(address.sin_port);

  options_.port = port;
  {
    auto instance = open(options_);
    const Status started = instance->start();
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().sqlstate, "55006");
    EXPECT_EQ(started.error().message, "port " + std::to_string(port) + " of 127.0.0.1 is in use");
    EXPECT_FALSE(instance->running());
  }
  options_.port = 0;
  std::ofstream(options_.directory + "/port") << port << "\n";
  auto instance = open(options_);
  ASSERT_OK(instance->start());
  EXPECT_NE(instance->port(), port);
  close(fd);
}

TEST_F(InstanceTest, one_directory_has_one_manager) {
  auto first = open(options_);
  auto second = PostgresInstance::open(options_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().sqlstate, "55006");
  first.reset();
  EXPECT_TRUE(PostgresInstance::open(options_).ok());
}

TEST_F(InstanceTest, a_server_that_does_not_start_shows_its_log) {
  options_.settings.emplace_back("work_mem", "nonsense");
  auto instance = open(options_);
  const Status started = instance->start();
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().message.find("did not start, exit code 1"), std::string::npos) << started.error().message;
  EXPECT_NE(started.error().detail.find("invalid value for parameter \"work_mem\""), std::string::npos)
      << started.error().detail;
  EXPECT_FALSE(instance->running());
}

TEST_F(InstanceTest, an_interrupted_initdb_is_done_again) {
  auto instance = open(options_);
  const std::string fresh = options_.directory + "/data.new";
  std::filesystem::create_directory(fresh);
  std::ofstream(fresh + "/PG_VERSION") << "15\n";
  struct stat owner {};
  ASSERT_EQ(stat(options_.directory.c_str(), &owner), 0);
  ASSERT_EQ(chown(fresh.c_str(), owner.st_uid, owner.st_gid), 0);
  ASSERT_OK(instance->start());
  EXPECT_FALSE(std::filesystem::exists(fresh));
}

TEST_F(InstanceTest, a_long_path_gets_a_short_socket_directory) {
  options_.directory = base_ + "/" + std::string(120, 'x');
  auto instance = open(options_);
  EXPECT_TRUE(instance->socket_directory().starts_with("/tmp/pgmosaic-")) << instance->socket_directory();
  ASSERT_OK(instance->start());
  EXPECT_EQ(PgConnection(conninfo(*instance)).value("SELECT 1"), "1");
  ASSERT_OK(instance->stop());
  const std::string directory = instance->socket_directory();
  instance.reset();

  // Somebody else's directory of that name is not used.
  ASSERT_EQ(chmod(directory.c_str(), 0755), 0);
  EXPECT_FALSE(PostgresInstance::open(options_).ok());
  std::filesystem::remove_all(directory);
}

TEST_F(InstanceTest, several_start_and_stop_together) {
  std::vector<std::unique_ptr<PostgresInstance>> owned;
  std::vector<PostgresInstance*> all;
  for (const char* name : {"g1", "g2", "g3"}) {
    options_.directory = base_ + "/" + name;
    owned.push_back(open(options_));
    all.push_back(owned.back().get());
  }
  ASSERT_OK(start_all(all));
  EXPECT_NE(all[0]->port(), all[1]->port());
  EXPECT_NE(PgConnection(conninfo(*all[0])).value("SELECT system_identifier FROM pg_control_system()"),
            PgConnection(conninfo(*all[1])).value("SELECT system_identifier FROM pg_control_system()"));
  ASSERT_OK(stop_all(all));
  for (const PostgresInstance* instance : all) EXPECT_FALSE(instance->running());

  // One that fails takes the others down with it.
  owned[1].reset();
  options_.directory = base_ + "/g2";
  options_.settings.emplace_back("work_mem", "nonsense");
  owned[1] = open(options_);
  all[1] = owned[1].get();
  EXPECT_FALSE(start_all(all).ok());
  for (const PostgresInstance* instance : all) EXPECT_FALSE(instance->running());
}

TEST_F(InstanceTest, wrong_places_and_accounts_are_clear_errors) {
  const auto error_of = [](const InstanceOptions& options) {
    auto instance = PostgresInstance::open(options);
    return instance.ok() ? std::string("no error") : instance.error().message;
  };
  InstanceOptions bad = options_;
  bad.bin_dir = base_;
  EXPECT_EQ(error_of(bad), "\"" + base_ + "\" does not have the programs postgres and initdb");
  bad = options_;
  std::ofstream(base_ + "/file") << "x";
  bad.directory = base_ + "/file/g1";
  EXPECT_NE(error_of(bad).find("cannot create"), std::string::npos) << error_of(bad);

  const bool root = geteuid() == 0;
  bad = options_;
  bad.account = "no_such_account";
  EXPECT_EQ(error_of(bad), root ? "system account \"no_such_account\" does not exist" : "no error");
  bad.account = "root";
  EXPECT_EQ(error_of(bad), root ? "system account \"root\" has the rights of root" : "no error");
  bad = options_;
  bad.directory = base_ + "/closed/g1";
  std::filesystem::create_directory(base_ + "/closed");
  ASSERT_EQ(chmod((base_ + "/closed").c_str(), 0700), 0);
  const std::string error = error_of(bad);
  EXPECT_EQ(error, root ? "cannot open \"" + bad.directory + "/lock\": Permission denied" : "no error");
}

}  // namespace
}  // namespace pgmosaic::agent
