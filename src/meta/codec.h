// The catalog's values as the metadata store keeps them: keys by path, values as JSON objects (unknown members are
// ignored, so that an older program can read a newer one's records).
//
//   groups/<id>                                {"name", "host", "port", "home"}
//   databases/<database>/colocations/<id>      {"key_types", "key_collations", "shards": [{"id", "modulus",
//   "remainder",
//                                               "group"}], "explicit_only", "by_partition", "computed"}
//   databases/<database>/tables/<oid>          {"kind", "key_columns", "colocation", "shard_prefix", "group"}
//   databases/<database>/layouts/<schema>/<table>   clauses for a table that is yet to be created, as text
//   ids/<sequence>                             a number, see allocate_ids()
//   epoch                                      a number
//
// Names are escaped (% and / as %25 and %2F).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "meta/store.h"

namespace pgmosaic::meta {

// What the groups' own pg_catalog does not tell about a table. Columns, names and types are read from the home group.
struct ShardedTableRecord {
  std::string database;
  catalog::Oid oid = 0;  // on the home group
  catalog::TableKind kind = catalog::TableKind::sharded;
  std::vector<int> key_columns;  // pg_attribute.attnum on the home group, so that a renamed column stays the key
  catalog::ColocationId colocation = 0;
  std::string shard_prefix;    // UTF-8
  catalog::GroupId group = 0;  // of a partition that the user declared: where its rows are

  bool operator==(const ShardedTableRecord&) const = default;
};

// By schema and table; see sql/layout.h.
using Layouts = std::map<std::pair<std::string, std::string>, std::string>;

inline constexpr std::string_view kGroupPrefix = "groups/";
inline constexpr std::string_view kDatabasePrefix = "databases/";
inline constexpr std::string_view kEpochKey = "epoch";

std::string group_key(catalog::GroupId id);
std::string colocation_prefix(std::string_view database);
std::string colocation_key(std::string_view database, catalog::ColocationId id);
std::string table_prefix(std::string_view database);
std::string table_key(std::string_view database, catalog::Oid oid);
std::string layout_prefix(std::string_view database);
std::string layout_key(std::string_view database, std::string_view schema, std::string_view table);
std::string ids_key(std::string_view sequence);

// REQUIRES: strings are valid UTF-8
std::string encode_group(const catalog::Group& group);
std::string encode_colocation(const catalog::Colocation& colocation);
std::string encode_table(const ShardedTableRecord& record);

// XX001 names the key if its value is not what it should be.
Result<catalog::Group> decode_group(const Entry& entry);
Result<catalog::Colocation> decode_colocation(const Entry& entry);
Result<ShardedTableRecord> decode_table(const Entry& entry);

// Everything of one database, or of all groups, read at one revision each.
Result<std::vector<catalog::Group>> read_groups(Store& store);
Result<std::vector<catalog::Colocation>> read_colocations(Store& store, std::string_view database);
Result<std::vector<ShardedTableRecord>> read_tables(Store& store, std::string_view database);
Result<Layouts> read_layouts(Store& store, std::string_view database);

}  // namespace pgmosaic::meta
