// Statements that the session itself handles: transactions, savepoints, DISCARD.
#include "base/log.h"
#include "exec/control.h"
#include "router/execution.h"
#include "router/move_rows.h"
#include "router/new_roles.h"
#include "router/number_source.h"
#include "router/prepared_sql.h"
#include "router/prepared_transactions.h"
#include "router/saga_calls.h"
#include "router/session.h"
#include "router/view_use.h"
#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

// Ties the staged catalog to the outcome of the transaction that changed the schema.
class StagedCommit final : public exec::CommitHook {
 public:
  StagedCommit(exec::ClusterControl& control, exec::StagedPtr staged) : control_(control), staged_(std::move(staged)) {}
  Status before(const exec::Gid& gid) override {
    gid_ = gid.text();
    TRY(control_.intend(*staged_, gid_));
    in_doubt_ = true;
    return {};
  }
  void after(const exec::Gid&, bool committed) override {
    in_doubt_ = false;
    if (!committed) control_.forget(gid_);
  }
  const std::string& gid() const { return gid_; }
  bool in_doubt() const { return in_doubt_; }

 private:
  exec::ClusterControl& control_;
  exec::StagedPtr staged_;
  std::string gid_;
  bool in_doubt_ = false;  // intended, and the outcome is not known
};

constexpr int64_t kPublishPatienceUs = 10'000'000;
constexpr int64_t kPublishRetryUs = 100'000;

// `closed`: the gate of the names that it makes, if any. It stays closed until the catalog tells what came of the
// change: a table that only the home shows would be taken for a local one.
net::Task<Status> commit_schema_change(Worker& worker, exec::Backends& backends, exec::StagedPtr staged,
                                       std::shared_ptr<NamesClosed> closed) {
  exec::ClusterControl& control = *worker.context.control;
  StagedCommit hook(control, staged);
  for (auto& backend : backends.all()) backend->wrote = backend->wrote || backend->begun;
  Status status = co_await backends.commit(&hook);
  if (!status.ok()) {
    if (hook.in_doubt()) control.settle_later(staged->database, hook.gid(), std::move(closed));
    co_return status;
  }
  // It is committed. Who made it shall find it, and so shall all others as soon as the groups can be asked.
  const int64_t deadline_us = worker.loop.now_us() + kPublishPatienceUs;
  for (;;) {
    Status published = co_await control.publish(worker.loop, staged, hook.gid());
    if (published.ok()) co_return Status{};
    log_warning("router", "schema change {} is committed, and not published yet: {}", hook.gid(),
                published.error().message);
    if (worker.loop.now_us() > deadline_us) break;
    co_await worker.loop.sleep(kPublishRetryUs);
  }
  control.settle_later(staged->database, hook.gid(), std::move(closed));
  co_return Status{};
}

}  // namespace

using Kind = plan::SessionCommand::Kind;

bool allowed_in_failed_transaction(const plan::Plan& plan) {
  if (plan.kind != plan::PlanKind::session) return false;
  const Kind kind = plan.session->kind;
  return kind == Kind::commit || kind == Kind::rollback || kind == Kind::rollback_to || kind == Kind::empty ||
         kind == Kind::prepare_transaction;
}

namespace {

// "ISOLATION LEVEL SERIALIZABLE" of "BEGIN WORK ISOLATION LEVEL SERIALIZABLE".
std::string transaction_modes(std::string_view sql) {
  sql::TokenScanner scanner(sql);
  scanner.next();  // BEGIN or START
  while (scanner.is_word(scanner.peek(), "work") || scanner.is_word(scanner.peek(), "transaction")) scanner.next();
  const sql::Token first = scanner.peek();
  return first.kind == sql::Token::Kind::end ? std::string() : std::string(sql.substr(first.begin));
}

}  // namespace

// What the transaction's isolation level, as `sql` or the session's default says, asks of its backends.
void Session::note_isolation(std::string_view sql) {
  const auto named = isolation_in(sql);
  if (!named && !plan_settings_) return;  // nothing has been asked of a PostgreSQL yet
  const exec::Isolation isolation = named ? *named : plan_settings_->isolation;
  std::vector<exec::GroupId> groups;
  if (isolation == exec::Isolation::repeatable_read && worker_.config->sharding.untorn_reads && snapshot_)
    for (const catalog::Group& group : snapshot_->groups) groups.push_back(group.id);
  backends_.set_isolation(isolation, std::move(groups));
}

void Session::begin_transaction(std::string sql, bool implicit) {
  backends_.begin(sql);
  note_isolation(sql);
  implicit_ = implicit;
  failed_ = false;
}

