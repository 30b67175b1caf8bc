// The hot path: a statement whose plan is known, for one group with a free backend. It is passed on in one write and
// answered by one relay(), in either protocol, without an allocation; whatever is not that simple takes the other way.
//
// A point statement (plan::PointStatement) runs as a prepared statement on the row's leaf. Where that fails for what
// the leaf is – the table changed or went a moment ago, the role may not read leaves any more – the client must not see
// it: the router runs what it sent once more, the long way, by the table's name.
#include <algorithm>
#include <array>
#include <charconv>

#include "router/execution.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

using pool::RequestKind;

namespace {

constexpr uint32_t kMakeRoomEvery = 16;  // a backend full of statements gives one up for a leaf's this rarely

bool simple_route(const plan::Plan& plan) {
  return plan.kind == plan::PlanKind::route && runs_on_groups(plan) && !plan.unknown_names && plan.views.empty();
}

bool fits_integer(std::string_view digits, catalog::Oid type) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return false;
  return type == 20 || (type == 23 ? value == static_cast<int32_t>(value) : value == static_cast<int16_t>(value));
}

bool has_user_types(const std::vector<pg::Oid>& types) {
  return std::any_of(types.begin(), types.end(), [](pg::Oid type) { return type >= pg::kFirstUserOid; });
}

// No exponents, which could be too large.
bool is_short_decimal(std::string_view digits) {
  return digits.size() <= 40 && digits.find_first_not_of("0123456789.") == std::string_view::npos;
}

// The part of a Bind behind its names, with a statement's literals as parameters in text and results in text.
// False: a literal is no value of its type; PostgreSQL would take it for another one, or say so.
bool write_values(std::string& out, const plan::PointStatement& point, std::string_view sql, const sql::Shape& shape) {
  out.assign(2, '\0');
  append_big_endian(out, static_cast<int16_t>(shape.literals.size()));
  std::string scratch;
  for (std::size_t i = 0; i < shape.literals.size(); ++i) {
    const std::string_view value = sql::literal_value(sql, shape.literals[i], scratch);
    const catalog::Oid type = point.literal_types[i];
    if ((type == 20 || type == 21 || type == 23) && !fits_integer(value, type)) return false;
    if (type == 1700 && !is_short_decimal(value)) return false;
    append_big_endian(out, static_cast<int32_t>(value.size()));
    out.append(value);
  }
  out.append(2, '\0');
  return true;
}

// One batch that the fast way takes: [Parse] Bind [Describe] Execute Sync, all unnamed but the statement.
struct Batch {
  const pg::ParseMessage* parse = nullptr;
  const pg::BindMessage* bind = nullptr;
  std::string_view parse_bytes, run_bytes;  // the Parse; all behind the Bind
  bool described = false;
  std::size_t size_behind_first = 0;
};

bool read_batch(const pg::MessageView& first, std::string_view rest, Batch& batch) {
  thread_local pg::ParseMessage parse;
  thread_local pg::BindMessage bind;
  const std::string_view behind_first = rest;
  pg::MessageView message = first;
  auto next = [&] {
    uint32_t length = 0;
    if (pg::peek_message(rest, message, length) != pg::FrameStatus::complete) return false;
    rest.remove_prefix(length);
    return true;
  };
  if (message.type == 'P') {
    batch.parse_bytes = message.whole;
    if (!pg::parse_parse(message.body, parse) || !parse.name.empty() || !next()) return false;
    batch.parse = &parse;
  }
  if (message.type != 'B' || !pg::parse_bind(message.body, bind) || !bind.portal.empty()) return false;
  if (batch.parse != nullptr && !bind.statement.empty()) return false;
  batch.bind = &bind;
  const std::string_view run = rest;
  if (!next()) return false;
  if (message.type == 'D') {
    pg::TargetMessage target;
    if (!pg::parse_target(message.body, target) || target.kind != 'P' || !target.name.empty() || !next()) return false;
    batch.described = true;
  }
  pg::ExecuteMessage execute;
  if (message.type != 'E' || !pg::parse_execute(message.body, execute) || !execute.portal.empty() ||
      execute.max_rows != 0 || !next())
    return false;
  if (message.type != 'S' || !message.body.empty()) return false;
  batch.run_bytes = run.substr(0, run.size() - rest.size());
  batch.size_behind_first = behind_first.size() - rest.size();
  return true;
}

}  // namespace

