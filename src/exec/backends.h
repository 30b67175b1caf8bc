// Backends: what one session holds – its backends, by group – and the transaction that spans them.
//
// Lifecycle: a statement asks for the backends of its groups (get); they come from the pool with the session's settings
// and, inside a transaction, with BEGIN, savepoints and SET LOCALs in the same round trip. Between transactions what is
// not pinned goes back. commit() is one-phase when at most one group wrote, else two_phase.h. Of the session's thread.
#pragma once

#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "catalog/catalog.h"
#include "exec/commit_services.h"
#include "net/task.h"
#include "plan/plan.h"
#include "pool/pool.h"

namespace pgmosaic::exec {

// Sent where currval and lastval would speak of a backend's earlier sessions.
inline constexpr const char* kForgetSequences = "DISCARD SEQUENCES";

// Of a transaction; READ UNCOMMITTED is READ COMMITTED.
enum class Isolation : uint8_t { read_committed, repeatable_read, serializable };
Error beyond_one_group();  // 0A000

struct Backend {
  GroupId group = 0;
  std::unique_ptr<pool::ServerConn> conn;
  bool pinned = false;  // stays with the client until it disconnects or DISCARDs
  bool begun = false;   // takes part in the open transaction
  bool wrote = false;
  bool not_preparable = false;
  std::size_t joined_at = 0;       // position in the transaction's replay list
  pool::Settings settings_before;  // of the backend, outside the transaction
  bool settle_first = false;       // the role must be in force before a statement is sent
  uint64_t unnamed_statement = 0;  // session's serial of the unnamed statement parsed on this backend
  // What the session may have drawn here that nobody has read yet; the backend stays with it until then.
  catalog::Draws draws;
  bool drew = false;        // any number at all: the next session must not see it
  bool knows_last = false;  // lastval() is its answer alone, also where that is an error
};

class Backends {
 public:
  Backends(net::EventLoop& loop, pool::Pool& pool, CommitServices& services)
      : loop_(loop), pool_(pool), services_(services) {}
  ~Backends() { drop_all(); }

  void open_session(std::string user, std::string database, pool::Settings settings);
  void set_oid_maps(std::shared_ptr<const catalog::OidMaps> maps) { oid_maps_ = std::move(maps); }
  void set_client_pid(uint32_t pid) { client_pid_ = pid; }
  // The client proved no password: see pool::Pool::entry. REQUIRES: no backend was taken yet.
  void trust() { trusted_ = true; }
  const std::string& user() const { return user_; }
  const std::string& database() const { return database_; }

  // --- settings (DESIGN §4) ---
  const pool::Settings& settings() const { return settings_; }
  void set_settings(pool::Settings settings) { settings_ = std::move(settings); }
  // A role is set: it must be in force before a statement is sent, so get_now() never has a backend.
  bool has_role() const { return settings_->contains("role") || settings_->contains("session_authorization"); }

  // --- transaction ---
  bool in_transaction() const { return in_transaction_; }
  // `begin_sql` is sent to each group when it joins ("BEGIN ISOLATION LEVEL …").
  void begin(std::string begin_sql);
  int64_t began_us() const { return began_us_; }
  bool gives_way = false;  // what runs outside of a transaction would rather be a deadlock's victim: it runs again
  const std::string& begin_sql() const { return begin_sql_; }
  void set_begin_sql(std::string sql) { begin_sql_ = std::move(sql); }
  // The same for backends that are already in PostgreSQL's implicit transaction (the caller sends them BEGIN).
  void begin_around(std::string begin_sql, const std::vector<Backend*>& joined);
  void add_begin_option(const std::string& sql) { record_local(sql); }
  Isolation isolation() const { return isolation_; }
  // Of the transaction just begun. `groups`: all of which REPEATABLE READ takes the snapshots, which agree, with its
  // first statement (repeatable_read.cc); empty: each group's is its own.
  void set_isolation(Isolation isolation, std::vector<GroupId> groups = {});
  bool owes_snapshots() const { return !snapshot_groups_.empty(); }
  // Of the next statement: `nothing` (SHOW, SET) and `locks` (LOCK TABLE) take no snapshot.
  enum class Touch : uint8_t { rows, locks, nothing };
  void set_touch(Touch touch) { touch_ = touch; }
  // Before a statement that reads or writes rows of these groups. Error: it would be a SERIALIZABLE
  // transaction's second one, and PostgreSQL knows of the conflicts within one group only.
  Status may_reach(std::span<const GroupId> groups);
  // The group that took part first: its now() is the transaction's. 0: none has, or no transaction is open.
  GroupId first_group() const { return first_group_; }
  // Of which it has moved rows to other groups.
  std::set<catalog::Oid>& moved_tables() { return moved_tables_; }
  // A statement that a group joining later must run too (SET LOCAL, SET TRANSACTION, SET CONSTRAINTS).
  void record_local(std::string sql) { replay_.push_back({Replay::Kind::local, {}, std::move(sql), settings_}); }
  // `staged`: the schema as the transaction has changed it so far.
  void savepoint(const std::string& name, std::shared_ptr<const StagedSchema> staged);
  bool has_savepoint(const std::string& name) const;
  // Numbers what the transaction makes, in one order with its savepoints: a larger number than a savepoint's is of
  // something made behind it.
  uint64_t next_moment() { return ++moments_; }
  uint64_t moment_of(const std::string& savepoint) const;
  void released(const std::string& name);
  // After ROLLBACK TO on all participants: settings go back; late joiners get them applied. Returns the schema as it
  // was.
  std::shared_ptr<const StagedSchema> rolled_back_to(const std::string& name);

