#include "router/ask_shard.h"

#include "catalog/partition_bounds.h"
#include "pool/settings.h"

namespace pgmosaic::router {

namespace {

// $1, $2, … AS the key's columns.
std::string columns_of_row(const catalog::Table& table, const std::string& relation) {
  std::string names;
  for (const int column : table.key_columns)
    names += (names.empty() ? "" : ", ") + pool::quote_literal(table.columns[static_cast<std::size_t>(column)].name);
  return "(SELECT pg_catalog.string_agg(pg_catalog.format('CAST($%s AS %s) AS %I', k.n, "
         "pg_catalog.format_type(a.atttypid, a.atttypmod), a.attname), ', ' ORDER BY k.n) FROM "
         "pg_catalog.unnest(ARRAY[" +
         names +
         "]::pg_catalog.name[]) WITH ORDINALITY AS k (name, n) JOIN pg_catalog.pg_attribute a ON a.attrelid = " +
         relation + " AND a.attname = k.name AND a.attnum > 0)";
}

Error busy_with_schema() {
  return make_error("0A000", "the shard of a row cannot be told while this transaction changes the schema",
                    "Commit the schema change first.");
}

// PostgreSQL's extended hash function of a key type, by name.
const char* hash_function(catalog::Oid type) {
  switch (type) {
    case 16: return "hashcharextended(($1::pg_catalog.text)::pg_catalog.bool::pg_catalog.int4::pg_catalog.\"char\"";
    case 17: return "hashvarlenaextended($1::pg_catalog.bytea";
    case 20: return "hashint8extended($1::pg_catalog.int8";
    case 21: return "hashint2extended($1::pg_catalog.int2";
    case 23: return "hashint4extended($1::pg_catalog.int4";
    case 25:
    case 1043: return "hashtextextended($1::pg_catalog.text";
    case 1042: return "hashbpcharextended($1::pg_catalog.bpchar";
    case 1082: return "hashint4extended(($1::pg_catalog.date - '2000-01-01'::pg_catalog.date)";
    case 1114: return "timestamp_hash_extended($1::pg_catalog.timestamp";
    case 1184: return "timestamp_hash_extended($1::pg_catalog.timestamptz::pg_catalog.timestamptz AT TIME ZONE 'UTC'";
    case 1700: return "hash_numeric_extended($1::pg_catalog.numeric";
    case 2950: return "uuid_hash_extended($1::pg_catalog.uuid";
    default: return nullptr;
  }
}

}  // namespace

// Asks a PostgreSQL for the hash of one value (an unusual spelling of a date, a value that the column would round).
net::Task<Status> ShardQuestions::hash_of(const plan::KeySource& source, const std::string& value, uint64_t& hash) {
  const char* function = hash_function(source.type);
  if (function == nullptr) co_return make_error("0A000", "the key's value cannot be hashed");
  // On a connection of its own: the session's may be in the middle of a COPY.
  auto borrowed = co_await backends_.borrow(snapshot_.home);
  if (!borrowed.ok()) co_return std::move(borrowed.error());
  pool::ServerConn* conn = *borrowed;
  std::string expression = function;
  if (source.typmod >= 0) {
    const std::size_t at = expression.find("$1");
    const std::string question =
        "SELECT pg_catalog.format_type(" + std::to_string(source.type) + ", " + std::to_string(source.typmod) + ")";
    auto name = co_await conn->query(question);
    if (!name.ok()) {
      backends_.give_back();
      co_return std::move(name.error());
    }
    expression.replace(at, 2, "(CAST($1 AS " + *name->rows[0][0] + "))");
  }
  const std::vector<std::optional<std::string>> values = {value};
  const std::vector<pg::Oid> types = {25};
  const std::string question = "SELECT pg_catalog." + expression + ", 8816678312871386365)";
  auto rows = co_await conn->query_params(question, values, types);
  backends_.give_back();
  if (!rows.ok()) co_return std::move(rows.error());
  hash = static_cast<uint64_t>(std::stoll(*rows->rows[0][0]));
  co_return Status{};
}

// The groups have the table with its expressions.
net::Task<Status> ShardQuestions::read_expressions(pool::ServerConn& conn, const catalog::Colocation& colocation) {
  if (!of_expressions_.empty()) co_return Status{};
  const catalog::Table& table = *database_.tables_by_oid.at(colocation.table);
  const std::string relation =
      pool::quote_literal(pool::quote_identifier(table.schema) + "." + pool::quote_identifier(table.name)) +
      "::pg_catalog.regclass";
  const std::string question = "SELECT " + relation + "::pg_catalog.oid, pg_catalog.pg_get_partkeydef(" + relation +
                               "), " + columns_of_row(table, relation);
  auto rows = co_await conn.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  const std::string key = rows->rows[0][1].value_or("");  // HASH (…)
  const std::string count = std::to_string(colocation.shards.size());
  of_expressions_ = "SELECT r FROM pg_catalog.generate_series(0, " + count + " - 1) AS r, (SELECT " +
                    rows->rows[0][2].value_or("") + ") AS row_of_the_table WHERE pg_catalog.satisfies_hash_partition(" +
                    *rows->rows[0][0] + ", " + count + ", r, " +
                    key.substr(key.find('(') + 1, key.rfind(')') - key.find('(') - 1) + ")";
  co_return Status{};
}

net::Task<Result<uint32_t>> ShardQuestions::by_expression(const catalog::Colocation& colocation,
                                                          const KeyTexts& values) {
  if (schema_changed_) co_return busy_with_schema();
  auto borrowed = co_await backends_.borrow(colocation.shards[0].group);
  if (!borrowed.ok()) co_return std::move(borrowed.error());
  Status known = co_await read_expressions(**borrowed, colocation);
  if (!known.ok()) {
    backends_.give_back();
    co_return std::move(known.error());
  }
  const std::vector<pg::Oid> types(values.size(), 25);
  auto answer = co_await (*borrowed)->query_params(of_expressions_, values, types);
  backends_.give_back();
  if (!answer.ok()) co_return std::move(answer.error());
  co_return static_cast<uint32_t>(std::stoul(*answer->rows.at(0)[0]));
}

// The home has the table's partitions and their conditions, whose constants must not depend on the session's settings
// (other styles than ISO abbreviate time zones).
net::Task<Status> ShardQuestions::read_partitions(pool::ServerConn& conn, const catalog::Table& table) {
  if (!of_partitions_.empty()) co_return Status{};
  const std::string oid = std::to_string(table.oid);
  const std::string conditions =
      "SET LOCAL DateStyle = ISO; SELECT i.inhrelid, pg_catalog.pg_get_partition_constraintdef(i.inhrelid), " +
      columns_of_row(table, oid) + " FROM pg_catalog.pg_inherits i WHERE i.inhparent = " + oid + " ORDER BY 1";
  auto partitions = co_await conn.query(conditions);
  if (!partitions.ok()) co_return std::move(partitions.error());
  of_partitions_ = "SELECT 0";
  if (partitions->rows.empty()) co_return Status{};
  of_partitions_ = "SELECT CASE";
  for (const auto& row : partitions->rows) of_partitions_ += " WHEN " + row[1].value_or("true") + " THEN " + *row[0];
  of_partitions_ += " ELSE 0 END FROM (SELECT " + *partitions->rows[0][2] + ") AS row_of_the_table";
  co_return Status{};
}

// Asks the home which of a table's partitions takes a row with these values of its key, in key order.
net::Task<Result<uint32_t>> ShardQuestions::by_partition(const catalog::Colocation& colocation,
                                                         const KeyTexts& values) {
  if (schema_changed_) co_return busy_with_schema();
  auto borrowed = co_await backends_.borrow(snapshot_.home);
  if (!borrowed.ok()) co_return std::move(borrowed.error());
  Status known = co_await read_partitions(**borrowed, *database_.tables_by_oid.at(colocation.table));
  if (!known.ok()) {
    backends_.give_back();
    co_return std::move(known.error());
  }
  if (of_partitions_ == "SELECT 0") {  // it has none
    backends_.give_back();
    co_return catalog::PartitionBounds::kNone;
  }
  const std::vector<pg::Oid> types(values.size(), 25);
  auto answer = co_await (*borrowed)->query_params(of_partitions_, values, types);
  backends_.give_back();
  if (!answer.ok()) co_return std::move(answer.error());
  const auto partition = static_cast<catalog::Oid>(std::stoul(*answer->rows[0][0]));
  for (uint32_t shard = 0; shard < colocation.shards.size(); ++shard)
    if (colocation.shards[shard].partition == partition) co_return shard;
  co_return catalog::PartitionBounds::kNone;
}

// Asks for the hash of each value.
net::Task<Result<uint32_t>> ShardQuestions::by_hash(const catalog::Colocation& colocation, const plan::KeyTuple& tuple,
                                                    const KeyTexts& values) {
  uint64_t row_hash = 0;
  for (std::size_t i = 0; i < tuple.size(); ++i) {
    if (!values[i]) continue;
    uint64_t hash = 0;
    CO_TRY(co_await hash_of(tuple[i], *values[i], hash));
    row_hash = catalog::combine_hash(row_hash, hash);
  }
  co_return colocation.shard_of_hash(row_hash);
}

net::Task<Result<uint32_t>> ShardQuestions::shard_of(const catalog::Colocation& colocation, const plan::KeyTuple& tuple,
                                                     const KeyTexts& values) {
  if (colocation.by_partition) co_return co_await by_partition(colocation, values);
  if (colocation.computed) co_return co_await by_expression(colocation, values);
  co_return co_await by_hash(colocation, tuple, values);
}

// The group of a row that an INSERT makes.
net::Task<Result<exec::GroupId>> ShardQuestions::group_of_row(const catalog::Colocation& colocation,
                                                              const plan::KeyTuple& tuple, const exec::Values& values) {
  bool is_null = false;
  if (const auto shard = exec::shard_of(tuple, values, colocation, is_null))
    co_return exec::group_of(colocation, *shard, snapshot_);
  KeyTexts texts;
  for (const plan::KeySource& source : tuple) {
    std::string text;
    if (exec::is_null(source, values)) {
      texts.emplace_back(std::nullopt);
      continue;
    }
    if (!exec::text_value(source, values, text))
      co_return make_error("0A000", "the shard of this row cannot be told from a binary parameter of this type",
                           "Send the distribution column's value in text format.");
    texts.emplace_back(std::move(text));
  }
  auto shard = co_await shard_of(colocation, tuple, texts);
  // A value that is none: any group says so, with the position in the client's text.
  if (!shard.ok() && shard.error().sqlstate.starts_with("22") && !backends_.in_transaction())
    co_return exec::group_of(colocation, 0, snapshot_);
  if (!shard.ok()) co_return std::move(shard.error());
  co_return exec::group_of(colocation, *shard, snapshot_);
}

}  // namespace pgmosaic::router