// Text that cannot be scanned as it stands check_encoding() or with_escape_strings() must see.
bool Session::may_go_fast() {
  return !failed_ && context_current() && plan_settings_->scannable && !backends_.has_role() &&
         backends_.isolation() != exec::Isolation::serializable;
}

// The one thing amiss is a free backend of this group.
exec::Backend* Session::wait_for(exec::GroupId group) {
  wanted_group_ = group;
  return nullptr;
}

// Sends a statement on at once. Null: not a message for this way, or wanted_group_ has no free backend; nothing has
// happened.
exec::Backend* Session::try_fast(const pg::MessageView& message) {
  wanted_group_ = 0;
  const bool query = message.type == 'Q';
  const bool batch = (message.type == 'P' || message.type == 'B') && state_ != State::active;
  if ((!query && !batch) || admin_) return nullptr;
  exec::Backend* backend = query ? fast_query(message) : fast_batch(message);
  if (backend != nullptr) start_statement();
  return backend;
}

// A message that try_fast() has left only for want of a backend waits for one; what is behind it stays in in_.
// `message` moves to `kept`. Result: whether all of it was answered; an error: why there is no backend.
net::Task<Result<bool>> Session::wait_and_go_fast(pg::MessageView& message, std::string& kept) {
  kept = message.whole;
  message.whole = kept;
  message.body = message.whole.substr(pg::kHeaderSize);
  in_.own();
  auto found = co_await backends_.get(std::exchange(wanted_group_, 0));
  if (!found.ok()) co_return std::move(found.error());
  exec::Backend* backend = message.type == 'Q' ? fast_query(message) : fast_batch(message);
  if (backend != nullptr) {
    co_await relay_fast(*backend);
    co_return true;
  }
  // Something changed meanwhile. The long way may ask for other backends, and must not do so while it holds this one.
  if (!backends_.in_transaction()) {
    (void)(co_await (*found)->conn->drain());
    backends_.release_idle();
  }
  co_return false;
}

void Session::remember_query(std::string_view sql) {
  if (worker_.config->log.slow_statement_ms < 0 && !worker_.context.record_queries) return;
  last_query_.assign(sql.substr(0, kRememberedBytes));
  last_plan_ = "route";
}

// Sends the client's query on. Null: not a statement for this way, nothing has happened.
exec::Backend* Session::fast_query(const pg::MessageView& message) {
  if (!may_go_fast()) return nullptr;
  if (extended_ &&
      (!extended_->batch.empty() || extended_->implicit || extended_->owed_parse || extended_->skip_to_sync))
    return nullptr;
  std::string_view sql = message.body;
  if (sql.empty() || sql.back() != '\0') return nullptr;
  sql.remove_suffix(1);
  // As split_statements() cuts it, so that both ways find the same plan.
  while (!sql.empty() && (sql.back() == ';' || sql.back() == ' ' || sql.back() == '\n')) sql.remove_suffix(1);
  sql::Shape& shape = worker_.shape;
  sql::scan_shape(sql, shape);
  if (!shape.single_statement || !shape.complete) return nullptr;
  const CachedPlan* found = worker_.plans.find(sql, shape, plan_context_id_);
  if (found == nullptr) return nullptr;
  const plan::Plan& plan = *found->plan;
  if (!simple_route(plan)) return nullptr;
  const exec::Resolution where =
      exec::resolve(plan.target, values_of(sql, shape, nullptr, plan), *snapshot_, *database_);
  if (!where.single() || (plan.moments && needs_moment(plan, where))) return nullptr;
  exec::Backend* backend = backends_.get_now(where.one);
  if (backend == nullptr) return wait_for(where.one);
  remember_query(sql);
  WorkerStats::add(worker_.stats.plan_hits);
  if (extended_) extended_->unnamed.reset();
  note_effects(*backend, plan.effects);
  pool::ServerConn& conn = *backend->conn;
  if (found->leaves && where.proven() && !plan.point->literal_types.empty() &&
      run_on_leaf(*backend, *found, sql, where.shard)) {
    if (!backends_.in_transaction()) {
      again_.assign(message.whole);
      leaves_in_use_ = found->leaves;
    }
    conn.flush();
  } else {
    conn.expect({RequestKind::query});
    conn.send(message.whole);
  }
  return backend;
}

