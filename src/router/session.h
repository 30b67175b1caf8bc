// Session: one client connection, from its first byte to its last.
//
// A statement's way (read top to bottom): run() frames the client's messages → simple.cc or extended.cc finds the plan
// (planning.cc: shape cache, then the planner) → the groups (exec/keys.h) → backends (exec/backends.h) → relay.cc
// passes the replies through, or multi.cc lets exec/ combine several groups' replies → the client.
// A Session is one coroutine on its worker's thread; it ends by returning from run(). Views into input end with a wait.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "exec/backends.h"
#include "exec/control.h"
#include "exec/keys.h"
#include "exec/row_reader.h"
#include "net/listener.h"
#include "net/stream.h"
#include "net/task.h"
#include "pg/backend.h"
#include "pg/frontend.h"
#include "plan/planner.h"
#include "router/auth.h"
#include "router/client_text.h"
#include "router/context.h"
#include "router/extended.h"
#include "router/numbers.h"
#include "router/plan_settings.h"
#include "router/temporary.h"

namespace pgmosaic::router {

class Session {
 public:
  Session(Worker& worker, int fd, net::Peer peer);
  void serve_router(bool trusted) { inner_ = true, trusted_ = trusted; }  // its client: no password is asked
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  net::Task<void> run();

  // From other sessions and the worker's clock, on this thread.
  void cancel(std::unique_ptr<Error> deadlock = {});      // CancelRequest, pg_cancel_backend; what it is a victim of
  bool spans_groups(int64_t now_us, int64_t running_us);  // and has run for so long
  void terminate(const char* sqlstate, std::string message);
  void tick(int64_t now_us);  // a few times per second: timeouts, drain
  void close_when_idle();

  SessionInfo info();
  ClientState client_state() const;
  const std::string& user() const { return backends_.user(); }

