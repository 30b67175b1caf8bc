#include "router/move_rows.h"

#include <algorithm>

#include "pool/settings.h"
#include "router/client_sink.h"
#include "router/new_tables.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr std::string_view kPortal = "pgmosaic_leaving";
constexpr std::size_t kPartBytes = 1 << 20;  // of rows that are read before they are inserted, about
constexpr std::size_t kPartRows = 1000;      // at most

// A field of an error by its code.
std::string_view field_of(const Error& error, char code) {
  for (std::string_view rest = error.fields; !rest.empty();) {
    const std::size_t end = rest.find('\0');
    if (rest[0] == code) return rest.substr(1, end - 1);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  return {};
}

std::string replaced(std::string text, const std::string& mark, const std::string& by) {
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + by.size()))
    text.replace(at, mark.size(), by);
  return text;
}

std::string as_regclass(const std::string& name) { return pool::quote_literal(name) + "::pg_catalog.regclass"; }

// Why rows of a table cannot be deleted and inserted instead of being updated, by its definition and the user's rights;
// and what tells where a row belongs: see RowMover::prepare().
constexpr std::string_view kFacts = R"(
WITH tree AS (SELECT <table>::pg_catalog.oid AS oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(<table>)),
  divided AS (SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name
    FROM tree JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = tree.oid JOIN pg_catalog.pg_class c ON c.oid = tree.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE p.partstrat = 'h' ORDER BY c.oid = <table>::pg_catalog.oid DESC, c.oid LIMIT 1)
SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger
               WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgrelid IN (SELECT oid FROM tree)),
  EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid IN (SELECT oid FROM tree)),
  pg_catalog.row_security_active(<table>::pg_catalog.oid),
  pg_catalog.has_table_privilege(<table>::pg_catalog.oid, 'DELETE') AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = <table> AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
      AND NOT (pg_catalog.has_column_privilege(<table>::pg_catalog.oid, attnum, 'SELECT')
               AND pg_catalog.has_column_privilege(<table>::pg_catalog.oid, attnum, 'INSERT'))),
  (SELECT name FROM divided), (SELECT pg_catalog.pg_get_partkeydef(oid) FROM divided),
  pg_catalog.current_setting('DateStyle'), pg_catalog.current_setting('extra_float_digits')
)";

}  // namespace

Error moved_beside() {
  return make_error("40001", "could not serialize access due to concurrent update",
                    "Retry the transaction: rows of the table have moved to other groups meanwhile.");
}

namespace {

constexpr int kLooks = 20;
constexpr int64_t kLookUs = 1000;

}  // namespace

net::Task<void> moves_settled(net::EventLoop& loop, MoveLog& log, MoveLog::Key table) {
  for (int i = 0; i < kLooks && log.look(table).committing > 0; ++i) co_await loop.sleep(kLookUs);
}

// Not for long: what it gives way to may wait for a row that this transaction has changed.
net::Task<void> may_commit_moves(net::EventLoop& loop, MoveLog& log, std::string database,
                                 std::set<catalog::Oid> tables) {
  for (const catalog::Oid table : tables) {
    const MoveLog::Key key(database, table);
    for (int i = 0; i < kLooks && log.look(key).waiting > 0; ++i) co_await loop.sleep(kLookUs);
  }
}

// On one PostgreSQL, to whose user the table has no partitions, it would have found the row. (By the routine: it speaks
// the server's language.)
bool moved_between_leaves(const Error& error) {
  return error.sqlstate == "40001" && field_of(error, 'R') == "heapam_tuple_lock";
}

bool left_its_group(const Error& error, const catalog::Database& database) {
  if (error.sqlstate != "23514") return false;
  if (field_of(error, 'n') == "pgmosaic_elsewhere") return true;
  if (field_of(error, 'R') != "ExecFindPartition") return false;
  // Every hash has its partition, if not here. Ranges and lists are the same on all groups.
  const catalog::Table* table = database.find(field_of(error, 's'), field_of(error, 't'));
  return table != nullptr && !table->shard_prefix.empty();
}

