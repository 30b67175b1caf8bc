#include "router/saga_work.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/log.h"
#include "exec/control.h"
#include "pg/frontend.h"
#include "pg/seal.h"
#include "pool/settings.h"
#include "router/saga_calls.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

using Rows = pool::ServerConn::Rows;
using Values = std::vector<std::optional<std::string>>;

namespace {

constexpr int kSilentAttempts = 20;
constexpr int64_t kSilentPauseUs = 5'000;
constexpr const char* kMostTime = "60s";  // of a compensation: others' wait behind it
// In which its parameters were written as text, and are read.
constexpr std::array<const char*, 3> kStyles{"datestyle", "intervalstyle", "timezone"};

constexpr const char* kNoDatabase = "3D000";

struct Owner {
  std::string role, keys;
  bool trusted = false;
};

// The compensation of one step that was done.
struct Step {
  int n = 0;
  uint32_t group = 0;  // where its record is
  std::string name, compensation, path, role;
  std::map<std::string, std::string> styles;
  Values parameters;
};

std::optional<Step> read_step(int n, uint32_t group, const std::string& note) {
  const auto text = pg::from_hex(note);
  const auto said = nlohmann::json::parse(text.value_or(""), nullptr, false);
  if (!said.is_object()) return std::nullopt;
  Step step;
  step.n = n;
  step.group = group;
  for (auto [key, value] : {std::pair("step", &step.name), std::pair("compensation", &step.compensation),
                            std::pair("path", &step.path), std::pair("role", &step.role)}) {
    const auto found = said.find(key);
    if (found == said.end() || !found->is_string()) return std::nullopt;
    *value = found->get<std::string>();
  }
  for (const char* style : kStyles)
    if (const auto found = said.find(style); found != said.end() && found->is_string())
      step.styles[style] = found->get<std::string>();
  const auto parameters = said.find("parameters");
  if (parameters != said.end() && parameters->is_array())
    for (const auto& value : *parameters)
      step.parameters.push_back(value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt);
  return step;
}

std::vector<uint32_t> all_groups(const Worker& worker) {
  std::vector<uint32_t> groups;
  for (const catalog::Group& group : worker.snapshot->groups) groups.push_back(group.id);
  return groups;
}

// On a connection that does not stay: those that do are few, and logins need them.
net::Task<Result<Rows>> ask_apart(Worker& worker, uint32_t group, std::string database, std::string sql,
                                  Values values) {
  auto conn = co_await worker.context.control->connect(worker.loop, group, database);
  if (!conn.ok()) co_return std::move(conn.error());
  co_return co_await (*conn)->query_params(sql, values);
}

// nullopt: there is no such saga any more.
net::Task<Result<std::optional<Owner>>> owner_of(Worker& worker, const Saga& saga) {
  Values values = {saga.id};
  auto rows = co_await ask_as_router(worker, worker.snapshot->home, saga.database,
                                     "SELECT r.rolname, s.keys, s.trusted, s.owner FROM pg_catalog.pgmosaic_sagas s "
                                     "LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.owner WHERE s.id = $1",
                                     std::move(values));
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return std::optional<Owner>();
  const auto& row = rows->rows[0];
  if (!row[0]) co_return make_error("42704", "the role that began the saga was dropped");
  co_return std::optional(Owner{*row[0], row[1].value_or(""), row[2] == "t"});
}

// Of the sessions that have proved a login to this worker; else what the saga was begun with.
void make_login_known(Worker& worker, const Saga& saga, const Owner& owner) {
  if (owner.trusted || worker.pool.credentials(owner.role) != nullptr) return;
  const auto text = pg::unseal(worker.context.mock_secret, saga.id, owner.keys);
  const auto said = nlohmann::json::parse(text.value_or(""), nullptr, false);
  if (!said.is_object()) return;
  auto part = [&](const char* name) { return pg::from_hex(said.value(name, std::string())).value_or(""); };
  worker.pool.set_credentials({owner.role, {}, {part("client"), part("server")}, part("md5")});
}

// A session of the owner's, whose client is the router.
net::Task<Result<std::unique_ptr<pool::ServerConn>>> log_in(Worker& worker, const Saga& saga, const Owner& owner,
                                                            Session*& session) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
    co_return make_error("53000", "no socket for a session of the router's own");
  session = worker.open_inner(ends[0], owner.trusted);
  co_return co_await pool::ServerConn::over(worker.loop, ends[1], owner.role, saga.database);
}

