#include "router/index_work.h"

#include "exec/control.h"
#include "pg/backend.h"
#include "pool/settings.h"
#include "router/context.h"
#include "router/new_tables.h"
#include "router/patience.h"
#include "router/worker.h"

namespace pgmosaic::router {

using Verb = plan::Ddl::IndexWork::Verb;

// The name of a part ends with the OID of the index on that group that it was meant for, and its leaf's number:
// i_16423_i3.
const char* const kDropLeftIndexes = R"(DO LANGUAGE plpgsql $pgmosaic$
DECLARE
  part record;
BEGIN
  FOR part IN
    SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN LATERAL pg_catalog.regexp_match(c.relname, '_([0-9]{1,10})_i[0-9]+(_cc(new|old)[0-9]*)?$') AS m (found)
    WHERE n.nspname = 'pgmosaic_shards' AND c.relkind = 'i' AND NOT c.relispartition
          AND pg_catalog.pg_has_role(c.relowner, 'USAGE') AND m.found IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_class i
                          WHERE i.relkind = 'I' AND i.oid::pg_catalog.int8 = m.found[1]::pg_catalog.int8)
  LOOP
    EXECUTE pg_catalog.format('DROP INDEX IF EXISTS pgmosaic_shards.%I', part.relname);
  END LOOP;
END $pgmosaic$)";

namespace {

// An index with its definition behind the table's name, which PostgreSQL may have qualified.
//   $1: a condition for i (pg_index) and c (its pg_class)
constexpr const char* kFind = R"(
SELECT c.oid, n.nspname, c.relname, i.indisvalid, u.word, pg_catalog.substr(d.text, pg_catalog.length(p.prefix) + 1),
       ' WHERE ' || pg_catalog.pg_get_expr(i.indpred, i.indrelid), s.spcname,
       i.indpred IS NOT NULL OR i.indexprs IS NOT NULL
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace q ON q.oid = t.relnamespace
     LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
     CROSS JOIN LATERAL (SELECT CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END) u (word)
     CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_indexdef(c.oid)) d (text)
     JOIN LATERAL (SELECT 'CREATE ' || u.word || 'INDEX ' || pg_catalog.quote_ident(c.relname) || ' ON ' || r.name
                   FROM (VALUES (t.oid::pg_catalog.regclass::pg_catalog.text),
                                (pg_catalog.quote_ident(q.nspname) || '.' || pg_catalog.quote_ident(t.relname))) r (name)) p (prefix)
          ON pg_catalog.starts_with(d.text, p.prefix)
WHERE $1 ORDER BY c.oid DESC LIMIT 1)";

// What a session that waits in a transaction for its groups must not lose.
constexpr const char* kHold = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE ";

std::string literal(const std::string& text) { return pool::quote_literal(text); }

std::string kind_of(const plan::Ddl::IndexWork& plan) {
  if (plan.verb == Verb::create) return "CREATE INDEX CONCURRENTLY";
  return plan.concurrently ? "REINDEX CONCURRENTLY" : "REINDEX";
}

}  // namespace

std::string IndexWork::Index::qualified() const { return qualified_name(schema, name); }

IndexWork::IndexWork(Worker& worker, exec::Backends& backends, catalog::SnapshotPtr snapshot,
                     const plan::Ddl::IndexWork& plan, StopFlags stop, uint32_t pid)
    : worker_(worker),
      backends_(backends),
      snapshot_(std::move(snapshot)),
      database_(*snapshot_->database(backends.database())),
      plan_(plan),
      stop_(stop),
      operation_(worker.context.operations,
                 {0, kind_of(plan), backends.database(), backends.user(), plan.name, pid, worker.loop.now_us(), {}}) {}

bool IndexWork::asked_to_stop() const {
  return stop_.client_gone || stop_.closing || stop_.cancelled || stop_.timed_out;
}

std::optional<Error> IndexWork::stopped() const {
  if (stop_.client_gone || stop_.closing)
    return make_error("57P01", "terminating connection due to administrator command");
  if (!asked_to_stop() && !failed_) return std::nullopt;
  return make_error("57014", stop_.timed_out ? "canceling statement due to statement timeout"
                                             : "canceling statement due to user request");
}

