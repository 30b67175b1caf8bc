// The simple query protocol: one string, one or more statements.
#include <strings.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/log.h"
#include "plan/virtual_relations.h"
#include "router/execution.h"
#include "router/explain.h"
#include "router/move_rows.h"
#include "router/number_source.h"
#include "router/old_strings.h"
#include "router/router_calls.h"
#include "router/saga_calls.h"
#include "router/session.h"
#include "router/worker.h"
#include "sql/dialect.h"
#include "sql/parse.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

const char* plan_kind_name(plan::PlanKind kind) {
  switch (kind) {
    case plan::PlanKind::route: return "route";
    case plan::PlanKind::insert_split: return "insert split";
    case plan::PlanKind::fill: return "fill";
    case plan::PlanKind::copy_in: return "copy in";
    case plan::PlanKind::copy_out: return "copy out";
    case plan::PlanKind::ddl: return "ddl";
    case plan::PlanKind::session: return "session";
    case plan::PlanKind::explain: return "explain";
    case plan::PlanKind::unsupported: return "unsupported";
  }
  return "";
}

}  // namespace

void Session::note_effects(exec::Backend& backend, const plan::Effects& effects) {
  if (effects.writes || effects.taints) backend.wrote = true;
  if (effects.taints || effects.sets_config) backend.conn->tainted = true;
  if (effects.pins) backends_.pin(backend);
  if (effects.pins || effects.taints) temporary_.known = false;
  if (effects.not_preparable) backend.not_preparable = true;
  if (effects.draws.sets) NumberSource(*this).sequences_change();
  exec::Backends::note_draws(backend, effects.draws);
}

void Session::start_statement() {
  state_ = State::active;
  active_since_us_ = worker_.loop.now_us();
  statement_failed_ = timed_out_ = cancelled_ = temporary_.known = false;
  deadlock_.reset();
}

net::Task<bool> Session::simple_query(std::string_view whole) {
  pg::MessageView message{'Q', whole.substr(pg::kHeaderSize), whole};
  start_statement();
  std::string kept;
  OldStrings old;  // of which text_ speaks
  bool go_on = true;
  Status status;
  if (wanted_group_ != 0) {
    auto answered = co_await wait_and_go_fast(message, kept);
    if (answered.ok() && *answered) co_return !client_gone_;
    if (!answered.ok()) status = std::move(answered.error());
  }
  const std::string_view body = message.body;
  if (body.empty() || body.back() != '\0' || body.find('\0') != body.size() - 1)
    status = make_error("08P01", "invalid message format");
  if (!status.ok()) {
    put_error(std::move(status.error()));
    put_ready();
  } else {
    std::string sql(body.substr(0, body.size() - 1));
    in_.own();
    if (sql.find('\\') != std::string::npos) {
      (void)(co_await refresh_context());  // what is amiss each statement will say
      if (plan_settings_ && plan_settings_->old_strings) {
        old = with_escape_strings(sql);
        if (plan_settings_->warns_of_escapes) out_ += old.warnings;
        text_.inserted = &old.inserted;
        sql = old.text;
      }
    }
    go_on = co_await run_string(std::move(sql));
  }
  end_statement();
  co_return go_on && !client_gone_;
}

void Session::end_statement() {
  state_ = State::idle;
  views_in_use_.clear();
  if (!backends_.in_transaction()) backends_.release_idle();
  const bool simple = !std::exchange(text_, {}).string.empty();
  if (simple && extended_ && !backends_.in_transaction()) extended_->portals.clear();
  WorkerStats::add(worker_.stats.statements);
  const int64_t elapsed_us = worker_.loop.now_us() - active_since_us_;
  worker_.stats.statement_time.record(static_cast<uint64_t>(std::max<int64_t>(elapsed_us, 0)));
  const int slow_ms = worker_.config->log.slow_statement_ms;
  if (slow_ms >= 0 && elapsed_us >= int64_t{slow_ms} * 1000)
    log_info("router", "slow statement: {} ms user={} database={} address={}:{} plan={} statement={}",
             elapsed_us / 1000, backends_.user(), backends_.database(), peer_.address, peer_.port, last_plan_,
             last_query_);
}

namespace {

// BEGIN never fails on one PostgreSQL. Where the router cannot run it, a block begins all the same, and is aborted: a
// client that goes on without looking must not find its statements committed one by one.
bool begins_block(std::string_view sql) {
  sql::TokenScanner scanner(sql);
  const sql::Token first = scanner.next();
  return scanner.is_word(first, "begin") || scanner.is_word(first, "start");
}

}  // namespace

namespace {

// lo_open and its kin: what they leave ends with the transaction.
bool of_large_objects(uint32_t function) {
  static constexpr std::array<uint32_t, 21> kFunctions{715, 764,  765,  767,  952,  953,  954,  955,  956,  957, 958,
                                                       964, 1004, 3170, 3171, 3172, 3457, 3458, 3459, 3460, 6098};
  return std::find(kFunctions.begin(), kFunctions.end(), function) != kFunctions.end();
}

}  // namespace