// Its rows are nobody's.
net::Task<Status> run_compensation(pool::ServerConn& conn, const Step& step) {
  using pool::RequestKind;
  conn.write_parse("", step.compensation, {});
  pg::write_bind_text(conn.out(), "", "", step.parameters, 0);
  pg::write_execute(conn.out(), "", 0);
  pg::write_sync(conn.out());
  for (RequestKind kind : {RequestKind::parse, RequestKind::bind, RequestKind::execute, RequestKind::sync})
    conn.expect({kind, true});
  co_return co_await conn.drain();
}

net::Task<Status> run_once(Worker& worker, const SagaPtr& saga, const Owner& owner, const Step& step) {
  Session* session = nullptr;
  CO_TRY_ASSIGN(auto conn, co_await log_in(worker, *saga, owner, session));
  std::vector<std::string> before = {"SET application_name = 'pgmosaic saga'", "SET lock_timeout = '10s'",
                                     std::string("SET statement_timeout = '") + kMostTime + "'",
                                     pool::set_statement("search_path", step.path)};
  for (const auto& [style, value] : step.styles) before.push_back(pool::set_statement(style, value));
  if (step.role != "none") before.push_back("SET ROLE " + pool::quote_identifier(step.role));
  before.emplace_back("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE");
  for (const std::string& sql : before) {
    auto done = co_await conn->query(sql);
    if (!done.ok()) co_return std::move(done.error());
  }
  CO_TRY(co_await run_compensation(*conn, step));
  // It may have ended meanwhile, and another one be in its place.
  if (!worker.sessions.contains(session) || session->info().pid != conn->pid)
    co_return make_error("57P01", "the router's session was ended");
  SagaCalls(*session).undo(saga, step.group, step.n);
  auto done = co_await conn->query("COMMIT");  // PMSG1, compensated already: the next attempt will not find the step
  if (!done.ok()) co_return std::move(done.error());
  if (done->tag != "COMMIT") co_return make_error("40000", "the compensation was rolled back");
  co_return Status{};
}

net::Task<Status> compensate(Worker& worker, const SagaPtr& saga, const Owner& owner, const Step& step) {
  for (int attempt = 1;; ++attempt) {
    Status status = co_await run_once(worker, saga, owner, step);
    const bool again = !status.ok() && (status.error().sqlstate == "40001" || status.error().sqlstate == "40P01");
    if (again && attempt < kSilentAttempts) {
      co_await worker.loop.sleep(kSilentPauseUs * attempt);
      continue;
    }
    if (!status.ok()) {
      status.error().message = "compensation of step \"" + step.name + "\": " + status.error().message;
      status.error().position = 0;
      if (status.error().sqlstate == kNoDatabase) status.error().sqlstate = "38000";  // its own words
    }
    co_return status;
  }
}

std::string array_of(const std::vector<std::string>& sagas) {
  std::string array = "{";
  for (const std::string& saga : sagas) {
    array += array.size() > 1 ? ",\"" : "\"";
    for (const char c : saga) {
      if (c == '"' || c == '\\') array += '\\';
      array += c;
    }
    array += '"';
  }
  return array + "}";
}