bool IndexWork::has_rows(exec::GroupId group) const {
  switch (place_) {
    case Place::home: return group == snapshot_->home;
    case Place::one_group: return group == group_;
    case Place::leaves: return group != snapshot_->home;
    case Place::copies:
    case Place::each: return true;
  }
  return true;
}

// --- what it is about ---

void IndexWork::place(catalog::Oid oid) {
  table_ = oid;
  const auto known = database_.tables_by_oid.find(oid);
  if (known == database_.tables_by_oid.end() || known->second->partitioned) return;
  const catalog::Table& table = *known->second;
  relation_ = qualified_name(table.schema, table.name);
  switch (table.kind) {
    case catalog::TableKind::reference: place_ = Place::copies; break;
    case catalog::TableKind::sharded:
      place_ = Place::leaves;
      if (table.colocation < catalog::kFirstSingleColocation) break;
      place_ = Place::one_group;
      group_ = table.colocation - catalog::kFirstSingleColocation;
      break;
    default: place_ = Place::home;
  }
}

net::Task<Status> IndexWork::look() {
  for (const catalog::Group& group : snapshot_->groups) {
    auto backend = co_await backends_.get(group.id);
    if (!backend.ok()) co_return std::move(backend.error());
    if (group.home) waits_for_ever_ = co_await waits_for_ever(**backend);
    if (!group.home) operation_.part(group.id, "waiting");
  }
  if (plan_.verb == Verb::rebuild_index) co_return co_await look_at_index();
  place(plan_.table);
  if (plan_.verb == Verb::create && plan_.name.empty()) operation_.name("an index of " + relation_);
  co_return Status{};
}

net::Task<Status> IndexWork::look_at_index() {
  const std::string question =
      "SELECT i.indrelid, i.indexrelid, c.relpersistence = 't' FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c "
      "ON c.oid = i.indexrelid "
      "WHERE c.relkind = 'i' AND c.oid = pg_catalog.to_regclass(" +
      literal(plan_.name) + ")";
  auto rows = co_await conn(snapshot_->home).query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return Status{};
  place(static_cast<catalog::Oid>(std::stoul(*rows->rows[0][0])));
  if (rows->rows[0][2] == "t") place_ = Place::home;
  const std::string condition = "c.oid = " + *rows->rows[0][1];
  CO_TRY_ASSIGN(index_, co_await find(condition));
  co_return Status{};
}

bool IndexWork::begins_everywhere() const {
  return plan_.verb == Verb::create && (place_ == Place::leaves || place_ == Place::one_group);
}

net::Task<Result<IndexWork::Index>> IndexWork::find(std::string condition) {
  std::string question = kFind;
  question.replace(question.find("$1"), 2, condition);
  auto rows = co_await conn(snapshot_->home).query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  Index index;
  if (rows->rows.empty()) co_return index;
  const auto& row = rows->rows[0];
  index.oid = static_cast<catalog::Oid>(std::stoul(*row[0]));
  index.schema = *row[1];
  index.name = *row[2];
  index.valid = row[3] == "t";
  index.unique = *row[4];
  index.rest = *row[5];
  index.computes = row[8] == "t";
  const std::string where = row[6].value_or("");
  if (row[7]) {
    if (!index.rest.ends_with(where))
      co_return make_error("0A000", "an index in a tablespace, with this condition", "Leave out TABLESPACE.");
    index.rest.insert(index.rest.size() - where.size(), " TABLESPACE " + pool::quote_identifier(*row[7]));
  }
  co_return index;
}

std::string IndexWork::create_text(const Index& index, const std::string& name, const std::string& relation, bool only,
                                   bool concurrently) const {
  return "CREATE " + index.unique + "INDEX " + (concurrently ? "CONCURRENTLY " : "") + pool::quote_identifier(name) +
         " ON " + (only ? "ONLY " : "") + relation + index.rest;
}

// --- the beginning ---

net::Task<Status> IndexWork::before() {
  const std::string question = "SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = " + std::to_string(table_);
  auto rows = co_await conn(snapshot_->home).query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  indexes_.clear();
  for (const auto& row : rows->rows) indexes_.insert(*row[0]);
  co_return Status{};
}