// Queues a simple query that is a point statement. False: as text, please.
bool Session::run_on_leaf(exec::Backend& backend, const CachedPlan& cached, std::string_view sql, uint32_t shard) {
  thread_local std::string values;
  const plan::PointStatement& point = *cached.plan->point;
  if (!write_values(values, point, sql, worker_.shape)) return false;
  const std::string_view name = leaf_statement(backend, *cached.plan, *cached.leaves, shard, point.literal_types);
  if (name.empty()) return false;
  pool::ServerConn& conn = *backend.conn;
  pg::write_bind(conn.out(), "", name, values);
  conn.expect({RequestKind::bind, true});
  if (cached.plan->returns_rows) {
    pg::write_describe(conn.out(), 'P', "");
    conn.expect({RequestKind::describe});
  }
  pg::write_execute(conn.out(), "", 0);
  pg::write_sync(conn.out());
  for (RequestKind kind : {RequestKind::execute, RequestKind::sync}) conn.expect({kind});
  return true;
}

// The name of the leaf's statement on this backend, where it is prepared now if it was not yet. Empty: by the table's
// name, please. The name is valid until the next call.
std::string_view Session::leaf_statement(exec::Backend& backend, const plan::Plan& plan, LeafStatements& leaves,
                                         uint32_t shard, const std::vector<pg::Oid>& types) {
  if (leaves.failed || !worker_.config->pool.leaf_statements) return {};
  pool::ServerConn& conn = *backend.conn;
  if (leaves.numbers.size() <= shard) leaves.numbers.resize(shard + 1);
  uint32_t& number = leaves.numbers[shard];
  if (number == 0) number = worker_.new_statement_id();
  thread_local std::array<char, 16> name{'p', 'g', 'm', '_'};
  const char* end = std::to_chars(name.data() + 4, name.data() + name.size(), number).ptr;
  const std::string_view result(name.data(), static_cast<std::size_t>(end - name.data()));
  if (conn.has_statement(number)) return result;
  const bool full = conn.statement_count() >= static_cast<std::size_t>(worker_.config->pool.prepared_statements);
  if (full && ++worker_.refused_leaves % kMakeRoomEvery != 0) return {};
  const plan::PointStatement& point = *plan.point;
  const uint32_t remainder = database_->colocation(plan.target.colocation)->shards[shard].remainder;
  std::string leaf = "pgmosaic_shards.";
  leaf += pool::quote_identifier(point.shard_prefix + "_" + std::to_string(remainder));
  prepare_on(conn, number, result, point.before_leaf + leaf + point.after_leaf, types, true);
  return result;
}

