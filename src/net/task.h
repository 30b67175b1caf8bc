// Task<T>: a lazily started coroutine that resumes its awaiter when it ends. One that ends without a suspension returns
// to its awaiter like a function: a loop over such tasks grows no stack, also where the compiler makes no tail calls
// (sanitizers, -O1).
// A Task runs on the thread of its EventLoop and never migrates. An exception that leaves a Task is a bug and aborts.
//
// GCC 12: no capturing lambda inside a co_await expression, no co_await inside ?:.
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "base/check.h"
#include "net/frame_pool.h"

namespace pgmosaic::net {

namespace detail {

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();

  static void* operator new(std::size_t size) { return frame_allocate(size); }
  static void operator delete(void* frame, std::size_t size) noexcept { frame_free(frame, size); }

  std::suspend_always initial_suspend() noexcept { return {}; }
  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      return self.promise().continuation;
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept { check_failed("no exception leaves a Task", __FILE__, __LINE__); }
};

// Runs a task to its first suspension; false if it has ended and the awaiter goes on at once.
template <class Promise>
bool start(std::coroutine_handle<Promise> task, std::coroutine_handle<> awaiter) noexcept {
  task.resume();
  if (task.done()) return false;
  task.promise().continuation = awaiter;
  return true;
}

}  // namespace detail

template <class T>
class [[nodiscard]] Task {
 public:
  struct promise_type : detail::PromiseBase {
    std::optional<T> value;
    Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
    template <class U>
    void return_value(U&& result) {
      value.emplace(std::forward<U>(result));
    }
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> awaiter) noexcept { return detail::start(handle_, awaiter); }
  T await_resume() { return std::move(*handle_.promise().value); }

 private:
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

template <>
class [[nodiscard]] Task<void> {
 public:
  struct promise_type : detail::PromiseBase {
    Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
    void return_void() {}
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> awaiter) noexcept { return detail::start(handle_, awaiter); }
  void await_resume() noexcept {}

 private:
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

namespace detail {

struct Detached {
  struct promise_type {
    static void* operator new(std::size_t size) { return frame_allocate(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { frame_free(frame, size); }
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    [[noreturn]] void unhandled_exception() noexcept { check_failed("no exception leaves a Task", __FILE__, __LINE__); }
  };
};

inline Detached run_detached(Task<void> task) { co_await task; }

}  // namespace detail

// Starts a task now on this thread; it frees itself when it ends.
inline void spawn(Task<void> task) { detail::run_detached(std::move(task)); }

// Wakes one waiting coroutine; for hand-offs inside one thread. `wait()` returns at once if `notify` came first.
class Signal {
 public:
  void notify() {
    set_ = true;
    if (waiter_) std::exchange(waiter_, nullptr).resume();
  }
  bool await_ready() const noexcept { return set_; }
  void await_suspend(std::coroutine_handle<> awaiter) noexcept {
    CHECK(!waiter_);
    waiter_ = awaiter;
  }
  void await_resume() noexcept { set_ = false; }

 private:
  std::coroutine_handle<> waiter_;
  bool set_ = false;
};

// Waits until `count` spawned tasks have called done(). Source of the idea: a latch.
class Latch {
 public:
  explicit Latch(int count) : count_(count) {}
  void done() {
    if (--count_ == 0 && waiter_) std::exchange(waiter_, nullptr).resume();
  }
  bool await_ready() const noexcept { return count_ == 0; }
  void await_suspend(std::coroutine_handle<> awaiter) noexcept { waiter_ = awaiter; }
  void await_resume() noexcept {}

 private:
  int count_;
  std::coroutine_handle<> waiter_;
};

}  // namespace pgmosaic::net