// Of the table's new indexes the one that was made last, if it has the name.
net::Task<Status> IndexWork::find_made() {
  std::string known = "0";
  for (const std::string& oid : indexes_) known += ", " + oid;
  std::string condition = "i.indrelid = " + std::to_string(table_) + " AND c.oid NOT IN (" + known + ")";
  if (!plan_.name.empty()) condition += " AND c.relname = " + literal(plan_.name);
  CO_TRY_ASSIGN(index_, co_await find(condition));
  done_ = index_.oid == 0;
  if (!done_) operation_.name(index_.qualified());
  co_return Status{};
}

net::Task<Status> IndexWork::invalidate() {
  const std::string mark = "SELECT pg_catalog.pgmosaic_begin_index(" + std::to_string(index_.oid) + ")";
  auto marked = co_await conn(snapshot_->home).query(mark);
  if (!marked.ok()) co_return std::move(marked.error());
  co_return Status{};
}

net::Task<Status> IndexWork::begun(const std::vector<exec::Backend*>& groups, std::vector<std::string>& texts) {
  CO_TRY(co_await find_made());
  if (done_) co_return Status{};
  CO_TRY(co_await invalidate());
  for (std::size_t i = 0; i < groups.size(); ++i)
    if (place_ == Place::leaves || !has_rows(groups[i]->group))
      texts[i] = create_text(index_, index_.name, relation_, place_ == Place::leaves, false);
  co_return Status{};
}

// --- the rest ---

net::Task<Status> IndexWork::run_in_block(std::string& out) {
  const bool unknown = plan_.verb == Verb::rebuild_index && index_.oid == 0;  // the home says so
  if (plan_.verb == Verb::create || plan_.concurrently || (place_ != Place::home && !unknown))
    co_return make_error("25001", "REINDEX of a table with rows on other servers cannot run inside a transaction block",
                         "Run it by itself; it then takes the locks that it needs, one server after the other.");
  backends_.held(snapshot_->home)->wrote = true;
  co_return co_await at_home(plan_.statement, out);
}

// To a server, every cancel is its user's.
net::Task<Status> IndexWork::run(std::string& out) {
  for (const catalog::Group& group : snapshot_->groups) {  // the commit before may have lost one
    auto backend = co_await backends_.get(group.id);
    if (!backend.ok()) co_return std::move(backend.error());
  }
  Status status = co_await build(out);
  if (!status.ok() && status.error().sqlstate == "57014" && asked_to_stop()) co_return *stopped();
  co_return status;
}

net::Task<Status> IndexWork::build(std::string& out) {
  if (done_) co_return Status{};
  if (plan_.verb != Verb::create) co_return co_await rebuild(out);
  if (has_rows(snapshot_->home)) CO_TRY(co_await create_at_home(out));
  if (done_) co_return Status{};
  const GroupWork work = [this](exec::GroupId group) { return make(group); };
  CO_TRY(co_await on_groups(work));
  co_return Status{};
}

net::Task<Status> IndexWork::at_home(const std::string& sql, std::string& out) {
  operation_.part(snapshot_->home, "building");
  pool::ServerConn::Rows rows;
  conn(snapshot_->home).add_internal_query(sql);
  conn(snapshot_->home).flush();
  Status status = co_await conn(snapshot_->home).drain(&rows);
  out += rows.notices;
  operation_.part(snapshot_->home, status.ok() ? "done" : "failed");
  co_return status;
}

// A table whose rows, or a copy of them, are at home: PostgreSQL's own way. What fails is INVALID there, and the groups
// have nothing of it.
net::Task<Status> IndexWork::create_at_home(std::string& out) {
  const std::string there = "SELECT " + literal(relation_) + "::pg_catalog.regclass";
  for (const catalog::Group& group : snapshot_->groups) {
    auto found = co_await conn(group.id).query(there);
    if (!found.ok()) co_return std::move(found.error());
  }
  CO_TRY(co_await before());
  CO_TRY(co_await at_home(plan_.statement, out));
  CO_TRY(co_await find_made());
  if (!done_ && place_ == Place::copies) CO_TRY(co_await invalidate());
  co_return Status{};
}