// A router that is killed on the way leaves them finished: their steps go before the home's row, the word that they are
// finished behind that. What is left then belongs to no saga (look_at).
net::Task<Status> forget_sagas(Worker& worker, std::string database, std::vector<std::string> sagas, bool with_steps) {
  const Values values = {array_of(sagas)};
  const std::vector<uint32_t> groups = all_groups(worker);
  for (std::size_t i = 0; with_steps && i < groups.size(); ++i) {
    auto done = co_await ask_as_router(
        worker, groups[i], database,
        "DELETE FROM pg_catalog.pgmosaic_saga_steps WHERE saga = ANY ($1::text[]) AND n > 0", values);
    if (!done.ok()) co_return std::move(done.error());
  }
  auto done = co_await ask_as_router(worker, worker.snapshot->home, database,
                                     "DELETE FROM pg_catalog.pgmosaic_sagas WHERE id = ANY ($1::text[])", values);
  if (!done.ok()) co_return std::move(done.error());
  for (std::size_t i = 0; with_steps && i < groups.size(); ++i)
    (void)(co_await ask_as_router(worker, groups[i], database,
                                  "DELETE FROM pg_catalog.pgmosaic_saga_steps WHERE saga = ANY ($1::text[])", values));
  co_return Status{};
}

net::Task<Status> try_to_end(Worker& worker, const SagaPtr& saga) {
  Sagas& sagas = worker.context.sagas;
  while (!sagas.quiet(*saga)) co_await worker.loop.sleep(1000);
  bool finished = false;
  CO_TRY_ASSIGN(const auto owner, co_await owner_of(worker, *saga));
  if (!owner) co_return Status{};
  std::vector<Step> steps;
  const std::vector<uint32_t> groups = all_groups(worker);
  const Values values = {saga->id};
  for (std::size_t i = 0; i < groups.size(); ++i) {
    auto rows = co_await ask_apart(worker, groups[i], saga->database,  // it may wait for a COMMIT
                                   "SELECT n, state, request FROM pg_catalog.pgmosaic_saga_close($1)", values);
    if (!rows.ok()) co_return std::move(rows.error());
    for (const auto& row : rows->rows) {
      finished = finished || row[1] == "finished";
      if (row[0] == "0") continue;
      auto step = read_step(std::stoi(*row[0]), groups[i], row[2].value_or(""));
      if (!step) co_return make_error("XX001", "the record of step " + *row[0] + " is damaged");
      steps.push_back(std::move(*step));
    }
  }
  if (!finished) {
    std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.n > b.n; });
    make_login_known(worker, *saga, *owner);
    for (const Step& step : steps) CO_TRY(co_await compensate(worker, saga, *owner, step));
    log_info("sagas", "saga {} ({}) of {}: {} steps compensated", saga->id, saga->name, owner->role, steps.size());
  }
  std::vector<std::string> ids = {saga->id};
  co_return co_await forget_sagas(worker, saga->database, std::move(ids), finished);
}

}  // namespace

net::Task<Result<Rows>> ask_as_router(Worker& worker, uint32_t group, std::string database, std::string sql,
                                      Values values) {
  if (group != worker.snapshot->home)
    co_return co_await ask_apart(worker, group, std::move(database), std::move(sql), std::move(values));
  pool::PoolEntry& entry = worker.pool.entry(worker.config->internal.user, database, group);
  pool::PoolWaiter waiter;
  auto conn = co_await worker.pool.acquire(entry, waiter);
  if (!conn.ok()) co_return std::move(conn.error());
  auto rows = co_await (*conn)->query_params(sql, values);
  worker.pool.release(std::move(*conn));
  co_return rows;
}

std::string sealed_login(const Worker& worker, const std::string& user, const std::string& saga) {
  const pool::Credentials* login = worker.pool.credentials(user);
  if (login == nullptr) return {};
  const nlohmann::json said = {{"client", pg::to_hex(login->keys.client_key)},
                               {"server", pg::to_hex(login->keys.server_key)},
                               {"md5", pg::to_hex(login->md5)}};
  return pg::seal(worker.context.mock_secret, saga, said.dump());
}

namespace {

// Error: what the last attempt came to.
void release(Worker& worker, Saga& saga, const Status& ended) {
  Sagas& sagas = worker.context.sagas;
  Status status;
  if (!ended.ok()) {
    log_warning("sagas", "saga {} ({}) cannot be ended yet: {}", saga.id, saga.name, ended.error().message);
    if (ended.error().sqlstate == kNoDatabase)  // dropped, or renamed
      sagas.look_again = true;
    else
      status = Error(ended.error());
  }
  sagas.release(saga, std::move(status), worker.loop.now_us());
}

}  // namespace

