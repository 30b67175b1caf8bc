// What an instance reads and writes around its server: programs, configuration files, ports, the pid file. Private to
// agent/instance.cc.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pgmosaic::agent {

// 58000 unless the directory has postgres and initdb of version 15 or newer.
Status check_bin_dir(const std::string& bin_dir);

// Replaces the file as a whole. 58000
Status write_file(const std::string& path, const std::string& text);

std::string settings_text(const std::vector<std::pair<std::string, std::string>>& settings);
// `peer`: our system user has a name, so PostgreSQL can check it; else the socket directory's mode has to do.
std::string hba_text(const std::string& internal_user, bool peer);
std::string ident_text(const std::string& internal_user, const std::vector<std::string>& system_users);

// data/postmaster.pid; zero and empty where it is missing or incomplete.
struct PidFile {
  pid_t pid = 0;
  std::string status;  // "starting", "ready", "standby", "stopping"
};
PidFile read_pid_file(const std::string& data);

// A socket bound to the port but not listening: servers, who set SO_REUSEADDR, can still bind to it.
struct PortReservation {
  bool free = false;
  int socket = -1;  // -1 as well where the address is no IP address and the server has to find out
};
PortReservation reserve_port(const std::string& address, int port);
// Below the range from which the kernel takes ports for outgoing connections.
int random_port();

// Where the directory's own path is too long for a socket address.
std::string short_socket_directory(const std::string& directory);

}  // namespace pgmosaic::agent
