#include "net/listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace pgmosaic::net {

namespace {

constexpr int kBacklog = 4096;
constexpr int64_t kPauseUs = 100'000;  // until accept is tried again when descriptors or memory have run out

Error listen_error(const std::string& where, int error_number) {
  return make_error(error_number == EADDRINUSE ? "55006" : "F0000",
                    "could not listen on " + where + ": " + std::strerror(error_number),
                    error_number == EADDRINUSE ? "Another process uses this address; choose another port." : "");
}

}  // namespace

Listener::Listener(EventLoop& loop, int fd, Callback callback) : loop_(loop), fd_(fd), callback_(std::move(callback)) {
  loop_.add(fd_, this, EPOLLIN);
}

Listener::~Listener() {
  paused_ ? loop_.cancel_timer(resume_timer_) : loop_.remove(fd_, this);
  close(fd_);
  if (!unlink_path_.empty()) unlink(unlink_path_.c_str());
}

Result<std::unique_ptr<Listener>> Listener::tcp(EventLoop& loop, const std::string& host, uint16_t port,
                                                Callback callback) {
  const std::string where = host + ":" + std::to_string(port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* list = nullptr;
  const int rc =
      getaddrinfo(host.empty() || host == "*" ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (rc != 0) return make_error("F0000", "could not listen on " + where + ": " + gai_strerror(rc));
  const int fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const bool bound = bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, kBacklog) == 0;
  const int error_number = errno;
  freeaddrinfo(list);
  if (!bound) {
    close(fd);
    return listen_error(where, error_number);
  }
  std::unique_ptr<Listener> listener(new Listener(loop, fd, std::move(callback)));
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  listener->port_ = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                                        : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  return listener;
}

Result<std::unique_ptr<Listener>> Listener::unix_socket(EventLoop& loop, const std::string& dir, uint16_t port,
                                                        Callback callback) {
  const std::string path = dir + "/.s.PGSQL." + std::to_string(port);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return listen_error(path, ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  // A socket file that nobody answers is left over from a dead process.
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
    close(fd);
    return listen_error(path, EADDRINUSE);
  }
  unlink(path.c_str());
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, kBacklog) != 0) {
    const int error_number = errno;
    close(fd);
    return listen_error(path, error_number);
  }
  chmod(path.c_str(), 0777);  // as PostgreSQL's: who may log in is for the [[auth]] rules, not for the umask
  std::unique_ptr<Listener> listener(new Listener(loop, fd, std::move(callback)));
  listener->port_ = port;
  listener->unlink_path_ = path;
  return listener;
}

// What accept() cannot take stays in the backlog, where the loop would find it again at once. Who connects waits there
// until somebody else leaves.
void Listener::pause(int error_number) {
  if (!complained_)
    log_warning("net", "cannot accept connections for now: {}; raise the limit of open files (ulimit -n)",
                std::strerror(error_number));
  paused_ = complained_ = true;
  loop_.remove(fd_, this);
  resume_timer_ = loop_.start_timer(kPauseUs, [this] {
    paused_ = false;
    loop_.add(fd_, this, EPOLLIN);
  });
}

void Listener::on_events(uint32_t) {
  for (int i = 0; i < 64; ++i) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    const int fd = accept4(fd_, reinterpret_cast<sockaddr*>(&address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        pause(errno);
      } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        log_warning("net", "accept failed: {}", std::strerror(errno));
      }
      return;
    }
    if (std::exchange(complained_, false)) log_info("net", "accepting connections again");
    Peer peer;
    char text[INET6_ADDRSTRLEN] = "";
    if (address.ss_family == AF_INET) {
      auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
      inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
      peer.port = ntohs(v4->sin_port);
    } else if (address.ss_family == AF_INET6) {
      auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
      inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
      peer.port = ntohs(v6->sin6_port);
    } else {
      peer.local = true;
    }
    peer.address = text;
    callback_(fd, std::move(peer));
  }
}

}  // namespace pgmosaic::net