// Settings that PostgreSQL reports may change when a transaction or savepoint ends; the client hears of it. Returns the
// backend to watch, 0: none.
exec::GroupId Session::watch_parameters() {
  for (auto& backend : backends_.all()) {
    if (!backend->begun) continue;
    backend->conn->changed_parameters.clear();
    return backend->group;
  }
  return 0;
}

void Session::report_changes(exec::GroupId watched) {
  exec::Backend* backend = watched != 0 ? backends_.held(watched) : nullptr;
  if (backend == nullptr) return;
  for (const std::string& name : backend->conn->changed_parameters) {
    const std::string& value = backend->conn->parameters[name];
    pg::write_parameter_status(out_, name, value);
    if (name == "application_name") application_name_ = value;
  }
}

void Session::end_of_transaction(bool committed) {
  SagaCalls(*this).after_transaction(committed);
  temporary_.known = false;
  if (std::exchange(changed_schema_, false) && committed) worker_.context.blocks.drop_all();
  staged_.reset();
  renew_pools_.reset();
  failed_ = implicit_ = false;
  if (std::exchange(local_path_, false)) plan_context_id_ = 0;
  drop_broken_backends();
  // Cursors end with their transaction. Those WITH HOLD stay where it commits: in the router, or on a pinned backend.
  if (committed)
    for (auto& [name, cursor] : cursors_) cursor.committed = cursor.committed || cursor.hold;
  std::erase_if(cursors_, [this](const auto& entry) {
    const SqlCursor& cursor = entry.second;
    return !cursor.committed || (cursor.group != 0 && !backends_.pinned(cursor.group));
  });
}

net::Task<void> Session::abort_transaction() {
  const exec::GroupId watched = watch_parameters();
  co_await backends_.rollback();
  report_changes(watched);
  end_of_transaction(false);
  co_await drop_unborn_roles(backends_, snapshot_->home);
}

// Commits, or rolls back where the transaction is aborted or a group refuses.
net::Task<Status> Session::commit_transaction() {
  Status status;
  if (failed_) {
    co_await abort_transaction();
    co_return Status{};
  }
  if (SagaCalls(*this).pending()) status = co_await SagaCalls(*this).before_commit();
  if (!status.ok()) {
    co_await abort_transaction();
    co_return status;
  }
  const exec::GroupId watched = watch_parameters();
  const uint64_t distributed = backends_.two_phase_commits();
  std::optional<MovesCommitting> committing;
  if (!backends_.moved_tables().empty()) {
    co_await may_commit_moves(worker_.loop, worker_.context.moves, backends_.database(), backends_.moved_tables());
    committing.emplace(worker_.context.moves, backends_.database(), backends_.moved_tables());
  }
  std::optional<BlocksSuspended> still;
  if (changed_schema_) still.emplace(worker_.context.blocks, backends_.database());
  if (staged_) {
    names_.leave();
    auto closed = co_await close_names(worker_.loop, worker_.context.names, backends_.database(), staged_->makes_names);
    if (closed.ok() && staged_->published) {
      const std::set<catalog::Oid> changed =
          changed_views(*staged_->published, *staged_->snapshot->database(backends_.database()));
      closed =
          co_await close_views(worker_.loop, worker_.context, backends_.database(), this, &changed, std::move(*closed));
    }
    if (!closed.ok()) {
      co_await abort_transaction();
      co_return std::move(closed.error());
    }
    status = co_await commit_schema_change(worker_, backends_, staged_, std::move(*closed));
  } else {
    status = co_await backends_.commit();
  }
  out_ += backends_.take_notices();
  report_changes(watched);
  WorkerStats::add(worker_.stats.transactions);
  WorkerStats::add(worker_.stats.distributed_commits, backends_.two_phase_commits() - distributed);
  auto renew = std::exchange(renew_pools_, std::nullopt);
  if (status.ok() && renew) {
    std::vector<pool::Credentials> changed = co_await confirmed(worker_, std::move(*renew));
    co_await worker_.context.renew_pools(worker_.loop, std::move(changed));
  }
  end_of_transaction(status.ok());
  co_await drop_unborn_roles(backends_, snapshot_->home);
  co_return status;
}

