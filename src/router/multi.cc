// Statements that go to several groups: where they go, the transaction around them, and the call into exec/.
#include <algorithm>

#include "base/log.h"
#include "exec/combine.h"
#include "exec/gather.h"
#include "router/client_sink.h"
#include "router/execution.h"
#include "router/guard.h"
#include "router/home_changes.h"
#include "router/move_rows.h"
#include "router/router_calls.h"
#include "router/saga_calls.h"
#include "router/session.h"
#include "router/snapshots.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

std::optional<uint64_t> bound_value(const plan::Gather::Bound& bound, const Execution& execution) {
  if (bound.constant) return bound.constant;
  if (bound.parameter == 0 || execution.bind == nullptr) return std::nullopt;
  const std::size_t index = static_cast<std::size_t>(bound.parameter) - 1;
  if (index >= execution.bind->values.size() || !execution.bind->values[index]) return std::nullopt;
  std::string_view value = *execution.bind->values[index];
  if (execution.bind->binary(index)) {
    if (value.size() == 8) return load_big_endian<uint64_t>(value.data());
    if (value.size() == 4) return load_big_endian<uint32_t>(value.data());
    if (value.size() == 2) return load_big_endian<uint16_t>(value.data());
    return std::nullopt;
  }
  const auto parsed = catalog::parse_int(value);
  return parsed && *parsed >= 0 ? std::optional<uint64_t>(static_cast<uint64_t>(*parsed)) : std::nullopt;
}

exec::GatherOptions gather_options(const plan::Plan& plan, const Execution& execution, bool several) {
  exec::GatherOptions options;
  options.describe = !execution.extended() || execution.describe;
  options.first_only = plan.reference_write || plan.single_tag;
  if (plan.kind == plan::PlanKind::copy_out && plan.copy_in) {
    options.copy_binary = plan.copy_in->format == plan::CopyIn::Format::binary;
    options.copy_header = plan.copy_in->header;
  }
  if (several && plan.gather) {
    options.merge = plan.gather->merge;
    options.hidden_columns = plan.gather->hidden_columns;
    options.offset = bound_value(plan.gather->offset, execution).value_or(0);
    options.limit = bound_value(plan.gather->limit, execution);
  }
  return options;
}

// Statements that do the same on every group (a write to a reference table, LOCK TABLE, TRUNCATE) take their locks on
// the first group before any other: two of them at once wait for each other there, and not crosswise on two groups.
bool first_group_alone(const plan::Plan& plan) {
  return plan.reference_write || (plan.single_tag && plan.effects.writes && !plan.no_transaction);
}

// Sends each part to its group and reads the replies. Rows go to the sink, the tag is the client's.
net::Task<Result<exec::GatherResult>> read_parts(const plan::Plan& plan, const Execution& execution,
                                                 const std::vector<Split>& parts, std::vector<exec::RowReader>& readers,
                                                 const exec::GatherOptions& options, exec::OutputLoss loss,
                                                 exec::RowSink& sink, SnapshotAttempts* snapshots) {
  const bool several = parts.size() > 1;
  const bool combines = several && plan.combine.has_value();
  exec::Request request;
  request.extended = execution.extended();
  request.bind = execution.bind;
  request.types = &execution.types;
  request.client_formats = !combines;
  request.prepared = execution.prepared_name;
  if (snapshots != nullptr) snapshots->apply(request);
  std::vector<exec::RowReader> first;
  exec::GatherResult first_result;
  if (several && first_group_alone(plan)) {
    request.sql = parts[0].sql;
    first.push_back(readers[0]);
    first[0].send(request);
    CO_TRY_ASSIGN(first_result, co_await exec::gather(first, options, sink));
    readers.erase(readers.begin());
  }
  for (std::size_t i = 0; i < readers.size(); ++i) {
    request.sql = parts[first.size() + i].sql;
    readers[i].send(request);
  }
  if (!first.empty()) {
    Nowhere nowhere;
    auto others = co_await exec::gather(readers, options, nowhere);
    if (!others.ok()) co_return std::move(others.error());
    co_return first_result;
  }
  if (snapshots != nullptr) {
    Status agreed = co_await snapshots->check(readers);
    if (!agreed.ok()) {
      Status failed;
      for (exec::RowReader& reader : readers) {
        Status ended = co_await reader.finish();
        if (!ended.ok() && failed.ok()) failed = std::move(ended);
      }
      // An error has aborted the client's own block: there is no other attempt, and it is what the client hears.
      if (!failed.ok() && snapshots->again() && snapshots->in_block()) {
        snapshots->give_up();
        co_return std::move(failed.error());
      }
      co_return std::move(agreed.error());
    }
  }
  if (!combines) co_return co_await exec::gather(readers, options, sink);
  exec::Request final_request;
  final_request.bind = execution.bind;
  final_request.types = &execution.types;
  co_return co_await exec::combine(readers, *plan.combine, final_request, options.describe, loss, sink);
}

