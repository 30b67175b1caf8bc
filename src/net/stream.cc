#include "net/stream.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "net/tls.h"

namespace pgmosaic::net {

Stream::Stream(EventLoop& loop, int fd) : loop_(loop), fd_(fd) {
  loop_.add(fd_, this, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

Stream::~Stream() {
  if (destroyed_flag_ != nullptr) *destroyed_flag_ = true;
  read_waiter_ = write_waiter_ = nullptr;  // what they wait for is going; who wants them woken closes it before
  close();
}

void Stream::close() {
  if (fd_ < 0) return;
  loop_.remove(fd_, this);
  ::close(fd_);
  fd_ = -1;
  can_read_ = can_write_ = true;  // waiting on a closed stream returns at once; read() says closed
  bool destroyed = false;
  bool* outer = std::exchange(destroyed_flag_, &destroyed);
  wake(read_waiter_, WaitStatus::ready);
  if (!destroyed) wake(write_waiter_, WaitStatus::ready);
  if (!destroyed) {
    destroyed_flag_ = outer;
  } else if (outer != nullptr) {
    *outer = true;
  }
}

void Stream::shutdown_write() {
  if (fd_ >= 0) ::shutdown(fd_, SHUT_WR);
}

void Stream::wake(Waiter*& slot, WaitStatus status) {
  if (slot == nullptr) return;
  Waiter* waiter = std::exchange(slot, nullptr);
  // A WaitSet holds several slots; it clears them all when it resumes.
  if (read_waiter_ == waiter) read_waiter_ = nullptr;
  if (write_waiter_ == waiter) write_waiter_ = nullptr;
  waiter->status = status;
  waiter->handle.resume();
}

void Stream::on_events(uint32_t events) {
  if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) hung_up_ = true;
  if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR)) can_read_ = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) can_write_ = true;
  bool destroyed = false;
  bool* outer = std::exchange(destroyed_flag_, &destroyed);
  if (hung_up_ && hangup_hook_ != nullptr && read_waiter_ == nullptr && write_waiter_ == nullptr)
    std::exchange(hangup_hook_, nullptr)(hangup_context_);
  if (!destroyed && can_write_ && write_waiter_ != nullptr) wake(write_waiter_, WaitStatus::ready);
  if (!destroyed && can_read_ && read_waiter_ != nullptr) wake(read_waiter_, WaitStatus::ready);
  if (!destroyed) {
    destroyed_flag_ = outer;
  } else if (outer != nullptr) {
    *outer = true;
  }
}

void Stream::interrupt() {
  if (read_waiter_ != nullptr) {
    wake(read_waiter_, WaitStatus::interrupted);
  } else if (write_waiter_ != nullptr) {
    wake(write_waiter_, WaitStatus::interrupted);
  } else {
    interrupted_ = true;
  }
}

IoResult Stream::fail(const char* what, int error_number) {
  error_ = std::string(what) + ": " + std::strerror(error_number);
  hung_up_ = true;
  return {IoResult::Kind::failed, 0};
}

IoResult Stream::read(char* buffer, std::size_t capacity) {
  if (fd_ < 0) return {IoResult::Kind::closed, 0};
  if (tls_) return read_tls(buffer, capacity);
  const ssize_t got = ::recv(fd_, buffer, capacity, 0);
  if (got > 0) {
    // A short read has emptied the socket; the next data raises a new edge. After a hang-up keep reading to the end.
    if (static_cast<std::size_t>(got) < capacity && !hung_up_) can_read_ = false;
    return {IoResult::Kind::ok, static_cast<std::size_t>(got)};
  }
  if (got == 0) {
    hung_up_ = true;
    return {IoResult::Kind::closed, 0};
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
    can_read_ = false;
    return {IoResult::Kind::would_block, 0};
  }
  return fail("receive", errno);
}

bool Stream::has_input() {
  if (!can_read_ || fd_ < 0 || tls_) return can_read_;
  char byte;
  if (::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    can_read_ = false;
  return can_read_;
}

IoResult Stream::write(std::string_view data) {
  if (fd_ < 0) return {IoResult::Kind::closed, 0};
  if (tls_) return write_tls(data);
  const ssize_t sent = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
  if (sent >= 0) {
    if (static_cast<std::size_t>(sent) < data.size()) can_write_ = false;
    return {IoResult::Kind::ok, static_cast<std::size_t>(sent)};
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
    can_write_ = false;
    return {IoResult::Kind::would_block, 0};
  }
  return fail("send", errno);
}

Task<bool> Stream::write_all(std::string_view data) {
  while (!data.empty()) {
    const IoResult result = write(data);
    if (result.kind == IoResult::Kind::ok) {
      data.remove_prefix(result.bytes);
    } else if (result.kind == IoResult::Kind::would_block) {
      if (co_await writable() == WaitStatus::interrupted) co_return false;
    } else {
      co_return false;
    }
  }
  co_return true;
}

bool WaitSet::await_ready() {
  for (int i = 0; i < count_; ++i) {
    if (entries_[i].stream->take_interrupt()) {
      waiter_.status = WaitStatus::interrupted;
      return true;
    }
    if (entries_[i].for_write ? entries_[i].stream->can_write_ : entries_[i].stream->can_read_) return true;
  }
  return false;
}

void WaitSet::await_suspend(std::coroutine_handle<> awaiter) {
  waiter_.handle = awaiter;
  for (int i = 0; i < count_; ++i)
    (entries_[i].for_write ? entries_[i].stream->write_waiter_ : entries_[i].stream->read_waiter_) = &waiter_;
}

WaitStatus WaitSet::await_resume() {
  for (int i = 0; i < count_; ++i) {
    Stream& stream = *entries_[i].stream;
    if (stream.read_waiter_ == &waiter_) stream.read_waiter_ = nullptr;
    if (stream.write_waiter_ == &waiter_) stream.write_waiter_ = nullptr;
  }
  return waiter_.status;
}

void set_socket_options(int fd, const KeepAlive& keepalive) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &keepalive.idle_s, sizeof keepalive.idle_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &keepalive.interval_s, sizeof keepalive.interval_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &keepalive.count, sizeof keepalive.count);
}

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

