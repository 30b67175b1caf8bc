// What a router knows about the cluster: immutable values, shared between threads, replaced as a whole.
//
// A Snapshot is built by control/ from the metadata store and the home group's own pg_catalog and then never
// changes; routers swap a shared_ptr. `epoch` numbers the snapshots. Nothing here does I/O.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "catalog/sequences.h"
#include "catalog/view_definitions.h"
#include "pg/oid_map.h"

namespace pgmosaic::catalog {

class PartitionBounds;  // catalog/partition_bounds.h

using Oid = uint32_t;
using GroupId = uint32_t;       // replication group, from 1
using ColocationId = uint32_t;  // from 1; 0: none
using ShardId = uint64_t;       // unique in the cluster, from 1

// One replication group: a PostgreSQL server that owns shards.
struct Group {
  GroupId id = 0;
  std::string name;  // "g1", …
  std::string host;  // host name, address, or a directory that holds the Unix socket
  uint16_t port = 0;
  // The schema as the user declared it, local tables, sequences, advisory locks, LISTEN/NOTIFY; no shards. Exactly one
  // group is home. It shares its server with a group that holds shards (see control/sites.h).
  bool home = false;
  bool beside_home = false;  // the group on the home's server
};

enum class TableKind {
  local,      // rows only on the home group (the other groups have an empty table of the same shape)
  reference,  // the same rows on every group
  sharded,    // rows spread by the distribution key
  view,       // expanded by PostgreSQL; `depends_on` tells which tables it reads
};

struct Column {
  std::string name;
  Oid type = 0;       // of the home group's pg_type
  Oid base_type = 0;  // the type under a domain, else == type
  int32_t typmod = -1;
  Oid collation = 0;
  bool not_null = false;
  bool has_default = false;  // a DEFAULT, identity or generated column
  bool generated = false;    // GENERATED ALWAYS AS (…) STORED: COPY leaves it out
  std::string default_sql;   // of a DEFAULT; names in it are qualified
  std::string type_name;     // without its modifier, qualified
  Oid sequence = 0;          // identity, or a DEFAULT that is nextval() of this sequence
  enum class Identity : uint8_t { none, always, by_default } identity = Identity::none;
  bool bytewise_collation = true;  // false: comparing its values needs a PostgreSQL (collation is not C-like)
};

// A unique or primary key as the planner needs it (ON CONFLICT targets, key equality).
struct UniqueKey {
  std::string name;
  std::vector<int> columns;  // indexes into Table::columns; empty: an expression index
  bool primary = false;
};

struct ForeignKey {
  std::string name;
  Oid referenced = 0;
  std::string
      parts;  // how PostgreSQL calls its parts for the partitions of a referenced table, with a number behind it
};

struct Table {
  Oid oid = 0;  // the home group's OID; identifies the table across renames
  std::string schema;
  std::string name;
  TableKind kind = TableKind::local;
  std::vector<Column> columns;  // in attnum order, without dropped ones
  std::vector<UniqueKey> unique_keys;
  std::vector<ForeignKey> foreign_keys;
  // sharded only:
  std::vector<int> key_columns;  // distribution columns, indexes into `columns`, in key order
  ColocationId colocation = 0;
  std::string shard_prefix;  // leaf of remainder r: pgmosaic_shards."<shard_prefix>_<r>"; empty: it has no leaves
  bool partitioned = false;  // declared with PARTITION BY, and its partitions are the user's own
  Oid partition_of = 0;      // the table whose partition it is
  // view only: qualified ("schema", "name") relations it reads, transitively resolved to tables
  std::vector<std::pair<std::string, std::string>> depends_on;
  std::string definition;               // of a view: differs where the view was defined anew
  bool has_statement_triggers = false;  // a view: what happens to writes is not PostgreSQL's own way (triggers, rules)
  bool has_triggers = false;            // of users, of any kind
  bool foreign = false;
  // A transaction that reads or writes it cannot be prepared: a foreign table, rules that NOTIFY, a view over these.
  bool not_preparable = false;
  bool taints = false;        // its rules may leave something in the session
  bool row_security = false;  // policies apply, and only to statements that name the table itself
  std::string owner;          // role that owns the table and its leaves, if it may read and write it by its name

  // Index into `columns`, or -1.
  int column_index(std::string_view column_name) const {
    for (size_t i = 0; i < columns.size(); ++i)
      if (columns[i].name == column_name) return static_cast<int>(i);
    return -1;
  }
};

// One shard: rows whose partition hash % modulus == remainder, or a partition that the user declared.
struct Shard {
  ShardId id = 0;
  uint32_t modulus = 0;
  uint32_t remainder = 0;
  GroupId group = 0;
  Oid partition = 0;  // the partition's own, on the home; id, modulus and remainder are 0
};

// Tables that are sharded alike.
//
// By hash: shards are in order of remainder and all have the same modulus in this version, so the shard of hash h is
// shards[h % shards.size()]. By the partitions of one table (`bounds` is set): the shards are its partitions; every
// group has all of them, and those that live elsewhere refuse rows. A partition itself, and what was detached, is a
// table without key in the colocation of one shard that its group has (single_colocation()).
struct Colocation {
  ColocationId id = 0;
  std::vector<Oid> key_types;       // base types
  std::vector<Oid> key_collations;  // 0 where the type has none
  std::vector<Shard> shards;
  bool explicit_only = false;  // made with WITH (colocate_with = 'none')
  bool computed = false;       // by the hash of expressions: only a PostgreSQL can tell a row's shard
  bool by_partition = false;
  Oid table = 0;                                  // by_partition, computed: whose shards they are
  std::shared_ptr<const PartitionBounds> bounds;  // by_partition

