#include "control/simulation/world.h"

#include <algorithm>

namespace pgmosaic::control::simulation {

namespace {

constexpr uint64_t kSlow = 16, kStalled = 256;

Fiber run(net::Task<void> task) { co_await task; }

std::string describe(const Reply& reply) {
  if (reply.lost) return "lost";
  std::string text = reply.sqlstate.empty() ? reply.tag : reply.sqlstate;
  for (const std::string& value : reply.values) text += " [" + value + "]";
  return text.empty() ? "ok" : text;
}

}  // namespace

World::World(uint64_t seed, ServerSabotage sabotage, bool is_verbose) : random(seed), verbose(is_verbose) {
  const uint64_t groups = random.one_in(4) ? 2 : 3;
  const bool refuses = random.one_in(3);
  for (uint32_t group = 1; group <= groups; ++group) {
    servers.push_back(std::make_unique<Server>(group, random, sabotage));
    servers.back()->refuses = refuses;
  }
}

uint64_t World::some_slowness() {
  if (!random.one_in(6)) return 1;
  return random.one_in(8) ? kStalled : kSlow;
}

void World::Pause::await_suspend(std::coroutine_handle<> handle) {
  world.running_->waiting = handle;
  world.running_->session = session;
}

net::Task<Connection> World::connect(uint32_t group) {
  co_await pause();
  auto session = server(group).connect(++sessions_);
  if (!session) co_return Connection();
  session->slowness = some_slowness();
  co_return Connection(std::move(session));
}

void World::send(Connection& connection, const std::string& sql) {
  if (verbose)
    note(running_->name + " on connection " + std::to_string(connection->number) + " to group " +
         std::to_string(connection->server->number) + " sends: " + sql);
  connection->server->send(*connection, sql);
}

net::Task<Reply> World::reply(Connection& connection) {
  Pause answered{*this, &*connection};
  co_await answered;
  Reply reply = std::move(*connection->reply);
  connection->reply.reset();
  if (reply.lost) connection->reply = Reply{.lost = true};  // for ever
  if (verbose)
    note(running_->name + " on connection " + std::to_string(connection->number) + " reads: " + describe(reply));
  co_return reply;
}

net::Task<Reply> World::query(Connection& connection, std::string sql) {
  send(connection, sql);
  co_return co_await reply(connection);
}

void World::start(std::string name, Kind kind, net::Task<void> task, uint64_t slowness) {
  auto process = std::make_unique<Process>();
  process->name = std::move(name);
  process->kind = kind;
  process->fiber = run(std::move(task));
  process->waiting = process->fiber.handle;
  process->slowness = slowness != 0 ? slowness : some_slowness();
  processes_.push_back(std::move(process));
}

void World::end_processes() {
  for (const auto& process : processes_) process->fiber.handle.destroy();
  processes_.clear();
  for (const auto& server : servers)
    for (const auto& session : server->sessions)
      if (session->busy && random.one_in(3)) session->slowness = kStalled;
}

bool World::has_clients() const {
  return std::any_of(processes_.begin(), processes_.end(),
                     [](const auto& process) { return process->kind == Kind::client; });
}

bool World::has_orphans() const {
  return std::any_of(servers.begin(), servers.end(), [](const auto& server) {
    return std::any_of(server->sessions.begin(), server->sessions.end(),
                       [](const auto& session) { return session->orphan; });
  });
}

bool World::step(bool hurry) {
  ready_.clear();
  can_step_.clear();
  for (std::size_t i = 0; i < processes_.size(); ++i)
    if (ready(*processes_[i])) ready_.push_back(i);
  for (const auto& server : servers)
    for (const auto& session : server->sessions)
      if (Server::can_step(*session) && !(orphans_sleep && session->orphan && session->busy))
        can_step_.push_back(session.get());
  if (ready_.empty() && can_step_.empty()) return false;
  for (;;) {
    const std::size_t drawn = random.below(ready_.size() + can_step_.size());
    const uint64_t slowness =
        drawn < ready_.size() ? processes_[ready_[drawn]]->slowness : can_step_[drawn - ready_.size()]->slowness;
    if (slowness > 1 && !hurry && !random.one_in(slowness)) continue;
    if (drawn < ready_.size())
      resume(ready_[drawn]);
    else
      step(*can_step_[drawn - ready_.size()]);
    return true;
  }
}

void World::resume(std::size_t index) {
  Process& process = *processes_[index];
  running_ = &process;
  process.session = nullptr;
  std::exchange(process.waiting, nullptr).resume();
  running_ = nullptr;
  if (!process.fiber.handle.done()) return;
  process.fiber.handle.destroy();
  processes_.erase(processes_.begin() + static_cast<std::ptrdiff_t>(index));
}

void World::step(Session& session) {
  const std::shared_ptr<Session> kept = [&] {
    for (const auto& one : session.server->sessions)
      if (one.get() == &session) return one;
    return std::shared_ptr<Session>();
  }();
  if (verbose) {
    const std::string what = !session.busy                             ? "ends"
                             : session.at == session.statements.size() ? "has run it all"
                                                                       : "runs: " + session.statements[session.at];
    note("group " + std::to_string(session.server->number) + ", connection " + std::to_string(session.number) +
         (session.orphan ? " (lost) " : " ") + what);
  }
  session.server->step(session);
  if (verbose && session.blocked) note("  … waits");
  if (verbose && !session.answer.sqlstate.empty()) note("  … " + session.answer.sqlstate);
}

void World::fault() {
  Server& server = *servers[random.below(servers.size())];
  const uint64_t kind = random.below(8);
  const std::string group = "group " + std::to_string(server.number);
  if (kind == 0) {
    note(group + " crashes");
    server.crash();
    server.down = random.one_in(2);
  } else if (kind == 1) {
    note(group + " cannot be reached");
    server.down = true;
    for (const auto& session : server.sessions) server.cut(*session, random.one_in(2));
  } else if (kind == 2 || kind == 3) {
    for (const auto& one : servers) one->down = false;
  } else if (!server.sessions.empty()) {
    Session& session = *server.sessions[random.below(server.sessions.size())];
    const std::string name = group + ", connection " + std::to_string(session.number);
    if (kind == 4) {
      note(name + ": the backend is terminated");
      server.terminate(session);
    } else {
      note(name + " is lost");
      server.cut(session, random.one_in(2));
      if (session.busy && random.one_in(2)) session.slowness = kStalled;
    }
  }
}

void World::lose(std::string_view statement) {
  for (const auto& server : servers)
    for (const auto& session : server->sessions) {
      if (!session->busy || session->orphan || session->at == session->statements.size() ||
          !session->statements[session->at].starts_with(statement) || !random.one_in(3))
        continue;
      note("group " + std::to_string(server->number) + ", connection " + std::to_string(session->number) +
           " is lost and late");
      server->cut(*session, false);
      session->slowness = kSlow << random.below(5);
    }
}

}  // namespace pgmosaic::control::simulation