  // A role that the transaction has made, which its server has already: router/new_roles.h.
  void note_role(std::string name) { roles_.emplace_back(std::move(name), replay_.size()); }
  // A role that the transaction has dropped and made again: another backend of its server has the one from before.
  std::set<std::string>& remade_roles() { return remade_roles_; }
  // Those whose making has been rolled back, or may have been: not any more in this transaction, or in none.
  std::vector<std::string> take_lost_roles();

  // Error: it was rolled back (40001, deferred constraints, lost connections), or the outcome is unknown (08007).
  net::Task<Status> commit(CommitHook* hook = nullptr);
  // The end of a transaction of one read, whose COMMIT has gone along with it (exec::Request::commit).
  net::Task<void> finish_reads();
  // PREPARE TRANSACTION of the client's own, `sql`; the home prepares it under the client's name. Error: it was rolled
  // back, or the outcome is unknown (08007).
  net::Task<Status> prepare_transaction(GroupId home, std::string_view sql, Parking parking);
  bool makes_roles() const { return !roles_.empty() || !remade_roles_.empty(); }
  // What the groups have said meanwhile (deferred triggers), as whole messages; since the last call.
  std::string take_notices() { return std::exchange(notices_, {}); }
  const std::string& committing() const { return committing_; }      // gid, while it is prepared and committed
  uint64_t two_phase_commits() const { return two_phase_commits_; }  // of this session, decided to commit
  net::Task<void> rollback();
  // Behind an error: all participants fail, and let go of their locks. ROLLBACK TO brings them back.
  net::Task<void> fail_participants();

  // --- backends ---
  Backend* held(GroupId group);
  std::vector<std::unique_ptr<Backend>>& all() { return held_; }
  // A ready backend without waiting, or null.
  Backend* get_now(GroupId group);
  net::Task<Result<Backend*>> get(GroupId group);
  // Backends of all these groups, in order. On error those taken stay held until release_idle().
  net::Task<Result<std::vector<Backend*>>> get_all(const std::vector<GroupId>& groups);
  // A connection beside those held, for a question of the router: outside the transaction, with the session's settings
  // queued. cancel() reaches it. REQUIRES: give_back() before the next borrow().
  net::Task<Result<pool::ServerConn*>> borrow(GroupId group);
  void give_back();
  // Queues what the backend needs before the session's next statement (settings, BEGIN, replays).
  void prepare(Backend& backend);

