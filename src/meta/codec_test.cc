#include "meta/codec.h"

#include <gtest/gtest.h>

#include "meta/memory_store.h"

namespace pgmosaic::meta {
namespace {

TEST(Codec, groups_round_trip_in_order_of_ids) {
  MemoryStore store;
  for (const catalog::GroupId id : {10U, 2U, 1U}) {
    const catalog::Group group{id, "g" + std::to_string(id), "/tmp/\"socket\"", 5432, id == 2};
    ASSERT_TRUE(store.commit({.puts = {{group_key(id), encode_group(group)}}}).ok());
  }
  auto groups = read_groups(store);
  ASSERT_TRUE(groups.ok());
  ASSERT_EQ(groups->size(), 3U);
  EXPECT_EQ((*groups)[1].id, 2U);
  EXPECT_EQ((*groups)[1].name, "g2");
  EXPECT_EQ((*groups)[1].host, "/tmp/\"socket\"");
  EXPECT_EQ((*groups)[1].port, 5432);
  EXPECT_TRUE((*groups)[1].home);
  EXPECT_EQ((*groups)[2].id, 10U);
}

TEST(Codec, layouts_by_name) {
  MemoryStore store;
  const std::string text = "SHARD BY HASH (\"K k\")";
  for (const auto& [schema, table] : {std::pair("public", "a"), {"a/b", "%25c"}, {"", "x"}})
    ASSERT_TRUE(store.commit({.puts = {{layout_key("a/p", schema, table), text}}}).ok());
  ASSERT_TRUE(store.commit({.puts = {{layout_key("a", "p", "other"), text}}}).ok());
  const auto layouts = read_layouts(store, "a/p");
  ASSERT_TRUE(layouts.ok());
  EXPECT_EQ(*layouts, (Layouts{{{"public", "a"}, text}, {{"a/b", "%25c"}, text}, {{"", "x"}, text}}));
}

TEST(Codec, colocations_round_trip) {
  MemoryStore store;
  catalog::Colocation colocation;
  colocation.id = 7;
  colocation.key_types = {20, 25};
  colocation.key_collations = {0, 100};
  colocation.shards = {{101, 2, 0, 1}, {102, 2, 1, 3}};
  colocation.explicit_only = true;
  ASSERT_TRUE(store.commit({.puts = {{colocation_key("app", 7), encode_colocation(colocation)}}}).ok());
  auto read = read_colocations(store, "app");
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->size(), 1U);
  EXPECT_EQ(encode_colocation(read->front()), encode_colocation(colocation));
  EXPECT_EQ(read->front().id, 7U);
  EXPECT_EQ(read->front().shards[1].group, 3U);
  EXPECT_TRUE(read_colocations(store, "ap")->empty());
}

TEST(Codec, tables_round_trip_under_any_database_name) {
  MemoryStore store;
  for (const std::string& database :
       {std::string("app"), std::string("a/b%2F/tables/1"), std::string("%25"), std::string("é \"")}) {
    const ShardedTableRecord record{database, 16384, catalog::TableKind::reference, {2, 1}, 9, "orders"};
    ASSERT_TRUE(store.commit({.puts = {{table_key(database, record.oid), encode_table(record)}}}).ok());
    auto read = read_tables(store, database);
    ASSERT_TRUE(read.ok()) << read.error().detail;
    EXPECT_EQ(*read, std::vector<ShardedTableRecord>{record});
  }
}

TEST(Codec, a_damaged_value_names_its_key) {
  const auto error_of = [](const auto& result) {
    return result.ok() ? std::string("no error") : result.error().message;
  };
  EXPECT_EQ(error_of(decode_group({"groups/1", "{", 1, 0})), "metadata key \"groups/1\" cannot be read");
  EXPECT_EQ(error_of(decode_group({"groups/1", "{}", 1, 0})), "metadata key \"groups/1\" cannot be read");
  EXPECT_EQ(error_of(decode_group({"groups/1", R"({"name":1,"host":"","port":1,"home":true})", 1, 0})),
            "metadata key \"groups/1\" cannot be read");
  const std::string group = encode_group({1, "g", "h", 1, true});
  EXPECT_EQ(error_of(decode_group({"groups/x", group, 1, 0})), "metadata key \"groups/x\" cannot be read");
  EXPECT_EQ(error_of(decode_group({"groups/1", group, 1, 0})), "no error");

  catalog::Colocation gap;
  gap.shards = {{101, 2, 0, 1}, {102, 2, 0, 3}};
  EXPECT_NE(error_of(decode_colocation({"databases/d/colocations/1", encode_colocation(gap), 1, 0})), "no error");
  EXPECT_NE(error_of(decode_table(
                {"databases/d/tables/1", R"({"kind":"odd","key_columns":[],"colocation":1,"shard_prefix":""})", 1, 0})),
            "no error");
  EXPECT_NE(error_of(decode_table({"elsewhere/1", encode_table({}), 1, 0})), "no error");
}

TEST(Codec, unknown_members_are_ignored) {
  auto group = decode_group({"groups/1", R"({"name":"g","host":"h","port":1,"home":true,"zone":"z"})", 1, 0});
  ASSERT_TRUE(group.ok());
  EXPECT_EQ(group->name, "g");
}

}  // namespace
}  // namespace pgmosaic::meta