net::Task<Result<exec::GatherResult>> read_guarded(const plan::Plan& plan, const Execution& execution,
                                                   const std::vector<Split>& parts,
                                                   std::vector<exec::RowReader>& readers,
                                                   const exec::GatherOptions& options, exec::OutputLoss loss,
                                                   exec::RowSink& sink, std::optional<Guard>& guard,
                                                   SnapshotAttempts* snapshots) {
  if (guard) CO_TRY(co_await guard->begin(execution.sql));
  auto result = co_await read_parts(plan, execution, parts, readers, options, loss, sink, snapshots);
  if (guard) co_await guard->take_back();
  if (!result.ok())
    result.error().position = position_in(execution.sql, parts[0].sql, result.error().position);
  else if (guard)
    CO_TRY(co_await guard->end());
  co_return result;
}

// Statements over several groups that must be, or must not be, in a transaction.
Status check_place(const plan::Plan& plan, bool in_transaction, bool implicit) {
  if (plan.command == "LOCK TABLE" && (!in_transaction || implicit))
    return make_error("25P01", "LOCK TABLE can only be used in transaction blocks");
  if (plan.no_transaction && in_transaction)
    return make_error("25001", plan.command + " cannot run inside a transaction block");
  return {};
}

// Of a read over several groups; left empty: its snapshots are what they are.
void begin_attempts(std::optional<SnapshotAttempts>& attempts, const plan::Plan& plan, std::string_view sql,
                    Worker& worker, exec::Backends& backends) {
  if (!worker.config->sharding.untorn_reads || plan.effects.writes || plan.read_tables.empty()) return;
  using Place = SnapshotAttempts::Place;
  const bool within = backends.in_transaction();
  if (within && backends.isolation() != exec::Isolation::read_committed) return;
  const bool is_select = plan.kind == plan::PlanKind::route && plan.command == "SELECT" && !plan.guarded;
  attempts.emplace(worker, backends, within ? Place::block : Place::own, plan.read_tables,
                   plan.kind == plan::PlanKind::copy_out);
  if (is_select) attempts->hope(sql);
}

std::vector<exec::GroupId> groups_of(const std::vector<Split>& parts) {
  std::vector<exec::GroupId> groups;
  for (const Split& part : parts) groups.push_back(part.group);
  return groups;
}

// Of a statement that has left temporary objects: the backend is the session's from now on.
const plan::Effects kLeavesObjects{.pins = true, .not_preparable = true};

}  // namespace

net::Task<Status> Session::run_multi(const plan::Plan& given, Execution& execution) {
  if (is_signal(given)) co_return co_await run_signal(execution);
  if (is_saga_call(given)) co_return co_await SagaCalls(*this).run(given, execution);
  if (!execution.at_moment && needs_moment(given, execution.where)) co_return co_await run_at_moment(given, execution);
  if (given.fill) co_return co_await run_filled(given, execution);
  // A cached plan's rewritten texts hold another statement's literals.
  plan::Plan fresh;
  const plan::Plan* chosen = &given;
  if (given.rewritten_literals && !execution.extended()) {
    fresh = plan::plan_statement(execution.sql, plan_context({}));
    chosen = &fresh;
  }
  const plan::Plan& plan = *chosen;
  WorkerStats::add(worker_.stats.multi_group);
  if (!keeps_group(plan, execution, *database_)) co_return co_await run_key_change(plan, execution);

  // What each group runs.
  std::vector<Split> parts;
  std::vector<std::size_t> order;
  if (plan.kind == plan::PlanKind::insert_split) {
    CO_TRY(co_await split_insert(plan, execution, parts, order));
  } else {
    std::vector<exec::GroupId> groups = execution.where.groups;
    if (groups.empty()) groups.push_back(execution.where.one);
    CO_TRY_ASSIGN(std::string text, co_await text_for_group(plan, execution.sql, groups.size() > 1));
    if (first_group_alone(plan)) {  // everybody's first: SELECT … FOR UPDATE of a reference table locks there
      const auto home = std::find(groups.begin(), groups.end(), snapshot_->home);
      if (home != groups.end()) std::rotate(groups.begin(), home, home + 1);
    }
    for (exec::GroupId group : groups) parts.push_back({group, text});
  }
  const bool several = parts.size() > 1;
  if (several && plan.multi_group_error) co_return co_await refuse(execution.sql, *plan.multi_group_error);
  // Rewritten texts could be right where the client's is not (a column that is not grouped by).
  const bool rewritten = plan.combine || (plan.gather && !plan.gather->sql.empty());
  if (several && rewritten && !execution.extended() && !execution.at_moment && plan.virtual_relations.empty())
    CO_TRY(co_await check_with_postgres(execution.sql));
  if (several) CO_TRY(check_place(plan, backends_.in_transaction(), implicit_));

  co_return co_await run_parts(plan, execution, parts, std::move(order));
}

