// Schema changes: the same statements on every group in one distributed transaction, then the catalog.
#include <algorithm>
#include <cctype>

#include "base/log.h"
#include "catalog/hashing.h"
#include "exec/control.h"
#include "router/create_as.h"
#include "router/databases.h"
#include "router/execution.h"
#include "router/index_work.h"
#include "router/layout.h"
#include "router/new_columns.h"
#include "router/new_roles.h"
#include "router/new_tables.h"
#include "router/number_source.h"
#include "router/passwords.h"
#include "router/patience.h"
#include "router/server_ddl.h"
#include "router/session.h"
#include "router/subscriptions.h"
#include "router/worker.h"
#include "sql/layout.h"

namespace pgmosaic::router {

namespace {

// Leaves belong to the owner of their table. Run by who has changed that owner, with the same rights.
constexpr const char* kFollowOwner = R"(DO LANGUAGE plpgsql $pgmosaic$
DECLARE
  leaf record;
BEGIN
  FOR leaf IN
    SELECT pg_catalog.format('ALTER TABLE pgmosaic_shards.%I OWNER TO %I', c.relname,
                             pg_catalog.pg_get_userbyid(p.relowner)) AS command
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
         JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'pgmosaic_shards' AND c.relkind IN ('r', 'p') AND c.relowner <> p.relowner
  LOOP
    EXECUTE leaf.command;
  END LOOP;
END $pgmosaic$)";

// At its last number, and no cycle: nextval() outside the home is an error, never a number that was given out before.
constexpr const char* kSealSequences = R"(DO LANGUAGE plpgsql $pgmosaic$
DECLARE
  s record;
BEGIN
  FOR s IN
    SELECT q.seqrelid::pg_catalog.regclass AS name, q.seqcycle AS cycles, e.last
    FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
         CROSS JOIN LATERAL (SELECT CASE WHEN q.seqincrement > 0 THEN q.seqmax ELSE q.seqmin END AS last) e
    WHERE CASE WHEN c.relpersistence = 't' OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN false
               ELSE q.seqcycle OR pg_catalog.pg_sequence_last_value(q.seqrelid) IS DISTINCT FROM e.last END
  LOOP
    IF s.cycles THEN
      EXECUTE pg_catalog.format('ALTER SEQUENCE %s NO CYCLE', s.name);
    END IF;
    PERFORM pg_catalog.setval(s.name, s.last, true);
  END LOOP;
END $pgmosaic$)";

// A table's identity sequences, back where they began, before its columns change their types: not every type reaches to
// where they are sealed. Unlike setval() it is undone with its transaction.
net::Task<Status> reopen_sequences(const std::vector<exec::Backend*>& groups, const std::string& table) {
  const std::string sql =
      "DO LANGUAGE plpgsql $pgmosaic$ DECLARE s record; BEGIN FOR s IN SELECT q.seqrelid::pg_catalog.regclass AS name, "
      "q.seqstart FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence q ON q.seqrelid = d.objid WHERE d.classid = "
      "'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid AND d.deptype = 'i' AND d.refobjid = "
      "pg_catalog.to_regclass(" +
      pool::quote_literal(table) +
      ") LOOP EXECUTE pg_catalog.format('ALTER SEQUENCE %s RESTART WITH %s', s.name, s.seqstart); END LOOP; "
      "END $pgmosaic$";
  for (exec::Backend* group : groups) {
    if (table.empty()) break;
    auto ran = co_await group->conn->query(sql);
    if (!ran.ok()) co_return std::move(ran.error());
  }
  co_return Status{};
}

exec::ClusterControl::Participants participants_of(exec::Backends& backends) {
  exec::ClusterControl::Participants participants;
  for (const auto& backend : backends.all())
    if (backend->begun) participants.emplace_back(backend->group, backend->conn.get());
  return participants;
}

// Not where the session has raised client_min_messages.
bool wants_notices(const pool::SettingsMap& settings) {
  const auto found = settings.find("client_min_messages");
  if (found == settings.end()) return true;
  std::string sql = found->second;
  std::transform(sql.begin(), sql.end(), sql.begin(), [](unsigned char c) { return std::tolower(c); });
  return sql.find("warning") == std::string::npos && sql.find("error") == std::string::npos;
}