// Sends a whole batch of the extended protocol on. Null: not for this way, nothing has happened.
exec::Backend* Session::fast_batch(const pg::MessageView& first) {
  ExtendedState& state = ext();
  if (!may_go_fast() || !state.batch.empty() || state.implicit || state.owed_parse || state.skip_to_sync ||
      !state.portals.empty() || !again_.empty())
    return nullptr;
  Batch batch;
  if (!read_batch(first, in_.view(), batch)) return nullptr;
  PreparedPtr statement;
  const bool asks_rows = !batch.described && batch.bind->binary_results();
  if (batch.parse != nullptr) {
    statement = known_unnamed(*batch.parse);
  } else if (batch.bind->statement.empty()) {
    statement = state.unnamed;
  } else if (auto found = state.statements.find(batch.bind->statement); found != state.statements.end()) {
    statement = found->second;
  }
  if (!statement || statement->context != plan_context_id_ || !simple_route(*statement->plan)) return nullptr;
  const plan::Plan& plan = *statement->plan;
  sql::Shape& shape = worker_.shape;
  if (plan.target.has_values() && statement->has_literals) sql::scan_shape(statement->sql, shape);
  const exec::Resolution where =
      exec::resolve(plan.target, values_of(statement->sql, shape, batch.bind, plan), *snapshot_, *database_);
  if (!where.single() || (plan.moments && needs_moment(plan, where))) return nullptr;
  if (asks_rows && where.one != snapshot_->home && statement->row_oids != Prepared::RowOids::none) return nullptr;
  exec::Backend* backend = backends_.get_now(where.one);
  if (backend == nullptr) return wait_for(where.one);
  remember_query(statement->sql);
  note_effects(*backend, plan.effects);
  pool::ServerConn& conn = *backend->conn;
  std::string_view name;
  const bool complete = batch.bind->values.size() == static_cast<std::size_t>(plan.parameter_count);
  if (statement->leaves && where.proven() && plan.point->literal_types.empty() && complete)
    name = leaf_statement(*backend, plan, *statement->leaves, where.shard, statement->types);
  if (!name.empty()) {
    parse_complete_owed_ = batch.parse != nullptr;
    if (!backends_.in_transaction() && statement->wire_name.empty()) {
      again_.assign(first.whole).append(in_.view().substr(0, batch.size_behind_first));
      leaves_in_use_ = statement->leaves;
    }
  } else if (batch.parse != nullptr && has_user_types(statement->types)) {
    conn.write_parse("", statement->sql, statement->types);
    conn.expect({RequestKind::parse});
  } else if (batch.parse != nullptr) {
    conn.out().append(batch.parse_bytes);
    conn.expect({RequestKind::parse});
  } else {
    ensure_statement(*backend, statement, false);
    name = statement->wire_name;
  }
  pg::write_bind(conn.out(), "", name, batch.bind->after_names);
  conn.expect({RequestKind::bind});
  if (batch.described) conn.expect({RequestKind::describe});
  conn.expect({RequestKind::execute});
  conn.expect({RequestKind::sync});
  conn.send(batch.run_bytes);
  ++statement->executions;
  if (batch.parse != nullptr) state.unnamed = std::move(statement);
  backend->unnamed_statement = 0;
  in_.consume(batch.size_behind_first);
  return backend;
}

// Passes the answer to what fast_query() or fast_batch() has sent, up to ReadyForQuery, and ends the statement.
// False: the client has gone.
net::Task<bool> Session::relay_fast(exec::Backend& backend) {
  in_.own();
  const exec::GroupId group = backend.group;
  // Most often all of the answer comes at once; relay() knows the other cases.
  bool answered = false, copying = false;
  if (!backend.conn->flush()) {
    co_await backend_lost(backend);
  } else if (co_await hear_more(backend)) {
    const Relayed relayed = relay_arrived(backend, Until::ready, true, copying);
    answered = relayed == Relayed::done && !client_gone_;
    if (!answered && relayed != Relayed::ended) answered = co_await relay(backend, Until::ready, true);
  }
  CHECK(!copying || !answered);
  parse_complete_owed_ = false;
  // A connection that broke behind the leaf's error has put an error of its own into the answer.
  if (std::exchange(leaf_failed_, false) && answered && !client_gone_) {
    co_await run_again();
    if (state_ == State::active) end_statement();
    co_return !client_gone_;
  }
  again_.clear();
  if (!client_gone_) {
    // The client is told of a failed transaction even if the group that failed has left it.
    const exec::Backend* held = backends_.held(group);
    if (!answered || (failed_ && held == &backend && held->conn->transaction_status != 'E')) put_ready();
  }
  end_statement();
  co_return !client_gone_;
}

// The client's messages once more, the long way.
net::Task<void> Session::run_again() {
  leaves_in_use_->failed = true;
  backends_.release_idle();
  const std::string messages = std::exchange(again_, {});
  std::string_view rest = messages;
  pg::MessageView message;
  uint32_t length = 0;
  bool go_on = true;  // else the client has gone, or the session is closing
  while (go_on && pg::peek_message(rest, message, length) == pg::FrameStatus::complete) {
    rest.remove_prefix(length);
    if (message.type == 'Q') {
      std::string sql(message.body.substr(0, message.body.size() - 1));
      go_on = co_await run_string(std::move(sql));
    } else {
      go_on = co_await extended(message);
    }
  }
}

}  // namespace pgmosaic::router
