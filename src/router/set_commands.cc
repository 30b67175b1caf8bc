// SET, RESET, set_config and their kin: a PostgreSQL checks a value, then the session remembers it.
#include <strings.h>

#include <algorithm>

#include "router/session.h"
#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

using Kind = plan::SessionCommand::Kind;

namespace {

struct Change {
  pool::SettingsMap map;  // the session's settings afterwards
  std::vector<std::string> statements;
};

void set_again(const std::string& name, const pool::SettingsMap& startup, Change& change) {
  const auto initial = startup.find(name);
  if (initial == startup.end()) return;
  change.statements.push_back(initial->second);
  change.map[name] = initial->second;
}

void reset_one(const std::string& name, const pool::SettingsMap& startup, Change& change) {
  change.map.erase(name);
  change.statements.clear();
  set_again(name, startup, change);
  if (change.statements.empty()) change.statements = {"RESET " + pool::setting_name(name)};
  if (name != "session_authorization") return;
  change.map.erase("role");  // goes with it
  set_again("role", startup, change);
}

void reset_all(const pool::SettingsMap& startup, Change& change) {
  auto role = change.map.extract("role"), authorization = change.map.extract("session_authorization");
  change.map = startup;
  if (!role.empty()) change.map.insert(std::move(role));
  if (!authorization.empty()) change.map.insert(std::move(authorization));
  change.statements = {"RESET ALL"};
  for (const auto& [name, statement] : startup)
    if (name != "role" && name != "session_authorization") change.statements.push_back(statement);
}

}  // namespace

// What changes a setting runs on a PostgreSQL first, which checks it; then the session remembers it.
net::Task<Status> Session::run_setting(const plan::SessionCommand& command) {
  const bool local = command.kind == Kind::set_local;
  if (local && (!backends_.in_transaction())) {
    pg::write_notice(out_, "25P01", "SET LOCAL can only be used in transaction blocks", {}, {}, "WARNING");
    put_complete("SET");
    co_return Status{};
  }
  Change change{*backends_.settings(), {command.sql}};
  if (command.kind == Kind::reset) {
    reset_one(command.name, startup_settings_, change);
  } else if (command.kind == Kind::reset_all) {
    reset_all(startup_settings_, change);
  } else if (!local) {
    if (command.name == "session_authorization") change.map.erase("role");
    change.map[command.name] = command.sql;
  }
  // SET x TO DEFAULT is a reset by another name.
  const bool said_reset = command.kind == Kind::reset_all ||
                          (command.kind == Kind::reset &&
                           strncasecmp(last_query_.c_str() + last_query_.find_first_not_of(" \t\r\n("), "set", 3) != 0);
  const char* tag = said_reset ? "RESET" : "SET";
  const pool::Settings before = backends_.settings();
  const bool applied = std::all_of(backends_.all().begin(), backends_.all().end(),
                                   [&](const auto& backend) { return backend->conn->settings == before; });
  if (!backends_.in_transaction() && !local && (!applied || backends_.all().empty())) {
    // A value that a group refuses must not stand in the way of the one that replaces it.
    pool::SettingsMap others = change.map;
    others.erase(command.name);
    // SET DateStyle = DMY keeps half of what was there.
    if (const auto style = before->find("datestyle"); command.name == "datestyle" && style != before->end())
      others.insert(*style);
    backends_.set_settings(worker_.settings.intern(std::move(others)));
  }
  std::vector<exec::Backend*> targets;
  Status result = co_await set_on_backends(change.statements, targets);
  if (!result.ok()) {
    pool::SettingsMap kept = *before;
    const bool taken = result.error().sqlstate == "42602" && applied;  // LOAD has taken the name for itself
    if (taken) kept.erase(command.name);
    backends_.set_settings(worker_.settings.intern(std::move(kept)));
    for (exec::Backend* backend : targets)
      if (taken) backend->conn->settings = backends_.settings();
    co_return result;
  }
  if (command.kind == Kind::set && command.name == "datestyle" && !targets.empty())
    change.map[command.name] = pool::set_statement("datestyle", targets[0]->conn->parameters["DateStyle"]);
  if (command.name == "transaction_isolation" && backends_.in_transaction()) note_isolation(command.sql);
  if (local) {
    backends_.record_local(command.sql);
    if (decides_plans(command.name)) {
      local_path_ = true;
      plan_context_id_ = 0;
    }
  } else {
    // A group that joins later replays this behind the SET LOCALs it overrides.
    if (backends_.in_transaction())
      for (std::string& statement : change.statements) backends_.record_local(std::move(statement));
    backends_.set_settings(worker_.settings.intern(std::move(change.map)));
    if (!backends_.in_transaction())
      for (exec::Backend* backend : targets) backend->conn->settings = backends_.settings();
  }
  if (command.name == kIdleInTransaction || command.name == kIdleSession) CO_TRY(co_await refresh_context());
  put_complete(tag);
  co_return Status{};
}