Error connect_error(const std::string& host, uint16_t port, const std::string& why) {
  return make_error("08001",
                    "could not connect to PostgreSQL at " + host + " port " + std::to_string(port) + ": " + why,
                    "Check that the server runs there and accepts connections.");
}

bool numeric_address(const std::string& host, uint16_t port, Address& address) {
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length = sizeof *v4;
    return true;
  }
  if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length = sizeof *v6;
    return true;
  }
  return false;
}

// getaddrinfo on a helper thread; the result comes back through the loop's mailbox.
Task<Result<std::vector<Address>>> resolve(EventLoop& loop, const std::string& host, uint16_t port) {
  std::vector<Address> found;
  std::string problem;
  Signal done;
  auto lookup = [&loop, &host, &found, &problem, &done, port] {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    const int rc = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
    if (rc != 0) problem = gai_strerror(rc);
    for (addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
      Address address;
      std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
      address.length = entry->ai_addrlen;
      found.push_back(address);
    }
    if (list != nullptr) freeaddrinfo(list);
    loop.post([&done] { done.notify(); });
  };
  bool started = true;
  try {
    std::thread(lookup).detach();
  } catch (const std::system_error& error) {
    started = false;
    problem = error.what();
  }
  if (started) co_await done;
  if (found.empty()) co_return connect_error(host, port, problem.empty() ? "no address" : problem);
  co_return found;
}

Task<Result<std::unique_ptr<Stream>>> connect_address(EventLoop& loop, const Address& address, const std::string& host,
                                                      uint16_t port, int timeout_ms) {
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) co_return connect_error(host, port, std::strerror(errno));
  const int rc = ::connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length);
  if (rc != 0 && errno != EINPROGRESS) {
    const int error_number = errno;
    ::close(fd);
    co_return connect_error(host, port, std::strerror(error_number));
  }
  auto stream = std::make_unique<Stream>(loop, fd);
  if (rc != 0) {
    Stream* raw = stream.get();
    bool timed_out = false;
    auto timer = loop.start_timer(int64_t{timeout_ms} * 1000, [raw, &timed_out] {
      timed_out = true;
      raw->interrupt();
    });
    // The first edge (connected or refused) sets can_write through on_events; before it, nothing is known.
    WaitSet set;
    set.read(*stream);
    stream->await_first_edge();
    set.write(*stream);
    co_await set;
    if (timed_out) co_return connect_error(host, port, "no answer within " + std::to_string(timeout_ms) + " ms");
    loop.cancel_timer(timer);
    int error_number = 0;
    socklen_t length = sizeof error_number;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &length);
    if (error_number != 0) co_return connect_error(host, port, std::strerror(error_number));
  }
  co_return stream;
}

}  // namespace

Task<Result<std::unique_ptr<Stream>>> connect(EventLoop& loop, const std::string& host, uint16_t port, int timeout_ms) {
  if (!host.empty() && host[0] == '/') {
    Address address;
    auto* local = reinterpret_cast<sockaddr_un*>(&address.storage);
    local->sun_family = AF_UNIX;
    const std::string path = host + "/.s.PGSQL." + std::to_string(port);
    if (path.size() >= sizeof local->sun_path) co_return connect_error(host, port, "socket path is too long");
    std::memcpy(local->sun_path, path.c_str(), path.size() + 1);
    address.length = sizeof *local;
    co_return co_await connect_address(loop, address, host, port, timeout_ms);
  }
  std::vector<Address> addresses(1);
  if (!numeric_address(host, port, addresses[0])) {
    CO_TRY_ASSIGN(addresses, co_await resolve(loop, host, port));
  }
  Result<std::unique_ptr<Stream>> last = connect_error(host, port, "no address");
  for (const Address& address : addresses) {
    last = co_await connect_address(loop, address, host, port, timeout_ms);
    if (last.ok()) {
      set_socket_options((*last)->fd(), KeepAlive{});
      break;
    }
  }
  co_return last;
}

}  // namespace pgmosaic::net
