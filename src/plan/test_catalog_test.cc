#include "plan/test_catalog.h"

namespace pgmosaic::plan {
namespace {

using catalog::TableKind;

TEST(TestCatalog, PutsTablesOfOneKeyTypeAndCountTogether) {
  auto snapshot = build_test_catalog(
      "CREATE TABLE a (k int PRIMARY KEY) SHARD BY (k); CREATE TABLE b (k int) SHARD BY HASH (k);"
      "CREATE TABLE c (k text) SHARD BY HASH (k); CREATE TABLE r (id int) WITH (table_type = 'reference')");
  const catalog::Database* database = snapshot->database("test");
  EXPECT_EQ(database->find("public", "a")->colocation, database->find("public", "b")->colocation);
  EXPECT_NE(database->find("public", "a")->colocation, database->find("public", "c")->colocation);
  EXPECT_EQ(database->find("public", "r")->kind, TableKind::reference);
}

}  // namespace
}  // namespace pgmosaic::plan