net::Task<Status> Session::call_at_home(const std::string& message) {
  if (failed_) co_return in_failed_transaction();
  CO_TRY(co_await refresh_context());
  auto backend = co_await backends_.get(snapshot_->home);
  if (!backend.ok()) co_return std::move(backend.error());
  const std::string_view body = std::string_view(message).substr(pg::kHeaderSize);
  plan::Effects effects;
  effects.writes = true;
  effects.taints = body.size() < 4 || !of_large_objects(load_big_endian<uint32_t>(body.data()));
  if (effects.taints) effects.draws = catalog::kDrawsAnything;
  note_effects(**backend, effects);
  (*backend)->conn->out() += message;
  (*backend)->conn->expect({pool::RequestKind::query});
  co_await relay(**backend, Until::ready, false);
  co_return Status{};
}

// FunctionCall, which libpq uses for large objects: they are the home's.
net::Task<bool> Session::function_call(pg::MessageView message) {
  start_statement();
  const std::string copy(message.whole);
  in_.own();
  last_query_ = "<FASTPATH> function call";
  if (extended_) co_await end_batch();
  if (statement_failed_) {
    extended_->skip_to_sync = true;
    co_return !client_gone_;
  }
  Status status = co_await call_at_home(copy);
  if (!status.ok()) put_error(std::move(status.error()));
  put_ready();
  end_statement();
  co_return !client_gone_;
}

namespace {}  // namespace

// A query string: one statement, or several in one implicit transaction. Ends with ReadyForQuery.
net::Task<bool> Session::run_string(std::string sql) {
  last_query_ = sql.substr(0, kRememberedBytes);
  if (extended_) {
    // A simple query ends what an extended batch without Sync has begun. Behind an error it is dropped, as all is up to
    // the Sync.
    co_await end_batch();
    extended_->unnamed.reset();
    extended_->portals.erase(std::string());  // PostgreSQL runs the query in that portal
    if (statement_failed_) {
      extended_->skip_to_sync = true;
      co_return !client_gone_;
    }
  }
  text_.string = sql;
  const std::vector<std::string_view> statements = plan::split_statements(sql);
  if (statements.empty()) {
    pg::write_empty(out_, 'I');
    put_ready();
    co_return true;
  }
  const bool several = statements.size() > 1, old_strings = plan_settings_ && plan_settings_->old_strings;
  if (several) {
    Status checked = co_await refresh_context();
    const bool begins = std::any_of(statements.begin(), statements.end(), begins_block);
    if (!checked.ok() && begins && !backends_.in_transaction()) begin_transaction("BEGIN", false);
    if (checked.ok()) checked = co_await check_string(sql, statements);
    if (!checked.ok()) {
      put_error(std::move(checked.error()));
      put_ready();
      co_return true;
    }
  }
  for (std::size_t i = 0; i < statements.size(); ++i) {
    const bool last = i + 1 == statements.size();
    suppress_ready_ = true;
    if (several && !backends_.in_transaction()) begin_transaction("BEGIN", true);
    hold_complete_ = several && last && implicit_;
    text_.at = static_cast<std::size_t>(statements[i].data() - sql.data());
    if (nudged_) co_await hear_participants();
    Status status = co_await check_strings(statements[i], old_strings);
    if (status.ok()) status = co_await run_statement(statements[i]);
    names_.leave();
    hold_complete_ = false;
    if (client_gone_) co_return false;
    if (!status.ok()) {
      const char* end = statements[i].data() + statements[i].size();
      name_end(status.error(), std::string_view(sql).substr(end - sql.data()));
      status.error().position = text_.in_string(status.error().position);
      put_error(std::move(status.error()));
    }
    if (statement_failed_) break;
    if (!co_await throttle()) co_return false;
  }
  if (implicit_ && backends_.in_transaction()) {
    if (statement_failed_) {
      co_await abort_transaction();
    } else {
      Status status = co_await commit_transaction();
      if (!status.ok()) {
        held_complete_.clear();
        put_error(std::move(status.error()));
      }
    }
  }
  out_ += std::exchange(held_complete_, {});
  implicit_ = false;
  suppress_ready_ = false;
  put_ready();
  co_return true;
}

// PostgreSQL has read the whole string before its first statement changes how strings are read.
net::Task<Status> Session::check_strings(std::string_view sql, bool old_strings) {
  if (!plan_settings_ || sql.find('\\') == std::string_view::npos) co_return Status{};
  (void)(co_await refresh_context());  // what is amiss the statement will say
  if (plan_settings_->old_strings == old_strings) co_return Status{};
  co_return make_error("0A000", "backslashes behind a change of standard_conforming_strings in the same string",
                       "Send the statements one by one.");
}

