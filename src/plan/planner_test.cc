// Golden plans: test/plan/*.plan. A file is blocks separated by blank lines:
//
//   catalog            once, first: CREATE statements of the test catalog (plan/test_catalog.h)
//   ----
//   SQL                one statement; a line "-- types: int8, 0" before it declares parameter types,
//   ----               "-- sharded by default" sets default_table_type
//   text of the plan
//
// planner_test --rewrite writes the plans anew. Read every changed line: a golden that is wrong stays wrong.
#include "plan/planner.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "plan/explain_plan.h"
#include "plan/test_catalog.h"
#include "plan/types.h"

namespace pgmosaic::plan {
namespace {

bool rewrite = std::getenv("PGMOSAIC_REWRITE_PLANS") != nullptr;

struct Block {
  std::string comment;  // lines that start with # before the statement
  std::string sql;
  std::string plan;
};

std::vector<Block> read_blocks(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::vector<Block> blocks;
  Block block;
  bool in_plan = false;
  auto finish = [&] {
    if (!block.sql.empty()) blocks.push_back(block);
    block = Block();
    in_plan = false;
  };
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) {
      finish();
    } else if (line == "----") {
      in_plan = true;
    } else if (in_plan) {
      block.plan += line + "\n";
    } else if (line.starts_with("#")) {
      block.comment += line + "\n";
    } else {
      block.sql += line + "\n";
    }
  }
  finish();
  return blocks;
}

PlanContext context_for(const Block& block, const catalog::Snapshot& snapshot) {
  PlanContext context;
  context.snapshot = &snapshot;
  context.database = snapshot.database("test");
  context.search_path = {"public"};
  context.user = "tester";
  context.partitions_sharded = block.sql.find("-- partitions are local") == std::string::npos;
  context.default_sharded = block.sql.find("-- sharded by default") != std::string::npos;
  context.bytewise_default_collation = block.sql.find("-- collation en_US") == std::string::npos;
  size_t types = block.sql.find("-- types:");
  if (types != std::string::npos) {
    std::istringstream names(block.sql.substr(types + 9, block.sql.find('\n', types) - types - 9));
    for (std::string name; std::getline(names, name, ',');) {
      name.erase(0, name.find_first_not_of(' '));
      context.parameter_types.push_back(name == "int4[]" ? 1007 : builtin_type(name));
    }
  }
  return context;
}

std::string statement_of(const Block& block) {
  std::string sql;
  std::istringstream lines(block.sql);
  for (std::string line; std::getline(lines, line);)
    if (!line.starts_with("-- ")) sql += (sql.empty() ? "" : "\n") + line;
  return sql;
}

class GoldenPlans : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(GoldenPlans, AreAsWritten) {
  std::vector<Block> blocks = read_blocks(GetParam());
  ASSERT_GT(blocks.size(), 1u) << GetParam();
  auto snapshot = build_test_catalog(blocks[0].sql);
  std::string rewritten = blocks[0].comment + blocks[0].sql + "----\n" + "catalog\n";
  for (size_t i = 1; i < blocks.size(); ++i) {
    const Block& block = blocks[i];
    std::string plan = describe_plan(plan_statement(statement_of(block), context_for(block, *snapshot)));
    rewritten += "\n" + block.comment + block.sql + "----\n" + plan;
    if (!rewrite) {
      EXPECT_EQ(block.plan, plan) << block.sql;
    }
  }
  if (rewrite) std::ofstream(GetParam()) << rewritten;
}

std::vector<std::filesystem::path> plan_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator("test/plan"))
    if (entry.path().extension() == ".plan") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenPlans, testing::ValuesIn(plan_files()),
                         [](const auto& file) { return file.param.stem().string(); });

TEST(SplitStatements, CutsAtSemicolonsOutsideStringsAndParentheses) {
  auto parts = split_statements(" SELECT ';' ; /* ; */ SELECT $x$;$x$;; CREATE RULE r AS ON INSERT TO t DO (a; b) ;");
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0], "SELECT ';'");
  EXPECT_EQ(parts[1], "SELECT $x$;$x$");
  EXPECT_EQ(parts[2], "CREATE RULE r AS ON INSERT TO t DO (a; b)");
}

TEST(SplitStatements, KeepsSqlFunctionBodiesWhole) {
  auto parts = split_statements(
      "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3");
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[1], "SELECT 3");
}

TEST(SplitStatements, UnterminatedTextStaysOne) {
  EXPECT_EQ(split_statements("SELECT 1; SELECT 'x").size(), 1u);
  EXPECT_TRUE(split_statements("  -- nothing\n ;; ").empty());
}

}  // namespace
}  // namespace pgmosaic::plan

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (std::strcmp(argv[i], "--rewrite") == 0) pgmosaic::plan::rewrite = true;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