// One backend answers for all; in a transaction that has none yet, the first one joins. `targets`: those that ran it.
net::Task<Status> Session::set_on_backends(const std::vector<std::string>& statements,
                                           std::vector<exec::Backend*>& targets) {
  auto takes_part = [this](const auto& backend) { return backend->begun || !backends_.in_transaction(); };
  if (std::none_of(backends_.all().begin(), backends_.all().end(), takes_part)) {
    auto backend = co_await backends_.get(snapshot_->home);
    if (!backend.ok()) co_return std::move(backend.error());
  }
  for (auto& backend : backends_.all())
    if (takes_part(backend)) targets.push_back(backend.get());
  std::string sql;
  for (const std::string& statement : statements) sql += (sql.empty() ? "" : ";") + statement;
  Status result;
  for (exec::Backend* backend : targets) {
    pool::ServerConn& conn = *backend->conn;
    backends_.prepare(*backend);
    const std::map<std::string, std::string> before = conn.parameters;
    conn.add_internal_query(sql);
    Status status = co_await conn.drain();
    if (!status.ok() && result.ok()) result = std::move(status);
    if (backend != targets[0]) continue;
    for (const auto& [name, value] : conn.parameters)
      if (auto old = before.find(name); old == before.end() || old->second != value) {
        pg::write_parameter_status(out_, name, value);
        if (name == "application_name") application_name_ = value;
      }
  }
  co_return result;
}

// SET TRANSACTION, SET CONSTRAINTS. A query string of several statements is a block to them; a batch is none.
net::Task<Status> Session::run_set_transaction(const plan::SessionCommand& command, std::string_view sql) {
  const std::string what = command.kind == Kind::set_transaction ? "SET TRANSACTION" : "SET CONSTRAINTS";
  if (!backends_.in_transaction() || (extended_ && extended_->implicit)) {
    pg::write_notice(out_, "25P01", what + " can only be used in transaction blocks", {}, {}, "WARNING");
  } else {
    if (command.kind == Kind::set_constraints) {  // somebody has to say now that a constraint does not exist
      auto home = co_await backends_.get(snapshot_->home);
      if (!home.ok()) co_return std::move(home.error());
    }
    CO_TRY(co_await on_participants(sql, false));
    backends_.record_local(std::string(sql));
    if (command.kind == Kind::set_transaction && isolation_in(sql)) note_isolation(sql);
  }
  put_complete(command.kind == Kind::set_transaction ? "SET" : what);
  co_return Status{};
}

namespace {

struct ConfigCall {
  std::string name;
  bool local = false;
};

// The calls set_config('name', value, is_local) of a query, as far as the name is written out.
std::vector<ConfigCall> set_config_calls(std::string_view sql) {
  std::vector<ConfigCall> calls;
  sql::TokenScanner scanner(sql);
  for (sql::Token token = scanner.next(); token.kind != sql::Token::Kind::end && token.kind != sql::Token::Kind::broken;
       token = scanner.next()) {
    if (!scanner.is_word(token, "set_config") || !scanner.is_symbol(scanner.peek(), '(')) continue;
    scanner.next();
    const sql::Token name = scanner.next();
    if (name.kind != sql::Token::Kind::string || sql[name.begin] != '\'') continue;
    ConfigCall call;
    for (char c : sql.substr(name.begin + 1, name.end - name.begin - 2))
      call.name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    int depth = 1, commas = 0;
    for (sql::Token inner = scanner.next(); depth > 0; inner = scanner.next()) {
      if (inner.kind == sql::Token::Kind::end || inner.kind == sql::Token::Kind::broken) break;
      if (scanner.is_symbol(inner, '(')) ++depth;
      if (scanner.is_symbol(inner, ')') && --depth == 0) break;
      if (depth == 1 && scanner.is_symbol(inner, ',')) ++commas;
      if (depth == 1 && commas == 2 && scanner.is_word(inner, "true")) call.local = true;
    }
    calls.push_back(std::move(call));
  }
  return calls;
}

}  // namespace