namespace {

// Leaves that nobody has declared. Partitions are the user's own.
bool has_own_leaves(const catalog::Colocation& colocation) { return !colocation.by_partition; }

}  // namespace

bool keeps_group(const plan::Plan& plan, const Execution& execution, const catalog::Database& database) {
  if (!plan.key_change) return true;
  if (!execution.where.single()) return false;
  const catalog::Colocation& colocation = *database.colocation(plan.target.colocation);
  // A row that goes to another leaf would fire other triggers than those of an UPDATE: RowMover looks at them.
  const bool leaves = has_own_leaves(colocation) && colocation.shards.size() > 1;
  if (!leaves && exec::groups_of(colocation).size() <= 1) return true;
  if (plan.key_change->constants.empty()) return false;
  bool is_null = false;
  const auto shard = exec::shard_of(plan.key_change->constants, execution.values, colocation, is_null);
  if (!shard) return false;
  if (leaves) return execution.where.proven() && execution.where.shard == *shard;
  return *shard >= colocation.shards.size() || colocation.shards[*shard].group == execution.where.one;
}

Status StopSigns::check() const {
  if (closing) return make_error("57P01", "terminating connection due to administrator command");
  if (!cancelled && !timed_out) return {};
  return make_error("57014",
                    std::string("canceling statement due to ") + (timed_out ? "statement timeout" : "user request"));
}

// The statement's own parameters, and rows as text.
exec::Request RowMover::request(std::string_view sql) const {
  exec::Request request;
  request.sql = sql;
  request.extended = execution_.extended();
  request.bind = execution_.bind;
  request.types = &execution_.types;
  request.client_formats = false;
  return request;
}

std::string RowMover::question() const {
  const std::string relation = as_regclass(qualified_name(table_.schema, table_.name));
  std::string text = change_.claim + ";" + replaced(std::string(kFacts), "<table>", relation);
  for (const int key : table_.key_columns)
    text += "; SELECT pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute WHERE attrelid = " +
            relation + " AND attname = " + pool::quote_literal(table_.columns[static_cast<std::size_t>(key)].name);
  if (colocation_.by_partition)
    text +=
        "; SELECT n.nspname, c.relname, pg_catalog.pg_get_partition_constraintdef(c.oid) "
        "FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE i.inhparent = " +
        relation + " ORDER BY 1, 2";
  return text;
}

void RowMover::read_obstacle(const std::vector<std::optional<std::string>>& facts) {
  has_triggers_ = facts[0] == "t";
  if (has_triggers_) {
    obstacle_ = plan::cannot_move("the table has triggers");
  } else if (facts[1] == "t") {
    obstacle_ = plan::cannot_move("foreign keys reference the table",
                                  "Insert the row with the new key, change what references it, and delete the old row, "
                                  "in one transaction.");
  } else if (facts[2] == "t") {
    obstacle_ = plan::cannot_move("row security applies");
  } else if (facts[3] != "t") {
    obstacle_ = plan::cannot_move("it takes the rights to SELECT, INSERT and DELETE as well", "GRANT them.");
  }
}

void RowMover::read_partitions(const std::vector<std::vector<std::optional<std::string>>>& rows) {
  for (std::size_t i = 1 + key_types_.size(); i < rows.size(); ++i) {
    const catalog::Table* partition = database_.find(*rows[i][0], *rows[i][1]);
    for (uint32_t shard = 0; partition != nullptr && shard < colocation_.shards.size(); ++shard)
      if (colocation_.shards[shard].partition == partition->oid) conditions_[shard] = rows[i][2].value_or("true");
  }
}

