// From a statement's text to its plan: what the plan depends on besides the text, the shape cache, the planner.
#include "router/layout.h"
#include "router/router_calls.h"
#include "router/saga_calls.h"
#include "router/session.h"
#include "router/view_use.h"
#include "router/worker.h"
#include "sql/layout.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

constexpr int64_t kGateWaitUs = 500;
constexpr int64_t kGatePatienceUs = 30'000'000;

// It changes the metadata store alone, like a schema change that is not transactional.
plan::Plan plan_layout_command(std::string_view sql) {
  plan::Plan plan;
  plan.kind = plan::PlanKind::ddl;
  plan.returns_rows = false;
  plan.no_transaction = true;
  sql::TokenScanner scanner(sql);
  plan.command = scanner.is_word(scanner.next(), "drop") ? "DROP LAYOUT" : "CREATE LAYOUT";
  plan.ddl.emplace();
  plan.ddl->tag = plan.command;
  plan.ddl->transactional = false;
  plan.ddl->everywhere = {std::string(sql)};
  return plan;
}

}  // namespace

bool Session::context_current() {
  return plan_context_id_ != 0 && (temporary_.known || !backends_.pinned(snapshot_->home)) && !local_path_ &&
         path_settings_ == backends_.settings() &&
         (staged_ ? snapshot_ == staged_->snapshot : snapshot_ == worker_.snapshot);
}

// Which relations of the session hide others. In the middle of a batch the last answer has to do.
net::Task<Status> Session::ask_temporary_names() {
  exec::Backend* home = snapshot_ ? backends_.held(snapshot_->home) : nullptr;
  const bool pinned = home != nullptr && home->pinned;
  if (!pinned) {
    temporary_.names.clear();
    temporary_.any = false;
  }
  const std::vector<std::string>& path = plan_settings_->search_path;
  const bool known = temporary_.known && temporary_.path == path;
  if (!pinned || known || failed_ || !home->conn->idle() || !home->conn->alive() || home->conn->open_batch())
    co_return Status{};
  auto rows = co_await home->conn->query(router::ask_temporary_names(path));
  if (!rows.ok()) co_return std::move(rows.error());
  temporary_.names.clear();
  temporary_.any = !rows->rows.empty();
  for (const auto& row : rows->rows)
    if (*row[1] == "t") temporary_.names.insert(*row[0]);
  temporary_.path = path;
  temporary_.known = true;
  co_return Status{};
}

namespace {

// Statements that were prepared with standard strings would be read otherwise now. (Those prepared since have E'…'.)
void forget_backslashes(ExtendedState& state) {
  std::erase_if(state.statements, [](const auto& entry) {
    return !entry.second->old_strings && entry.second->sql.find('\\') != std::string::npos;
  });
}

}  // namespace