// After set_config(…) in a query: the session's settings are what the backend that ran it says, and the other groups of
// the transaction follow. The backend itself is cleaned before another client gets it.
net::Task<Status> Session::read_back_settings(std::string_view sql) {
  std::vector<ConfigCall> calls = set_config_calls(sql);
  exec::Backend* source = nullptr;
  for (auto& backend : backends_.all())
    if (backend->conn->idle() && backend->conn->alive() && backend->conn->tainted) source = backend.get();
  if (source == nullptr) co_return Status{};
  if (calls.empty()) {
    auto rows = co_await source->conn->query(
        "SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE source = 'session' AND name NOT IN "
        "('transaction_isolation', 'transaction_read_only', 'transaction_deferrable', 'session_authorization', "
        "'role')");
    if (!rows.ok()) co_return std::move(rows.error());
    for (const auto& row : rows->rows) calls.push_back({*row[0], false});
  }
  pool::SettingsMap map = *backends_.settings();
  std::string local_sql;
  for (const ConfigCall& call : calls) {
    if (call.local && !backends_.in_transaction()) continue;  // it has ended with the statement
    const std::string question = "SELECT pg_catalog.current_setting(" + pool::quote_literal(call.name) + ", true)";
    auto rows = co_await source->conn->query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    if (!rows->rows[0][0]) continue;
    std::string statement = pool::set_statement(call.name, *rows->rows[0][0], call.local);
    if (backends_.in_transaction()) backends_.record_local(statement);
    if (!call.local) {
      if (call.name == "session_authorization") map.erase("role");
      map[call.name] = std::move(statement);
      continue;
    }
    local_sql += statement + ";";
    if (decides_plans(call.name)) local_path_ = true;
  }
  const pool::Settings before = backends_.settings();
  backends_.set_settings(worker_.settings.intern(std::move(map)));
  const std::string follow = pool::transition_sql(*before, *backends_.settings()) + local_sql;
  for (auto& backend : backends_.all()) {
    if (backend.get() == source || !backend->begun || follow.empty()) continue;
    backend->conn->add_internal_query(follow);
    CO_TRY(co_await backend->conn->drain());
  }
  if (!backends_.in_transaction()) source->conn->settings = backends_.settings();
  plan_context_id_ = 0;
  co_return Status{};
}

// SET SESSION CHARACTERISTICS sets default_transaction_*: remember what they are now.
net::Task<Status> Session::run_characteristics(const plan::SessionCommand& command) {
  auto backend = co_await backends_.get(any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  auto done = co_await conn.query(command.sql);
  if (!done.ok()) co_return std::move(done.error());
  auto rows = co_await conn.query(
      "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' AND name IN "
      "('default_transaction_isolation', 'default_transaction_read_only', 'default_transaction_deferrable')");
  if (!rows.ok()) co_return std::move(rows.error());
  pool::SettingsMap map = *backends_.settings();
  for (const auto& row : rows->rows) map[*row[0]] = pool::set_statement(*row[0], *row[1]);
  const pool::Settings before = backends_.settings();
  backends_.set_settings(worker_.settings.intern(std::move(map)));
  const std::string follow = pool::transition_sql(*before, *backends_.settings());
  for (auto& other : backends_.all()) {
    if (other.get() == *backend || !other->begun || follow.empty()) continue;
    other->conn->add_internal_query(follow);
    CO_TRY(co_await other->conn->drain());
  }
  if (!backends_.in_transaction()) conn.settings = backends_.settings();
  put_complete("SET");
  co_return Status{};
}

}  // namespace pgmosaic::router