// Asks one group, once schema changes of the table have to wait.
net::Task<Status> RowMover::prepare() {
  const bool inexact = settings_.loss.floats || settings_.loss.zones;
  constexpr std::string_view kExact = "SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 3";
  pool::ServerConn& conn = *sources_[0]->conn;
  const std::string text = question();
  auto rows = co_await conn.query(text);
  if (!rows.ok()) {
    rows.error().position = 0;
    co_return std::move(rows.error());
  }
  const auto facts = rows->rows.at(0);
  read_obstacle(facts);
  hash_table_ = facts[4].value_or("");
  hash_key_ = facts[5].value_or("");
  if (inexact) {
    exact_ = kExact;
    restore_ =
        "SET LOCAL DateStyle = " + pool::quote_literal(*facts[6]) + "; SET LOCAL extra_float_digits = " + *facts[7];
    if (colocation_.by_partition && !obstacle_) {  // the partitions' bounds again, exactly
      const std::string again = exact_ + ";" + text;
      rows = co_await conn.query(again);
      if (!rows.ok()) co_return std::move(rows.error());
      conn.add_internal_query(restore_);
    }
  }
  for (std::size_t i = 0; i < table_.key_columns.size(); ++i) key_types_.push_back(*rows->rows.at(1 + i)[0]);
  read_partitions(rows->rows);
  co_return Status{};
}

// SQL for the shard of a row's new key, NULL where that is on the group itself.
std::string RowMover::shard_of_row(exec::GroupId group) const {
  const std::string stays = "NULL::pg_catalog.int4";
  if (!change_.constants.empty()) {
    bool is_null = false;
    const auto shard = exec::shard_of(change_.constants, execution_.values, colocation_, is_null);
    const bool here = shard && (*shard >= colocation_.shards.size() || colocation_.shards[*shard].group == group);
    if (shard) return here ? stays : std::to_string(*shard);
  }
  std::string value, remainders, keys;
  for (uint32_t i = 0; i < colocation_.shards.size(); ++i) {
    if (colocation_.shards[i].group == group) continue;
    const auto condition = conditions_.find(i);
    if (condition != conditions_.end()) value += " WHEN " + condition->second + " THEN " + std::to_string(i);
    remainders += (remainders.empty() ? "" : ",") + std::to_string(i);
  }
  if (colocation_.by_partition) {
    if (value.empty()) return stays;
    value = "CASE" + value + " END";
  } else {
    if (remainders.empty() || hash_table_.empty()) return stays;
    for (const int key : table_.key_columns)
      keys += ", pgmosaic_new." + pool::quote_identifier(table_.columns[static_cast<std::size_t>(key)].name);
    const std::size_t open = hash_key_.find('(');  // HASH (…)
    if (colocation_.computed) keys = ", " + hash_key_.substr(open + 1, hash_key_.rfind(')') - open - 1);
    value = "(SELECT pgmosaic_shard FROM pg_catalog.unnest('{" + remainders +
            "}'::pg_catalog.int4[]) AS pgmosaic_shard WHERE pg_catalog.satisfies_hash_partition(" +
            as_regclass(hash_table_) + ", " + std::to_string(colocation_.shards.size()) + ", pgmosaic_shard" + keys +
            "))";
  }
  std::string row;
  for (std::size_t i = 0; i < change_.new_key.size(); ++i)
    row += (i == 0 ? "CAST(" : ", CAST(") + change_.new_key[i] + " AS " + key_types_[i] + ") AS " +
           pool::quote_identifier(table_.columns[static_cast<std::size_t>(table_.key_columns[i])].name);
  return "(SELECT " + value + " FROM (SELECT " + row + ") AS pgmosaic_new)";
}

// SQL for the leaf's number among these, by a key's expressions.
std::string RowMover::leaf_of(const std::vector<std::string>& key, const std::string& remainders) const {
  std::string row, keys;
  for (std::size_t i = 0; i < key.size(); ++i) {
    const catalog::Column& column = table_.columns[static_cast<std::size_t>(table_.key_columns[i])];
    row += (i == 0 ? "CAST(" : ", CAST(") + key[i] + " AS " + key_types_[i] + ") AS " +
           pool::quote_identifier(column.name);
    keys += ", pgmosaic_new." + pool::quote_identifier(column.name);
  }
  const std::size_t open = hash_key_.find('(');  // HASH (…)
  if (colocation_.computed) keys = ", " + hash_key_.substr(open + 1, hash_key_.rfind(')') - open - 1);
  return "(SELECT (SELECT pgmosaic_shard FROM pg_catalog.unnest('{" + remainders +
         "}'::pg_catalog.int4[]) AS pgmosaic_shard WHERE pg_catalog.satisfies_hash_partition(" +
         as_regclass(hash_table_) + ", " + std::to_string(colocation_.shards.size()) + ", pgmosaic_shard" + keys +
         ")) FROM (SELECT " + row + ") AS pgmosaic_new)";
}

