#include "router/new_tables.h"

#include <algorithm>

#include "catalog/hashing.h"
#include "pool/settings.h"

namespace pgmosaic::router {

std::string qualified_name(const std::string& schema, const std::string& name) {
  return (schema.empty() ? "" : pool::quote_identifier(schema) + ".") + pool::quote_identifier(name);
}

// Runs one text on several groups at once. Notices of the first reach the client, and `tag` is its last command tag.
net::Task<Status> run_on_groups(const std::vector<exec::Backend*>& backends, const std::vector<std::string>& texts,
                                std::string* notices, std::string* tag) {
  for (std::size_t i = 0; i < backends.size(); ++i) {
    if (texts[i].empty()) continue;
    backends[i]->conn->add_internal_query(texts[i]);
    backends[i]->conn->flush();
  }
  Status result;
  for (std::size_t i = 0; i < backends.size(); ++i) {
    pool::ServerConn::Rows rows;
    Status status = co_await backends[i]->conn->drain(&rows);
    if (i == 0 && notices != nullptr) *notices += rows.notices;
    if (i == 0 && tag != nullptr) *tag = rows.tag;
    if (!status.ok() && result.ok()) {
      if (i > 0) status.error().node = "group " + std::to_string(backends[i]->group);
      result = std::move(status);
    }
  }
  co_return result;
}

namespace {

// The leaves of a new sharded table that one group owns.
std::string leaves_sql(const catalog::Colocation& colocation, exec::GroupId group, const std::string& parent,
                       const std::string& prefix, const plan::Ddl::NewSharded& wish) {
  std::string sql;
  for (const catalog::Shard& shard : colocation.shards) {
    if (shard.group != group) continue;
    sql += std::string("CREATE ") + (wish.unlogged ? "UNLOGGED " : "") + "TABLE pgmosaic_shards." +
           pool::quote_identifier(prefix + "_" + std::to_string(shard.remainder)) + " PARTITION OF " + parent +
           " FOR VALUES WITH (MODULUS " + std::to_string(shard.modulus) + ", REMAINDER " +
           std::to_string(shard.remainder) + ")";
    if (!wish.storage.empty()) sql += " WITH (" + wish.storage + ")";
    sql += ";";
  }
  return sql;
}

}  // namespace

std::string short_name(const std::string& name) {
  std::size_t length = std::min<std::size_t>(name.size(), 40);
  while (length < name.size() && length > 0 && (static_cast<unsigned char>(name[length]) & 0xC0) == 0x80) --length;
  return name.substr(0, length);
}

std::string leaf_prefix(const std::string& table, catalog::Oid oid) {
  return short_name(table) + "_" + std::to_string(oid);
}

// Columns whose equal values may be in different partitions: nondeterministic ones that the key compares in another
// way, or computes with.
static net::Task<Status> check_equality(pool::ServerConn& conn, const std::string& relation) {
  const std::string question =
      "SELECT a.attname FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_attribute a ON a.attrelid = "
      "p.partrelid "
      "JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation WHERE p.partrelid = " +
      relation +
      " AND NOT l.collisdeterministic AND (EXISTS (SELECT FROM ROWS FROM "
      "(pg_catalog.unnest(p.partattrs::pg_catalog.int2[]), pg_catalog.unnest(p.partcollation::pg_catalog.oid[])) AS k "
      "(att, coll) WHERE k.att = a.attnum AND k.coll <> a.attcollation) OR (p.partexprs IS NOT NULL AND NOT a.attnum = "
      "ANY (p.partattrs::pg_catalog.int2[]) AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = "
      "'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = p.partrelid AND d.objsubid = a.attnum AND d.refclassid "
      "= d.classid AND d.refobjid = d.objid AND d.refobjsubid = 0))) LIMIT 1";
  auto rows = co_await conn.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return Status{};
  co_return make_error("0A000",
                       "column \"" + *rows->rows[0][0] +
                           "\" has a nondeterministic collation and cannot be a distribution "
                           "column with another one, or in an expression",
                       "Use a column with a deterministic collation, or leave out COLLATE.");
}

// A table whose shards are the partitions that its user declares, none yet.
net::Task<Status> NewTables::by_partition(const plan::Ddl::NewSharded& wish) {
  CO_TRY_ASSIGN(const std::string name, co_await name_of(wish.schema, wish.table));
  CO_TRY_ASSIGN(const catalog::Oid oid, co_await oid_at_home(name));
  const std::string relation = std::to_string(oid);
  CO_TRY(co_await check_equality(*backends_.held(snapshot_.home)->conn, relation));
  CO_TRY_ASSIGN(const catalog::ColocationId id, control_.new_colocation());
  catalog::Colocation colocation;
  colocation.id = id;
  colocation.explicit_only = colocation.by_partition = true;
  meta::ShardedTableRecord record;
  record.database = changes_.database;
  record.oid = oid;
  record.colocation = id;
  changes_.tables.push_back(std::move(record));
  changes_.colocations.push_back(std::move(colocation));
  co_return Status{};
}

net::Task<Result<std::string>> NewTables::name_of(const std::string& schema, const std::string& table) {
  if (!schema.empty()) co_return qualified_name(schema, table);
  auto rows = co_await backends_.held(snapshot_.home)->conn->query("SELECT pg_catalog.current_schema()");
  if (!rows.ok()) co_return std::move(rows.error());
  co_return qualified_name(rows->rows.at(0)[0].value_or(""), table);
}

net::Task<Result<catalog::Oid>> NewTables::oid_at_home(const std::string& name) {
  const std::string question = "SELECT " + pool::quote_literal(name) + "::pg_catalog.regclass::pg_catalog.oid";
  auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  co_return static_cast<catalog::Oid>(std::stoul(*rows->rows[0][0]));
}

// OID, attnum, base type and collation of the key columns, as the home created them.
net::Task<Status> NewTables::read_key(const plan::Ddl::NewSharded& wish, meta::ShardedTableRecord& record,
                                      std::vector<catalog::Oid>& types, std::string& schema) {
  exec::Backend& home = *backends_.held(snapshot_.home);
  CO_TRY_ASSIGN(const std::string name, co_await name_of(wish.schema, wish.table));
  const std::string question =
      "WITH RECURSIVE base AS (SELECT a.attname, a.attnum, t.oid, t.typtype, t.typbasetype, a.attcollation, a.attrelid "
      "FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid "
      "WHERE a.attrelid = " +
      pool::quote_literal(name) +
      "::pg_catalog.regclass AND a.attnum > 0 "
      "UNION ALL SELECT b.attname, b.attnum, t.oid, t.typtype, t.typbasetype, b.attcollation, b.attrelid "
      "FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd') "
      "SELECT b.attname, b.attnum, b.oid, b.attcollation, b.attrelid, coalesce(l.collisdeterministic, true), "
      "n.nspname, pg_catalog.format_type(b.oid, NULL) "
      "FROM base b JOIN pg_catalog.pg_class c ON c.oid = b.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = "
      "c.relnamespace "
      "LEFT JOIN pg_catalog.pg_collation l ON l.oid = b.attcollation WHERE b.typtype <> 'd'";
  auto rows = co_await home.conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  for (const std::string& column : wish.key_columns) {
    bool found = false;
    for (const auto& row : rows->rows) {
      if (*row[0] != column) continue;
      found = true;
      const catalog::Oid type = static_cast<catalog::Oid>(std::stoul(*row[2]));
      if (!catalog::hashable_key_type(type))
        co_return make_error("0A000",
                             "column \"" + column + "\" of type " + *row[7] + " cannot be a distribution column",
                             "Use an integer, text, uuid, date, timestamp, numeric, boolean or bytea column; the hash "
                             "of other types is not the same on every server.");
      if (*row[5] != "t")
        co_return make_error(
            "0A000", "column \"" + column + "\" has a nondeterministic collation and cannot be a distribution column",
            "Use a column with a deterministic collation.");
      record.key_columns.push_back(std::stoi(*row[1]));
      record.oid = static_cast<catalog::Oid>(std::stoul(*row[4]));
      types.push_back(type);
      schema = *row[6];
    }
    if (!found) co_return make_error("42703", "column \"" + column + "\" named in partition key does not exist");
  }
  co_return Status{};
}

// What a group knows of a key with expressions: the columns in it, and its types.
net::Task<Status> NewTables::read_expression_key(const plan::Ddl::NewSharded& wish, meta::ShardedTableRecord& record,
                                                 std::vector<catalog::Oid>& types, std::string& schema) {
  CO_TRY_ASSIGN(const std::string name, co_await name_of(wish.schema, wish.table));
  const std::string relation = pool::quote_literal(name) + "::pg_catalog.regclass";
  const std::string parts =
      "SELECT o.opcintype, coalesce(l.collisdeterministic, true), pg_catalog.format_type(o.opcintype, NULL) "
      "FROM pg_catalog.pg_partitioned_table p, ROWS FROM (pg_catalog.unnest(p.partclass::pg_catalog.oid[]), "
      "pg_catalog.unnest(p.partcollation::pg_catalog.oid[])) WITH ORDINALITY AS k (class, coll, n) "
      "JOIN pg_catalog.pg_opclass o ON o.oid = k.class LEFT JOIN pg_catalog.pg_collation l ON l.oid = k.coll "
      "WHERE p.partrelid = " +
      relation + " ORDER BY k.n";
  pool::ServerConn& group = *backends_.held(snapshot_.any_shards_group())->conn;
  CO_TRY(co_await check_equality(group, relation));
  auto key = co_await group.query(parts);
  if (!key.ok()) co_return std::move(key.error());
  for (const auto& row : key->rows) {
    types.push_back(static_cast<catalog::Oid>(std::stoul(*row[0])));
    if (!catalog::hashable_key_type(types.back()) || row[1] != "t")
      co_return make_error("0A000", "an expression of type " + *row[2] + " cannot be in a distribution key",
                           "Cast it to text with a deterministic collation, or to an integer.");
  }
  const std::string within =
      "SELECT a.attname FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_attribute a ON a.attrelid = "
      "p.partrelid "
      "WHERE p.partrelid = " +
      relation +
      " AND (a.attnum = ANY (p.partattrs::pg_catalog.int2[]) OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE "
      "d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = p.partrelid AND d.objsubid = a.attnum AND "
      "d.refclassid = d.classid AND d.refobjid = d.objid AND d.refobjsubid = 0)) AND a.attnum > 0 ORDER BY a.attnum";
  auto columns = co_await group.query(within);
  if (!columns.ok()) co_return std::move(columns.error());
  for (const auto& row : columns->rows) {
    const std::string place =
        "SELECT a.attnum, c.oid, n.nspname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c "
        "ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE "
        "c.oid = " +
        relation + " AND a.attname = " + pool::quote_literal(*row[0]);
    auto found = co_await backends_.held(snapshot_.home)->conn->query(place);
    if (!found.ok()) co_return std::move(found.error());
    record.key_columns.push_back(std::stoi(*found->rows.at(0)[0]));
    record.oid = static_cast<catalog::Oid>(std::stoul(*found->rows[0][1]));
    schema = *found->rows[0][2];
  }
  if (record.key_columns.empty())
    co_return make_error("42P17", "the distribution key has no column", "Write an expression over columns.");
  co_return Status{};
}

// The shards that a new table shares with others, or has for itself.
Result<catalog::Colocation> NewTables::colocation_for(const plan::Ddl::NewSharded& wish,
                                                      const std::vector<catalog::Oid>& types,
                                                      const std::string& schema) {
  // Deterministic collations hash alike, so they do not separate colocation groups.
  const std::vector<catalog::Oid> collations(types.size(), 0);
  const std::string& other = wish.colocate_with;
  if (other.empty() || other == "none")
    return control_.place(snapshot_, database_, types, collations, wish.shard_count, wish);
  const std::size_t dot = other.find('.');
  const std::string other_schema = dot == std::string::npos ? schema : other.substr(0, dot);
  const catalog::Table* table = database_.find(other_schema, dot == std::string::npos ? other : other.substr(dot + 1));
  if (table == nullptr || table->kind != catalog::TableKind::sharded)
    return make_error("42P01", "colocate_with: \"" + other + "\" is not a sharded table",
                      "Name a table that is sharded by hash; pgmosaic.tables lists them.");
  const catalog::Colocation& colocation = *database_.colocation(table->colocation);
  if (colocation.by_partition || colocation.computed || colocation.id >= catalog::kFirstSingleColocation)
    return make_error("42809", "colocate_with: \"" + other + "\" is not sharded by hash",
                      "Tables by ranges or lists have shards of their own.");
  if (colocation.key_types != types)
    return make_error("42804", "colocate_with: the key types of \"" + other + "\" differ",
                      "Choose distribution columns of the same types.");
  return colocation;
}

net::Task<Status> NewTables::sharded(const plan::Ddl::NewSharded& wish) {
  if (wish.by_partition) co_return co_await by_partition(wish);
  meta::ShardedTableRecord record;
  record.database = changes_.database;
  std::vector<catalog::Oid> types;
  std::string schema;
  if (wish.by_expression) {
    CO_TRY(co_await read_expression_key(wish, record, types, schema));
  } else {
    CO_TRY(co_await read_key(wish, record, types, schema));
  }
  CO_TRY_ASSIGN(const catalog::Colocation colocation, colocation_for(wish, types, schema));
  record.colocation = colocation.id;
  changes_.colocations.push_back(colocation);
  if (wish.in_partitions) {
    changes_.tables.push_back(record);
    co_return Status{};
  }
  record.shard_prefix = leaf_prefix(wish.table, record.oid);
  changes_.tables.push_back(record);
  co_return co_await create_leaves(colocation, qualified_name(schema, wish.table), record.shard_prefix, wish);
}

// Each group makes the leaves of the shards it owns.
net::Task<Status> NewTables::create_leaves(const catalog::Colocation& colocation, const std::string& parent,
                                           const std::string& prefix, const plan::Ddl::NewSharded& wish) {
  std::vector<exec::Backend*> backends;
  std::vector<std::string> texts;
  for (const catalog::Group& group : snapshot_.groups) {
    backends.push_back(backends_.held(group.id));
    texts.push_back(leaves_sql(colocation, group.id, parent, prefix, wish));
  }
  co_return co_await run_on_groups(backends, texts, nullptr);
}

net::Task<Status> NewTables::before(const plan::Ddl& ddl) {
  if (ddl.tag == "ALTER TABLE" && !ddl.object.empty()) CO_TRY(co_await refuse_default(ddl.object));
  if (!ddl.not_partitioned.empty()) CO_TRY(co_await refuse_partitioned(ddl.not_partitioned));
  if (ddl.replaced_leaves) CO_TRY(co_await replace_leaves(*ddl.replaced_leaves));
  for (const auto& partition : ddl.new_partitions)
    if (partition.adopted) CO_TRY(co_await adopt(partition));
  if (ddl.new_sharded && ddl.new_sharded->if_not_exists) {
    CO_TRY_ASSIGN(existed_, co_await exists(*ddl.new_sharded));
  }
  co_return Status{};
}

net::Task<Status> NewTables::after(const plan::Ddl& ddl) {
  if (ddl.new_sharded && !existed_) CO_TRY(co_await sharded(*ddl.new_sharded));
  if (ddl.new_table) CO_TRY(co_await other(*ddl.new_table));
  for (const auto& made : ddl.new_partitions) CO_TRY(co_await partition(made));
  if (!ddl.new_partitions.empty()) CO_TRY(co_await check_range_keys(ddl));
  co_return Status{};
}

// Of DETACH CONCURRENTLY, which the groups do in one transaction: PostgreSQL could not.
net::Task<Status> NewTables::refuse_default(const std::string& table) {
  const std::string question =
      "SELECT FROM pg_catalog.pg_partitioned_table WHERE partdefid <> 0 AND partrelid = pg_catalog.to_regclass(" +
      pool::quote_literal(table) + ")";
  auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return Status{};
  co_return make_error("55000", "cannot detach partitions concurrently when a default partition exists");
}

net::Task<Status> NewTables::refuse_partitioned(const std::string& index) {
  const std::string question =
      "SELECT relname FROM pg_catalog.pg_class WHERE relkind = 'I' AND oid = "
      "pg_catalog.to_regclass(" +
      pool::quote_literal(index) + ")";
  auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return Status{};
  co_return make_error("0A000", "cannot drop partitioned index \"" + *rows->rows[0][0] + "\" concurrently");
}

net::Task<Result<bool>> NewTables::exists(const plan::Ddl::NewSharded& wish) {
  const std::string question =
      "SELECT pg_catalog.to_regclass(" + pool::quote_literal(qualified_name(wish.schema, wish.table)) + ") IS NOT NULL";
  auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  co_return rows->rows[0][0] == "t";
}

// A reference table is recorded; a local one is what the catalog takes for granted.
net::Task<Status> NewTables::other(const plan::Ddl::NewTable& created) {
  if (created.kind != catalog::TableKind::reference) co_return Status{};
  CO_TRY_ASSIGN(const std::string name, co_await name_of(created.schema, created.table));
  CO_TRY_ASSIGN(const catalog::Oid oid, co_await oid_at_home(name));
  meta::ShardedTableRecord record;
  record.database = changes_.database;
  record.oid = oid;
  record.kind = created.kind;
  if (const auto known = database_.tables_by_oid.find(record.oid); known != database_.tables_by_oid.end())
    co_return Status{};
  changes_.tables.push_back(record);
  co_return Status{};
}

}  // namespace pgmosaic::router