 private:
  friend class PreparedSql;                              // prepared_sql.h
  friend class PreparedTransactions;                     // prepared_transactions.h
  friend class Explainer;                                // explain.h
  friend class TableFromQuery;                           // create_as.h
  friend class HomeChanges;                              // home_changes.h
  friend class SessionViews;                             // session_views.h
  friend class NumberSource;                             // number_source.h
  friend class ViewUse;                                  // view_use.h
  friend class SagaCalls;                                // saga_calls.h
  static constexpr std::size_t kRememberedBytes = 1024;  // of a statement, for logs and activity
  enum class State : uint8_t { login, idle, active };
  // --- session.cc: the loop ---
  net::Task<bool> next_input();  // waits for more bytes; false: the session ends
  net::Task<bool> handle(pg::MessageView message);
  net::Task<bool> pass_notifications();
  net::Task<void> hear_participants();  // exec/awake.h
  net::Task<void> end();
  void put_error(Error error, std::string_view severity = "ERROR");
  void put_ready();
  net::Task<bool> flush_out();            // sends out_; false: client gone
  bool send_now(std::string_view bytes);  // without waiting; the rest stays in out_
  net::Task<bool> throttle();             // waits until the client has taken most of out_
  char status_char() const;
  // --- login.cc ---
  net::Task<bool> login();
  net::Task<bool> startup();  // up to authentication
  net::Task<Status> authenticate();
  net::Task<Result<std::string>> password_message();
  net::Task<Status> greet();
  net::Task<Status> greet_admin();
  net::Task<bool> admin_message(pg::MessageView message);
  // --- planning.cc ---
  net::Task<Status> refresh_context();  // snapshot, search path → plan context
  net::Task<Status> enter_names(bool planning = true);
  net::Task<Status> refresh_context_for(std::string_view sql);  // the last one has to do for what may mend it
  net::Task<Status> ask_temporary_names();
  plan::PlanContext plan_context(const std::vector<pg::Oid>& types) const;
  net::Task<Result<CachedPlan>> plan_of(std::string_view sql, const std::vector<pg::Oid>& types, bool prepared);
  plan::PlanPtr plan_text(std::string_view sql, const std::vector<pg::Oid>& types, plan::ViewsMet* views = nullptr);
  Status interrupted() const;
  bool context_current();
  exec::Values values_of(std::string_view sql, const sql::Shape& shape, const pg::BindMessage* bind,
                         const plan::Plan& plan) const;
  // --- simple.cc ---
  net::Task<bool> simple_query(std::string_view body_in_buffer);
  net::Task<bool> run_string(std::string sql);
  net::Task<bool> function_call(pg::MessageView message);
  net::Task<Status> call_at_home(const std::string& message);
  net::Task<Status> run_statement(std::string_view sql);
  net::Task<Status> check_strings(std::string_view sql, bool old_strings);
  net::Task<Status> run_plan(std::string_view sql, const plan::PlanPtr& plan);
  // What cannot be planned may also be wrong: then the error is PostgreSQL's, else `ours`.
  net::Task<Status> refuse(std::string_view sql, Error ours);
  net::Task<Status> check_with_postgres(std::string_view sql);
  net::Task<Status> check_string(std::string_view sql, const std::vector<std::string_view>& statements);
  void rename_leaves(std::string& error_message) const;
  void rename_foreign_key(Error& error) const;
  void rename_statements(std::string& error_message) const;
  net::Task<Status> run_route(std::string_view sql, const plan::Plan& plan);
  void note_effects(exec::Backend& backend, const plan::Effects& effects);
  void start_statement();
  void end_statement();
  // --- fast.cc: the hot path ---
  exec::Backend* try_fast(const pg::MessageView& message);
  net::Task<Result<bool>> wait_and_go_fast(pg::MessageView& message, std::string& kept);
  bool may_go_fast();
  exec::Backend* fast_query(const pg::MessageView& message);
  exec::Backend* fast_batch(const pg::MessageView& first);
  exec::Backend* wait_for(exec::GroupId group);
  net::Task<bool> relay_fast(exec::Backend& backend);
  void remember_query(std::string_view sql);
  net::Task<void> run_again();
  bool run_on_leaf(exec::Backend& backend, const CachedPlan& cached, std::string_view sql, uint32_t shard);
  std::string_view leaf_statement(exec::Backend& backend, const plan::Plan& plan, LeafStatements& leaves,
                                  uint32_t shard, const std::vector<pg::Oid>& types);
  enum class Until : uint8_t { ready, answered };
  // relay.cc: passes replies of one backend to the client. Result: false if client or backend is gone.
  net::Task<bool> relay(exec::Backend& backend, Until until, bool forward_ready);
  enum class Relayed : uint8_t { done, need_more, broken, ended };  // ended: the backend is gone, the client knows
  Relayed relay_arrived(exec::Backend& backend, Until until, bool forward_ready, bool& copying);
  bool passes(const pool::Reply& reply, exec::Backend& backend, bool forward_ready);
  void pass_error(const pg::MessageView& message);
  net::Task<bool> hear_more(exec::Backend& backend);
  net::Task<bool> relay_copy_in(exec::Backend& backend);
  net::Task<bool> backend_lost(exec::Backend& backend);
  void drop_backend(exec::Backend& backend);
  void observe(const pool::Reply& reply, exec::Backend& backend);
  // --- commands.cc ---
  net::Task<Status> run_command(const plan::SessionCommand& command, std::string_view sql);
  net::Task<Status> run_transaction_command(const plan::SessionCommand& command, std::string_view sql);
  void forget_cursors(uint64_t moment);
  net::Task<Status> run_savepoint(const plan::SessionCommand& command);
  // --- set_commands.cc ---
  net::Task<Status> run_setting(const plan::SessionCommand& command);
  net::Task<Status> set_on_backends(const std::vector<std::string>& statements, std::vector<exec::Backend*>& targets);
  net::Task<Status> run_characteristics(const plan::SessionCommand& command);
  net::Task<Status> run_set_transaction(const plan::SessionCommand& command, std::string_view sql);
  net::Task<Status> read_back_settings(std::string_view sql);
  // --- cursors.cc ---
  net::Task<Status> run_cursor(const plan::SessionCommand& command, std::string_view sql);
  net::Task<Status> declare_cursor(const plan::SessionCommand& command, std::string_view sql);
  net::Task<Status> fetch_router_cursor(SqlCursor& cursor, std::string_view sql);
  net::Task<Status> cursor_on_group(exec::GroupId group, std::string_view sql, const plan::Effects& effects);
  net::Task<Status> describe_cursor(const std::string& name);
  net::Task<Status> run_discard_all();
  net::Task<Status> commit_transaction();
  net::Task<void> abort_transaction();
  void end_of_transaction(bool committed);
  net::Task<Status> on_participants(std::string_view sql, bool forward_first);
  void begin_transaction(std::string sql, bool implicit);
  void note_isolation(std::string_view sql);
  exec::GroupId watch_parameters();
  void report_changes(exec::GroupId watched);
  void put_complete(std::string_view tag);
  // --- extended.cc ---
  net::Task<bool> extended(pg::MessageView message);
  net::Task<bool> start_batch(pg::MessageView& message, std::string& kept);
  net::Task<Status> on_parse(std::string_view body);
  net::Task<Status> on_bind(pg::MessageView message);
  net::Task<Status> on_describe(pg::MessageView message);
  net::Task<Status> describe_command(const plan::Plan& plan, const Portal* portal);
  net::Task<Status> columns_of_command(const plan::SessionCommand& command, std::vector<pg::FieldDescription>& fields);
  net::Task<Status> on_execute(pg::MessageView message);
  net::Task<Status> on_close(std::string_view body);
  net::Task<Status> upgrade_batch(bool implicit);
  net::Task<Result<std::vector<pg::Oid>>> parameter_types(Prepared& statement, std::size_t count);
  net::Task<Status> plan_prepared(Prepared& statement);
  net::Task<Status> check_bind(Prepared& statement, const pg::BindMessage& bind);
  exec::GroupId any_group();
  net::Task<bool> on_sync();
  net::Task<void> sync_batch();
  void forget_batch();
  bool about_owed(const pg::MessageView& message);
  net::Task<Result<exec::Backend*>> use_group(exec::GroupId group);
  net::Task<Status> settle_current();
  net::Task<void> end_batch();
  net::Task<Status> send_owed_parse(exec::GroupId group);
  void ensure_statement(exec::Backend& backend, const PreparedPtr& statement, bool owed);
  void prepare_on(pool::ServerConn& conn, uint32_t number, std::string_view name, std::string_view sql,
                  const std::vector<pg::Oid>& types, bool internal);
  net::Task<Status> execute_portal(Portal& portal, int32_t max_rows);
  net::Task<Status> execute_command(std::string_view sql, const plan::PlanPtr& plan, const pg::BindMessage& bind);
  net::Task<Status> replan(PreparedPtr& statement);
  net::Task<Status> renew(PreparedPtr& statement);
  PreparedPtr known_unnamed(const pg::ParseMessage& parse) const;
  void keep_unnamed(const PreparedPtr& statement);
  void name_on_groups(Prepared& statement);
  net::Task<Status> join_batch(exec::GroupId group);
  ExtendedState& ext();
  // --- multi.cc: several groups; moments.cc; fill.cc; router_calls.cc; schema.cc ---
  net::Task<Status> run_multi(const plan::Plan& plan, struct Execution& execution);
  net::Task<Status> run_parts(const plan::Plan& plan, const Execution& execution,
                              const std::vector<struct Split>& parts, std::vector<std::size_t> order);
  net::Task<Status> end_own_transaction(Status status, bool commit_sent = false);
  net::Task<Status> run_key_change(const plan::Plan& plan, Execution& execution);  // move_rows.cc
  bool needs_moment(const plan::Plan& plan, const exec::Resolution& where);
  net::Task<Status> run_at_moment(const plan::Plan& plan, Execution& asked);
  net::Task<Status> run_filled(const plan::Plan& plan, const Execution& asked);
  net::Task<Status> run_signal(Execution& execution);
  net::Task<Status> run_ddl(const plan::Plan& plan);
  net::Task<Status> change_schema(const plan::Ddl& ddl, std::string& tag, struct SchemaStep* step);
  net::Task<Status> apply_ddl(const plan::Ddl& ddl, std::string& tag, SchemaStep* step);
  net::Task<Status> run_database_ddl(const plan::Ddl& ddl);
  net::Task<Status> split_insert(const plan::Plan& plan, Execution& execution, std::vector<Split>& parts,
                                 std::vector<std::size_t>& order);
  void drop_broken_backends();
  net::Task<Result<exec::Resolution>> locate(const plan::Plan& plan, Execution& execution);
  net::Task<Result<std::string>> text_for_group(const plan::Plan& plan, std::string_view sql, bool several = false);
  net::Task<Status> run_copy_in(std::string_view sql, const plan::Plan& plan);
  net::Task<Result<uint64_t>> copy_to(std::string_view text, const plan::Plan& plan, std::vector<exec::GroupId> groups);
  net::Task<Status> split_copy(const plan::Plan& plan, std::vector<exec::RowReader>& readers, uint64_t& rows);
  net::Task<Result<bool>> next_copy_data(std::string& payload);
  class CopyRun;
  Worker& worker_;
  net::Stream client_;
  net::Peer peer_;
  pg::InBuffer in_;
  std::string out_;
  exec::Backends backends_;
  std::unique_ptr<ExtendedState> extended_;
  std::unique_ptr<class AdminConsole> admin_;   // not null: this session is on the admin database
  std::string announced_copy_, held_complete_;  // CopyInResponse; CommandComplete until the implicit one has committed
  catalog::SnapshotPtr snapshot_;               // the worker's, or the open transaction's own
  const catalog::Database* database_ = nullptr;
  exec::StagedPtr staged_;  // schema changed in the open transaction
  PlanSettingsPtr plan_settings_;
  pool::Settings path_settings_;                      // plan_settings_ belong to these
  bool local_path_ = false;                           // SET LOCAL of one of them is in force
  uint32_t plan_context_id_ = 0, staged_serial_ = 0;  // the latter tells successive staged_ of one session apart
  TemporaryNames temporary_;
  NamesHeld names_;
  std::vector<catalog::Oid> views_in_use_;  // of the statement at hand
  pool::SettingsMap startup_settings_;
  std::string last_query_, again_, begin_modes_, application_name_;  // again_: where leaf_failed_; modes: AND CHAIN
  const char* last_plan_ = "";
  ClientText text_;  // where its errors are
  std::unordered_map<std::string, SqlCursor> cursors_;
  SequenceNumbers numbers_{backends_};
  std::unique_ptr<struct SessionSagas> sagas_;
  std::unique_ptr<BlocksSuspended> sequences_change_;  // its own statements may change sequences
  plan::Effects command_effects_;                      // of the session command at hand
  int64_t connected_us_ = 0, active_since_us_ = 0, idle_since_us_ = 0, closing_since_us_ = 0, nudged_us_ = 0;
  State state_ = State::login;
  bool failed_ = false, implicit_ = false, changed_schema_ = false;  // the open transaction: 25P02; of one query string
  bool statement_failed_ = false, hold_complete_ = false, suppress_ready_ = false, timed_out_ = false;  // of one
  bool client_gone_ = false, closing_ = false, close_when_idle_ = false, trusted_ = false, cancelled_ = false;
  uint32_t pid_ = 0, secret_ = 0, copy_rest_ = 0;  // copy_rest_: bytes of a CopyData message still to come
  bool copy_ended_ = false, router_failed_ = false, inner_ = false;  // by client; of a batch; see serve_router()
  exec::RowSink* rows_to_ = nullptr;             // in place of the client: rows that the router wants for itself …
  std::optional<std::string_view> copy_source_;  // … and rows that it copies, what is left of them
  class CopyValues* copy_values_ = nullptr;      // of the COPY at hand, where it leaves some to the home
  std::optional<std::vector<PasswordChange>> renew_pools_;  // roles changed in the open transaction; new passwords
  bool parse_complete_owed_ = false, buffering_ = false, leaf_failed_ = false, nudged_ = false;  // buffering_: in out_
  exec::GroupId wanted_group_ = 0;                 // no backend of it was free for the fast way
  std::shared_ptr<LeafStatements> leaves_in_use_;  // of the point statement in again_
  std::unique_ptr<Error> termination_, deadlock_;  // the last words, a cancelled statement's; few sessions need any
};

}  // namespace pgmosaic::router
