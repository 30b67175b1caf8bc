#include "control/schema_compare.h"

#include <gtest/gtest.h>

namespace pgmosaic::control {
namespace {

using catalog::TableKind;

const std::vector<catalog::Group> kGroups = {
    {1, "g1", "", 0, false, true}, {2, "g2", "", 0, false, false}, {100, "home", "", 0, true, false}};

SchemaFacts one_table(const std::string& kind) {
  SchemaFacts facts;
  facts["table public.t"] = {"", {{"kind", kind}, {"columns", "a, b"}, {"owner", "app"}}};
  facts["column public.t.a"] = {"table public.t", {{"type", "integer"}}};
  facts["constraint t_pkey on public.t"] = {"table public.t", {{"definition", "PRIMARY KEY (a)"}}};
  facts["index public.t_pkey"] = {"constraint t_pkey on public.t", {{"definition", "CREATE …"}}};
  return facts;
}

std::vector<std::string> said(const Findings& findings) {
  std::vector<std::string> lines;
  for (const Finding& finding : findings)
    lines.push_back(finding.group + ": " + finding.object + ": " + finding.difference);
  return lines;
}

using Lines = std::vector<std::string>;

Lines compare(const SchemaFacts& home, const SchemaFacts& here, const Recorded& recorded = {}) {
  Findings findings;
  compare_schemas(home, here, recorded, "g2", findings);
  return said(findings);
}

// A sharded table t of two shards, the first on g1, the second on g2.
struct ShardedTable {
  ShardedTable() {
    home.facts = one_table("table");
    home.relations[50] = {"public.t", {{1, "a"}, {3, "\"B\""}}};
    records.push_back({"db", 50, TableKind::sharded, {3, 1}, 7, "t_50"});
    catalog::Colocation colocation;
    colocation.id = 7;
    colocation.shards = {{1, 2, 0, 1}, {2, 2, 1, 2}};
    colocations.push_back(colocation);
    looks[1].leaves.push_back(leaf(0));
    looks[2].leaves.push_back(leaf(1));
  }
  static Leaf leaf(int remainder) {
    return {"t_50_" + std::to_string(remainder), "public.t", "app",
            "FOR VALUES WITH (modulus 2, remainder " + std::to_string(remainder) + ")", "app"};
  }
  Lines leaves() {
    Findings findings;
    const Recorded recorded = resolve(records, colocations, home, kGroups, findings);
    std::map<catalog::GroupId, const Look*> by_group;
    for (const auto& [id, look] : looks) by_group[id] = &look;
    compare_leaves(by_group, kGroups, home.facts, recorded, findings);
    return said(findings);
  }

