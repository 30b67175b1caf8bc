// A world for the simulation of commits: servers, connections to them, and processes – coroutines of routers – that
// wait for replies, or just for a while. One step is one statement of a server, one process that goes on, or one fault;
// which comes next is drawn. After each step the invariants are checked (schedule.h).
#pragma once

#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/check.h"
#include "control/simulation/servers.h"
#include "net/task.h"

namespace pgmosaic::control::simulation {

// The client's end of a connection; closed with the object.
class Connection {
 public:
  Connection() = default;
  explicit Connection(std::shared_ptr<Session> session) : session_(std::move(session)) {}
  Connection(Connection&&) = default;
  Connection& operator=(Connection&& other) noexcept {
    close();
    session_ = std::move(other.session_);
    return *this;
  }
  ~Connection() { close(); }
  explicit operator bool() const { return session_ != nullptr; }
  Session& operator*() const { return *session_; }
  Session* operator->() const { return session_.get(); }

 private:
  void close() {
    if (session_) session_->orphan = true;
    session_.reset();
  }
  std::shared_ptr<Session> session_;
};

struct Fiber {
  struct promise_type {
    Fiber get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    [[noreturn]] void unhandled_exception() { check_failed("no exception leaves a Fiber", __FILE__, __LINE__); }
  };
  std::coroutine_handle<promise_type> handle;
};

class World {
 public:
  World(uint64_t seed, ServerSabotage sabotage, bool verbose);
  ~World() { end_processes(); }

  // Of processes.
  struct Pause {
    World& world;
    Session* session = nullptr;  // whose reply it waits for; none: just a while
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() const {}
  };
  Pause pause() { return {*this}; }
  net::Task<Connection> connect(uint32_t group);  // empty: it is down
  void send(Connection& connection, const std::string& sql);
  net::Task<Reply> reply(Connection& connection);
  net::Task<Reply> query(Connection& connection, std::string sql);

  enum class Kind : uint8_t { client, tends };
  void start(std::string name, Kind kind, net::Task<void> task, uint64_t slowness = 0);  // 0: any
  void end_processes();  // all die, as with their router
  bool has_clients() const;
  bool has_orphans() const;

  // One statement or one process. False: nobody can do anything.
  bool step(bool hurry);
  // A connection, a backend or a server has an accident.
  void fault();
  // Connections on which a statement that begins so comes next are lost; it is run much later.
  void lose(std::string_view statement);

  void note(const std::string& text) {
    if (verbose) events.push_back(text);
  }
  // The first counts.
  void violated(const std::string& what) {
    if (violation.empty()) violation = what;
  }

  Random random;
  const bool verbose;
  std::vector<std::unique_ptr<Server>> servers;  // groups 1, 2, …
  std::vector<std::string> events;
  std::string violation;
  uint64_t reads = 0;          // that have passed
  bool orphans_sleep = false;  // what lost connections are about does not go on

  Server& server(uint32_t group) { return *servers[group - 1]; }

 private:
  struct Process {
    std::string name;
    Kind kind = Kind::client;
    Fiber fiber = {};
    std::coroutine_handle<> waiting = {};
    Session* session = nullptr;
    uint64_t slowness = 1;  // as Session's
  };
  uint64_t some_slowness();
  void resume(std::size_t index);
  void step(Session& session);
  bool ready(const Process& process) const { return process.session == nullptr || process.session->reply.has_value(); }

  std::vector<std::unique_ptr<Process>> processes_;
  Process* running_ = nullptr;
  int sessions_ = 0;
  std::vector<std::size_t> ready_;  // scratch
  std::vector<Session*> can_step_;  // scratch
};

}  // namespace pgmosaic::control::simulation