// SQL that is not NULL for a row whose new key belongs to another leaf; where that makes no difference NULL.
std::string RowMover::other_leaf() const {
  if (!has_triggers_ || !has_own_leaves(colocation_) || hash_table_.empty()) return "NULL::pg_catalog.int4";
  std::string remainders;
  for (std::size_t i = 0; i < colocation_.shards.size(); ++i) remainders += (i == 0 ? "" : ",") + std::to_string(i);
  return "CASE WHEN " + leaf_of(change_.old_key, remainders) + " OPERATOR(pg_catalog.<>) " +
         leaf_of(change_.new_key, remainders) + " THEN 1 END";
}

std::string RowMover::taking(exec::GroupId group) const {
  return replaced(change_.take, "'" + change_.mark + "'", shard_of_row(group));
}

namespace {

// Whether some row is a count that is not 0.
class Counts final : public exec::RowSink {
 public:
  bool put(std::string_view message) override {
    std::vector<std::optional<std::string_view>> values;
    if (message.front() == 'D') pg::parse_data_row(message.substr(pg::kHeaderSize), values);
    any_ = any_ || (!values.empty() && values[0] != "0");
    return true;
  }
  net::Task<bool> throttle() override { co_return true; }
  bool any() const { return any_; }

 private:
  bool any_ = false;
};

}  // namespace

// What waits for other transactions waits here: the statements behind see the rows as those have left them.
net::Task<Status> RowMover::lock() {
  const std::string text = replaced(change_.lock, "'" + change_.mark + "'", other_leaf());
  std::vector<exec::RowReader> readers;
  for (exec::Backend* source : sources_) {
    readers.emplace_back(*source);
    readers.back().send(request(text));
  }
  exec::GatherOptions options;
  options.describe = false;
  Counts other_leaves;
  auto locked = co_await exec::gather(readers, options, other_leaves);
  if (!locked.ok()) {
    locked.error().position = 0;
    co_return std::move(locked.error());
  }
  if (other_leaves.any()) co_return Error(*obstacle_);
  co_return Status{};
}

// Each group deletes the rows that leave it, and keeps what becomes of them until it is asked.
net::Task<Status> RowMover::take() {
  for (exec::Backend* source : sources_) {
    if (!exact_.empty()) source->conn->add_internal_query(exact_);
    const std::string text = taking(source->group);
    exec::Request asked = request(text);
    asked.extended = true;
    asked.portal = kPortal;
    asked.max_rows = 1;
    readers_.emplace_back(*source);
    readers_.back().send(asked);
  }
  Status result;
  for (exec::RowReader& reader : readers_) {
    Status status = co_await read_part(reader);
    if (!status.ok() && result.ok()) result = std::move(status);
  }
  co_return result;
}