  Look home;
  std::map<catalog::GroupId, Look> looks;
  std::vector<meta::ShardedTableRecord> records;
  std::vector<catalog::Colocation> colocations;
};

TEST(SchemaCompare, EqualSchemas) { EXPECT_EQ(compare(one_table("table"), one_table("table")), Lines()); }

TEST(SchemaCompare, WhatBelongsToSomethingMissingIsNotToldAgain) {
  EXPECT_EQ(compare(one_table("table"), {}), Lines{"g2: table public.t: is missing"});
  EXPECT_EQ(compare({}, one_table("table")), Lines{"g2: table public.t: is not on the home"});
  SchemaFacts here = one_table("table");
  here.erase("constraint t_pkey on public.t");
  here.erase("index public.t_pkey");
  EXPECT_EQ(compare(one_table("table"), here), Lines{"g2: constraint t_pkey on public.t: is missing"});
}

TEST(SchemaCompare, Properties) {
  SchemaFacts here = one_table("table");
  here["column public.t.a"].properties = {{"type", "bigint"}, {"not null", "yes"}};
  here["index public.t_pkey"].properties["definition"] = std::string(100, 'x');
  EXPECT_EQ(compare(one_table("table"), here), (Lines{"g2: column public.t.a: not null is yes, on the home none",
                                                      "g2: column public.t.a: type is bigint, on the home integer",
                                                      "g2: index public.t_pkey: definition differs from the home's"}));
}

TEST(SchemaCompare, OrderOfColumnsCountsWhereTheyAreTheSame) {
  SchemaFacts here = one_table("table");
  here["table public.t"].properties["columns"] = "b, a";
  EXPECT_EQ(compare(one_table("table"), here), Lines{"g2: table public.t: order of columns is b, a, on the home a, b"});
  here["table public.t"].properties["columns"] = "b, c, a";
  EXPECT_EQ(compare(one_table("table"), here), Lines());
}

TEST(SchemaCompare, AShardedTableIsPartitionedByItsKey) {
  Recorded recorded;
  recorded.tables["public.t"] = {TableKind::sharded, true, "HASH (a)", 0};
  SchemaFacts here = one_table("partitioned table");
  here["table public.t"].properties["partition key"] = "HASH (a)";
  EXPECT_EQ(compare(one_table("table"), here, recorded), Lines());
  here["table public.t"].properties["partition key"] = "HASH (b)";
  EXPECT_EQ(compare(one_table("table"), here, recorded),
            Lines{"g2: table public.t: partition key is HASH (b), must be HASH (a)"});
  EXPECT_EQ(compare(one_table("table"), one_table("table"), recorded),
            (Lines{"g2: table public.t: kind is table, must be partitioned table",
                   "g2: table public.t: partition key is none, must be HASH (a)"}));
}

TEST(SchemaCompare, Records) {
  ShardedTable t;
  Findings findings;
  const Recorded recorded = resolve(t.records, t.colocations, t.home, kGroups, findings);
  EXPECT_EQ(said(findings), Lines());
  EXPECT_EQ(recorded.tables.at("public.t").partition_key, "HASH (\"B\", a)");
  EXPECT_EQ(recorded.leaves.at("t_50_1").group, 2u);

  t.home.relations[50].columns.erase(3);
  t.records.push_back({"db", 51, TableKind::reference, {}, 0, ""});
  t.records.push_back({"db", 52, TableKind::sharded, {1}, 7, "gone_52"});
  t.colocations[0].shards[1].group = 100;  // the home has no shards
  resolve(t.records, t.colocations, t.home, kGroups, findings);
  EXPECT_EQ(said(findings), (Lines{"catalog: table public.t: its key has column 3, which is gone",
                                   "catalog: shard pgmosaic_shards.\"t_50_1\": is on group 100, which there is not",
                                   "catalog: record of table 51: the table is gone",
                                   "catalog: record of table 52 (gone_52): the table is gone"}));
  t.colocations.clear();
  findings.clear();
  t.records.resize(1);
  t.home.relations[50].columns[3] = "c";
  resolve(t.records, t.colocations, t.home, kGroups, findings);
  EXPECT_EQ(said(findings), Lines{"catalog: table public.t: colocation 7 is missing"});
}

TEST(SchemaCompare, Leaves) {
  EXPECT_EQ(ShardedTable().leaves(), Lines());
  ShardedTable t;
  t.looks[1].leaves.clear();
  EXPECT_EQ(t.leaves(), Lines{"g1: shard pgmosaic_shards.\"t_50_0\": is missing"});
  t.looks[2].leaves.push_back(ShardedTable::leaf(0));
  EXPECT_EQ(t.leaves(), (Lines{"g2: shard pgmosaic_shards.\"t_50_0\": belongs to g1",
                               "g1: shard pgmosaic_shards.\"t_50_0\": is missing"}));
  t.looks[1].leaves.push_back(ShardedTable::leaf(0));
  EXPECT_EQ(t.leaves(), Lines{"g2: shard pgmosaic_shards.\"t_50_0\": belongs to g1, which has one, too"});
}

TEST(SchemaCompare, WrongLeaves) {
  ShardedTable t;
  t.looks[1].leaves[0].bound = "FOR VALUES WITH (modulus 4, remainder 0)";
  t.looks[1].leaves[0].owner = "somebody";
  t.looks[1].leaves[0].unlogged = true;
  t.looks[2].leaves[0].parent.clear();
  t.looks[2].leaves.push_back({"other", "", "", "", "app"});
  EXPECT_EQ(t.leaves(),
            (Lines{"g1: shard pgmosaic_shards.\"t_50_0\": is FOR VALUES WITH (modulus 4, remainder 0), must "
                   "be FOR VALUES WITH (modulus 2, remainder 0)",
                   "g1: shard pgmosaic_shards.\"t_50_0\": owner is somebody, that of its table app",
                   "g1: shard pgmosaic_shards.\"t_50_0\": is unlogged, its table is not",
                   "g2: shard pgmosaic_shards.\"t_50_1\": is a partition of none, must be of public.t",
                   "g2: shard pgmosaic_shards.\"other\": is not in the catalog"}));
}

TEST(SchemaCompare, WhereNoRowsMayBe) {
  Recorded recorded;
  recorded.tables["public.t"] = {TableKind::sharded, true, "HASH (a)", 0};
  recorded.tables["public.p"] = {TableKind::sharded, false, "", 2};
  recorded.tables["public.r"] = {TableKind::reference, false, "", 0};
  catalog::Group home, one, two;
  home.home = true;
  one.id = 1;
  two.id = 2;
  SchemaFacts facts;
  for (const char* name : {"table public.t", "table public.p", "table public.r", "table public.l"})
    facts[name].properties["kind"] = "table";
  facts["view public.v"].properties["definition"] = "SELECT 1";
  EXPECT_EQ(tables_without_rows(facts, facts, recorded, home), (Lines{"public.p", "public.t"}));
  EXPECT_EQ(tables_without_rows(facts, facts, recorded, one), (Lines{"public.l", "public.p"}));
  EXPECT_EQ(tables_without_rows(facts, facts, recorded, two), Lines{"public.l"});
  EXPECT_EQ(tables_without_rows(facts, {}, recorded, one), Lines());
}

}  // namespace
}  // namespace pgmosaic::control
