// The end of a portal's life: Execute of what the router runs itself, Close, and Sync, which ends the batch.
#include <algorithm>

#include "router/execution.h"
#include "router/saga_calls.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

using pool::RequestKind;

namespace {

// Moves up to `max_rows` DataRow messages from `rows` to `out`; 0: all. Returns how many.
std::size_t deliver(std::string& rows, std::string& out, int32_t max_rows) {
  std::size_t count = 0, offset = 0;
  while (offset < rows.size() && (max_rows <= 0 || count < static_cast<std::size_t>(max_rows))) {
    offset += load_big_endian<uint32_t>(rows.data() + offset + 1) + 1;
    ++count;
  }
  out.append(rows, 0, offset);
  rows.erase(0, offset);
  return count;
}

// Schema changes and settings: the groups know nothing of them until the batch ends well.
bool taken_back_with_batch(const plan::Plan& plan) {
  using Kind = plan::SessionCommand::Kind;
  if (plan.kind == plan::PlanKind::ddl) return plan.ddl->transactional;
  return plan.kind == plan::PlanKind::session && (plan.session->kind == Kind::set || plan.session->kind == Kind::reset);
}

// Nothing else before Sync. A schema change is then committed at once, so that it can give way (Session::run_ddl); a
// write that may have missed rows which moved can run again (Session::run_parts); an INSERT that is computed first
// needs no transaction but its own, a setting none.
bool alone_in_batch(const ExtendedState& state, const plan::Plan& plan, std::string_view rest) {
  const bool write = (plan.written != 0 && !plan.returns_rows) || is_saga_call(plan);
  const bool may_be = plan.kind == plan::PlanKind::ddl || plan.kind == plan::PlanKind::fill ||
                      plan.kind == plan::PlanKind::session || write;
  if (!may_be || state.executed_in_batch || state.implicit || (!state.batch.empty() && !write)) return false;
  pg::MessageView next;
  uint32_t length = 0;
  return pg::peek_message(rest, next, length) == pg::FrameStatus::complete && next.type == 'S';
}

// Portals on groups end when these leave the batch.
bool no_other_portal(const ExtendedState& state, const Portal& portal) {
  return std::all_of(state.portals.begin(), state.portals.end(),
                     [&](const auto& other) { return &other.second == &portal || other.second.group == 0; });
}

// Groups that have only parsed and described something leave the batch.
net::Task<Status> leave_batch(exec::Backends& backends, ExtendedState& state) {
  state.current = nullptr;
  for (exec::GroupId group : std::exchange(state.batch, {})) {
    exec::Backend* backend = backends.held(group);
    if (backend == nullptr) continue;
    pg::write_sync(backend->conn->out());
    backend->conn->expect({RequestKind::sync, true});
    CO_TRY(co_await backend->conn->drain());
  }
  co_return Status{};
}

}  // namespace

// Session commands, schema changes and EXPLAIN. What columns they have was said by Describe.
net::Task<Status> Session::execute_command(std::string_view sql, const plan::PlanPtr& plan,
                                           const pg::BindMessage& bind) {
  ext().command_bind = &bind;
  Status status = co_await run_plan(sql, plan);
  ext().command_bind = nullptr;
  co_return status;
}

