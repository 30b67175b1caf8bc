#include "router/sagas.h"

#include <algorithm>

namespace pgmosaic::router {

namespace {

constexpr std::size_t kAtOnce = 16, kForgottenAtOnce = 5000;
constexpr int64_t kFirstPauseUs = 1'000'000, kLongestPauseUs = 60'000'000;

}  // namespace

SagaPtr Sagas::begin(std::string id, std::string database, std::string name, std::string user, int64_t deadline_us) {
  auto saga = std::make_shared<Saga>();
  saga->id = std::move(id);
  saga->database = std::move(database);
  saga->name = std::move(name);
  saga->user = std::move(user);
  saga->deadline_us = deadline_us;
  std::lock_guard lock(mutex_);
  sagas_[saga->id] = saga;
  return saga;
}

SagaPtr Sagas::adopt(std::string id, std::string database, std::string name) {
  std::lock_guard lock(mutex_);
  SagaPtr& saga = sagas_[id];
  if (saga) return nullptr;
  saga = std::make_shared<Saga>();
  saga->id = std::move(id);
  saga->database = std::move(database);
  saga->name = std::move(name);
  saga->state = Saga::State::ending;
  return saga;
}

SagaPtr Sagas::find(const std::string& database, const std::string& id) {
  std::lock_guard lock(mutex_);
  const auto found = sagas_.find(id);
  return found != sagas_.end() && found->second->database == database ? found->second : nullptr;
}

void Sagas::forget(const Saga& saga) {
  std::lock_guard lock(mutex_);
  const auto found = sagas_.find(saga.id);
  if (found != sagas_.end() && found->second.get() == &saga) sagas_.erase(found);
}

Status Sagas::enter(Saga& saga) {
  std::lock_guard lock(mutex_);
  if (saga.state == Saga::State::finished) return make_error("55000", "saga \"" + saga.id + "\" is finished");
  if (saga.state == Saga::State::ending)
    return make_error("55000", "saga \"" + saga.id + "\" is being compensated",
                      "Its time was over, or pgmosaic.saga_compensate() was called. Begin another one.");
  ++saga.committing;
  return {};
}

void Sagas::leave(Saga& saga) {
  std::lock_guard lock(mutex_);
  --saga.committing;
}

bool Sagas::quiet(const Saga& saga) {
  std::lock_guard lock(mutex_);
  return saga.committing == 0;
}

int Sagas::next_step(Saga& saga) {
  std::lock_guard lock(mutex_);
  return ++saga.last_step;
}

Saga::State Sagas::state(const Saga& saga) {
  std::lock_guard lock(mutex_);
  return saga.state;
}

void Sagas::finish(Saga& saga) {
  std::lock_guard lock(mutex_);
  saga.state = Saga::State::finished;
}

void Sagas::abandon(Saga& saga) {
  std::lock_guard lock(mutex_);
  if (saga.state == Saga::State::running) saga.state = Saga::State::ending;
}

bool Sagas::claim(Saga& saga) {
  std::lock_guard lock(mutex_);
  if (saga.working) return false;
  if (saga.state == Saga::State::running) saga.state = Saga::State::ending;
  return saga.working = true;
}

void Sagas::release(Saga& saga, Status status, int64_t now_us) {
  std::lock_guard lock(mutex_);
  saga.working = false;
  if (status.ok()) {
    sagas_.erase(saga.id);
    return;
  }
  saga.error = status.error().message;
  saga.due_us = now_us + std::min(kLongestPauseUs, kFirstPauseUs << std::min(saga.attempts++, 6));
}

std::vector<SagaPtr> Sagas::due(int64_t now_us) {
  std::lock_guard lock(mutex_);
  std::size_t at_work = 0, forgotten = 0;
  for (const auto& [id, saga] : sagas_) at_work += saga->working && saga->state == Saga::State::ending ? 1 : 0;
  std::vector<SagaPtr> result;
  for (const auto& [id, saga] : sagas_) {
    const bool late = saga->deadline_us != 0 && now_us >= saga->deadline_us;
    if (saga->state == Saga::State::running && late) saga->state = Saga::State::ending;
    if (saga->working || saga->state == Saga::State::running || now_us < saga->due_us) continue;
    const bool finished = saga->state == Saga::State::finished;
    if (finished ? ++forgotten > kForgottenAtOnce : ++at_work > kAtOnce) continue;
    saga->working = true;
    result.push_back(saga);
  }
  return result;
}

std::map<std::string, Sagas::Shown> Sagas::shown(const std::string& database) {
  std::lock_guard lock(mutex_);
  std::map<std::string, Shown> result;
  for (const auto& [id, saga] : sagas_) {
    if (saga->database != database) continue;
    const char* state = saga->state == Saga::State::running    ? "running"
                        : saga->state == Saga::State::finished ? "finished"
                        : saga->error.empty()                  ? "compensating"
                                                               : "failed";
    result[id] = {state, saga->error};
  }
  return result;
}

}  // namespace pgmosaic::router
