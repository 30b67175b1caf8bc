// NewTables: partitions that users declare (docs/design/005).
#include <algorithm>

#include "pool/settings.h"
#include "router/new_tables.h"

namespace pgmosaic::router {

namespace {

constexpr int kMovedRows = 1000;  // per statement

// A partition is refused rows on every group but its own, which also lets PostgreSQL leave it out of plans there.
constexpr const char* kElsewhere = " ADD CONSTRAINT pgmosaic_elsewhere CHECK (false)";

// OID, parent, whether it has partitions of its own, schema.
std::string partition_question(const std::string& name) {
  return "SELECT c.oid, i.inhparent, c.relkind = 'p', n.nspname FROM pg_catalog.pg_class c "
         "JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid "
         "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = " +
         pool::quote_literal(name) + "::pg_catalog.regclass AND c.relispartition";
}

catalog::Oid oid_in(const std::optional<std::string>& text) { return static_cast<catalog::Oid>(std::stoul(*text)); }

}  // namespace

net::Task<Result<std::string>> write_exactly(pool::ServerConn& conn) {
  const std::string question =
      "SELECT pg_catalog.string_agg(pg_catalog.format('SET LOCAL %I = %L', name, setting), ';') FROM "
      "pg_catalog.pg_settings WHERE name IN ('extra_float_digits', 'client_encoding', 'DateStyle', 'IntervalStyle', "
      "'bytea_output', "
      "'row_security')";
  auto rows = co_await conn.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  auto set = co_await conn.query(
      "SET LOCAL extra_float_digits = 3; SET LOCAL client_encoding = 'UTF8'; SET LOCAL DateStyle = 'ISO, YMD'; "
      "SET LOCAL IntervalStyle = 'postgres'; SET LOCAL bytea_output = 'hex'; SET LOCAL row_security = off");
  if (!set.ok()) co_return std::move(set.error());
  co_return rows->rows.at(0)[0].value_or("");
}

void NewTables::record(catalog::Oid oid, exec::GroupId group) {
  meta::ShardedTableRecord record;
  record.database = changes_.database;
  record.oid = oid;
  record.group = group;
  changes_.tables.push_back(std::move(record));
}

net::Task<Result<NewTables::Parent>> NewTables::find_parent(catalog::Oid oid) {
  Parent parent;
  std::vector<int> attnums;
  for (const auto& record : changes_.tables) {
    if (record.oid != oid) continue;
    parent.colocation = record.group != 0 ? catalog::single_colocation(record.group) : record.colocation;
    attnums = record.key_columns;
  }
  const auto known = database_.tables_by_oid.find(oid);
  if (parent.colocation == 0 && known != database_.tables_by_oid.end()) {
    parent.colocation = known->second->colocation;
    for (int key : known->second->key_columns)
      parent.keys.push_back(known->second->columns[static_cast<std::size_t>(key)].name);
  } else if (!attnums.empty()) {
    for (const int attnum : attnums) {
      const std::string question =
          "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = " + std::to_string(oid) +
          " AND attnum = " + std::to_string(attnum);
      auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
      if (!rows.ok()) co_return std::move(rows.error());
      parent.keys.push_back(*rows->rows.at(0)[0]);
    }
  }
  for (const auto& made : changes_.colocations)
    if (made.id == parent.colocation) parent.by_partition = made.by_partition;
  if (const auto* colocation = database_.colocation(parent.colocation)) parent.by_partition = colocation->by_partition;
  co_return parent;
}

// The group that has the fewest partitions of the table, of those the one with the fewest of all tables.
exec::GroupId NewTables::choose_group(const Parent& parent) {
  std::map<exec::GroupId, std::pair<std::size_t, std::size_t>> counts;
  for (const catalog::Group& group : snapshot_.groups)
    if (!group.home) counts[group.id] = {};
  for (const auto& [id, colocation] : database_.colocations) {
    if (!colocation.by_partition) continue;
    for (const catalog::Shard& shard : colocation.shards) {
      ++counts[shard.group].second;
      if (id == parent.colocation) ++counts[shard.group].first;
    }
  }
  for (const auto& [id, groups] : placed_) {
    for (const exec::GroupId group : groups) {
      ++counts[group].second;
      if (id == parent.colocation) ++counts[group].first;
    }
  }
  const auto fewest =
      std::min_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  placed_[parent.colocation].push_back(fewest->first);
  return fewest->first;
}

net::Task<Status> NewTables::refuse_elsewhere(const std::string& name, exec::GroupId group) {
  std::vector<exec::Backend*> others;
  for (const catalog::Group& other : snapshot_.groups)
    if (!other.home && other.id != group) others.push_back(backends_.held(other.id));
  const std::vector<std::string> texts(others.size(), "ALTER TABLE " + name + kElsewhere);
  co_return co_await run_on_groups(others, texts, nullptr);
}

net::Task<Status> NewTables::partition(const plan::Ddl::NewPartition& made) {
  if (made.adopted) co_return Status{};
  CO_TRY_ASSIGN(const std::string created, co_await name_of(made.schema, made.table));
  const std::string question = partition_question(created);
  auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return Status{};  // IF NOT EXISTS, and it is another table
  const auto& row = rows->rows[0];
  const catalog::Oid oid = oid_in(row[0]);
  const auto known = [&](const meta::ShardedTableRecord& record) { return record.oid == oid; };
  const auto there = database_.tables_by_oid.find(oid);
  const bool has_place = there != database_.tables_by_oid.end() && there->second->kind == catalog::TableKind::sharded;
  if (has_place || std::any_of(changes_.tables.begin(), changes_.tables.end(), known))
    co_return Status{};  // IF NOT EXISTS
  CO_TRY_ASSIGN(const Parent parent, co_await find_parent(oid_in(row[1])));
  if (parent.colocation == 0) co_return Status{};
  const std::string name = qualified_name(*row[3], made.table);
  if (parent.colocation >= catalog::kFirstSingleColocation) {
    record(oid, parent.colocation - catalog::kFirstSingleColocation);  // what refuses rows elsewhere is inherited
    co_return Status{};
  }
  if (!parent.by_partition) {
    const bool divided = row[2] == "t";
    plan::Ddl::NewPartition placed = made;
    placed.schema = *row[3];
    co_return co_await spread(placed, oid, parent, divided);
  }
  CO_TRY_ASSIGN(exec::GroupId group, co_await group_of_counterpart(oid, oid_in(row[1])));
  if (group == 0) group = choose_group(parent);
  record(oid, group);
  co_return co_await refuse_elsewhere(name, group);
}

// A partition of SHARD BY HASH … PARTITION BY …: its rows are spread by the hash, unless it is divided further.
net::Task<Status> NewTables::spread(const plan::Ddl::NewPartition& made, catalog::Oid oid, const Parent& parent,
                                    bool divided) {
  meta::ShardedTableRecord record;
  record.database = changes_.database;
  record.oid = oid;
  record.colocation = parent.colocation;
  for (const std::string& key : parent.keys) {
    const std::string question = "SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = " + std::to_string(oid) +
                                 " AND attname = " + pool::quote_literal(key);
    auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    record.key_columns.push_back(std::stoi(*rows->rows.at(0)[0]));
  }
  const std::string prefix = leaf_prefix(made.table, oid);
  if (!divided) record.shard_prefix = prefix;
  changes_.tables.push_back(std::move(record));
  if (divided) co_return Status{};
  const catalog::Colocation* colocation = database_.colocation(parent.colocation);
  for (const auto& added : changes_.colocations)
    if (added.id == parent.colocation) colocation = &added;
  plan::Ddl::NewSharded wish;
  wish.unlogged = made.unlogged;
  wish.storage = made.storage;
  co_return co_await create_leaves(*colocation, qualified_name(made.schema, made.table), prefix, wish);
}

net::Task<Status> NewTables::adopt(const plan::Ddl::NewPartition& table) {
  pool::ServerConn& home = *backends_.held(snapshot_.home)->conn;
  const std::string name = qualified_name(table.schema, table.table);
  CO_TRY_ASSIGN(const catalog::Oid parent_oid, co_await oid_at_home(table.parent));
  CO_TRY_ASSIGN(const Parent parent, co_await find_parent(parent_oid));
  const bool single = parent.colocation >= catalog::kFirstSingleColocation;
  const exec::GroupId group = single ? parent.colocation - catalog::kFirstSingleColocation : choose_group(parent);
  const std::string literal = pool::quote_literal(name) + "::pg_catalog.regclass";
  const std::string question = "SELECT " + literal + "::pg_catalog.oid UNION SELECT relid FROM " +
                               "pg_catalog.pg_partition_tree(" + literal + ")";
  auto tables = co_await home.query(question);
  if (!tables.ok()) co_return std::move(tables.error());
  for (const auto& row : tables->rows) record(oid_in(row[0]), group);
  if (table.spread) {
    CO_TRY(co_await gather_partitions(name));
    co_return co_await refuse_elsewhere(name, group);
  }
  CO_TRY(co_await check_adoption(name));
  CO_TRY(co_await refuse_elsewhere(name, group));
  co_return co_await move_from_home(name, group);
}

// What would be without its rows, or see others than before, once those of the table and its partitions are on a group.
net::Task<Status> NewTables::check_adoption(const std::string& name) {
  const std::string root = pool::quote_literal(name) + "::pg_catalog.regclass";
  const std::string question = "WITH tree AS (SELECT " + root +
                               "::pg_catalog.oid AS oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(" + root +
                               R"())
SELECT 'foreign key ' || pg_catalog.quote_ident(conname),
       CASE WHEN conrelid IN (SELECT oid FROM tree) THEN confrelid ELSE 0 END
FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND (conrelid IN (SELECT oid FROM tree) OR confrelid IN (SELECT oid FROM tree))
UNION ALL
SELECT 'materialized view ' || r.ev_class::pg_catalog.regclass, 0
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
     JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind = 'm'
WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refobjid IN (SELECT oid FROM tree)
UNION ALL
SELECT 'forced row security', 0 FROM pg_catalog.pg_class
WHERE oid IN (SELECT oid FROM tree) AND relrowsecurity AND relforcerowsecurity)";
  auto rows = co_await backends_.held(snapshot_.home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  for (const auto& row : rows->rows) {
    const auto referenced = database_.tables_by_oid.find(oid_in(row[1]));
    if (referenced != database_.tables_by_oid.end() && referenced->second->kind == catalog::TableKind::reference)
      continue;
    const std::string what = row[0].value_or("");
    co_return make_error("0A000", "ATTACH PARTITION of a local table that has " + what,
                         "Its rows move to a group: drop what needs them at home, or create the partition with "
                         "CREATE TABLE ... PARTITION OF and copy the rows.");
  }
  co_return Status{};
}

// The partitions of an empty table are on several groups: they come together. All of them lose what refuses rows, and
// inherit it again from the whole where that is refused.
net::Task<Status> NewTables::gather_partitions(const std::string& name) {
  const std::string look = "LOCK TABLE " + name + "; SELECT EXISTS (SELECT FROM " + name + ")";
  std::vector<exec::Backend*> groups;
  for (const catalog::Group& each : snapshot_.groups) {
    if (each.home) continue;
    groups.push_back(backends_.held(each.id));
    auto rows = co_await groups.back()->conn->query(look);
    if (!rows.ok()) co_return std::move(rows.error());
    if (rows->rows.at(0)[0] == "t")
      co_return make_error("0A000", "ATTACH PARTITION of a table whose partitions have rows on several groups",
                           "Attach it while it is empty, or create it with CREATE TABLE ... PARTITION OF.");
  }
  const std::string open = R"(DO LANGUAGE plpgsql $pgmosaic$
DECLARE
  step record;
BEGIN
  FOR step IN SELECT k.conrelid::pg_catalog.regclass AS name
              FROM pg_catalog.pg_partition_tree()" +
                           pool::quote_literal(name) + R"() t JOIN pg_catalog.pg_constraint k ON k.conrelid = t.relid
              WHERE k.conname = 'pgmosaic_elsewhere' AND k.coninhcount = 0
  LOOP
    EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT pgmosaic_elsewhere', step.name);
  END LOOP;
END $pgmosaic$)";
  const std::vector<std::string> texts(groups.size(), open);
  co_return co_await run_on_groups(groups, texts, nullptr);
}

