// The extended query protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync, in any order a client pipelines
// them.
//
// Statements of one group are passed on as they come and their replies are relayed at Sync or Flush, so a pipeline to
// one group costs one round trip. When the next message needs another group (or the router itself), the replies
// outstanding at the current backend are settled first: the client sees replies in the order of its messages. A batch
// (all up to a Sync) that touches a second group after it has executed something becomes a transaction over groups.
#include "base/log.h"
#include "router/execution.h"
#include "router/old_strings.h"
#include "router/session.h"
#include "router/view_use.h"
#include "router/worker.h"

namespace pgmosaic::router {

using pool::RequestKind;

namespace {

constexpr std::size_t kPipelineBytes = 64 * 1024;  // queued for a group before its replies are fetched
constexpr std::size_t kMaxUnnamed = 4096;          // statements shared by the sessions of a worker …
constexpr std::size_t kMaxUnnamedBytes = 4096;     // … of this length at most

uint64_t hash_of(std::string_view sql, const std::vector<pg::Oid>& types, uint32_t context) {
  uint64_t hash = std::hash<std::string_view>()(sql) ^ (context * 0x9E3779B97F4A7C15ull);
  for (pg::Oid type : types) hash = (hash ^ type) * 0xFF51AFD7ED558CCDull;
  return hash;
}

}  // namespace

// The first message of a batch. True: the whole batch went the fast way and is answered. `message` may move to `kept`.
net::Task<bool> Session::start_batch(pg::MessageView& message, std::string& kept) {
  start_statement();
  if (wanted_group_ == 0) co_return false;
  auto answered = co_await wait_and_go_fast(message, kept);
  if (answered.ok()) co_return *answered;
  put_error(std::move(answered.error()));
  ext().skip_to_sync = true;
  co_return false;
}

net::Task<bool> Session::extended(pg::MessageView message) {
  ExtendedState& state = ext();
  std::string kept;
  if (state_ != State::active) {
    const bool answered = co_await start_batch(message, kept);
    if (answered) co_return !client_gone_;
  }
  if (state.skip_to_sync && message.type != 'S') co_return true;
  if (message.type == 'S') {
    if (!message.body.empty() && !state.skip_to_sync) put_error(make_error("08P01", "invalid message format"));
    co_return co_await on_sync();
  }
  Status status;
  // A Parse whose answer is still owed comes before the answers to messages about anything else.
  if (state.owed_parse && message.type != 'P' && message.type != 'H' && !about_owed(message)) {
    const std::string copy(message.whole);
    in_.own();
    status = co_await send_owed_parse(0);
    if (status.ok()) {
      const pg::MessageView again{copy[0], std::string_view(copy).substr(pg::kHeaderSize), copy};
      co_return co_await extended(again);
    }
    message.type = 0;
  }
  switch (message.type) {
    case 0: break;
    case 'P': {
      const std::string body(message.body);
      in_.own();
      status = co_await on_parse(body);
      break;
    }
    case 'B': status = co_await on_bind(message); break;
    case 'D': status = co_await on_describe(message); break;
    case 'E': status = co_await on_execute(message); break;
    case 'C': {
      const std::string body(message.body);
      in_.own();
      status = co_await on_close(body);
      break;
    }
    default:  // 'H'
      in_.own();
      if (state.owed_parse) status = co_await send_owed_parse(0);
      if (status.ok()) status = co_await settle_current();
      if (status.ok() && !client_gone_) co_await flush_out();
      break;
  }
  if (status.ok() && state.current != nullptr && state.current->conn->out().size() > kPipelineBytes)
    status = co_await settle_current();
  if (!status.ok()) {
    Error error = std::move(status.error());
    Status settled = co_await settle_current();  // replies owed before the error come first
    if (!state.skip_to_sync) {                   // else a group has failed before, and its transaction with it
      router_failed_ = true;
      put_error(settled.ok() ? std::move(error) : std::move(settled.error()));
    }
  }
  if (statement_failed_) {
    state.skip_to_sync = true;
    state.owed_parse.reset();
  }
  co_return !client_gone_;
}

// Whether a Bind, Describe or Close is about the statement whose ParseComplete is owed.
bool Session::about_owed(const pg::MessageView& message) {
  const std::string& owed = extended_->owed_name;
  if (message.type == 'B') {
    thread_local pg::BindMessage bind;
    return !pg::parse_bind(message.body, bind) || bind.statement == owed;
  }
  pg::TargetMessage target;
  if (message.type == 'D' || message.type == 'C')
    return !pg::parse_target(message.body, target) || (target.kind == 'S' && target.name == owed);
  return false;
}

// Fetches and relays what the current backend owes; afterwards no replies are outstanding.
net::Task<Status> Session::settle_current() {
  ExtendedState& state = ext();
  if (state.current == nullptr) co_return Status{};
  exec::Backend& backend = *state.current;
  if (!backend.conn->idle() || backend.conn->has_unsent()) {
    in_.own();
    pg::write_flush(backend.conn->out());
    const exec::GroupId group = backend.group;
    const bool good = co_await relay(backend, Until::answered, false);
    if (!good || backends_.held(group) != &backend) state.current = nullptr;
    if (statement_failed_) state.skip_to_sync = true;
  }
  co_return Status{};
}

// The backend for the batch's next message.
net::Task<Result<exec::Backend*>> Session::use_group(exec::GroupId group) {
  ExtendedState& state = ext();
  if (state.current != nullptr && state.current->group == group) co_return state.current;
  if (state.current != nullptr) {
    CO_TRY(co_await settle_current());
    if (state.skip_to_sync) co_return make_error("25P02", "an earlier statement of this batch failed");
    CO_TRY(co_await join_batch(group));
  }
  exec::Backend* backend = backends_.get_now(group);
  if (backend == nullptr) {
    in_.own();
    auto waited = co_await backends_.get(group);
    if (!waited.ok()) co_return std::move(waited.error());
    backend = *waited;
  }
  state.current = backend;
  if (std::find(state.batch.begin(), state.batch.end(), group) == state.batch.end()) state.batch.push_back(group);
  co_return backend;
}

// A second group takes part in a batch that has already executed: one transaction for all of it.
net::Task<Status> Session::join_batch(exec::GroupId) {
  ExtendedState& state = ext();
  if (!state.executed_in_batch || backends_.in_transaction()) co_return Status{};
  state.implicit = true;
  co_return co_await upgrade_batch(true);
}

// Statements executed since the last Sync are in PostgreSQL's implicit transaction; BEGIN turns it into a block.
net::Task<Status> Session::upgrade_batch(bool implicit) {
  std::vector<exec::Backend*> joined;
  for (exec::GroupId group : ext().batch)
    if (exec::Backend* backend = backends_.held(group)) joined.push_back(backend);
  backends_.begin_around("BEGIN", joined);
  implicit_ = implicit;
  failed_ = false;
  const bool serial = plan_settings_->isolation == exec::Isolation::serializable;
  if (serial) backends_.set_isolation(plan_settings_->isolation);
  for (exec::Backend* backend : joined) {
    backend->conn->add_vital_statement("BEGIN");
    backend->unnamed_statement = 0;
    CO_TRY(co_await backend->conn->drain());
    if (serial) CO_TRY(backends_.may_reach(std::span(&backend->group, 1)));
  }
  co_return Status{};
}

void Session::name_on_groups(Prepared& statement) {
  statement.id = worker_.statement_id(statement.sql, statement.types, plan_context_id_);
  statement.wire_name = "pgm_" + std::to_string(statement.id);
}

void Session::keep_unnamed(const PreparedPtr& statement) {
  statement->serial = worker_.next_unnamed_serial++;
  const bool fills = statement->plan->fill && statement->plan->fill->numbers_alone && !statement->has_literals;
  if (!(statement->plan->cacheable || fills) || statement->sql.size() > kMaxUnnamedBytes) return;
  if (worker_.unnamed_statements.size() >= kMaxUnnamed) worker_.unnamed_statements.clear();
  worker_.unnamed_statements[hash_of(statement->sql, statement->types, statement->context)] = statement;
}

net::Task<Status> Session::on_parse(std::string_view body) {
  ExtendedState& state = ext();
  pg::ParseMessage parse;
  if (!pg::parse_parse(body, parse)) co_return make_error("08P01", "invalid Parse message");
  if (state.owed_parse) CO_TRY(co_await send_owed_parse(0));
  if (!parse.name.empty() && state.statements.contains(std::string(parse.name)))
    co_return make_error("42P05", "prepared statement \"" + std::string(parse.name) + "\" already exists");
  CO_TRY(co_await refresh_context_for(parse.sql));
  OldStrings old;
  if (plan_settings_ && plan_settings_->old_strings && parse.sql.find('\\') != std::string_view::npos) {
    old = with_escape_strings(parse.sql);
    if (plan_settings_->warns_of_escapes) out_ += old.warnings;
    parse.sql = old.text;
  }
  PreparedPtr statement = parse.name.empty() ? known_unnamed(parse) : nullptr;
  const bool known = statement != nullptr;
  if (!known) {
    statement = std::make_shared<Prepared>();
    statement->sql = parse.sql;
    statement->types = parse.types;
    statement->prepared_us = active_since_us_;
    statement->old_strings = plan_settings_ && plan_settings_->old_strings;
  }
  last_query_.assign(statement->sql, 0, kRememberedBytes);
  Status planned;
  if (!known) planned = co_await plan_prepared(*statement);
  if (!planned.ok() && state.batch.empty()) co_return co_await refuse(statement->sql, std::move(planned.error()));
  if (!planned.ok()) co_return planned;
  if (failed_ && !allowed_in_failed_transaction(*statement->plan)) co_return in_failed_transaction();
  if (!parse.name.empty()) {
    name_on_groups(*statement);
    state.statements[std::string(parse.name)] = statement;
    state.parsed.emplace_back(parse.name, statement);
  } else {
    state.unnamed = statement;
    if (!known) keep_unnamed(statement);
  }
  if (needs_no_group(*statement->plan)) {
    CO_TRY(co_await settle_current());
    if (!state.skip_to_sync) pg::write_empty(out_, '1');
    co_return Status{};
  }
  state.owed_parse = statement;
  state.owed_name = parse.name;
  co_return Status{};
}

// Plans a prepared statement under the current context; the shape cache serves statements parsed again and again.
net::Task<Status> Session::plan_prepared(Prepared& statement) {
  if (plan::split_statements(statement.sql).size() > 1)
    co_return make_error("42601", "cannot insert multiple commands into a prepared statement");
  sql::scan_shape(statement.sql, worker_.shape);
  CO_TRY_ASSIGN(CachedPlan cached, co_await plan_of(statement.sql, statement.types, true));
  statement.has_literals = !worker_.shape.complete || !worker_.shape.literals.empty();
  statement.plan = std::move(cached.plan);
  statement.leaves = std::move(cached.leaves);
  statement.context = plan_context_id_;
  statement.parsed = false;
  statement.row_oids = Prepared::RowOids::unknown;
  // Of what a schema change has just made, and the router does not know yet, it knows no columns either.
  if (statement.result_signature == 0 && !statement.plan->unknown_names)
    statement.result_signature = statement.plan->result_signature;
  if (statement.plan->kind != plan::PlanKind::unsupported) co_return Status{};
  statement.context = 0;  // whoever runs it again is told again
  co_return Error(*statement.plan->error);
}

// A statement that some session has parsed without a name under this very context; null: none.
PreparedPtr Session::known_unnamed(const pg::ParseMessage& parse) const {
  auto found = worker_.unnamed_statements.find(hash_of(parse.sql, parse.types, plan_context_id_));
  if (found == worker_.unnamed_statements.end()) return nullptr;
  const Prepared& known = *found->second;
  const bool same = known.sql == parse.sql && known.types == parse.types && known.context == plan_context_id_;
  return same ? found->second : nullptr;
}

// Makes sure the backend knows the statement. `owed`: its ParseComplete goes to the client.
void Session::ensure_statement(exec::Backend& backend, const PreparedPtr& statement, bool owed) {
  pool::ServerConn& conn = *backend.conn;
  const bool unnamed = statement->wire_name.empty();
  const bool known = unnamed ? backend.unnamed_statement == statement->serial && statement->serial != 0
                             : conn.has_statement(statement->id);
  if (known && !owed) return;
  if (known) {  // another client prepared the same text on this backend; the client's ParseComplete comes from a copy
    conn.write_parse("", statement->sql, statement->types);
    conn.expect({RequestKind::parse});
    backend.unnamed_statement = 0;
    return;
  }
  if (!unnamed) return prepare_on(conn, statement->id, statement->wire_name, statement->sql, statement->types, !owed);
  conn.write_parse("", statement->sql, statement->types);
  conn.expect({RequestKind::parse, !owed});
  backend.unnamed_statement = statement->serial;
}

// Prepares a named statement, in the place of the one that was not used for longest where there are too many.
void Session::prepare_on(pool::ServerConn& conn, uint32_t number, std::string_view name, std::string_view sql,
                         const std::vector<pg::Oid>& types, bool internal) {
  conn.write_parse(name, sql, types);
  conn.expect({RequestKind::parse, internal, number});
  conn.note_statement(number);
  const auto limit = static_cast<std::size_t>(worker_.config->pool.prepared_statements);
  if (const uint32_t victim = conn.statement_to_evict(limit)) {
    pg::write_close(conn.out(), 'S', "pgm_" + std::to_string(victim));
    conn.expect({RequestKind::close, true, victim});
    conn.forget_statement(victim);
  }
}

exec::GroupId Session::any_group() {
  if (extended_ && extended_->current != nullptr) return extended_->current->group;
  for (auto& backend : backends_.all())
    if (backend->begun) return backend->group;
  return snapshot_->home;
}

// The client has parsed a statement and not bound it yet, but somebody must check it now.
net::Task<Status> Session::send_owed_parse(exec::GroupId group) {
  ExtendedState& state = ext();
  PreparedPtr statement = std::exchange(state.owed_parse, nullptr);
  const bool known = statement->parsed && (statement->plan->fill || statement->plan->insert_split);
  if (known || (!runs_on_groups(*statement->plan) && !runs_in_parts(*statement->plan))) {
    CO_TRY(co_await settle_current());
    if (!state.skip_to_sync) pg::write_empty(out_, '1');
    co_return Status{};
  }
  backends_.set_touch(touch_of(*statement->plan));
  auto backend = co_await use_group(group != 0 ? group : any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  ensure_statement(**backend, statement, true);
  co_return Status{};
}

namespace {

// A statement's columns stay what they were when it was prepared, as PostgreSQL's; drivers know this error, and its
// routine, and prepare the statement again.
Status check_result(Prepared& statement) {
  if (statement.result_signature == 0 || statement.plan->result_signature == statement.result_signature) return {};
  statement.context = 0;  // look again next time
  Error error = make_error("0A000", kOtherColumns, "Prepare the statement again.");
  error.fields = std::string("RRevalidateCachedQuery\0", 23);
  return error;
}

// Beside schema changes that are under way.
bool may_change(const plan::Plan& plan) { return plan.unknown_names || !plan.views.empty(); }

Portal new_portal(const PreparedPtr& statement, int64_t made_us, uint64_t moment, exec::GroupId group = 0,
                  bool binary = false) {
  return {.statement = statement, .group = group, .binary = binary, .made_us = made_us, .moment = moment};
}

}  // namespace

// Brings a statement up to the session's context (schema, search path). An unnamed one may be other sessions' too: then
// `statement` becomes a new one.
net::Task<Status> Session::replan(PreparedPtr& statement) {
  CO_TRY(co_await renew(statement));
  while (!statement->plan->views.empty()) {
    CO_TRY_ASSIGN(const bool current, co_await ViewUse(*this).use(*statement->plan));
    if (current) break;
    CO_TRY(co_await renew(statement));
  }
  if (!statement->plan->unknown_names || names_.held()) co_return Status{};
  CO_TRY(co_await enter_names());
  CO_TRY(co_await renew(statement));
  if (!statement->plan->unknown_names) names_.leave();
  co_return Status{};
}

net::Task<Status> Session::renew(PreparedPtr& statement) {
  CO_TRY(co_await refresh_context_for(statement->sql));
  if (statement->context == plan_context_id_) co_return Status{};
  if (!statement->wire_name.empty()) {
    CO_TRY(co_await plan_prepared(*statement));
    name_on_groups(*statement);
    Status same = check_result(*statement);
    if (same.ok() || !ext().batch.empty()) co_return same;
    Status theirs = co_await check_with_postgres(statement->sql);  // its tables may be gone
    if (theirs.ok()) co_return same;
    text_.in_prepare(theirs.error(), statement->text_at);
    co_return theirs;
  }
  auto renewed = std::make_shared<Prepared>();
  renewed->sql = statement->sql;
  renewed->types = statement->types;
  renewed->old_strings = statement->old_strings;
  CO_TRY(co_await plan_prepared(*renewed));
  if (statement->result_signature != 0) renewed->result_signature = statement->result_signature;
  CO_TRY(check_result(*renewed));
  keep_unnamed(renewed);
  for (PreparedPtr* use : {&ext().unnamed, &ext().owed_parse})
    if (*use == statement) *use = renewed;
  statement = std::move(renewed);
  co_return Status{};
}

net::Task<Status> Session::on_bind(pg::MessageView message) {
  ExtendedState& state = ext();
  thread_local pg::BindMessage shared_bind;
  pg::BindMessage& quick = shared_bind;
  if (!pg::parse_bind(message.body, quick)) co_return make_error("08P01", "invalid Bind message");
  PreparedPtr statement;
  if (quick.statement.empty()) {
    statement = state.unnamed;
  } else if (auto found = state.statements.find(quick.statement); found != state.statements.end()) {
    statement = found->second;
  }
  if (!statement)
    co_return make_error("26000", quick.statement.empty()
                                      ? "unnamed prepared statement does not exist"
                                      : "prepared statement \"" + std::string(quick.statement) + "\" does not exist");
  // Everything below that can wait works on a copy; the common case does not wait and copies nothing.
  std::string copy;
  pg::BindMessage own;
  const pg::BindMessage* bind = &quick;
  auto keep = [&] {
    if (bind == &own) return;
    copy.assign(message.body);
    in_.own();
    pg::parse_bind(copy, own);
    bind = &own;
  };
  if (!context_current() || statement->context != plan_context_id_ || may_change(*statement->plan)) {
    keep();
    CO_TRY(co_await replan(statement));
  }
  const plan::Plan& plan = *statement->plan;
  if (failed_ && !allowed_in_failed_transaction(plan)) co_return in_failed_transaction();
  const std::string portal_name(bind->portal);
  if (!portal_name.empty() && state.portals.contains(portal_name))
    co_return make_error("42P03", "cursor \"" + portal_name + "\" already exists");
  exec::Resolution where;
  if (runs_on_groups(plan)) {
    sql::Shape& shape = worker_.shape;
    if (plan.target.has_values() && statement->has_literals) sql::scan_shape(statement->sql, shape);
    where = exec::resolve(plan.target, values_of(statement->sql, shape, bind, plan), *snapshot_, *database_);
  }
  ++statement->executions;
  backends_.set_touch(touch_of(plan));
  const bool owed = state.owed_parse == statement;
  if (where.single() && !needs_moment(plan, where)) {
    exec::Backend* backend = state.current != nullptr && state.current->group == where.one ? state.current : nullptr;
    if (reaches_rows(plan)) CO_TRY(backends_.may_reach(std::span(&where.one, 1)));
    if (backend == nullptr) {
      keep();
      auto used = co_await use_group(where.one);
      if (!used.ok()) co_return std::move(used.error());
      backend = *used;
    }
    backends_.prepare_effects(*backend, plan.effects);
    if (owed) state.owed_parse.reset();
    ensure_statement(*backend, statement, owed);
    pg::write_bind(backend->conn->out(), bind->portal, statement->wire_name, bind->after_names);
    backend->conn->expect({RequestKind::bind});
    state.portals[portal_name] =
        new_portal(statement, active_since_us_, backends_.next_moment(), where.one, bind->binary_results());
    co_return Status{};
  }
  keep();
  if (owed) CO_TRY(co_await send_owed_parse(0));
  CO_TRY(co_await settle_current());
  if (state.skip_to_sync) co_return Status{};
  statement->parsed = true;
  if (!needs_no_group(plan)) CO_TRY(co_await check_bind(*statement, *bind));
  Portal& portal = state.portals[portal_name] = new_portal(statement, active_since_us_, backends_.next_moment());
  portal.bind_body = copy;
  pg::write_empty(out_, '2');
  co_return Status{};
}

// A portal that the router will execute is bound at one group first: parameters are wrong now, not at Execute.
net::Task<Status> Session::check_bind(Prepared& statement, const pg::BindMessage& bind) {
  if (bind.values.empty() && statement.resolved_types.empty() && statement.sql.find('$') == std::string::npos)
    co_return Status{};
  CO_TRY_ASSIGN(std::string text, co_await text_for_group(*statement.plan, statement.sql));
  auto backend = co_await backends_.get(any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  const bool in_batch = std::find(ext().batch.begin(), ext().batch.end(), (*backend)->group) != ext().batch.end();
  conn.write_parse("", text, statement.types);
  pg::write_bind(conn.out(), "pgm_check", "", bind.after_names);
  pg::write_close(conn.out(), 'P', "pgm_check");
  (*backend)->unnamed_statement = 0;
  for (RequestKind kind : {RequestKind::parse, RequestKind::bind, RequestKind::close}) conn.expect({kind, true});
  if (in_batch) {
    pg::write_flush(conn.out());
  } else {
    pg::write_sync(conn.out());
    conn.expect({RequestKind::sync, true});
  }
  co_return co_await conn.drain();
}

net::Task<Status> Session::on_execute(pg::MessageView message) {
  ExtendedState& state = ext();
  pg::ExecuteMessage execute;
  if (!pg::parse_execute(message.body, execute)) co_return make_error("08P01", "invalid Execute message");
  auto found = state.portals.find(execute.portal);
  if (found == state.portals.end())
    co_return make_error("34000", "portal \"" + std::string(execute.portal) + "\" does not exist");
  Portal& portal = found->second;
  const int32_t max_rows = execute.max_rows;
  if (portal.group != 0) {
    const bool same_group = state.current != nullptr && state.current->group == portal.group;
    std::string kept;
    if (!same_group) {
      kept = message.whole;
      in_.own();
      auto used = co_await use_group(portal.group);
      if (!used.ok()) co_return std::move(used.error());
    }
    pool::ServerConn& conn = *state.current->conn;
    if (portal.binary && conn.oid_map && portal.statement->row_oids != Prepared::RowOids::none) {
      pg::write_describe(conn.out(), 'P', found->first);
      conn.expect({RequestKind::describe, true});
      state.described.push_back(portal.statement);
    }
    note_effects(*state.current, portal.statement->plan->effects);
    conn.out().append(same_group ? message.whole : kept);
    conn.expect({RequestKind::execute});
    state.executed_in_batch = true;
    co_return Status{};
  }
  in_.own();
  CO_TRY(co_await settle_current());
  if (state.skip_to_sync) co_return Status{};
  co_return co_await execute_portal(portal, max_rows);
}

Error in_failed_transaction() {
  return make_error("25P02", "current transaction is aborted, commands ignored until end of transaction block");
}

bool runs_on_groups(const plan::Plan& plan) {
  return (plan.kind == plan::PlanKind::route || plan.kind == plan::PlanKind::copy_out) &&
         plan.virtual_relations.empty() && plan.rewritten_sql.empty() && !plan.effects.sets_config &&
         !plan.key_change && !plan.guarded;
}

exec::Backends::Touch touch_of(const plan::Plan& plan) {
  using Kind = plan::SessionCommand::Kind;
  using Touch = exec::Backends::Touch;
  if (plan.kind != plan::PlanKind::session)
    return plan.command == "LOCK TABLE" ? Touch::locks : plan.command == "SHOW" ? Touch::nothing : Touch::rows;
  switch (plan.session->kind) {
    case Kind::begin:
    case Kind::savepoint:
    case Kind::release:
    case Kind::rollback_to:
    case Kind::set:
    case Kind::set_local:
    case Kind::reset:
    case Kind::reset_all:
    case Kind::set_session_characteristics:
    case Kind::set_transaction:
    case Kind::set_constraints: return Touch::nothing;
    default: return Touch::rows;
  }
}

bool reaches_rows(const plan::Plan& plan) {
  return plan.target.kind != plan::Target::Kind::any || !plan.read_tables.empty();
}

bool runs_in_parts(const plan::Plan& plan) {
  return plan.kind == plan::PlanKind::insert_split || plan.kind == plan::PlanKind::fill || plan.guarded;
}

bool needs_no_group(const plan::Plan& plan) {
  return plan.kind == plan::PlanKind::session || plan.kind == plan::PlanKind::ddl ||
         plan.kind == plan::PlanKind::explain;
}

}  // namespace pgmosaic::router
