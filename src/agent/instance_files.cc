#include "agent/instance_files.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "agent/instance.h"
#include "base/random.h"

namespace pgmosaic::agent {

namespace {

constexpr int kOldestVersion = 15;
constexpr int kNewestTried = 25;

bool has_programs(const std::string& directory) {
  return access((directory + "/postgres").c_str(), X_OK) == 0 && access((directory + "/initdb").c_str(), X_OK) == 0;
}

// First line that a shell command prints.
std::string first_line_of(const std::string& command) {
  FILE* out = popen(command.c_str(), "re");
  if (out == nullptr) return {};
  char line[1024] = "";
  if (fgets(line, sizeof line, out) == nullptr) line[0] = '\0';
  pclose(out);
  std::string text = line;
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  return out + "'";
}

std::string doubled(const std::string& text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != special.npos) out += c;
    out += c;
  }
  return out;
}

// postgres (PostgreSQL) 15.4 (…) -> 15; 0: no idea
int major_version(const std::string& bin_dir) {
  const std::string line = first_line_of(shell_quoted(bin_dir + "/postgres") + " --version 2>/dev/null");
  const size_t digits = line.find_first_of("0123456789");
  int version = 0;
  if (digits != line.npos) std::from_chars(line.data() + digits, line.data() + line.size(), version);
  return version;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> default_settings() {
  return {
      {"max_connections", "200"},
      {"max_prepared_transactions", "200"},
      {"max_locks_per_transaction", "256"},  // a statement over many partitions locks each
      {"wal_level", "logical"},
      {"max_wal_senders", "20"},
      {"max_replication_slots", "20"},
      {"shared_buffers", "128MB"},
      {"fsync", "on"},
      {"password_encryption", "scram-sha-256"},
      {"timezone", "UTC"},
      {"log_timezone", "UTC"},
      {"datestyle", "ISO, MDY"},
      {"intervalstyle", "postgres"},
      {"lc_messages", "C"},
      {"log_line_prefix", "%m [%p] %q%u@%d "},
      {"logging_collector", "off"},
      {"log_destination", "stderr"},
  };
}

Result<std::string> find_bin_dir() {
  const auto debian = [](int version) { return fmt::format("/usr/lib/postgresql/{}/bin", version); };
  std::vector<std::string> candidates = {debian(kOldestVersion), first_line_of("pg_config --bindir 2>/dev/null")};
  for (int version = kOldestVersion + 1; version <= kNewestTried; ++version) candidates.push_back(debian(version));
  for (const std::string& candidate : candidates)
    if (!candidate.empty() && has_programs(candidate) && major_version(candidate) >= kOldestVersion) return candidate;
  return make_error("58000", fmt::format("no PostgreSQL {} or newer was found", kOldestVersion),
                    "Install Debian's package postgresql-15, or name the directory of its programs.");
}

Status check_bin_dir(const std::string& bin_dir) {
  if (!has_programs(bin_dir)) {
    return make_error("58000", fmt::format("\"{}\" does not have the programs postgres and initdb", bin_dir));
  }
  const int version = major_version(bin_dir);
  if (version >= kOldestVersion) return {};
  return make_error("58000", fmt::format("PostgreSQL in \"{}\" is version {}; {} or newer is needed", bin_dir, version,
                                         kOldestVersion));
}

Status write_file(const std::string& path, const std::string& text) {
  const std::string fresh = path + ".new";
  std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out || std::rename(fresh.c_str(), path.c_str()) != 0) {
    return make_error("58000", fmt::format("cannot write \"{}\": {}", path, std::strerror(errno)));
  }
  return {};
}

std::string settings_text(const std::vector<std::pair<std::string, std::string>>& settings) {
  std::string text = "# Written at every start of the server; changes here are lost. Use ALTER SYSTEM.\n";
  for (const auto& [name, value] : settings) text += fmt::format("{} = '{}'\n", name, doubled(value, "'\\"));
  return text;
}

std::string hba_text(const std::string& internal_user, bool peer) {
  const std::string role = "\"" + internal_user + "\"";
  const std::string internal_method = peer ? "peer map=pgmosaic" : "trust";
  return fmt::format(
      "# Written at every start of the server; changes here are lost.\n"
      "local all         {0} {1}\n"
      "local replication {0} {1}\n"
      "local all         all md5\n"  // SCRAM wherever the password is one
      "local replication all scram-sha-256\n"
      "host  all         {0} all reject\n"
      "host  replication {0} all reject\n"
      "host  all         all all md5\n"
      "host  replication all all scram-sha-256\n",
      role, internal_method);
}

std::string ident_text(const std::string& internal_user, const std::vector<std::string>& system_users) {
  std::string text = "# Written at every start of the server; changes here are lost.\n";
  for (const std::string& user : system_users) text += fmt::format("pgmosaic \"{}\" \"{}\"\n", user, internal_user);
  return text;
}

// Lines: process id, data directory, start time, port, socket directory, address, shared memory key, status.
PidFile read_pid_file(const std::string& data) {
  std::ifstream in(data + "/postmaster.pid");
  PidFile file;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (number == 1) std::from_chars(line.data(), line.data() + line.size(), file.pid);
    if (number == 8) file.status = line.substr(0, line.find(' '));
  }
  return file;
}

PortReservation reserve_port(const std::string& address, int port) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  const std::string text = address == "*" ? "0.0.0.0" : address;
  if (inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(port));
    size = sizeof *v6;
  } else {
    return {true, -1};
  }
  const int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return {true, -1};
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, reinterpret_cast<sockaddr*>(&storage), size) == 0) return {true, fd};
  const bool in_use = errno == EADDRINUSE;
  close(fd);
  // Any other failure (no such address, a port that needs privileges) is the server's to tell.
  return {!in_use, -1};
}

int random_port() {
  constexpr int kFirst = 15432, kCount = 16000;
  return kFirst + static_cast<int>(random_u64() % kCount);
}

std::string short_socket_directory(const std::string& directory) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a: must be the same in every build
  for (const char c : directory) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("/tmp/pgmosaic-{:016x}", hash);
}

}  // namespace pgmosaic::agent