// What depends on a role or a tablespace is named once: the database for shards on the home's server has it as well.
Error without_shards_database(Error error) {
  std::string detail;
  for (std::size_t begin = 0; begin < error.detail.size();) {
    const std::size_t end = std::min(error.detail.find('\n', begin), error.detail.size());
    const std::string line = error.detail.substr(begin, end - begin);
    if (line.find(std::string("database ") + pg::kShardsDatabasePrefix) == std::string::npos)
      detail += (detail.empty() ? "" : "\n") + line;
    begin = end + 1;
  }
  if (!detail.empty()) error.detail = std::move(detail);
  return error;
}

bool shares_homes_server(const catalog::Snapshot& snapshot) {
  return std::any_of(snapshot.groups.begin(), snapshot.groups.end(),
                     [](const catalog::Group& group) { return group.beside_home; });
}

}  // namespace

net::Task<Status> Session::run_ddl(const plan::Plan& plan) {
  const plan::Ddl& ddl = *plan.ddl;
  if (ddl.hash_password) last_query_ = ddl.tag;  // the text holds a password
  if (!ddl.transactional) co_return co_await run_database_ddl(ddl);
  const bool in_block = backends_.in_transaction() || implicit_;
  const bool rebuilds = ddl.index && ddl.index->verb != plan::Ddl::IndexWork::Verb::create && !ddl.index->concurrently;
  if (!ddl.alone.empty() && in_block && !rebuilds)
    co_return make_error("25001", ddl.alone + " cannot run inside a transaction block");
  if (plan.effects.draws.sets) NumberSource(*this).sequences_change();
  std::string tag = ddl.tag;
  Status status;
  // It may drop a sequence of which nobody knows yet that the session has drawn from it.
  exec::Backend* drew = backends_.held(snapshot_->home);
  if (drew != nullptr && drew->draws.draws() && !drew->knows_last) co_await numbers_.read_from(*drew, false);
  if (plan.effects.draws.draws()) {  // by rows that it fills
    auto home = co_await backends_.get(snapshot_->home);
    if (!home.ok()) co_return std::move(home.error());
    exec::Backends::note_draws(**home, plan.effects.draws);
  }
  if (ddl.index) {
    const StopFlags stop{cancelled_, timed_out_, client_gone_, closing_};
    IndexWork work(worker_, backends_, snapshot_, *ddl.index, stop, pid_);
    status = co_await work.look();
    if (status.ok() && in_block) {
      status = co_await work.run_in_block(out_);
      if (status.ok()) put_complete(tag);
      co_return status;
    }
    if (status.ok() && work.begins_everywhere()) status = co_await change_schema(ddl, tag, &work);
    if (!status.ok() && !ddl.home_instead.empty())
      status.error().position = position_in(ddl.index->statement, ddl.home_instead[0], status.error().position);
    if (status.ok()) status = co_await work.run(out_);
  } else if (ddl.subscription && ddl.subscription->alone && !in_block) {
    auto home = co_await backends_.get(snapshot_->home);
    if (!home.ok()) co_return std::move(home.error());
    SubscriptionChange change{worker_.loop, *worker_.context.control, **home, backends_.database(), ddl};
    status = co_await change.run();
    out_ += change.notices;
  } else if (ddl.new_columns) {
    NewColumns columns(backends_, snapshot_->home, *ddl.new_columns);
    status = co_await change_schema(ddl, tag, &columns);
  } else if (in_block && ddl.tag == "CREATE ROLE" && shares_homes_server(*snapshot_)) {
    plan::Ddl known = ddl;
    if (ddl.hash_password) {
      if (!renew_pools_) renew_pools_.emplace();
      auto home = co_await backends_.get(snapshot_->home);
      if (!home.ok()) co_return std::move(home.error());
      CO_TRY_ASSIGN(known.everywhere[0], co_await with_hashed_password(ddl, *(*home)->conn, *renew_pools_));
      known.hash_password = false;
    }
    status = co_await make_role_known(backends_, snapshot_->home, known);
    if (status.ok()) status = co_await change_schema(known, tag, nullptr);
  } else {
    status = co_await change_schema(ddl, tag, nullptr);
  }
  drop_broken_backends();
  if (status.ok()) put_key_notices(out_, ddl, *worker_.config, *backends_.settings());
  if (status.ok()) put_complete(tag);
  co_return status;
}

