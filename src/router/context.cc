#include "router/context.h"

#include "base/random.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

std::pair<uint32_t, uint32_t> SessionDirectory::add(Worker* worker, Session* session) {
  uint32_t secret = static_cast<uint32_t>(random_u64());
  std::lock_guard lock(mutex_);
  while (next_pid_ == 0 || next_pid_ > 0x7fffffff || entries_.contains(next_pid_))
    next_pid_ = next_pid_ > 0x7ffffffe ? 1000 : next_pid_ + 1;
  const uint32_t pid = next_pid_++;
  entries_[pid] = {worker, session, secret};
  return {pid, secret};
}

void SessionDirectory::remove(uint32_t pid) {
  std::lock_guard lock(mutex_);
  entries_.erase(pid);
}

std::size_t SessionDirectory::size() const {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

void SessionDirectory::post(uint32_t pid, Worker* worker, std::function<void(Session&)> work) {
  worker->loop.post([this, pid, worker, work = std::move(work)] {
    Session* session = nullptr;
    {
      std::lock_guard lock(mutex_);
      auto found = entries_.find(pid);
      if (found == entries_.end() || found->second.worker != worker) return;
      session = found->second.session;
    }
    // A session leaves the directory on this thread, so it still lives.
    work(*session);
  });
}

void SessionDirectory::cancel(uint32_t pid, uint32_t secret) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(pid);
  if (found == entries_.end() || found->second.secret != secret) return;
  post(pid, found->second.worker, [](Session& session) { session.cancel(); });
}

bool SessionDirectory::signal(uint32_t pid, bool terminate) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(pid);
  if (found == entries_.end()) return false;
  post(pid, found->second.worker, [terminate](Session& session) {
    terminate ? session.terminate("57P01", "terminating connection due to administrator command") : session.cancel();
  });
  return true;
}

void SessionDirectory::break_deadlock(uint32_t pid, int64_t since_us, Error error) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(pid);
  if (found == entries_.end()) return;
  post(pid, found->second.worker, [error = std::move(error), since_us](Session& session) {
    if (session.info().query_start_us == since_us) session.cancel(std::make_unique<Error>(error));
  });
}

const char* client_state_name(ClientState state) {
  switch (state) {
    case ClientState::login: return "login";
    case ClientState::idle: return "idle";
    case ClientState::idle_in_transaction: return "idle in transaction";
    case ClientState::active: return "active";
    case ClientState::waiting: return "waiting";
  }
  return "";
}

namespace {

// Runs `work` on every worker's thread; resumes on `loop` when all have done it.
template <class Work>
net::Task<void> on_all_workers(std::vector<std::unique_ptr<Worker>>& workers, net::EventLoop& loop, Work work) {
  net::Latch latch(static_cast<int>(workers.size()));
  for (auto& worker : workers) {
    Worker* target = worker.get();
    std::function<void()> job = [target, &loop, &latch, &work] {
      work(*target);
      loop.post([&latch] { latch.done(); });
    };
    target->loop.post(std::move(job));
  }
  co_await latch;
}

}  // namespace

net::Task<void> RouterContext::on_each_worker(net::EventLoop& loop, std::function<void(Worker&)> work) {
  auto run = [&work](Worker& worker) { work(worker); };
  co_await on_all_workers(workers, loop, run);
}

net::Task<std::vector<SessionInfo>> RouterContext::all_sessions(net::EventLoop& loop) {
  std::mutex guard;
  std::vector<SessionInfo> result;
  auto collect = [&guard, &result](Worker& worker) {
    std::vector<SessionInfo> own;
    for (Session* session : worker.sessions) own.push_back(session->info());
    std::lock_guard lock(guard);
    result.insert(result.end(), own.begin(), own.end());
  };
  co_await on_all_workers(workers, loop, collect);
  co_return result;
}

net::Task<void> RouterContext::leave_database(net::EventLoop& loop, std::string database) {
  auto leave = [&database](Worker& worker) { worker.pool.close_idle_of(database); };
  co_await on_all_workers(workers, loop, leave);
}

net::Task<void> RouterContext::renew_pools(net::EventLoop& loop, std::vector<pool::Credentials> changed) {
  auto renew = [&changed](Worker& worker) {
    for (const pool::Credentials& credentials : changed) worker.pool.set_credentials(credentials);
    worker.pool.renew();
    worker.forget_greetings();
  };
  co_await on_all_workers(workers, loop, renew);
}

net::Task<void> RouterContext::announce(net::EventLoop& loop, catalog::SnapshotPtr snapshot) {
  blocks.drop_all();  // sequences may be others, or count from elsewhere
  auto adopt = [&snapshot](Worker& worker) { worker.adopt(snapshot); };
  co_await on_all_workers(workers, loop, adopt);
}

}  // namespace pgmosaic::router