net::Task<Status> Session::run_statement(std::string_view sql) {
  Status ready = co_await refresh_context_for(sql);
  if (!ready.ok() && begins_block(sql) && !backends_.in_transaction()) begin_transaction("BEGIN", false);
  if (!ready.ok()) co_return ready;
  sql::scan_shape(sql, worker_.shape);
  const std::vector<pg::Oid> no_types;
  CO_TRY_ASSIGN(CachedPlan cached, co_await plan_of(sql, no_types, false));
  if (cached.plan->unknown_names) {
    CO_TRY(co_await enter_names());
    CO_TRY(co_await refresh_context());
    sql::scan_shape(sql, worker_.shape);
    CO_TRY_ASSIGN(cached, co_await plan_of(sql, no_types, false));
  }
  const plan::PlanPtr plan = std::move(cached.plan);
  last_plan_ = plan_kind_name(plan->kind);
  if (failed_ && plan->kind != plan::PlanKind::unsupported && !allowed_in_failed_transaction(*plan))
    co_return in_failed_transaction();
  co_return co_await run_plan(sql, plan);
}

namespace {

bool is_query(std::string_view sql) {
  for (const char* word : {"select", "with", "insert", "update", "delete", "values", "table", "merge", "("})
    if (sql.size() >= std::strlen(word) && strncasecmp(sql.data(), word, std::strlen(word)) == 0) return true;
  return false;
}

}  // namespace

net::Task<Status> Session::check_with_postgres(std::string_view sql) {
  auto backend = co_await backends_.get(any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  pg::write_parse(conn.out(), "", sql, {});
  pg::write_sync(conn.out());
  for (pool::RequestKind kind : {pool::RequestKind::parse, pool::RequestKind::sync}) conn.expect({kind, true});
  (*backend)->unnamed_statement = 0;
  co_return co_await conn.drain();
}

net::Task<Status> Session::refuse(std::string_view sql, Error ours) {
  // PostgreSQL knows nothing of pgmosaic's own relations.
  const bool ours_alone = sql.find(std::string(plan::kVirtualSchema) + ".") != std::string_view::npos;
  if (ours.sqlstate != "42601" && (ours_alone || !is_query(sql))) {
    if (failed_) co_return in_failed_transaction();
    co_return ours;
  }
  Status theirs = co_await check_with_postgres(sql);
  if (!theirs.ok()) co_return theirs;
  co_return ours;
}

// PostgreSQL parses a whole string before it runs any of it.
net::Task<Status> Session::check_string(std::string_view sql, const std::vector<std::string_view>& statements) {
  for (std::string_view statement : statements) {
    if (sql::is_create_table(statement)) continue;
    auto tree = sql::ParseTree::parse(statement);
    if (tree.ok()) continue;
    Status theirs = co_await check_with_postgres(sql);
    if (!backends_.in_transaction()) backends_.release_idle();
    const bool about_number = !theirs.ok() && theirs.error().message.starts_with("cannot insert multiple commands");
    if (!theirs.ok() && !about_number) co_return theirs;
    const ClientText text{sql, static_cast<std::size_t>(statement.data() - sql.data()), {}, {}};
    tree.error().position = text.in_string(tree.error().position);
    co_return std::move(tree.error());
  }
  co_return Status{};
}

net::Task<Status> Session::run_plan(std::string_view sql, const plan::PlanPtr& plan) {
  backends_.set_touch(touch_of(*plan));
  switch (plan->kind) {
    case plan::PlanKind::unsupported: co_return co_await refuse(sql, *plan->error);
    case plan::PlanKind::session: command_effects_ = plan->effects; co_return co_await run_command(*plan->session, sql);
    case plan::PlanKind::ddl: co_return co_await run_ddl(*plan);
    case plan::PlanKind::explain: co_return co_await Explainer(*this, *plan, sql).run();
    case plan::PlanKind::copy_in: co_return co_await run_copy_in(sql, *plan);
    case plan::PlanKind::route:
    case plan::PlanKind::copy_out:
    case plan::PlanKind::fill:
    case plan::PlanKind::insert_split: co_return co_await run_route(sql, *plan);
  }
  co_return make_error("XX000", "unknown kind of plan");
}

// One group: the statement passes through. Several: multi.cc.
net::Task<Status> Session::run_route(std::string_view sql, const plan::Plan& plan) {
  Execution execution;
  execution.sql = sql;
  sql::scan_shape(sql, execution.shape);
  execution.values = values_of(sql, execution.shape, nullptr, plan);
  CO_TRY_ASSIGN(execution.where, co_await locate(plan, execution));
  if (!execution.where.single() || runs_in_parts(plan) || is_signal(plan) || is_saga_call(plan) ||
      !keeps_group(plan, execution, *database_) || needs_moment(plan, execution.where))
    co_return co_await run_multi(plan, execution);
  std::string text;
  CO_TRY_ASSIGN(text, co_await text_for_group(plan, sql));
  if (reaches_rows(plan)) CO_TRY(backends_.may_reach(std::span(&execution.where.one, 1)));
  auto backend = co_await backends_.get(execution.where.one);
  if (!backend.ok()) co_return std::move(backend.error());
  note_effects(**backend, plan.effects);
  pg::write_query((*backend)->conn->out(), text);
  (*backend)->conn->expect({pool::RequestKind::query});
  if (text != sql) text_.statement = sql, text_.sent = text;
  co_await relay(**backend, Until::ready, false);
  text_.statement = text_.sent = {};
  if (plan.effects.sets_config && !statement_failed_) {
    co_return co_await read_back_settings(sql);
  }
  co_return Status{};
}

}  // namespace pgmosaic::router