net::Task<Status> Session::refresh_context() {
  if (context_current()) co_return Status{};
  snapshot_ = staged_ ? staged_->snapshot : worker_.snapshot;
  database_ = snapshot_->database(backends_.database());
  if (database_ != nullptr) backends_.set_oid_maps(database_->oid_maps);
  if (database_ == nullptr) {
    co_return make_error("3D000", "database \"" + backends_.database() + "\" is not part of the cluster",
                         "Create databases with CREATE DATABASE through the router.");
  }
  std::string key = backends_.user() + '\0' + backends_.database();
  for (const auto& [name, sql] : *backends_.settings())
    if (decides_plans(name)) key += '\0' + sql;
  auto known = worker_.plan_settings.find(key);
  if (known == worker_.plan_settings.end() || local_path_) {
    // Ask a PostgreSQL: defaults may come from the role, the database or the server.
    exec::Backend* participant = nullptr;
    for (auto& backend : backends_.all())
      if ((backend->begun ? !failed_ : !backends_.in_transaction()) && backend->conn->idle() &&
          backend->conn->alive() && !backend->conn->open_batch())
        participant = backend.get();
    pool::ServerConn* conn = participant ? participant->conn.get() : nullptr;
    if (conn == nullptr) {
      CO_TRY_ASSIGN(conn, co_await backends_.borrow(snapshot_->home));
    }
    auto rows = co_await conn->query(kAskPlanSettings);
    if (participant == nullptr) backends_.give_back();
    if (!rows.ok()) co_return std::move(rows.error());
    auto settings = std::make_shared<const PlanSettings>(read_plan_settings(*rows, backends_.user()));
    if (local_path_) {
      plan_settings_ = settings;
    } else {
      known = worker_.plan_settings.insert_or_assign(key, settings).first;
    }
  }
  if (!local_path_) plan_settings_ = known->second;
  if (extended_ && plan_settings_->old_strings) forget_backslashes(*extended_);
  path_settings_ = backends_.settings();
  CO_TRY(co_await ask_temporary_names());
  std::string description = backends_.database() + '\0' + std::to_string(snapshot_->epoch) + '\0' + backends_.user();
  if (staged_)
    description += std::string(1, '\0') + "staged " + std::to_string(pid_) + "/" + std::to_string(staged_serial_);
  for (const std::string& schema : plan_settings_->search_path) description += '\0' + schema;
  description += '\0' + std::to_string(static_cast<int>(plan_settings_->encoding));
  description += plan_settings_->comparable_output ? "" : " incomparable";
  if (temporary_.any) description += std::string(1, '\0') + "temporary " + std::to_string(pid_);
  for (const std::string& name : temporary_.names) description += '\0' + name;
  plan_context_id_ = worker_.plans.context_id(description);
  co_return Status{};
}

// Between waits of the router's own: nobody wants the statement any more.
Status Session::interrupted() const {
  if (client_gone_ || closing_) return make_error("57P01", "terminating connection due to administrator command");
  if (deadlock_) return Error(*deadlock_);
  if (cancelled_ || timed_out_)
    return make_error("57014",
                      std::string("canceling statement due to ") + (timed_out_ ? "statement timeout" : "user request"));
  return {};
}

// Waits before the gate; what was planned must be looked at again behind it.
net::Task<Status> Session::enter_names(bool planning) {
  const int64_t deadline_us = worker_.loop.now_us() + kGatePatienceUs;
  while (!names_.enter(backends_.database())) {
    if (worker_.loop.now_us() > deadline_us)
      co_return make_error("55P03", "a schema change of this database is not finished: a group does not answer",
                           "Try again when all groups do. What it made is not known before.");
    co_await worker_.loop.sleep(kGateWaitUs);
    CO_TRY(interrupted());
  }
  // The open transaction's own catalog does not know what others have made since.
  const bool behind =
      planning && staged_ && worker_.snapshot->database(backends_.database()) != staged_->published.get();
  if (!behind) co_return Status{};
  names_.leave();
  co_return make_error("40001", "could not serialize access due to a concurrent schema change",
                       "Retry the transaction: it changed the schema itself, and others have since.");
}

net::Task<Status> Session::refresh_context_for(std::string_view sql) {
  Status status = co_await refresh_context();
  if (status.ok() || database_ == nullptr || !plan_settings_ || backends_.in_transaction()) co_return status;
  // The session's role may be gone, say.
  sql::TokenScanner scanner(sql);
  const sql::Token first = scanner.next();
  for (const char* word : {"set", "reset", "discard"})
    if (scanner.is_word(first, word)) co_return Status{};
  co_return status;
}