// A statement over all groups that takes the tables in another order may wait for this one for ever. A schema change
// that is on its own therefore gives way after a while, and comes back, unless its user has set a limit.
net::Task<Status> Session::change_schema(const plan::Ddl& ddl, std::string& tag, SchemaStep* step) {
  const bool own = !backends_.in_transaction();
  Status status;
  Patience patience(ddl.gentle);
  const std::size_t said = out_.size();
  for (;;) {
    if (own) {
      begin_transaction("BEGIN", true);
      backends_.record_local(patience.give_way());
    }
    changed_schema_ = true;
    status = co_await apply_ddl(ddl, tag, step);
    if (!own) break;
    if (status.ok()) {
      status = co_await commit_transaction();
    } else {
      co_await abort_transaction();
    }
    implicit_ = false;
    const bool victim = deadlock_ && !status.ok() && status.error().sqlstate == "57014";
    if (status.ok() || (!victim && status.error().sqlstate != "55P03") || client_gone_ || closing_) break;
    auto home = co_await backends_.get(snapshot_->home);
    bool again = false;
    if (home.ok()) again = co_await waits_for_ever(**home);
    backends_.release_idle();
    if (!again) break;
    if (victim) deadlock_.reset();              // it has given way
    if (out_.size() > said) out_.resize(said);  // notices of the attempt
    co_await worker_.loop.sleep(patience.pause_us());
    if (cancelled_ || timed_out_) {
      status = make_error(
          "57014", std::string("canceling statement due to ") + (timed_out_ ? "statement timeout" : "user request"));
      break;
    }
  }
  co_return status;
}

void put_key_notices(std::string& out, const plan::Ddl& ddl, const Config& config, const pool::SettingsMap& settings) {
  if (ddl.notices.empty() || !config.sharding.key_notices || !wants_notices(settings)) return;
  for (const Error& notice : ddl.notices) pg::write_notice(out, "00000", notice.message, notice.detail, notice.hint);
}

net::Task<Status> Session::apply_ddl(const plan::Ddl& ddl, std::string& tag, SchemaStep* step) {
  if (ddl.from_query || ddl.view_rows) co_return co_await TableFromQuery(*this, ddl).run(tag);
  // The home first: its errors are the ones that a single PostgreSQL would give.
  std::vector<exec::Backend*> home, others;
  std::vector<std::string> of_others;  // what each of `others` runs in place of ddl.everywhere[0]; empty: that
  const bool temporary = ddl.unknown_relation && backends_.pinned(snapshot_->home) && !temporary_.known;
  for (const catalog::Group& group : snapshot_->groups) {
    if (temporary && !group.home) continue;  // known to its backend alone, in the middle of a batch
    if (group.beside_home && ddl.server_wide) continue;
    if (group.beside_home) CO_TRY(check_remade_roles(backends_, ddl));
    auto backend = co_await backends_.get(group.id);
    if (!backend.ok()) co_return std::move(backend.error());
    (*backend)->wrote = true;
    (group.home ? home : others).push_back(*backend);
    if (!group.home) of_others.push_back(group.beside_home ? ddl.beside_home_instead : std::string());
  }
  exec::StagedSchema changes = staged_ ? *staged_ : exec::StagedSchema();
  changes.database = backends_.database();
  NewTables made(*worker_.context.control, backends_, *snapshot_, *database_, changes);
  CO_TRY(co_await made.before(ddl));
  if (step != nullptr) CO_TRY(co_await step->before());
  for (std::size_t i = 0; i < ddl.everywhere.size(); ++i) {
    std::string text = ddl.everywhere[i];
    if (ddl.hash_password && i == 0) {
      if (!renew_pools_) renew_pools_.emplace();
      CO_TRY_ASSIGN(text, co_await with_hashed_password(ddl, *home[0]->conn, *renew_pools_));
    }
    const bool own_text = i < ddl.home_instead.size() && !ddl.home_instead[i].empty();
    const std::string home_text = own_text ? ddl.home_instead[i] : text;
    std::string of_home;
    if (i == 0 && ddl.shows_rows) {
      CO_TRY(co_await TableFromQuery(*this, ddl).at_home(home_text, tag));
    } else if (!ddl.done_at_home) {
      auto ran = co_await run_on_groups(home, std::vector<std::string>(1, home_text), &out_, &of_home);
      if (!ran.ok())
        co_return ddl.server_wide ? without_shards_database(std::move(ran.error())) : std::move(ran.error());
    }
    if (i == 0 && ddl.tag == "SELECT") tag = of_home;  // CREATE TABLE … AS counts its rows
    if (ddl.changes_catalog && !temporary) CO_TRY(co_await made.check_range_keys(ddl));
    std::vector<std::string> rest(others.size(), text);
    for (std::size_t other = 0; i == 0 && other < others.size(); ++other)
      if (!of_others[other].empty()) rest[other] = of_others[other];
    if (i == 0) CO_TRY(co_await reopen_sequences(others, ddl.reopens_sequences_of));
    if (step != nullptr) CO_TRY(co_await step->begun(others, rest));
    CO_TRY(co_await run_on_groups(others, rest, nullptr));
    if (step != nullptr) CO_TRY(co_await step->done(others));
  }
  for (const auto& [wanted, sql] : {std::pair(ddl.seals_sequences, kSealSequences),
                                    {ddl.moves_owner, kFollowOwner},
                                    {ddl.drops_indexes, kDropLeftIndexes}}) {
    const std::vector<std::string> texts(others.size(), sql);
    if (wanted && !temporary) CO_TRY(co_await run_on_groups(others, texts, nullptr));
  }
  const bool of_logins = ddl.tag == "ALTER ROLE" || ddl.tag == "ALTER DATABASE" || ddl.tag == "DROP ROLE";
  if (of_logins && !renew_pools_) renew_pools_.emplace();
  if (temporary) home[0]->not_preparable = true;
  if (backends_.pinned(snapshot_->home)) temporary_.known = false;
  if (temporary || !ddl.changes_catalog) co_return Status{};
  CO_TRY(co_await made.after(ddl));
  // Not while another change is committed and not published: it would be half known.
  CO_TRY(co_await enter_names(false));
  auto staged = co_await worker_.context.control->stage(participants_of(backends_), snapshot_, std::move(changes));
  names_.leave();
  if (!staged.ok()) co_return std::move(staged.error());
  staged_ = *staged;
  ++staged_serial_;
  co_return co_await refresh_context();
}