net::Task<Status> Session::run_command(const plan::SessionCommand& command, std::string_view sql) {
  switch (command.kind) {
    case Kind::begin:
    case Kind::commit:
    case Kind::rollback:
    case Kind::prepare_transaction:
    case Kind::commit_prepared:
    case Kind::rollback_prepared: co_return co_await run_transaction_command(command, sql);
    case Kind::savepoint:
    case Kind::release:
    case Kind::rollback_to: co_return co_await run_savepoint(command);
    case Kind::set:
    case Kind::set_local:
    case Kind::reset:
    case Kind::reset_all: co_return co_await run_setting(command);
    case Kind::set_session_characteristics: co_return co_await run_characteristics(command);
    case Kind::set_transaction:
    case Kind::set_constraints: co_return co_await run_set_transaction(command, sql);
    case Kind::discard_all: co_return co_await run_discard_all();
    case Kind::discard_plans:
    case Kind::discard_sequences:
    case Kind::discard_temp:
      if (command.kind == Kind::discard_sequences) numbers_.forget();
      for (auto& backend : backends_.all()) {
        backend->conn->add_internal_query(sql);
        CO_TRY(co_await backend->conn->drain());
      }
      put_complete(command.kind == Kind::discard_plans  ? "DISCARD PLANS"
                   : command.kind == Kind::discard_temp ? "DISCARD TEMP"
                                                        : "DISCARD SEQUENCES");
      co_return Status{};
    case Kind::prepare: co_return co_await PreparedSql(*this).prepare(command, sql);
    case Kind::execute: co_return co_await PreparedSql(*this).execute(command, sql);
    case Kind::deallocate:
      if (!extended_ || extended_->statements.erase(command.name) == 0)
        co_return make_error("26000", "prepared statement \"" + command.name + "\" does not exist");
      put_complete("DEALLOCATE");
      co_return Status{};
    case Kind::deallocate_all:
      if (extended_) extended_->statements.clear();
      put_complete("DEALLOCATE ALL");
      co_return Status{};
    case Kind::listen:
    case Kind::unlisten:
    case Kind::unlisten_all: {
      auto backend = co_await backends_.get(snapshot_->home);
      if (!backend.ok()) co_return std::move(backend.error());
      (*backend)->wrote = true;
      (*backend)->not_preparable = true;
      if (command.kind == Kind::listen) {
        backends_.pin(**backend);
      }
      pg::write_query((*backend)->conn->out(), sql);
      (*backend)->conn->expect({pool::RequestKind::query});
      co_await relay(**backend, Until::ready, false);
      co_return Status{};
    }
    case Kind::declare_cursor:
    case Kind::fetch_cursor:
    case Kind::close_cursor:
    case Kind::close_all_cursors: co_return co_await run_cursor(command, sql);
    case Kind::empty: pg::write_empty(out_, 'I'); co_return Status{};
  }
  co_return make_error("XX000", "unknown session command");
}

void Session::put_complete(std::string_view tag) {
  if (hold_complete_) {
    pg::write_command_complete(held_complete_, tag);
  } else {
    pg::write_command_complete(out_, tag);
  }
}

net::Task<Status> Session::run_transaction_command(const plan::SessionCommand& command, std::string_view sql) {
  switch (command.kind) {
    case Kind::begin:
      if (worker_.config->pool.mode == PoolMode::statement)
        co_return make_error("0A000", "transaction blocks are not allowed when pool.mode is statement",
                             "Set pool.mode to transaction or session.");
      if (backends_.in_transaction() && !implicit_) {
        pg::write_notice(out_, "25001", "there is already a transaction in progress", {}, {}, "WARNING");
      } else {
        begin_modes_ = std::string(sql);
        bool begun = false;
        if (implicit_) {  // the query string's transaction becomes the block, with these modes
          implicit_ = false;
          for (auto& backend : backends_.all()) begun = begun || backend->begun;
          if (!begun) backends_.set_begin_sql(begin_modes_);
          if (!begun) note_isolation(begin_modes_);
        } else if (extended_ && extended_->executed_in_batch) {  // so does what PostgreSQL has begun for this batch
          CO_TRY(co_await upgrade_batch(false));
          begun = true;
        } else {
          begin_transaction(begin_modes_, false);
        }
        if (const std::string modes = transaction_modes(sql); begun && !modes.empty()) {
          CO_TRY(co_await on_participants("SET TRANSACTION " + modes, false));
          backends_.record_local("SET TRANSACTION " + modes);
          if (isolation_in(modes)) note_isolation(modes);
        }
      }
      put_complete(sql.starts_with('s') || sql.starts_with('S') ? "START TRANSACTION" : "BEGIN");
      co_return Status{};
    case Kind::commit:
    case Kind::rollback: {
      const bool commit = command.kind == Kind::commit;
      const bool was_failed = failed_;
      if (!backends_.in_transaction() || implicit_) {
        if (command.chain)
          co_return make_error("25P01", std::string(commit ? "COMMIT" : "ROLLBACK") +
                                            " AND CHAIN can only be used in transaction blocks");
        pg::write_notice(out_, "25P01", "there is no transaction in progress", {}, {}, "WARNING");
      }
      Status status;
      if (backends_.in_transaction()) {
        if (commit) {
          status = co_await commit_transaction();
        } else {
          co_await abort_transaction();
        }
      }
      if (!status.ok()) co_return status;
      if (command.chain) begin_transaction(begin_modes_.empty() ? "BEGIN" : begin_modes_, false);
      put_complete(commit && !was_failed ? "COMMIT" : "ROLLBACK");
      co_return Status{};
    }
    case Kind::prepare_transaction: co_return co_await PreparedTransactions(*this).prepare(command, sql);
    default: co_return co_await PreparedTransactions(*this).decide(command, sql);
  }
}

