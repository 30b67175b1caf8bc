#include "sql/layout.h"

#include <gtest/gtest.h>

namespace pgmosaic::sql {
namespace {

TEST(Layout, Commands) {
  EXPECT_TRUE(is_layout_command(" /* c */ Create LAYOUT for"));
  EXPECT_TRUE(is_layout_command("drop layout"));
  for (const char* other :
       {"CREATE TABLE layout (a int)", "CREATE \"layout\"", "DROP TABLE layout", "SELECT layout", ""})
    EXPECT_FALSE(is_layout_command(other)) << other;

  auto create = read_layout_command("CREATE LAYOUT FOR \"S\".Tab -- c\n SHARD BY (id)  WITH (shard_count = 4) ;");
  ASSERT_TRUE(create.ok()) << create.error().message;
  EXPECT_FALSE(create->drop);
  EXPECT_EQ(create->name.schema, "S");
  EXPECT_EQ(create->name.table, "tab");
  EXPECT_EQ(create->clauses, "SHARD BY (id)  WITH (shard_count = 4)");
  auto drop = read_layout_command("DROP LAYOUT FOR a.b");
  ASSERT_TRUE(drop.ok());
  EXPECT_TRUE(drop->drop && !drop->all);
  auto all = read_layout_command("DROP LAYOUT ALL;");
  ASSERT_TRUE(all.ok());
  EXPECT_TRUE(all->all);
}

TEST(Layout, Misuse) {
  for (const char* wrong :
       {"CREATE LAYOUT FOR a.b", "CREATE LAYOUT FOR b SHARD BY (id)", "CREATE LAYOUT ALL", "DROP LAYOUT",
        "DROP LAYOUT ALL x", "DROP LAYOUT FOR a.b c", "CREATE LAYOUT FOR a.b SHARD BY (id",
        "CREATE LAYOUT FOR a.b SHARD BY (id) 'open",
        "CREATE LAYOUT FOR a.b WITH (fillfactor = 5, table_type = 'local')",
        "CREATE LAYOUT FOR a.b PARTITION BY LIST (x)", "CREATE LAYOUT FOR a.b SHARD BY (id) INHERITS (c)",
        "CREATE LAYOUT FOR a.b SHARD BY (id) TABLESPACE x"}) {
    const auto read = read_layout_command(wrong);
    ASSERT_FALSE(read.ok()) << wrong;
    EXPECT_EQ(read.error().sqlstate, "42601") << wrong;
    EXPECT_FALSE(read.error().hint.empty()) << wrong;
  }
}

TEST(Layout, CreatedTable) {
  auto name = [](std::string_view sql) {
    const auto created = created_table(sql);
    return created ? created->schema + "/" + created->table : std::string();
  };
  EXPECT_EQ(name("CREATE TABLE a.b (id int)"), "a/b");
  EXPECT_EQ(name("CREATE UNLOGGED TABLE IF NOT EXISTS \"A\" . \"b.c\" (id int)"), "A/b.c");
  for (const char* none : {"CREATE TABLE b (id int)", "CREATE TEMP TABLE a.b (id int)",
                           "CREATE TABLE pg_temp.b (id int)", "CREATE INDEX ON a.b (id)", "SELECT 1"})
    EXPECT_EQ(name(none), "") << none;
}

TEST(Layout, AddClauses) {
  EXPECT_EQ(add_clauses("CREATE TABLE a.b (id int) -- end", "SHARD BY (id)"),
            "CREATE TABLE a.b (id int) SHARD BY (id)");
  EXPECT_EQ(add_clauses("CREATE TABLE a.b (id int)\nWITH (fillfactor='70'); /* c */", "SHARD BY (id)"),
            "CREATE TABLE a.b (id int)\nWITH (fillfactor='70') SHARD BY (id)");
}

}  // namespace
}  // namespace pgmosaic::sql