// Rows that moved beside a write may be rows that it has missed: where nobody knows of it yet, it runs again.
net::Task<Status> Session::run_parts(const plan::Plan& plan, const Execution& execution,
                                     const std::vector<Split>& parts, std::vector<std::size_t> order) {
  const bool several = parts.size() > 1;
  // A write to several groups is atomic, and a read of several groups sees all of a transaction or nothing: a
  // transaction of its own, if none is open.
  const bool within = backends_.in_transaction();
  std::optional<SnapshotAttempts> snapshots;
  if (several) begin_attempts(snapshots, plan, execution.sql, worker_, backends_);
  const bool writes = (plan.guarded || (several && plan.effects.writes && !plan.no_transaction)) && !within;
  ClientSink sink(
      out_, client_gone_, rows_to_, [](void* self) { return static_cast<Session*>(self)->throttle(); }, this);
  exec::GatherOptions options = gather_options(plan, execution, several);
  if (plan.returns_rows) options.order = std::move(order);
  const std::vector<exec::GroupId> groups = groups_of(parts);
  if (((snapshots && !within) || writes) && several && plan_settings_->isolation == exec::Isolation::serializable)
    co_return exec::beyond_one_group();
  CO_TRY(backends_.may_reach(groups));
  std::optional<MovesGiveWay> way;
  for (int attempt = 1;; ++attempt) {
    const MoveWatch watch(worker_.context.moves, backends_.database(), several ? plan.written : 0);
    const bool reads = snapshots && !within && !snapshots->unasked();
    const bool own = reads || writes;
    if (own) begin_transaction(reads ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN", true);
    if (own) backends_.set_isolation(exec::Isolation::read_committed);  // the attempts take the snapshots
    auto backends = co_await backends_.get_all(groups);
    Result<exec::GatherResult> result = exec::GatherResult();
    std::optional<Guard> guard;
    Status taken;
    if (!backends.ok())
      taken = std::move(backends.error());
    else if (snapshots)
      taken = co_await snapshots->take(*backends);
    const bool sent = taken.ok();
    if (!sent) {
      result = std::move(taken.error());
    } else {
      std::vector<exec::RowReader> readers;
      for (exec::Backend* backend : *backends) note_effects(readers.emplace_back(*backend).backend(), plan.effects);
      exec::Backend& first = *backends->front();
      if (plan.guarded) guard.emplace(*first.conn, *database_, extended_ ? &extended_->statements : nullptr);
      result = co_await read_guarded(plan, execution, parts, readers, options, plan_settings_->loss, sink, guard,
                                     snapshots ? &*snapshots : nullptr);
      if (guard && guard->leaves_objects()) note_effects(first, kLeavesObjects);
    }
    drop_broken_backends();
    if (!result.ok() && snapshots && !within) snapshots->give_way(deadlock_);
    if (snapshots && snapshots->again() && !cancelled_ && !client_gone_) {
      if (own) (void)(co_await end_own_transaction(exec::torn(), sent));
      co_await snapshots->wait();
      continue;
    }
    const bool missed = result.ok() ? watch.moved() : moved_between_leaves(result.error());
    Status status = result.ok() ? Status() : Status(std::move(result.error()));
    if (missed && result.ok()) status = moved_beside();
    if (status.ok() && guard) status = co_await HomeChanges(*this).follow(*guard);
    if (status.ok() && plan.effects.sets_config) status = co_await read_back_settings(execution.sql);
    if (own) status = co_await end_own_transaction(std::move(status), reads && sent);
    if (own && guard && status.ok()) status = co_await read_back_settings("");
    if (missed && own && !plan.returns_rows && attempt < kAttempts && !cancelled_ && !client_gone_) {
      MoveLog::Key key(backends_.database(), plan.written);
      if (!way) way.emplace(worker_.context.moves, key);
      co_await moves_settled(worker_.loop, worker_.context.moves, std::move(key));
      continue;
    }
    if (!status.ok()) co_return status;
    const std::string& tag = result->tag.empty() ? plan.command : result->tag;
    pg::write_command_complete(hold_complete_ ? held_complete_ : out_, tag);
    co_return Status{};
  }
}

// Of a transaction that one statement needed for itself. `commit_sent`: it was a read, and its COMMIT went along.
net::Task<Status> Session::end_own_transaction(Status status, bool commit_sent) {
  if (commit_sent) {
    co_await backends_.finish_reads();
    end_of_transaction(true);
  } else if (status.ok()) {
    status = co_await commit_transaction();
  } else {
    co_await abort_transaction();
  }
  implicit_ = false;
  co_return status;
}

void Session::drop_broken_backends() {
  for (std::size_t i = 0; i < backends_.all().size();) {
    exec::Backend& backend = *backends_.all()[i];
    if (!backend.conn->alive()) {
      if (extended_ && extended_->current == &backend) extended_->current = nullptr;
      backends_.drop(backend);
    } else {
      ++i;
    }
  }
}

}  // namespace pgmosaic::router