net::Task<Status> end_saga(Worker& worker, SagaPtr saga) {
  Status status = co_await try_to_end(worker, saga);
  release(worker, *saga, status);
  co_return status;
}

net::Task<Status> forget_claimed(Worker& worker, std::vector<SagaPtr> sagas) {
  std::vector<std::string> ids;
  for (const SagaPtr& saga : sagas) ids.push_back(saga->id);
  Status status = co_await forget_sagas(worker, sagas[0]->database, std::move(ids), true);
  for (const SagaPtr& saga : sagas) release(worker, *saga, status);
  co_return status;
}

namespace {

// Sagas that the database knows and this router does not: an earlier one's.
net::Task<Status> look_at(Worker& worker, std::string database) {
  const Values none;
  std::vector<std::pair<uint32_t, std::string>> steps;  // before the home: it knows of each that has steps
  const std::vector<uint32_t> groups = all_groups(worker);
  for (const uint32_t group : groups) {
    auto rows = co_await ask_apart(
        worker, group, database,
        "SELECT DISTINCT saga FROM pg_catalog.pgmosaic_saga_steps WHERE n > 0 OR state <> 'closed'", none);
    if (!rows.ok()) co_return std::move(rows.error());
    for (const auto& row : rows->rows) steps.emplace_back(group, *row[0]);
  }
  auto rows = co_await ask_apart(worker, worker.snapshot->home, database,
                                 "SELECT id, name FROM pg_catalog.pgmosaic_sagas", none);
  if (!rows.ok()) co_return std::move(rows.error());
  std::set<std::string> known;
  for (const auto& row : rows->rows) {
    worker.context.sagas.adopt(*row[0], database, row[1].value_or(""));
    known.insert(*row[0]);
  }
  for (const auto& [group, saga] : steps) {
    if (known.contains(saga)) continue;
    const std::string sql = "DELETE FROM pg_catalog.pgmosaic_saga_steps WHERE saga = " + pool::quote_literal(saga);
    auto done = co_await ask_apart(worker, group, database, sql, none);
    if (!done.ok()) co_return std::move(done.error());
  }
  co_return Status{};
}

net::Task<void> look(Worker& worker) {
  std::vector<std::string> databases;
  for (const auto& [name, database] : worker.snapshot->databases) databases.push_back(name);
  for (const std::string& database : databases) {
    Status status = co_await look_at(worker, database);
    if (status.ok() || worker.snapshot->database(database) == nullptr) continue;
    log_warning("sagas", "database {}: {}", database, status.error().message);
    worker.context.sagas.look_again = true;
  }
}

net::Task<void> work(Worker& worker, SagaPtr saga) { (void)(co_await end_saga(worker, std::move(saga))); }
net::Task<void> forget(Worker& worker, std::vector<SagaPtr> sagas) {
  (void)(co_await forget_claimed(worker, std::move(sagas)));
}

}  // namespace

void tend_sagas(RouterContext& context, int64_t now_us) {
  if (context.draining || context.workers.empty()) return;
  if (context.sagas.look_again.exchange(false)) {
    Worker* worker = context.workers[0].get();
    worker->loop.post([worker] { net::spawn(look(*worker)); });
  }
  std::map<std::string, std::vector<SagaPtr>> finished;
  for (const SagaPtr& saga : context.sagas.due(now_us)) {
    if (context.sagas.state(*saga) == Saga::State::finished) {
      finished[saga->database].push_back(saga);
      continue;
    }
    // Another one with each attempt: it may know a newer login.
    Worker* worker = context.workers[static_cast<std::size_t>(saga->attempts) % context.workers.size()].get();
    worker->loop.post([worker, saga] { net::spawn(work(*worker, saga)); });
  }
  for (const auto& [database, sagas] : finished) {
    Worker* worker = context.workers[0].get();
    worker->loop.post([worker, sagas = sagas] { net::spawn(forget(*worker, sagas)); });
  }
}

}  // namespace pgmosaic::router