plan::PlanContext Session::plan_context(const std::vector<pg::Oid>& types) const {
  const Config& config = *worker_.config;
  plan::PlanContext context;
  context.snapshot = snapshot_.get();
  context.database = database_;
  context.search_path = plan_settings_->search_path;
  context.comparable_output = plan_settings_->comparable_output;
  context.user = backends_.user();
  context.default_sharded = config.sharding.default_table_type == DefaultTableType::sharded;
  context.partitions_sharded = config.sharding.partitioned_table_type == DefaultTableType::sharded;
  context.default_shard_count = static_cast<uint32_t>(config.sharding.default_shard_count);
  context.parameter_types = types;
  if (temporary_.any) context.temporary = &temporary_.names;
  context.bytewise_default_collation = database_->bytewise_default;
  return context;
}

// The plan of a statement whose shape is in worker_.shape, from the cache or made now. `prepared`: its literals cannot
// be had from the statement's text later.
net::Task<Result<CachedPlan>> Session::plan_of(std::string_view sql, const std::vector<pg::Oid>& types, bool prepared) {
  const sql::Shape& shape = worker_.shape;
  if (auto error = check_encoding(*plan_settings_, sql, shape)) {
    auto refused = std::make_shared<plan::Plan>();
    refused->kind = plan::PlanKind::unsupported;
    refused->error = std::move(error);
    co_return CachedPlan(std::move(refused));
  }
  const bool typed = std::any_of(types.begin(), types.end(), [](pg::Oid type) { return type != 0; });
  auto context_id = [&] {
    if (!typed) return plan_context_id_;
    std::string description = "types " + std::to_string(plan_context_id_);
    for (pg::Oid type : types) description += " " + std::to_string(type);
    return worker_.plans.context_id(description);
  };
  const uint32_t context = context_id();
  const CachedPlan* found = shape.complete ? worker_.plans.find(sql, shape, context) : nullptr;
  bool usable = found != nullptr && !(prepared && found->plan->rewritten_literals);
  if (usable && !found->plan->views.empty()) {
    const CachedPlan kept = *found;
    CO_TRY_ASSIGN(usable, co_await ViewUse(*this).use(*kept.plan));
    if (usable) co_return kept;
    CO_TRY(co_await refresh_context());
  }
  if (usable) {
    WorkerStats::add(worker_.stats.plan_hits);
    co_return *found;
  }
  CO_TRY_ASSIGN(plan::PlanPtr planned, co_await ViewUse(*this).plan(sql, types));
  CachedPlan made(std::move(planned));
  // Where views were read another session may have used the worker's shape, and the context may be a new one.
  sql::scan_shape(sql, worker_.shape);
  if (made.plan->cacheable && shape.complete && shape.single_statement) worker_.plans.insert(shape, context_id(), made);
  co_return made;
}

plan::PlanPtr Session::plan_text(std::string_view sql, const std::vector<pg::Oid>& types, plan::ViewsMet* views) {
  WorkerStats::add(worker_.stats.plan_misses);
  if (sql::is_layout_command(sql)) return std::make_shared<const plan::Plan>(plan_layout_command(sql));
  auto plan = std::make_shared<plan::Plan>();
  auto text = with_layout({*worker_.context.control, *database_, backends_.user()}, sql);
  if (text.ok()) {
    plan::PlanContext context = plan_context(types);
    plan::ViewsMet met;
    context.views = views == nullptr ? &met : views;
    *plan = plan::plan_statement(*text, context);
    plan->views = context.views->bound;
    if (!context.views->unread.empty()) plan->cacheable = false;
  } else {
    plan->kind = plan::PlanKind::unsupported;
    plan->error = std::move(text.error());
  }
  take_router_call(sql, *plan);
  take_saga_call(sql, plan_context(types), *plan);
  return plan;
}

exec::Values Session::values_of(std::string_view sql, const sql::Shape& shape, const pg::BindMessage* bind,
                                const plan::Plan& plan) const {
  exec::Values values;
  values.sql = sql;
  values.shape = &shape;
  values.bind = bind;
  values.null_is_value = plan.command == "INSERT";
  values.text.server_encoding = plan_settings_->encoding == PlanSettings::Encoding::server;
  return values;
}

}  // namespace pgmosaic::router