// CREATE, DROP and RENAME DATABASE cannot run in a transaction, but what was interrupted can be repeated: the home's
// word says whether a database exists.
net::Task<Status> Session::run_database_ddl(const plan::Ddl& ddl) {
  const std::string& name = ddl.alone.empty() ? ddl.tag : ddl.alone;
  if (backends_.in_transaction() && !implicit_)
    co_return make_error("25001", name + " cannot run inside a transaction block");
  if (implicit_) co_return make_error("25001", name + " cannot be executed from a multi-command string");
  if (sql::is_layout_command(ddl.everywhere[0])) {
    CO_TRY(change_layout({*worker_.context.control, *database_, backends_.user()}, ddl.everywhere[0]));
    put_complete(ddl.tag);
    co_return Status{};
  }
  if (ddl.tag.ends_with("TABLESPACE") || ddl.tag == "REINDEX") {
    Status status = co_await run_server_ddl(backends_, *snapshot_, ddl, out_);
    if (!status.ok()) co_return without_shards_database(std::move(status.error()));
    put_complete(ddl.tag);
    co_return Status{};
  }
  for (const std::string& database : {ddl.object, ddl.renamed_to})
    if (pg::is_shards_database(database))
      co_return make_error("42939", "database name \"" + database + "\" is reserved",
                           "Names that begin with pgmosaic_shards_ belong to the router.");
  std::vector<exec::Backend*> home, others;
  for (const catalog::Group& group : snapshot_->groups) {
    auto backend = co_await backends_.get(group.id);
    if (!backend.ok()) co_return std::move(backend.error());
    (group.home ? home : others).push_back(*backend);
  }
  DatabaseChange change{worker_, ddl, *home[0], others, backends_.database(), cancelled_, client_gone_};
  if (ddl.tag == "CREATE DATABASE") {
    CO_TRY(co_await change.create());
  } else if (!ddl.renamed_to.empty()) {
    CO_TRY(co_await change.rename());
  } else {
    CO_TRY(co_await change.drop());
  }
  out_ += change.notices;
  put_complete(ddl.tag);
  co_return Status{};
}

}  // namespace pgmosaic::router