// Runs a portal that the router executes itself.
net::Task<Status> Session::execute_portal(Portal& portal, int32_t max_rows) {
  ExtendedState& state = ext();
  PreparedPtr statement = portal.statement;
  const plan::PlanPtr plan = statement->plan;
  backends_.set_touch(touch_of(*plan));
  if (!std::exchange(portal.done, true)) {
    const std::string bind_body = portal.bind_body;
    pg::BindMessage bind;
    CHECK(pg::parse_bind(bind_body, bind));
    const bool alone = alone_in_batch(state, *plan, in_.view());
    if (taken_back_with_batch(*plan) && !backends_.in_transaction() && !alone) {
      state.implicit = true;
      CO_TRY(co_await upgrade_batch(true));
    }
    if (needs_no_group(*plan)) co_return co_await execute_command(statement->sql, plan, bind);
    if (plan->kind == plan::PlanKind::copy_in) co_return co_await run_copy_in(statement->sql, *plan);
    // What has run in this batch, and what this writes, commits at Sync and together.
    if (!backends_.in_transaction() && !plan->no_transaction &&
        (state.executed_in_batch || !no_other_portal(state, portal) || (plan->effects.writes && !alone))) {
      state.implicit = true;
      CO_TRY(co_await upgrade_batch(true));
    }
    if (!backends_.in_transaction() && (alone || !plan->effects.writes)) CO_TRY(co_await leave_batch(backends_, state));
    Execution execution;
    execution.sql = statement->sql;
    sql::scan_shape(statement->sql, execution.shape);
    execution.bind = &bind;
    execution.values = values_of(statement->sql, execution.shape, &bind, *plan);
    CO_TRY_ASSIGN(execution.types, co_await parameter_types(*statement, bind.values.size()));
    CO_TRY_ASSIGN(execution.where, co_await locate(*plan, execution));
    if (max_rows <= 0) {
      state.executed_in_batch = state.executed_in_batch || plan->effects.writes;
      co_return co_await run_multi(*plan, execution);
    }
    // Row-limited: the rest waits in the portal.
    std::string before = std::exchange(out_, {});
    buffering_ = true;
    Status status = co_await run_multi(*plan, execution);
    buffering_ = false;
    if (!status.ok()) {
      out_ = std::move(before);
      co_return status;
    }
    std::size_t tag_at = 0;
    for (std::size_t offset = 0; offset < out_.size();
         offset += load_big_endian<uint32_t>(out_.data() + offset + 1) + 1)
      tag_at = offset;
    portal.tag = out_.substr(tag_at);
    portal.rows = out_.substr(0, tag_at);
    out_ = std::move(before);
  }
  const std::size_t count = deliver(portal.rows, out_, max_rows);
  if (!portal.rows.empty() || (max_rows > 0 && count == static_cast<std::size_t>(max_rows))) {
    pg::write_empty(out_, 's');
  } else if (!portal.tag.empty()) {
    // The tag counts the rows of this Execute, as PostgreSQL does.
    if (portal.tag.find("SELECT ") == 5) {
      pg::write_command_complete(out_, "SELECT " + std::to_string(count));
    } else {
      out_ += portal.tag;
    }
  } else {
    pg::write_command_complete(out_, "SELECT 0");
  }
  co_return Status{};
}