net::Task<Status> RowMover::read_part(exec::RowReader& reader) {
  std::vector<std::optional<std::string_view>> values;
  Status status;
  part_bytes_ = part_rows_ = 0;
  for (;;) {
    auto event = co_await reader.next();
    if (!event.ok()) {
      event.error().position = 0;
      co_return std::move(event.error());
    }
    if (*event == exec::RowReader::Event::end) break;
    if (*event != exec::RowReader::Event::row) continue;
    pg::parse_data_row(reader.message().body, values);
    if (settings_.encoding != PlanSettings::Encoding::server && !is_ascii(reader.message().body))
      status = make_error("0A000", "an UPDATE cannot move text beyond ASCII to another group in this client_encoding",
                          "SET client_encoding to the server's encoding.");
    const auto shard = static_cast<std::size_t>(std::stoul(std::string(*values.at(0))));
    std::string& rows = arrived_[colocation_.shards.at(shard).group];
    rows += rows.empty() ? "(" : ", (";
    for (std::size_t i = 1; i < values.size(); ++i)
      rows += (i == 1 ? "" : ", ") + (values[i] ? pool::quote_literal(*values[i]) : std::string("NULL"));
    rows += ")";
    part_bytes_ += reader.message().body.size();
    ++part_rows_;
    ++moved_;
  }
  if (!restore_.empty()) reader.backend().conn->add_internal_query(restore_);
  co_return status;
}

// The statement as it is, for the rows that stay.
net::Task<Result<uint64_t>> RowMover::update_rest(const std::string& update, exec::RowSink& sink) {
  std::vector<exec::RowReader> readers;
  for (exec::Backend* source : sources_) {
    exec::Request asked = request(update);
    asked.client_formats = true;
    readers.emplace_back(*source);
    readers.back().send(asked);
  }
  exec::GatherOptions options;
  options.describe = !execution_.extended() || execution_.describe;
  auto updated = co_await exec::gather(readers, options, sink);
  if (updated.ok()) co_return pg::tag_rows(updated->tag).value_or(0);
  Error error = std::move(updated.error());
  const bool left = left_its_group(error, database_);
  missed_ = left && !obstacle_;
  if (left) error = obstacle_ ? *obstacle_ : moved_beside();
  error.position = position_in(execution_.sql, update, error.position);
  co_return error;
}

net::Task<Status> RowMover::put_rows(exec::RowSink& sink) {
  std::vector<exec::RowReader> readers;
  for (auto& [group, rows] : arrived_) {
    auto backend = co_await backends_.get(group);
    if (!backend.ok()) co_return std::move(backend.error());
    (*backend)->wrote = true;
    const std::string text = change_.put + rows + change_.put_end;
    rows.clear();
    exec::Request asked = request(text);
    asked.extended = asked.extended && plan_.returns_rows;
    asked.client_formats = true;
    readers.emplace_back(**backend);
    readers.back().send(asked);
  }
  arrived_.clear();
  if (readers.empty()) co_return Status{};
  exec::GatherOptions options;
  options.describe = false;
  auto inserted = co_await exec::gather(readers, options, sink);
  if (inserted.ok()) co_return Status{};
  inserted.error().position = 0;
  co_return std::move(inserted.error());
}

// In parts, so that the router never holds more than one.
net::Task<Status> RowMover::put_all(exec::RowSink& sink) {
  CO_TRY(co_await put_rows(sink));
  std::size_t rows = kPartRows / 10;
  for (exec::RowReader& reader : readers_) {
    while (reader.rows_left()) {
      if (!exact_.empty()) reader.backend().conn->add_internal_query(exact_);
      reader.send_more(kPortal, static_cast<int32_t>(rows));
      CO_TRY(co_await read_part(reader));
      if (part_rows_ > 0) rows = std::clamp<std::size_t>(kPartBytes / (part_bytes_ / part_rows_ + 1), 1, kPartRows);
      CO_TRY(co_await put_rows(sink));
      CO_TRY(stop_.check());
    }
  }
  co_return co_await close_portals();
}

net::Task<Status> RowMover::close_portals() {
  for (exec::RowReader& reader : readers_) {
    pool::ServerConn& conn = *reader.backend().conn;
    pg::write_close(conn.out(), 'P', kPortal);
    pg::write_sync(conn.out());
    for (pool::RequestKind kind : {pool::RequestKind::close, pool::RequestKind::sync}) conn.expect({kind, true});
    conn.flush();
  }
  for (exec::RowReader& reader : readers_) CO_TRY(co_await reader.backend().conn->drain());
  co_return Status{};
}

