#include "control/group_oids.h"

#include <unordered_map>

namespace pgmosaic::control {

namespace {

using catalog::Oid;

// Relations (r) and types (t) by name, and the columns (c) of leaves that have another number than in their table: the
// table had lost columns when the leaf was made.
constexpr const char* kOids = R"(
SELECT 'r', c.oid, n.nspname, c.relname, 0, 0
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
UNION ALL
SELECT 't', t.oid, n.nspname, t.typname, 0, 0
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= 16384 AND n.nspname NOT IN ('information_schema', 'pg_toast', 'pgmosaic_shards')
  AND n.nspname !~ '^pg_(toast_)?temp_'
UNION ALL
SELECT 'c', i.inhrelid, '', '', l.attnum, p.attnum
FROM (SELECT DISTINCT attrelid FROM pg_catalog.pg_attribute
      WHERE attisdropped AND attnum > 0 AND attrelid IN (SELECT inhparent FROM pg_catalog.pg_inherits)) d
     JOIN pg_catalog.pg_inherits i ON i.inhparent = d.attrelid
     JOIN pg_catalog.pg_attribute p ON p.attrelid = d.attrelid AND p.attnum > 0 AND NOT p.attisdropped
     JOIN pg_catalog.pg_attribute l ON l.attrelid = i.inhrelid AND l.attname = p.attname AND l.attnum <> p.attnum)";

// Names of leaves, up to the number of the shard → the table's OID.
using Leaves = std::unordered_map<std::string_view, Oid>;

Leaves leaves_of(const catalog::Database& home) {
  Leaves leaves;
  for (const auto& [oid, table] : home.tables_by_oid)
    if (!table->shard_prefix.empty()) leaves[table->shard_prefix] = oid;
  return leaves;
}

Oid relation_at_home(const catalog::Database& home, const Leaves& leaves, const std::string& schema,
                     std::string_view name) {
  if (schema != "pgmosaic_shards") {
    const catalog::Table* table = home.find(schema, name);
    return table == nullptr ? 0 : table->oid;
  }
  const auto leaf = leaves.find(name.substr(0, name.rfind('_')));
  return leaf == leaves.end() ? 0 : leaf->second;
}

pg::OidMap map_of(const pool::ServerConn::Rows& rows, const catalog::Database& home, const Leaves& leaves) {
  pg::OidMap map;
  for (const auto& row : rows.rows) {
    const auto here = static_cast<Oid>(std::stoul(*row[1]));
    if (*row[0] == "r") {
      if (const Oid oid = relation_at_home(home, leaves, *row[2], *row[3]); oid != 0) map.add_relation(here, oid);
    } else if (*row[0] == "t") {
      const auto type = home.types.by_name.find({*row[2], *row[3]});
      if (type != home.types.by_name.end()) map.add_type(here, type->second);
    } else {
      map.add_column(here, static_cast<int16_t>(std::stoi(*row[4])), static_cast<int16_t>(std::stoi(*row[5])));
    }
  }
  for (const auto& [oid, form] : home.types.forms) map.add_form(oid, form);
  return map;
}

}  // namespace

net::Task<Result<std::shared_ptr<const catalog::OidMaps>>> load_oid_maps(
    std::vector<std::pair<catalog::GroupId, pool::ServerConn*>> groups, const catalog::Database& home) {
  const Leaves leaves = leaves_of(home);
  auto maps = std::make_shared<catalog::OidMaps>();
  for (auto& [group, conn] : groups) {
    conn->add_internal_query(kOids);
    conn->flush();
  }
  Status failure;
  for (auto& [group, conn] : groups) {
    pool::ServerConn::Rows rows;
    Status status = co_await conn->drain(&rows);
    if (!status.ok() && failure.ok()) failure = std::move(status);
    if (failure.ok()) (*maps)[group] = std::make_shared<const pg::OidMap>(map_of(rows, home, leaves));
  }
  if (!failure.ok()) co_return std::move(failure.error());
  co_return std::shared_ptr<const catalog::OidMaps>(std::move(maps));
}

}  // namespace pgmosaic::control