  uint32_t shard_of_hash(uint64_t hash) const { return static_cast<uint32_t>(hash % shards.size()); }
  GroupId group_of_hash(uint64_t hash) const { return shards[shard_of_hash(hash)].group; }
};

// Of tables whose rows are all on one group.
inline constexpr ColocationId kFirstSingleColocation = 0x40000000;
inline ColocationId single_colocation(GroupId group) { return kFirstSingleColocation + group; }

// OIDs of the groups that are not the home, in the home's terms.
using OidMaps = std::map<GroupId, std::shared_ptr<const pg::OidMap>>;

// Types that users made, as the home knows them.
struct UserTypes {
  std::map<std::pair<std::string, std::string>, Oid> by_name;  // schema and name
  std::map<Oid, pg::TypeForm> forms;                           // of those that are not plain
};

// What functions of one name do that users made, all overloads taken together (see plan/function_body.h).
struct UserFunction {
  // Which rows it may touch, so where it can run: everywhere; where every group has a copy; at home; at home under a
  // guard, because only running it tells; nowhere.
  enum class Touches : uint8_t { nothing, reference, home, unknown, shards } touches = Touches::nothing;
  std::string what;       // by which it does: a table, …
  bool writes = false;    // tables or sequences
  bool copies = false;    // names a reference table
  bool pins = false;      // takes locks or makes tables of the session
  bool notifies = false;  // its transaction cannot be prepared
  bool used = false;      // by triggers, views, policies, operators, … that call it unseen
  bool differs = false;   // two servers, or two moments, would compute different values
  bool clean = true;      // leaves nothing behind in the session
  bool commits = false;   // ends transactions
  bool aggregate = false;
  char volatility = 'v';  // as in pg_proc: i, s, v
};

// A database of the cluster; exists on every group.
struct Database {
  std::string name;
  bool bytewise_default = true;  // its default collation compares bytes (C, POSIX, C.UTF-8)
  // schema -> table name -> table
  std::map<std::string, std::map<std::string, std::shared_ptr<const Table>, std::less<>>, std::less<>> schemas;
  std::unordered_map<Oid, std::shared_ptr<const Table>> tables_by_oid;
  std::map<ColocationId, Colocation> colocations;
  std::set<std::string, std::less<>> superusers;
  std::map<std::string, UserFunction, std::less<>> user_functions;
  // Local tables and views with triggers of which only running them tells what they touch: writes at home are guarded.
  std::set<Oid> guarded_tables;
  // What sees a part of the rows where it is: see plan::misplaced_functions(), misplaced_publications(), …
  std::vector<Error> misplaced;
  bool special_tables = false;  // some are not_preparable or taint
  UserTypes types;
  Sequences sequences;
  mutable ViewDefinitions view_definitions;
  uint64_t identities = 0;  // hash over names and OIDs of tables and types: equal ones have equal `oid_maps`
  std::shared_ptr<const OidMaps> oid_maps = std::make_shared<const OidMaps>();

  const Table* find(std::string_view schema, std::string_view table) const {
    auto s = schemas.find(schema);
    if (s == schemas.end()) return nullptr;
    auto t = s->second.find(table);
    return t == s->second.end() ? nullptr : t->second.get();
  }
  // What answers for a relation: its kind, and of a view local or reference where it reads nothing else. A view that
  // reads sharded tables stays a view.
  TableKind reach(const Table& table) const {
    if (table.kind != TableKind::view) return table.kind;
    bool local = table.depends_on.empty();
    for (const auto& [schema, name] : table.depends_on) {
      const Table* read = find(schema, name);
      if (read != nullptr && read->kind == TableKind::sharded) return TableKind::view;
      local = local || read == nullptr || read->kind == TableKind::local;
    }
    return local ? TableKind::local : TableKind::reference;
  }
  const Colocation* colocation(ColocationId id) const {
    auto it = colocations.find(id);
    return it == colocations.end() ? nullptr : &it->second;
  }
};

struct Snapshot {
  uint64_t epoch = 0;
  std::vector<Group> groups;  // ordered by id
  GroupId home = 0;
  std::map<std::string, std::shared_ptr<const Database>, std::less<>> databases;

  const Database* database(std::string_view name) const {
    auto it = databases.find(name);
    return it == databases.end() ? nullptr : it->second.get();
  }
  const Group* group(GroupId id) const {
    for (const Group& g : groups)
      if (g.id == id) return &g;
    return nullptr;
  }
  // The first group that holds shards: it has every table, if not every row.
  GroupId any_shards_group() const {
    for (const Group& g : groups)
      if (!g.home) return g.id;
    return home;
  }
};

using SnapshotPtr = std::shared_ptr<const Snapshot>;

}  // namespace pgmosaic::catalog