net::Task<Status> NewTables::move_from_home(const std::string& name, exec::GroupId group) {
  pool::ServerConn& home = *backends_.held(snapshot_.home)->conn;
  pool::ServerConn& target = *backends_.held(group)->conn;
  const std::string lock = "LOCK TABLE " + name;
  auto locked = co_await home.query(lock);
  if (!locked.ok()) co_return std::move(locked.error());
  const std::string literal = pool::quote_literal(name) + "::pg_catalog.regclass";
  const std::string question =
      "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum), EXISTS (SELECT FROM " +
      name + "), EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND (tgrelid = " + literal +
      " OR tgrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(" + literal +
      ")))) FROM pg_catalog.pg_attribute WHERE attrelid = " + literal +
      " AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
  auto facts = co_await home.query(question);
  if (!facts.ok()) co_return std::move(facts.error());
  if (facts->rows[0][1] != "t") co_return Status{};
  if (facts->rows[0][2] == "t")
    co_return make_error(
        "0A000", "ATTACH PARTITION of a local table that has rows and triggers is not supported",
        "The rows move to a group, where its triggers would fire: drop them, attach, create them again.");
  const std::string columns = *facts->rows[0][0];
  CO_TRY_ASSIGN(const std::string restore_home, co_await write_exactly(home));
  CO_TRY_ASSIGN(const std::string restore_target, co_await write_exactly(target));
  const std::string declare = "DECLARE pgmosaic_moved NO SCROLL CURSOR FOR SELECT " + columns + " FROM " + name;
  auto declared = co_await home.query(declare);
  if (!declared.ok()) co_return std::move(declared.error());
  const std::string fetch = "FETCH " + std::to_string(kMovedRows) + " FROM pgmosaic_moved";
  for (;;) {
    auto rows = co_await home.query(fetch);
    if (!rows.ok()) co_return std::move(rows.error());
    if (rows->rows.empty()) break;
    std::string insert = "INSERT INTO " + name + " (" + columns + ") OVERRIDING SYSTEM VALUE VALUES ";
    for (const auto& row : rows->rows) {
      insert += &row == &rows->rows.front() ? "(" : ", (";
      for (std::size_t i = 0; i < row.size(); ++i)
        insert += (i == 0 ? "" : ", ") + (row[i] ? pool::quote_literal(*row[i]) : std::string("NULL"));
      insert += ")";
    }
    auto inserted = co_await target.query(insert);
    if (!inserted.ok()) co_return std::move(inserted.error());
  }
  const std::string truncate = "CLOSE pgmosaic_moved; TRUNCATE " + name + ";" + restore_home;
  auto emptied = co_await home.query(truncate);
  if (!emptied.ok()) co_return std::move(emptied.error());
  auto restored = co_await target.query(restore_target);
  if (!restored.ok()) co_return std::move(restored.error());
  co_return Status{};
}

}  // namespace pgmosaic::router