  // Gives back what is neither pinned nor in the transaction.
  void release_idle();
  // Closes a backend that is broken or abandoned in mid-statement.
  void drop(Backend& backend);
  void drop_all();
  // A backend of the open transaction died: it cannot commit any more.
  bool lost_participant() const { return in_transaction_ && lost_participant_; }
  // Session pooling: backends stay with the client until it leaves.
  void keep_all(bool keep) { keep_all_ = keep; }
  // Queues what must run before the statement that pins.
  void pin(Backend& backend) {
    if (!backend.pinned) forget_numbers(backend);
    backend.pinned = backend.conn->tainted = true;
  }
  // Queues what makes it forget numbers of sequences that others have drawn.
  static void forget_numbers(Backend& backend);
  // A statement that may draw, or asks, is to run there next.
  static void note_draws(Backend& backend, const catalog::Draws& draws) {
    if (!draws.any()) return;
    forget_numbers(backend);
    backend.draws.add(draws);
    backend.drew = backend.drew || draws.draws();
  }
  // What must be done before a statement with these effects is sent.
  void prepare_effects(Backend& backend, const plan::Effects& effects) {
    if (effects.draws.any()) forget_numbers(backend);
    if (effects.pins) pin(backend);
  }
  // A backend with draws to be read, outside a transaction; null: none. Of one that stays with the session only until
  // it is known to have drawn.
  Backend* with_draws();
  // Nobody will read them.
  void forget_draws();
  // Of backends that were lost with them, since the last call.
  catalog::Draws take_lost_draws() { return std::exchange(lost_draws_, {}); }
  bool keeps(const Backend& backend) const { return keep_all_ || backend.pinned; }
  bool pinned(GroupId group) {
    const Backend* backend = held(group);
    return backend != nullptr && backend->pinned;
  }
  // Unpins everything and cleans it (DISCARD ALL, end of session).
  void unpin_all();

  // Cancels what runs for this session right now, and any wait for a backend.
  void cancel();
  bool waiting() const { return waiting_ != nullptr; }
  // A backend with state of the session's own (temporary tables, session locks, LISTEN) has gone.
  bool lost_pinned() const { return lost_pinned_; }

 private:
  struct Replay {
    enum class Kind : uint8_t { savepoint, local } kind;
    std::string name, sql;
    pool::Settings settings;  // when a savepoint was set
    std::shared_ptr<const StagedSchema> staged = {};
    uint64_t moment = 0;
  };
  pool::PoolEntry& entry(GroupId group);
  void use_oid_map(Backend& backend);
  Backend* adopt(GroupId group, std::unique_ptr<pool::ServerConn> conn);
  net::Task<Result<std::unique_ptr<pool::ServerConn>>> acquire(GroupId group);
  net::Task<Result<Backend*>> settle(Backend* backend);
  net::Task<Status> take_transaction_snapshots(GroupId first);
  net::Task<void> begin_again(const std::vector<Backend*>& backends);
  void end_transaction(bool committed);
  net::Task<Status> commit_participants(CommitHook* hook);
  net::Task<Status> commit_one_phase(const std::vector<Backend*>& readers, Backend* writer,
                                     std::string_view sql = "COMMIT", const char* tag = "COMMIT");
  net::Task<Status> undone(Error error);
  net::Task<Status> commit_two_phase(const std::vector<Backend*>& writers, CommitHook* hook);
  net::Task<Status> prepare_others(TwoPhase& machine);
  net::Task<Status> tell_anchor(TwoPhase& machine, const char* tag);
  net::Task<Status> park(GroupId home, std::string_view sql, const Parking& parking);
  net::Task<void> phase_two(TwoPhase& machine);
  net::Task<Status> run_on(Backend& backend, std::string_view sql, const char* expected_tag);

  net::EventLoop& loop_;
  pool::Pool& pool_;
  CommitServices& services_;
  std::string user_, database_;
  std::shared_ptr<const catalog::OidMaps> oid_maps_;
  pool::Settings settings_, settings_at_begin_;
  std::vector<std::unique_ptr<Backend>> held_;
  std::unique_ptr<pool::ServerConn> borrowed_;
  std::vector<std::pair<GroupId, pool::PoolEntry*>> entries_;
  uint64_t two_phase_commits_ = 0;
  int64_t began_us_ = 0;
  std::string notices_, committing_;
  uint32_t client_pid_ = 0;
  bool in_transaction_ = false, lost_participant_ = false, lost_pinned_ = false, keep_all_ = false, trusted_ = false;
  Isolation isolation_ = Isolation::read_committed;
  std::vector<GroupId> snapshot_groups_;
  Touch touch_ = Touch::rows;
  bool cancel_asked_ = false, used_before_ = false;  // the latter: more than SET and SHOW, before the snapshots
  GroupId first_group_ = 0, serial_group_ = 0;
  std::string begin_sql_;
  std::vector<Replay> replay_;
  std::set<catalog::Oid> moved_tables_;
  catalog::Draws lost_draws_;
  std::set<std::string> remade_roles_;
  uint64_t moments_ = 0;
  std::vector<std::pair<std::string, std::size_t>> roles_;  // each with its position among replay_
  pool::PoolWaiter* waiting_ = nullptr;
};

}  // namespace pgmosaic::exec