net::Task<Status> IndexWork::rebuild(std::string& out) {
  const GroupWork same = [this](exec::GroupId group) { return repeat(group); };
  if (plan_.verb == Verb::rebuild_table) co_return co_await rebuild_table(out);
  if (place_ == Place::each || index_.oid == 0) {
    CO_TRY(co_await at_home(plan_.statement, out));
    co_return co_await on_groups(same);
  }
  rebuilds_ = index_.valid;  // of one that was never finished, the parts that there are are new
  if (has_rows(snapshot_->home) || index_.valid) CO_TRY(co_await at_home(plan_.statement, out));
  const std::string condition = "n.nspname = " + literal(index_.schema) + " AND c.relname = " + literal(index_.name);
  CO_TRY_ASSIGN(index_, co_await find(condition));  // it may have got another OID
  if (!rebuilds_ && place_ == Place::copies) CO_TRY(co_await invalidate());
  const GroupWork work = [this](exec::GroupId group) { return make(group); };
  co_return co_await on_groups(work);
}

// CONCURRENTLY passes over INVALID indexes, with a warning of the home's; else they are mended first.
net::Task<Status> IndexWork::rebuild_table(std::string& out) {
  if (!plan_.concurrently && !has_rows(snapshot_->home)) {
    const GroupWork work = [this](exec::GroupId group) { return make(group); };
    for (;;) {
      const std::string invalid = "i.indrelid = " + std::to_string(table_) + " AND NOT i.indisvalid";
      CO_TRY_ASSIGN(index_, co_await find(invalid));
      if (index_.oid == 0) break;
      CO_TRY(co_await on_groups(work));
    }
  }
  CO_TRY(co_await at_home(plan_.statement, out));
  const GroupWork same = [this](exec::GroupId group) { return repeat(group); };
  index_ = {};
  co_return co_await on_groups(same);
}

// As PostgreSQL's own lock on the table does, it keeps schema changes away until the groups have finished. They take
// the home's locks first.
net::Task<Status> IndexWork::hold_table() {
  if (place_ == Place::each) co_return Status{};
  const std::string lock = kHold + relation_ + " IN SHARE UPDATE EXCLUSIVE MODE";
  holds_table_ = true;
  auto locked = co_await conn(snapshot_->home).query(lock);
  // An owner may lack the right to change rows, and a materialized view cannot be locked: they do without.
  const bool without = !locked.ok() && (locked.error().sqlstate == "42501" || locked.error().sqlstate == "42809");
  if (!locked.ok() && !without) co_return std::move(locked.error());
  if (without) co_await release_table();
  if (index_.oid == 0) co_return Status{};
  const std::string condition = "c.oid = " + std::to_string(index_.oid);
  CO_TRY_ASSIGN(const Index found, co_await find(condition));
  if (found.oid != 0) co_return Status{};
  co_return make_error("42704", "index \"" + index_.name + "\" does not exist");
}

net::Task<void> IndexWork::release_table() {
  if (std::exchange(holds_table_, false)) (void)(co_await conn(snapshot_->home).query("ROLLBACK"));
}

// All groups at once; the first error ends the others' work.
net::Task<Status> IndexWork::on_groups(GroupWork work) {
  Status result = co_await hold_table();
  std::vector<exec::GroupId> groups;
  for (const catalog::Group& group : snapshot_->groups)
    if (!group.home && result.ok()) groups.push_back(group.id);
  net::Latch latch(static_cast<int>(groups.size()));
  for (const exec::GroupId group : groups) net::spawn(on_group(work, group, latch, result));
  co_await latch;
  // Nothing is new of an index that was valid, or where there was none to build.
  const bool made = result.ok() && index_.oid != 0 && !rebuilds_;
  if (made) result = co_await worker_.context.control->index_built(worker_.loop, backends_.database(), index_.oid);
  co_await release_table();
  co_return result;
}

net::Task<void> IndexWork::on_group(const GroupWork& work, exec::GroupId group, net::Latch& latch, Status& result) {
  Status status = co_await work(group);
  operation_.state(group, status.ok() ? "done" : "failed");
  if (!status.ok() && !std::exchange(failed_, true)) {
    status.error().node = snapshot_->group(group)->name;
    result = std::move(status);
    backends_.cancel();
  }
  if (!result.ok() && conn(group).alive() && conn(group).idle()) co_await drop_left(group);
  latch.done();
}

}  // namespace pgmosaic::router