// Runs a statement on every backend of the transaction; one reply is enough for the client.
net::Task<Status> Session::on_participants(std::string_view sql, bool forward_first) {
  std::vector<exec::Backend*> participants;
  for (auto& backend : backends_.all())
    if (backend->begun) participants.push_back(backend.get());
  (void)forward_first;
  for (exec::Backend* backend : participants) {
    backend->conn->add_internal_query(sql);
    backend->conn->flush();
  }
  Status result;
  for (exec::Backend* backend : participants) {
    Status status = co_await backend->conn->drain();
    if (!status.ok() && result.ok()) result = std::move(status);
  }
  co_return result;
}

// Cursors, and portals that the router executes itself, made behind a savepoint end with ROLLBACK TO it.
void Session::forget_cursors(uint64_t moment) {
  std::erase_if(cursors_,
                [moment](const auto& entry) { return !entry.second.committed && entry.second.moment > moment; });
  if (!extended_) return;
  std::erase_if(extended_->portals, [moment](const auto& entry) {
    const Portal& portal = entry.second;
    const bool runs_now = portal.statement && portal.statement->plan->kind == plan::PlanKind::session;  // this one
    return portal.moment > moment && !entry.first.empty() && !runs_now;
  });
}

net::Task<Status> Session::run_savepoint(const plan::SessionCommand& command) {
  const char* tag = command.kind == Kind::savepoint ? "SAVEPOINT"
                    : command.kind == Kind::release ? "RELEASE"
                                                    : "ROLLBACK";
  if (!backends_.in_transaction() || implicit_)
    co_return make_error("25P01", std::string(command.kind == Kind::savepoint ? "SAVEPOINT"
                                              : command.kind == Kind::release ? "RELEASE SAVEPOINT"
                                                                              : "ROLLBACK TO SAVEPOINT") +
                                      " can only be used in transaction blocks");
  const std::string name = pool::quote_identifier(command.name);
  if (command.kind != Kind::savepoint && !backends_.has_savepoint(command.name))
    co_return make_error("3B001", "savepoint \"" + command.name + "\" does not exist");
  const std::string sql = (command.kind == Kind::savepoint ? "SAVEPOINT "
                           : command.kind == Kind::release ? "RELEASE SAVEPOINT "
                                                           : "ROLLBACK TO SAVEPOINT ") +
                          name;
  if (command.kind == Kind::rollback_to && backends_.lost_participant())
    co_return make_error("25P02", "the transaction lost its connection to a group and can only be rolled back");
  const exec::GroupId watched = watch_parameters();
  CO_TRY(co_await on_participants(sql, false));
  report_changes(watched);
  if (command.kind == Kind::savepoint) {
    backends_.savepoint(command.name, staged_);
  } else if (command.kind == Kind::release) {
    backends_.released(command.name);
  } else {
    forget_cursors(backends_.moment_of(command.name));
    SagaCalls(*this).rolled_back_to(backends_.moment_of(command.name));
    staged_ = backends_.rolled_back_to(command.name);
    ++staged_serial_;
    failed_ = false;
    plan_context_id_ = 0;
    co_await drop_unborn_roles(backends_, snapshot_->home);
  }
  put_complete(tag);
  co_return Status{};
}

net::Task<Status> Session::run_discard_all() {
  if (backends_.in_transaction()) co_return make_error("25001", "DISCARD ALL cannot run inside a transaction block");
  cursors_.clear();
  if (extended_) {
    co_await end_batch();
    extended_->statements.clear();
    extended_->portals.clear();
    extended_->unnamed.reset();
    extended_->owed_parse.reset();
  }
  numbers_.forget();
  backends_.unpin_all();
  backends_.release_idle();
  backends_.set_settings(worker_.settings.intern(startup_settings_));
  plan_context_id_ = 0;
  // Tell the client what its reported settings are now.
  auto backend = co_await backends_.get(snapshot_->home);
  if (!backend.ok()) co_return std::move(backend.error());
  CO_TRY(co_await (*backend)->conn->drain());
  for (const auto& [name, value] : (*backend)->conn->parameters) pg::write_parameter_status(out_, name, value);
  put_complete("DISCARD ALL");
  co_return Status{};
}

}  // namespace pgmosaic::router
