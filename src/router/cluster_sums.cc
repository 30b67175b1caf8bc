#include "router/cluster_sums.h"

#include <nlohmann/json.hpp>

#include "pg/site_names.h"

namespace pgmosaic::router {

namespace {

using Rows = pool::ServerConn::Rows;

// One row per partition of a group, its values as a JSON object; then per index; then per database.
constexpr const char* kOfGroup = R"(
SELECT 'table', c.oid::pg_catalog.text, '', pg_catalog.jsonb_build_object(
         'relation_size', pg_catalog.pg_relation_size(c.oid), 'table_size', pg_catalog.pg_table_size(c.oid),
         'indexes_size', pg_catalog.pg_indexes_size(c.oid), 'total_size', pg_catalog.pg_total_relation_size(c.oid),
         'reltuples', GREATEST(c.reltuples, 0), 'relpages', c.relpages)
       || (pg_catalog.to_jsonb(s) - '{relid,schemaname,relname}'::pg_catalog.text[])
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relispartition
UNION ALL
SELECT 'index', n.nspname, r.relname, pg_catalog.jsonb_build_object(
         'relation_size', pg_catalog.sum(pg_catalog.pg_relation_size(c.oid)),
         'table_size', pg_catalog.sum(pg_catalog.pg_table_size(c.oid)),
         'total_size', pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid)),
         'reltuples', pg_catalog.sum(GREATEST(c.reltuples, 0)), 'relpages', pg_catalog.sum(c.relpages))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
     JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE c.relkind = 'i' AND c.relispartition GROUP BY n.nspname, r.relname
UNION ALL
SELECT 'database', datname, '', pg_catalog.jsonb_build_object('size', pg_catalog.pg_database_size(oid))
FROM pg_catalog.pg_database
WHERE pg_catalog.has_database_privilege(oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'MEMBER'))";

constexpr const char* kNamesAtHome = R"(
SELECT 'index', c.oid, n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I')
UNION ALL SELECT 'database', oid, datname, '' FROM pg_catalog.pg_database)";

// Adds `values` to `sum`: numbers are added, of times (as text of one form) the latest counts.
void add(nlohmann::json& sum, const nlohmann::json& values) {
  for (const auto& [name, value] : values.items()) {
    if (value.is_null()) continue;
    nlohmann::json& known = sum[name];
    if (known.is_null() || (value.is_string() && known < value)) {
      known = value;
    } else if (value.is_number_integer()) {
      known = known.get<int64_t>() + value.get<int64_t>();
    } else if (value.is_number()) {
      known = known.get<double>() + value.get<double>();
    }
  }
}

// The keys of what a group's row speaks of: OIDs at home, or databases by name and OID. None: not to be counted.
class HomeKeys {
 public:
  HomeKeys(const Rows& names, const catalog::Snapshot& snapshot, const catalog::Database& database)
      : snapshot_(snapshot), database_(database) {
    for (const auto& row : names.rows) oids_[{*row[0], *row[2], *row[3]}] = *row[1];
  }
  std::vector<std::string> of(const std::vector<std::optional<std::string>>& row, const catalog::Group& group,
                              const pg::OidMap& map) const {
    if (*row[0] == "table") {
      const catalog::Oid oid = map.relation_at_home(static_cast<catalog::Oid>(std::stoul(*row[1])));
      const auto table = database_.tables_by_oid.find(oid);
      if (table == database_.tables_by_oid.end() || table->second->kind != catalog::TableKind::sharded) return {};
      return {std::to_string(oid)};
    }
    if (*row[0] == "index") {
      const auto found = oids_.find({"index", *row[1], *row[2]});
      return found == oids_.end() ? std::vector<std::string>() : std::vector<std::string>{found->second};
    }
    std::string name = *row[1];
    if (group.beside_home) {
      name.clear();
      for (const auto& [database, tables] : snapshot_.databases)
        if (pg::shards_database_name(database) == *row[1]) name = database;
    }
    const auto found = oids_.find({"database", name, ""});
    if (!snapshot_.databases.contains(name) || found == oids_.end()) return {};
    return {"database " + name, "database " + found->second};
  }

 private:
  const catalog::Snapshot& snapshot_;
  const catalog::Database& database_;
  std::map<std::array<std::string, 3>, std::string> oids_;
};

}  // namespace

net::Task<Result<std::string>> cluster_sums(exec::Backends& backends, const catalog::Snapshot& snapshot,
                                            const catalog::Database& database) {
  auto home = co_await backends.get(snapshot.home);
  if (!home.ok()) co_return std::move(home.error());
  auto names = co_await (*home)->conn->query(kNamesAtHome);
  if (!names.ok()) co_return std::move(names.error());
  const HomeKeys keys(*names, snapshot, database);
  nlohmann::json sums = nlohmann::json::object();
  for (const catalog::Group& group : snapshot.groups) {
    const auto map = database.oid_maps->find(group.id);
    if (group.home || map == database.oid_maps->end()) continue;
    auto backend = co_await backends.get(group.id);
    if (!backend.ok()) co_return std::move(backend.error());
    auto rows = co_await (*backend)->conn->query(kOfGroup);
    if (!rows.ok()) co_return std::move(rows.error());
    for (const auto& row : rows->rows)
      for (const std::string& key : keys.of(row, group, *map->second)) add(sums[key], nlohmann::json::parse(*row[3]));
  }
  co_return sums.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace pgmosaic::router
