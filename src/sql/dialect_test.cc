#include "sql/dialect.h"

#include <gtest/gtest.h>

namespace pgmosaic::sql {
namespace {

CreateTableText read(std::string_view sql) {
  auto text = read_create_table(sql);
  EXPECT_TRUE(text.ok() && text->has_value()) << sql;
  return text.ok() && text->has_value() ? **text : CreateTableText();
}

std::string error_of(std::string_view sql) {
  auto text = read_create_table(sql);
  return text.ok() ? "" : text.error().sqlstate;
}

TEST(Dialect, KnowsTheBeginningOfCreateTable) {
  EXPECT_TRUE(is_create_table("  /* x */ create -- y\n unlogged TABLE t (a int)"));
  EXPECT_TRUE(is_create_table("CREATE LOCAL TEMPORARY TABLE t (a int)"));
  EXPECT_FALSE(is_create_table("CREATE INDEX i ON table_ (a)"));
  EXPECT_FALSE(is_create_table("CREATE"));
  EXPECT_FALSE(is_create_table("\"create\" table t (a int)"));
}

TEST(Dialect, TakesItsClausesOutInAnyOrder) {
  const char* sqls[] = {
      "CREATE TABLE t (a int, b text DEFAULT 'SHARD BY (x)') SHARD BY HASH (a) WITH (shard_count = 4, fillfactor = 70) "
      "TABLESPACE s",
      "CREATE TABLE t (a int, b text DEFAULT 'SHARD BY (x)') TABLESPACE s WITH (fillfactor = 70, shard_count = 4) "
      "SHARD BY (a)",
      "CREATE TABLE t (a int, b text DEFAULT 'SHARD BY (x)') WITH (shard_count=4) PARTITION BY HASH (a) TABLESPACE s "
      "WITH (fillfactor = 70)"};
  for (const char* sql : sqls) {
    CreateTableText text = read(sql);
    EXPECT_EQ(text.head, "CREATE TABLE t (a int, b text DEFAULT 'SHARD BY (x)')") << sql;
    EXPECT_EQ(text.tail, " TABLESPACE s") << sql;
    EXPECT_EQ(text.storage, "fillfactor = 70") << sql;
    EXPECT_EQ(text.key_columns, std::vector<std::string>{"a"}) << sql;
    EXPECT_EQ(text.shard_count, 4u) << sql;
  }
}

TEST(Dialect, FoldsAndUnquotesKeyColumns) {
  CreateTableText text = read("CREATE TABLE t (a int) SHARD BY HASH (Abc, \"D\"\"e\", \"f g\")");
  EXPECT_EQ(text.key_columns, (std::vector<std::string>{"abc", "D\"e", "f g"}));
}

TEST(Dialect, PutsPostgresqlsOwnClausesInTheirOrder) {
  CreateTableText text = read("CREATE TABLE t (a int) WITH (fillfactor = 5) USING heap ON COMMIT DROP INHERITS (p)");
  EXPECT_EQ(text.plain_sql(), "CREATE TABLE t (a int) INHERITS (p) USING heap WITH (fillfactor = 5) ON COMMIT DROP");
}

TEST(Dialect, ReadsClausesBeforeAQuery) {
  CreateTableText text = read(
      "CREATE UNLOGGED TABLE IF NOT EXISTS s.t (a, b) SHARD BY HASH (b) WITH (fillfactor = 5, shard_count = 3) AS "
      "SELECT 1, 2 WITH NO DATA");
  EXPECT_EQ(text.create, "CREATE UNLOGGED TABLE IF NOT EXISTS s.t");
  EXPECT_EQ(text.clauses, " SHARD BY HASH (b) WITH (fillfactor = 5, shard_count = 3)");
  EXPECT_EQ(text.as_query, " AS SELECT 1, 2 WITH NO DATA");
  EXPECT_EQ(text.plain_table(), "CREATE UNLOGGED TABLE IF NOT EXISTS s.t (a, b) WITH (fillfactor = 5)");
  EXPECT_EQ(text.plain_sql(), text.plain_table() + text.as_query);
  EXPECT_EQ(text.key_columns, std::vector<std::string>{"b"});
  EXPECT_EQ(text.shard_count, 3u);
  text = read("CREATE TABLE \"as\" AS TABLE x");
  EXPECT_EQ(text.create, "CREATE TABLE \"as\"");
  EXPECT_EQ(text.as_query, " AS TABLE x");
  EXPECT_FALSE(text.has_clause());
}

TEST(Dialect, LeavesOtherFormsAlone) {
  for (const char* sql : {"CREATE TABLE t PARTITION OF p DEFAULT", "CREATE TABLE t (a int"}) {
    auto text = read_create_table(sql);
    ASSERT_TRUE(text.ok()) << sql;
    EXPECT_FALSE(text->has_value()) << sql;
  }
}

TEST(Dialect, ReadsPartitions) {
  auto text = read_create_table(
      "CREATE TABLE t (a int, b date) SHARD BY RANGE (a, b) (SHARD 'one' VALUES FROM (1, '2024-01-01') TO (2, "
      "MAXVALUE), "
      "SHARD Two VALUES FROM UNBOUNDED TO -1, SHARD \"Three\" DEFAULT) WITH (fillfactor = 70)");
  ASSERT_TRUE(text.ok() && text->has_value());
  EXPECT_EQ((*text)->head, "CREATE TABLE t (a int, b date) PARTITION BY RANGE (a, b)");
  EXPECT_TRUE((*text)->partitioned && (*text)->shard_by_bounds && (*text)->key_columns.empty());
  ASSERT_EQ((*text)->partitions.size(), 3u);
  EXPECT_EQ((*text)->partitions[0].name, "one");
  EXPECT_EQ((*text)->partitions[0].bound, "FOR VALUES FROM (1, '2024-01-01') TO (2, MAXVALUE)");
  EXPECT_EQ((*text)->partitions[1].name, "two");
  EXPECT_EQ((*text)->partitions[1].bound, "FOR VALUES FROM (MINVALUE) TO (-1)");
  EXPECT_EQ((*text)->partitions[2].name, "Three");
  EXPECT_EQ((*text)->partitions[2].bound, "DEFAULT");
  text = read_create_table(
      "CREATE TABLE t (a int, b date) SHARD BY HASH (a) PARTITION BY RANGE (b) (PARTITION p VALUES LESS THAN "
      "(date '2024-01-01'), PARTITION q VALUES LESS THAN MAXVALUE)");
  ASSERT_TRUE(text.ok() && text->has_value());
  EXPECT_EQ((*text)->key_columns, std::vector<std::string>{"a"});
  EXPECT_FALSE((*text)->shard_by_bounds);
  ASSERT_EQ((*text)->partitions.size(), 2u);
  EXPECT_EQ((*text)->partitions[0].bound, "FOR VALUES FROM (MINVALUE) TO (date '2024-01-01')");
  EXPECT_EQ((*text)->partitions[1].bound, "FOR VALUES FROM (date '2024-01-01') TO (MAXVALUE)");
}

TEST(Dialect, ReadsExpressions) {
  auto text = read_create_table("CREATE TABLE t (a int, b text) SHARD BY (HASH(a) % 64)");
  ASSERT_TRUE(text.ok() && text->has_value());
  EXPECT_EQ((*text)->key_columns, std::vector<std::string>{"a"});
  EXPECT_EQ((*text)->shard_count, 64u);
  for (const char* key :
       {"b || '|' || a", "lower(b), a", "(a + 1)", "hash(a) % 5000", "hash (a)", "coalesce(b, ','), (a)"}) {
    text = read_create_table("CREATE TABLE t (a int, b text) SHARD BY HASH (" + std::string(key) + ") TABLESPACE x");
    ASSERT_TRUE(text.ok() && text->has_value()) << key;
    EXPECT_TRUE((*text)->key_columns.empty());
    EXPECT_EQ((*text)->key_expressions, key);
    EXPECT_EQ((*text)->tail, " TABLESPACE x");
  }
}

TEST(Dialect, RefusesMisuse) {
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY RANGE (a) (SHARD 'x' VALUES 1)"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY RANGE (a) (SHARD 'x' VALUES FROM 1)"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY RANGE (a) (SHARD 'x'"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD (a)"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH ()"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH (a b)"), "0A000");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH (a || "), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH (a,)"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH (a) SHARD BY HASH (a)"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH (a) WITH (shard_count)"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH (a) WITH (shard_count = 2, shard_count = 3)"), "42601");
  EXPECT_EQ(error_of("CREATE TABLE t (a int) SHARD BY HASH (a) WITH (shard_count = 5000)"), "22023");
}

}  // namespace
}  // namespace pgmosaic::sql
