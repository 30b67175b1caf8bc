// Stream: one non-blocking socket, plain or TLS, with edge-triggered readiness.
//
// read() and write() never block and take no buffer of their own; readable()/writable() wait without holding memory
// and without a system call. One coroutine may wait for reading and one for writing (or one for both, WaitSet).
// interrupt() wakes whoever waits with WaitStatus::interrupted: that is how timeouts, cancels and shutdown reach a
// session. All methods belong to the loop's thread.
#pragma once

#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/loop.h"
#include "net/task.h"

namespace pgmosaic::net {

class TlsContext;
struct TlsState;

enum class WaitStatus : uint8_t { ready, interrupted };

struct IoResult {
  enum class Kind : uint8_t { ok, would_block, closed, failed } kind;
  std::size_t bytes = 0;
};

class Stream;

// A coroutine that waits on one or more streams; lives in the coroutine's frame while it is suspended.
struct Waiter {
  std::coroutine_handle<> handle;
  WaitStatus status = WaitStatus::ready;
};

class Stream final : public EventHandler {
 public:
  Stream(EventLoop& loop, int fd);  // takes ownership of a connected (or connecting), non-blocking fd
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  EventLoop& loop() { return loop_; }
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void close();
  // Tells the peer that nothing more comes; its data can still be read.
  void shutdown_write();

  // Reads up to `capacity` bytes. closed: orderly end; failed: the connection broke (error() says how).
  IoResult read(char* buffer, std::size_t capacity);
  // Writes what the socket takes now.
  IoResult write(std::string_view data);
  // Writes everything, waiting as needed. False: the connection broke or the wait was interrupted.
  Task<bool> write_all(std::string_view data);

  // The peer closed its side or the connection broke (known without reading).
  bool hung_up() const { return hung_up_; }
  const std::string& error() const { return error_; }

  // Called once when the peer goes away while nobody waits on this stream (a client that vanishes during its query).
  void on_hangup(void (*hook)(void*), void* context) {
    hangup_hook_ = hook;
    hangup_context_ = context;
  }

  void interrupt();
  // An interrupt that came while nobody waited is delivered to the next wait, once.
  bool take_interrupt() { return std::exchange(interrupted_, false); }

  // TLS handshake as server or client on this stream. `server_name` is checked where the context verifies.
  Task<Status> start_tls(TlsContext& context, bool server, const std::string& server_name = {});
  bool tls() const { return tls_ != nullptr; }
  // RFC 5929 tls-server-end-point of the certificate in use; empty without TLS.
  std::string channel_binding() const;

  struct WaitAwaiter {
    Stream& stream;
    bool for_write;
    Waiter waiter{};
    bool await_ready() {
      if (stream.take_interrupt()) {
        waiter.status = WaitStatus::interrupted;
        return true;
      }
      return for_write ? stream.can_write_ : stream.can_read_;
    }
    void await_suspend(std::coroutine_handle<> awaiter) {
      waiter.handle = awaiter;
      (for_write ? stream.write_waiter_ : stream.read_waiter_) = &waiter;
    }
    WaitStatus await_resume() { return waiter.status; }
  };
  WaitAwaiter readable() { return {*this, read_wants_write_}; }
  WaitAwaiter writable() { return {*this, true}; }

  // True may be stale: an event of the same round of epoll can tell of bytes that were read meanwhile. read() finds
  // out; who decides something by it asks has_input().
  bool can_read() const { return can_read_; }
  // Whether there is something to read, an end or an error included. A system call where can_read() is true.
  bool has_input();
  bool can_write() const { return can_write_; }
  // A connecting socket is not writable before its first event.
  void await_first_edge() { can_write_ = false; }

  void on_events(uint32_t events) override;

 private:
  friend class WaitSet;
  IoResult fail(const char* what, int error_number);
  IoResult read_tls(char* buffer, std::size_t capacity);
  IoResult write_tls(std::string_view data);
  void wake(Waiter*& slot, WaitStatus status);

  EventLoop& loop_;
  int fd_;
  bool can_read_ = false;
  bool can_write_ = true;
  bool hung_up_ = false;
  bool interrupted_ = false;
  bool read_wants_write_ = false;  // TLS: a read needs the socket to be writable
  bool* destroyed_flag_ = nullptr;
  Waiter* read_waiter_ = nullptr;
  Waiter* write_waiter_ = nullptr;
  void (*hangup_hook_)(void*) = nullptr;
  void* hangup_context_ = nullptr;
  std::unique_ptr<TlsState> tls_;
  std::string error_;
};

// Waits until any of a few streams is readable or writable:
//   WaitSet set;  set.read(client);  set.write(server);  WaitStatus s = co_await set;
// Then ask can_read()/can_write() of the streams. The awaiting coroutine must not wait on them elsewhere.
class WaitSet {
 public:
  static constexpr int kMax = 64;
  void read(Stream& stream) { add(stream, false); }
  void write(Stream& stream) { add(stream, true); }

  bool await_ready();
  void await_suspend(std::coroutine_handle<> awaiter);
  WaitStatus await_resume();

 private:
  void add(Stream& stream, bool for_write) {
    CHECK(count_ < kMax);
    entries_[count_++] = {&stream, for_write};
  }
  struct Entry {
    Stream* stream;
    bool for_write;
  };
  Entry entries_[kMax];
  int count_ = 0;
  Waiter waiter_{};
};

// Connects over TCP or, where host begins with '/', to the Unix socket HOST/.s.PGSQL.PORT.
// Name resolution runs on a helper thread. Errors: 08001 with host and port; gives up after timeout_ms.
Task<Result<std::unique_ptr<Stream>>> connect(EventLoop& loop, const std::string& host, uint16_t port, int timeout_ms);

struct KeepAlive {
  int idle_s = 60, interval_s = 10, count = 3;
};
void set_socket_options(int fd, const KeepAlive& keepalive);

}  // namespace pgmosaic::net
