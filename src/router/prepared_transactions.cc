#include "router/prepared_transactions.h"

#include <algorithm>

#include "base/log.h"
#include "exec/control.h"
#include "router/move_rows.h"
#include "router/number_source.h"
#include "router/saga_calls.h"
#include "router/view_use.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

// What other groups know is found again by its name, as the router reads it.
Status check_name(const std::string& name, const PlanSettings& settings) {
  if (exec::Gid::reserved(name))
    return make_error("42939", "transaction identifier \"" + name + "\" is reserved",
                      "Identifiers that begin with pgmosaic belong to the router.");
  const bool ascii = std::all_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii || settings.encoding == PlanSettings::Encoding::server) return {};
  return make_error("0A000", "transaction identifiers beyond ASCII under this client_encoding",
                    "SET client_encoding = 'UTF8', or use another identifier.");
}

}  // namespace

net::Task<Status> PreparedTransactions::prepare(const plan::SessionCommand& command, std::string_view sql) {
  if (!s_.backends_.in_transaction() || s_.implicit_) {
    pg::write_notice(s_.out_, "25P01", "there is no transaction in progress", {}, {}, "WARNING");
    s_.put_complete("ROLLBACK");
    co_return Status{};
  }
  const bool holds = std::any_of(s_.cursors_.begin(), s_.cursors_.end(), [](const auto& entry) {
    return entry.second.group == 0 && entry.second.hold && !entry.second.committed;
  });
  Status refused = check_name(command.name, *s_.plan_settings_);
  // Roles made in a transaction, and logins, are seen to by its session at the end.
  if (s_.renew_pools_ || s_.backends_.makes_roles())
    refused = make_error("0A000", "PREPARE TRANSACTION of a transaction that changed a role or a database",
                         "Use COMMIT, which is atomic over all groups of the transaction.");
  if (SagaCalls(s_).pending())
    refused = make_error("0A000", "PREPARE TRANSACTION of a transaction with steps of a saga", "Use COMMIT.");
  if (holds) refused = make_error("0A000", "cannot PREPARE a transaction that has created a cursor WITH HOLD");
  if (s_.failed_ || !refused.ok()) {
    const bool was_failed = s_.failed_;
    co_await s_.abort_transaction();
    if (!was_failed) co_return refused;
    s_.put_complete("ROLLBACK");
    co_return Status{};
  }
  (void)(co_await NumberSource(s_).take_over());  // what it drew from may be locked behind this
  const exec::GroupId watched = s_.watch_parameters();
  s_.names_.leave();
  exec::Parking parking{s_.backends_.database(), command.name};
  parking.moved_tables = s_.backends_.moved_tables();
  parking.staged = s_.staged_;
  Status status = co_await s_.backends_.prepare_transaction(s_.snapshot_->home, sql, std::move(parking));
  s_.out_ += s_.backends_.take_notices();
  s_.report_changes(watched);
  s_.end_of_transaction(status.ok());
  if (status.ok()) s_.put_complete("PREPARE TRANSACTION");
  co_return status;
}

net::Task<Status> PreparedTransactions::decide(const plan::SessionCommand& command, std::string_view sql) {
  if (exec::Gid::reserved(command.name))
    co_return make_error("42704", "prepared transaction with identifier \"" + command.name + "\" does not exist");
  CO_TRY(check_name(command.name, *s_.plan_settings_));
  NumberSource(s_).sequences_change();
  const bool commits = command.kind == plan::SessionCommand::Kind::commit_prepared;
  exec::ClusterControl& control = *s_.worker_.context.control;
  const std::string database = s_.backends_.database();
  const auto parked = control.find_parked(database, command.name);
  if (!parked) co_return co_await s_.cursor_on_group(s_.snapshot_->home, sql, {.writes = true});
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  std::shared_ptr<NamesClosed> closed;
  std::optional<MovesCommitting> committing;
  exec::Showing showing(s_.worker_.context.commit->gate(), database);
  if (commits && !s_.backends_.in_transaction()) {
    s_.names_.leave();
    CO_TRY_ASSIGN(closed,
                  co_await close_names(s_.worker_.loop, s_.worker_.context.names, database, parked->makes_names));
    if (parked->changes_schema) {
      CO_TRY_ASSIGN(
          closed, co_await close_views(s_.worker_.loop, s_.worker_.context, database, &s_, nullptr, std::move(closed)));
    }
    co_await may_commit_moves(s_.worker_.loop, s_.worker_.context.moves, database, parked->moved_tables);
    if (!parked->moved_tables.empty()) committing.emplace(s_.worker_.context.moves, database, parked->moved_tables);
    co_await showing.begin(s_.worker_.loop);
  }
  const std::string text(sql);
  (*home)->conn->finishing = true;
  auto told = co_await (*home)->conn->query(text);
  const bool lost = !(*home)->conn->alive();
  if (!lost) (*home)->conn->finishing = false;
  if (told.ok() || lost) {
    co_await control.settle_parked(s_.worker_.loop, database, command.name, std::move(closed));
    if (parked->changes_schema) s_.worker_.context.blocks.drop_all();
  }
  s_.drop_broken_backends();
  if (lost)
    co_return make_error("08007",
                         std::string("the connection to the group was lost during ") +
                             (commits ? "COMMIT" : "ROLLBACK") + " PREPARED: the outcome of the transaction is unknown",
                         "pg_prepared_xacts shows it if it is still prepared.");
  if (!told.ok()) co_return std::move(told.error());
  s_.out_ += told->notices;
  s_.put_complete(told->tag);
  co_return Status{};
}

}  // namespace pgmosaic::router