net::Task<Result<uint64_t>> RowMover::move(const std::string& update, exec::RowSink& sink) {
  const bool several = sources_.size() > 1;
  const MoveWatch watch(log_, backends_.database(), several ? table_.oid : 0);
  CO_TRY(co_await take());
  CO_TRY(stop_.check());
  auto updated = co_await update_rest(update, sink);
  if (!updated.ok()) co_return std::move(updated.error());
  missed_ = watch.moved();
  if (missed_) co_return moved_beside();
  CO_TRY(co_await put_all(sink));
  co_return *updated + moved_;
}

net::Task<Result<uint64_t>> RowMover::run(const std::vector<exec::Backend*>& sources, const std::string& update,
                                          exec::RowSink& sink) {
  sources_ = sources;
  CO_TRY(co_await prepare());
  if (obstacle_ && !has_triggers_) co_return co_await update_rest(update, sink);
  CO_TRY(co_await lock());
  if (obstacle_) co_return co_await update_rest(update, sink);
  CO_TRY(stop_.check());
  co_return co_await move(update, sink);
}

// An UPDATE of distribution columns, unless it is known that all rows stay in the one group that has them.
net::Task<Status> Session::run_key_change(const plan::Plan& plan, Execution& execution) {
  std::vector<exec::GroupId> groups = execution.where.groups;
  if (groups.empty()) groups.push_back(execution.where.one);
  if (groups.size() > 1 && plan.multi_group_error) co_return co_await refuse(execution.sql, *plan.multi_group_error);
  CO_TRY_ASSIGN(const std::string text, co_await text_for_group(plan, execution.sql, groups.size() > 1));
  if (plan.key_change->refusal) {
    std::vector<Split> parts;
    for (exec::GroupId group : groups) parts.push_back({group, text});
    Status status = co_await run_parts(plan, execution, parts, {});
    if (!status.ok() && left_its_group(status.error(), *database_)) status = Error(*plan.key_change->refusal);
    co_return status;
  }
  if (!execution.extended()) CO_TRY(co_await check_with_postgres(execution.sql));
  ClientSink sink(
      out_, client_gone_, rows_to_, [](void* self) { return static_cast<Session*>(self)->throttle(); }, this);
  const bool own = !backends_.in_transaction();
  const bool several = groups.size() > 1;
  if (own && several && plan_settings_->isolation == exec::Isolation::serializable) co_return exec::beyond_one_group();
  CO_TRY(backends_.may_reach(groups));
  std::optional<MovesGiveWay> way;
  for (int attempt = 1;; ++attempt) {
    if (own) begin_transaction("BEGIN", true);
    RowMover mover(backends_, *snapshot_, *database_, plan, execution, *plan_settings_, worker_.context.moves,
                   {cancelled_, timed_out_, closing_});
    auto sources = co_await backends_.get_all(groups);
    Result<uint64_t> changed = uint64_t{0};
    if (sources.ok()) {
      for (exec::Backend* source : *sources) note_effects(*source, plan.effects);
      changed = co_await mover.run(*sources, text, sink);
    } else {
      changed = std::move(sources.error());
    }
    drop_broken_backends();
    if (mover.moved_any()) backends_.moved_tables().insert(plan.key_change->table);
    Status status;
    if (!changed.ok()) status = std::move(changed.error());
    if (status.ok()) way.reset();
    const bool missed = mover.missed() || (!status.ok() && moved_between_leaves(status.error()));
    if (own) status = co_await end_own_transaction(std::move(status));
    if (missed && own && !plan.returns_rows && attempt < kAttempts && !cancelled_ && !client_gone_) {
      MoveLog::Key key(backends_.database(), plan.key_change->table);
      if (!way) way.emplace(worker_.context.moves, key);
      co_await moves_settled(worker_.loop, worker_.context.moves, std::move(key));
      continue;
    }
    if (!status.ok()) co_return status;
    put_complete("UPDATE " + std::to_string(*changed));
    co_return Status{};
  }
}

}  // namespace pgmosaic::router
