#include "net/loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/check.h"

namespace pgmosaic::net {

namespace {

int64_t monotonic_us() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

}  // namespace

EventLoop::EventLoop()
    : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      scratch_(kScratchSize) {
  CHECK(epoll_fd_ >= 0 && wake_fd_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) == 0);
  now_us_ = monotonic_us();
}

EventLoop::~EventLoop() {
  close(wake_fd_);
  close(epoll_fd_);
}

void EventLoop::run() {
  while (!stop_.load(std::memory_order_relaxed)) {
    const int timeout_ms = run_timers();
    event_count_ = epoll_wait(epoll_fd_, events_.data(), static_cast<int>(events_.size()), timeout_ms);
    now_us_ = monotonic_us();
    for (event_next_ = 0; event_next_ < event_count_;) {
      const epoll_event& event = events_[event_next_++];
      if (event.data.ptr == nullptr) {
        run_mailbox();
      } else if (event.data.u64 != 1) {  // 1: removed while this batch was under way
        static_cast<EventHandler*>(event.data.ptr)->on_events(event.events);
      }
    }
    event_count_ = 0;
  }
}

void EventLoop::stop() {
  stop_.store(true, std::memory_order_relaxed);
  const uint64_t one = 1;
  [[maybe_unused]] auto written = write(wake_fd_, &one, sizeof one);
}

void EventLoop::post(std::function<void()> work) {
  bool first;
  {
    std::lock_guard lock(mailbox_mutex_);
    first = mailbox_.empty();
    mailbox_.push_back(std::move(work));
  }
  if (first) {
    const uint64_t one = 1;
    [[maybe_unused]] auto written = write(wake_fd_, &one, sizeof one);
  }
}

void EventLoop::run_mailbox() {
  uint64_t ignored;
  [[maybe_unused]] auto got = read(wake_fd_, &ignored, sizeof ignored);
  std::vector<std::function<void()>> work;
  {
    std::lock_guard lock(mailbox_mutex_);
    work.swap(mailbox_);
  }
  for (auto& item : work) item();
}

void EventLoop::add(int fd, EventHandler* handler, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = handler;
  CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0);
}

void EventLoop::remove(int fd, EventHandler* handler) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  for (int i = event_next_; i < event_count_; ++i)
    if (events_[i].data.ptr == handler) events_[i].data.u64 = 1;
}

EventLoop::TimerId EventLoop::start_timer(int64_t delay_us, std::function<void()> work) {
  TimerId id{monotonic_us() + std::max<int64_t>(delay_us, 0), ++timer_serial_};
  timers_.emplace(id, std::move(work));
  return id;
}

void EventLoop::cancel_timer(TimerId id) { timers_.erase(id); }

int EventLoop::run_timers() {
  while (!timers_.empty()) {
    const int64_t wait_us = timers_.begin()->first.first - now_us_;
    if (wait_us > 0) return static_cast<int>(std::min<int64_t>((wait_us + 999) / 1000, 60'000));
    auto node = timers_.extract(timers_.begin());
    node.mapped()();
    now_us_ = monotonic_us();
  }
  return -1;
}

}  // namespace pgmosaic::net
