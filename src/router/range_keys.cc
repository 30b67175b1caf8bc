// NewTables: foreign keys between tables whose shards are partitions of the user's own. Each is PostgreSQL's, on the
// partitioned tables of every group. A group sees the rows it has, so every partition of the referencing table must
// have its counterpart, of the same bounds on the same group, in the referenced one. Looked at when the home has run a
// statement, and before the other groups run it: they would miss rows that are elsewhere.
#include <algorithm>
#include <map>

#include "pool/settings.h"
#include "router/new_tables.h"

namespace pgmosaic::router {

namespace {

Error refused(std::string message, std::string hint) {
  return make_error("0A000", std::move(message), std::move(hint));
}

// Both sides are divided by the columns of the foreign key, alike.
constexpr const char* kSameKey =
    "(SELECT a.partstrat = b.partstrat AND a.partclass::pg_catalog.text = b.partclass::pg_catalog.text AND "
    "a.partcollation::pg_catalog.text = b.partcollation::pg_catalog.text AND (SELECT pg_catalog.bool_and(x.l <> 0 AND "
    "EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) AS f (l, r) WHERE f.l = "
    "x.l AND f.r = x.r)) FROM ROWS "
    "FROM (pg_catalog.unnest(a.partattrs::pg_catalog.int2[]), pg_catalog.unnest(b.partattrs::pg_catalog.int2[])) AS x "
    "(l, r)) FROM pg_catalog.pg_partitioned_table a, pg_catalog.pg_partitioned_table b WHERE a.partrelid = k.conrelid "
    "AND b.partrelid = k.confrelid)";

constexpr const char* kBound = "pg_catalog.pg_get_expr(q.relpartbound, q.oid)";

catalog::Oid oid_in(const std::optional<std::string>& text) { return static_cast<catalog::Oid>(std::stoul(*text)); }

struct Partition {
  catalog::Oid oid = 0;
  std::string name;
};
using Partitions = std::map<std::string, Partition>;  // by bounds

template <class GroupOf, class IsNew>
Status check_counterparts(const Partitions& from, const Partitions& to, const std::string& constraint,
                          const std::string& other, const GroupOf& group_of, const IsNew& is_new) {
  for (const auto& [bound, partition] : from) {
    const auto counterpart = to.find(bound);
    if (counterpart == to.end())
      return refused(constraint + ": partition \"" + partition.name + "\" without one of the same bounds in " + other,
                     "Make the partitions of " + other + " first, with the same bounds, and drop or detach them last.");
    const exec::GroupId here = group_of(partition.oid), there = group_of(counterpart->second.oid);
    const bool placed = here != 0 && there != 0;
    if (!placed && !is_new(here == 0 ? partition.name : counterpart->second.name))
      return make_error("40001", "another session has just made a partition of the tables of " + constraint,
                        "Try again.");
    if (placed && here != there)
      return refused(
          constraint + ": partitions \"" + partition.name + "\" and \"" + counterpart->second.name +
              "\" are on different groups",
          "Add the foreign key while the table has no partitions: CREATE TABLE ... PARTITION OF then puts each "
          "beside its counterpart. Copy the rows into these.");
  }
  // It takes what the partitions that it lacks would take.
  if (from.contains("DEFAULT") && from.size() != to.size())
    return refused(constraint + ": a DEFAULT partition beside fewer partitions than " + other + " has",
                   "Make partitions of the same bounds in both tables, or do without DEFAULT in the referencing one.");
  return {};
}

}  // namespace

bool NewTables::is_by_partition(catalog::Oid oid) const {
  for (const auto& record : changes_.tables)
    for (const auto& made : changes_.colocations)
      if (record.oid == oid && record.group == 0 && made.id == record.colocation) return made.by_partition;
  const auto known = database_.tables_by_oid.find(oid);
  const auto* shards =
      known == database_.tables_by_oid.end() ? nullptr : database_.colocation(known->second->colocation);
  return shards != nullptr && shards->by_partition;
}

// 0: it has none yet.
exec::GroupId NewTables::group_of(catalog::Oid partition) const {
  exec::GroupId group = 0;
  const auto known = database_.tables_by_oid.find(partition);
  if (known != database_.tables_by_oid.end() && known->second->colocation >= catalog::kFirstSingleColocation)
    group = known->second->colocation - catalog::kFirstSingleColocation;
  for (const auto& record : changes_.tables)
    if (record.oid == partition && record.group != 0) group = record.group;
  return group;
}

// Where the counterpart of a new partition is; 0: anywhere.
net::Task<Result<exec::GroupId>> NewTables::group_of_counterpart(catalog::Oid partition, catalog::Oid parent) {
  const std::string of = std::to_string(parent);
  auto rows = co_await backends_.held(snapshot_.home)
                  ->conn->query(
                      "SELECT q.oid FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_inherits i ON i.inhparent = "
                      "CASE WHEN k.conrelid "
                      "= " +
                      of +
                      " THEN k.confrelid ELSE k.conrelid END JOIN pg_catalog.pg_class q ON q.oid = i.inhrelid WHERE "
                      "k.contype = 'f' "
                      "AND k.conparentid = 0 AND " +
                      of + " IN (k.conrelid, k.confrelid) AND k.conrelid <> k.confrelid AND " + kBound +
                      " = (SELECT pg_catalog.pg_get_expr(relpartbound, oid) FROM pg_catalog.pg_class WHERE oid = " +
                      std::to_string(partition) + ")");
  if (!rows.ok()) co_return std::move(rows.error());
  for (const auto& row : rows->rows)
    if (const exec::GroupId group = group_of(oid_in(row[0])); group != 0) co_return group;
  co_return exec::GroupId{0};
}

net::Task<Status> NewTables::check_range_keys(const plan::Ddl& ddl) {
  const bool makes_one = ddl.new_sharded && ddl.new_sharded->by_partition;
  std::string tables;
  for (const auto& [oid, table] : database_.tables_by_oid)
    if (is_by_partition(oid)) tables += (tables.empty() ? "" : ",") + std::to_string(oid);
  for (const auto& record : changes_.tables)
    if (is_by_partition(record.oid)) tables += (tables.empty() ? "" : ",") + std::to_string(record.oid);
  if (tables.empty() && !makes_one) co_return Status{};
  const std::string list = "ANY ('{" + tables + "}'::pg_catalog.oid[])";
  pool::ServerConn& home = *backends_.held(snapshot_.home)->conn;
  auto keys = co_await home.query(
      std::string("SELECT k.conname, k.conrelid, k.confrelid, c.relname, p.relname, coalesce(") + kSameKey +
      ", false) FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN "
      "pg_catalog.pg_class p ON p.oid = k.confrelid WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid = " +
      list + " OR k.confrelid = " + list + (makes_one ? " OR c.relkind = 'p'" : "") + ")");
  if (!keys.ok()) co_return std::move(keys.error());
  if (keys->rows.empty()) co_return Status{};
  auto found = co_await home.query(
      std::string("SELECT i.inhparent, q.oid, q.relname, ") + kBound +
      " FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class q ON q.oid = i.inhrelid WHERE q.relispartition AND "
      "i.inhparent IN (SELECT conrelid FROM pg_catalog.pg_constraint WHERE contype = 'f' UNION SELECT confrelid FROM "
      "pg_catalog.pg_constraint WHERE contype = 'f')");
  if (!found.ok()) co_return std::move(found.error());
  std::map<catalog::Oid, Partitions> partitions;
  for (const auto& row : found->rows)
    partitions[oid_in(row[0])][row[3].value_or("")] = {oid_in(row[1]), row[2].value_or("")};
  const auto is_new = [&ddl](const std::string& name) {
    return std::any_of(ddl.new_partitions.begin(), ddl.new_partitions.end(),
                       [&name](const auto& made) { return made.table == name; });
  };
  for (const auto& row : keys->rows) {
    const catalog::Oid from = oid_in(row[1]), to = oid_in(row[2]);
    const std::string constraint = "foreign key \"" + *row[0] + "\"", other = '"' + *row[4] + '"';
    const auto local = [this](catalog::Oid oid) {
      const auto known = database_.tables_by_oid.find(oid);
      return known != database_.tables_by_oid.end() && known->second->kind != catalog::TableKind::sharded;
    };
    if (local(to)) continue;  // a reference table, or the planner has had its say
    const auto divided = [&](catalog::Oid oid) {
      return is_by_partition(oid) || (makes_one && !database_.tables_by_oid.contains(oid));
    };
    if (!divided(from) || !divided(to))
      co_return refused(constraint + " of \"" + *row[3] + "\", a table of one group, to the partitions of " + other,
                        "Drop the foreign key before you detach the partition, or drop the partition.");
    if (row[5] != "t")
      co_return refused(constraint + " between tables by ranges or lists that does not contain the keys of both",
                        "Include the columns that both tables are partitioned by, which must be of one type, or make "
                        "the referenced table a reference table.");
    CO_TRY(check_counterparts(
        partitions[from], partitions[to], constraint, other, [this](catalog::Oid oid) { return group_of(oid); },
        is_new));
  }
  co_return Status{};
}

}  // namespace pgmosaic::router
