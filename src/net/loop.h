// EventLoop: one per worker thread; edge-triggered epoll, timers, and a mailbox for other threads.
//
// Why our own reactor: a waiting connection must hold no read buffer (memory per idle client) and waiting must not cost
// a system call (CPU per statement); see docs/design/001-event-loop.md.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace pgmosaic::net {

// Receives epoll events of one file descriptor. The loop never calls it after remove().
class EventHandler {
 public:
  virtual ~EventHandler() = default;
  virtual void on_events(uint32_t events) = 0;
};

class EventLoop {
 public:
  using TimerId = std::pair<int64_t, uint64_t>;  // deadline in µs, serial number

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Runs until stop(). Everything but post() and stop() belongs to the thread that runs.
  void run();
  void stop();                            // any thread
  void restart() { stop_ = false; }       // after stop(), before run() again
  void post(std::function<void()> work);  // any thread; runs on the loop's thread, in order

  void add(int fd, EventHandler* handler, uint32_t events);
  void remove(int fd, EventHandler* handler);

  // Monotonic time in µs, read once per round of the loop.
  int64_t now_us() const { return now_us_; }
  TimerId start_timer(int64_t delay_us, std::function<void()> work);
  void cancel_timer(TimerId id);

  // co_await loop.sleep(us)
  auto sleep(int64_t delay_us) {
    struct Awaiter {
      EventLoop& loop;
      int64_t delay_us;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> awaiter) {
        loop.start_timer(delay_us, [awaiter] { awaiter.resume(); });
      }
      void await_resume() noexcept {}
    };
    return Awaiter{*this, delay_us};
  }

  // 64 KiB that whoever runs on this thread may use between two suspensions.
  static constexpr std::size_t kScratchSize = 64 * 1024;
  char* scratch() { return scratch_.data(); }

 private:
  void run_mailbox();
  int run_timers();  // returns epoll timeout in ms

  int epoll_fd_;
  int wake_fd_;
  std::atomic<bool> stop_{false};
  int64_t now_us_ = 0;
  uint64_t timer_serial_ = 0;
  std::map<TimerId, std::function<void()>> timers_;
  std::array<epoll_event, 256> events_;
  int event_count_ = 0;
  int event_next_ = 0;
  std::mutex mailbox_mutex_;
  std::vector<std::function<void()>> mailbox_;
  std::vector<char> scratch_;
};

}  // namespace pgmosaic::net