// Types of all parameters, as a group infers them: rewritten statements need not mention every parameter.
net::Task<Result<std::vector<pg::Oid>>> Session::parameter_types(Prepared& statement, std::size_t count) {
  if (count == 0 || !statement.resolved_types.empty()) co_return statement.resolved_types;
  auto backend = co_await backends_.get(any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  CO_TRY_ASSIGN(const std::string text, co_await text_for_group(*statement.plan, statement.sql));
  conn.write_parse("", text, statement.types);
  pg::write_describe(conn.out(), 'S', "");
  pg::write_sync(conn.out());
  (*backend)->unnamed_statement = 0;
  for (RequestKind kind : {RequestKind::parse, RequestKind::describe, RequestKind::sync}) conn.expect({kind, true});
  pool::ServerConn::Rows rows;
  CO_TRY(co_await conn.drain(&rows));
  statement.resolved_types = rows.parameter_types;
  co_return statement.resolved_types;
}

net::Task<Status> Session::on_close(std::string_view body) {
  ExtendedState& state = ext();
  pg::TargetMessage target;
  if (!pg::parse_target(body, target)) co_return make_error("08P01", "invalid Close message");
  const std::string name(target.name);
  if (target.kind == 'P') {
    auto found = state.portals.find(name);
    if (found != state.portals.end()) {
      const exec::GroupId group = found->second.group;
      state.portals.erase(found);
      exec::Backend* backend = group != 0 ? backends_.held(group) : nullptr;
      if (backend != nullptr && !failed_) {
        auto used = co_await use_group(group);
        if (!used.ok()) co_return std::move(used.error());
        pg::write_close((*used)->conn->out(), 'P', name);
        (*used)->conn->expect({RequestKind::close});
        co_return Status{};
      }
    }
  } else {
    if (state.owed_parse && state.owed_name == name) CO_TRY(co_await send_owed_parse(0));
    if (name.empty()) {
      state.unnamed.reset();
    } else {
      state.statements.erase(name);
    }
  }
  CO_TRY(co_await settle_current());
  if (!state.skip_to_sync) pg::write_empty(out_, '3');
  co_return Status{};
}

// Sync to every group of the batch, whose ReadyForQuery is not the client's, and the end of the transaction it became.
net::Task<void> Session::sync_batch() {
  ExtendedState& state = ext();
  for (exec::GroupId group : std::vector<exec::GroupId>(state.batch)) {
    exec::Backend* backend = backends_.held(group);
    if (backend == nullptr || !backend->conn->alive()) continue;
    pg::write_sync(backend->conn->out());
    backend->conn->expect({RequestKind::sync, true});
    co_await relay(*backend, Until::ready, false);
    if (client_gone_) break;
  }
  if (!state.implicit || !backends_.in_transaction() || !implicit_) co_return;
  if (statement_failed_) {
    co_await abort_transaction();
  } else {
    Status status = co_await commit_transaction();
    if (!status.ok()) put_error(std::move(status.error()));
  }
}

void Session::forget_batch() {
  ExtendedState& state = ext();
  // Names parsed behind an error, or refused, are free again.
  if (statement_failed_)
    for (const auto& [name, statement] : state.parsed) {
      bool known = needs_no_group(*statement->plan);
      for (auto& backend : backends_.all()) known = known || backend->conn->has_statement(statement->id);
      auto found = state.statements.find(name);
      if (!known && found != state.statements.end() && found->second == statement) state.statements.erase(found);
    }
  state.parsed.clear();
  state.described.clear();
  state.current = nullptr;
  state.batch.clear();
  state.skip_to_sync = state.executed_in_batch = state.implicit = false;
  if (!backends_.in_transaction()) state.portals.clear();
}

// A simple query or DISCARD ALL ends what a batch without Sync has begun.
net::Task<void> Session::end_batch() {
  ExtendedState& state = ext();
  if (state.owed_parse && !state.skip_to_sync) {
    Status status = co_await send_owed_parse(0);
    if (!status.ok()) put_error(std::move(status.error()));
  }
  state.owed_parse.reset();
  if (!state.batch.empty() || state.implicit) {
    co_await sync_batch();
  }
  forget_batch();
}

net::Task<bool> Session::on_sync() {
  ExtendedState& state = ext();
  if (state.owed_parse && !state.skip_to_sync) {
    Status status = co_await send_owed_parse(0);
    if (!status.ok()) put_error(std::move(status.error()));
  }
  state.owed_parse.reset();
  if (std::exchange(router_failed_, false) && state.executed_in_batch && !backends_.in_transaction()) {
    // PostgreSQL undoes the whole batch; the groups know nothing of this error.
    state.implicit = true;
    (void)(co_await upgrade_batch(true));
  }
  if (state.batch.size() == 1 && state.current != nullptr && !state.implicit && !(failed_ && statement_failed_)) {
    exec::Backend& backend = *state.current;
    const exec::GroupId group = backend.group;
    in_.own();
    pg::write_sync(backend.conn->out());
    backend.conn->expect({RequestKind::sync});
    const bool good = co_await relay(backend, Until::ready, true);
    const bool answered =
        good && !(failed_ && backends_.held(group) == &backend && backend.conn->transaction_status != 'E');
    if (!answered && !client_gone_) put_ready();
  } else {
    in_.own();
    co_await sync_batch();
    put_ready();
  }
  forget_batch();
  names_.leave();
  for (auto& backend : backends_.all()) backend->unnamed_statement = 0;
  end_statement();
  co_return !client_gone_;
}

}  // namespace pgmosaic::router
