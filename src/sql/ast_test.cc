#include "sql/ast.h"

#include <gtest/gtest.h>

#include "sql/deparse.h"
#include "sql/parse.h"
#include "sql/tokens.h"

namespace pgmosaic::sql {
namespace {

const PgQuery__SelectStmt* select_of(const ParseTree& tree) { return as<PgQuery__SelectStmt>(tree.statement()); }

TEST(ParseTree, ReportsWherePostgresqlStumbles) {
  auto tree = ParseTree::parse("SELECT 1 FROM");
  ASSERT_FALSE(tree.ok());
  EXPECT_EQ(tree.error().sqlstate, "42601");
  EXPECT_EQ(tree.error().position, 14);
}

TEST(Ast, WalkReachesEveryPlace) {
  auto tree = ParseTree::parse(
      "WITH c AS (SELECT f1()) SELECT f2() FROM t JOIN s ON f3() WHERE EXISTS (SELECT 1 WHERE f4()) GROUP BY f5() "
      "HAVING f6() WINDOW w AS (ORDER BY f7()) ORDER BY f8() LIMIT f9()");
  ASSERT_TRUE(tree.ok());
  int calls = 0;
  walk(tree->statement(), [&](const Message* message) {
    if (as<PgQuery__FuncCall>(message) != nullptr) ++calls;
    return true;
  });
  EXPECT_EQ(calls, 9);
}

TEST(Ast, FingerprintIgnoresPositionsOnly) {
  auto print = [](std::string_view sql) {
    auto tree = ParseTree::parse(sql);
    return fingerprint(inner(tree->statement()), {});
  };
  EXPECT_EQ(print("SELECT a + 1"), print("select   a+1 -- x"));
  EXPECT_NE(print("SELECT a + 1"), print("SELECT a + 2"));
  EXPECT_NE(print("SELECT a + 1"), print("SELECT a - 1"));
  EXPECT_NE(print("SELECT DISTINCT a"), print("SELECT a"));
  EXPECT_NE(print("SELECT 'a'"), print("SELECT a"));
}

TEST(Arena, CopiesWithReplacements) {
  auto tree = ParseTree::parse("SELECT a + f(a, b) FROM t WHERE a > 1");
  ASSERT_TRUE(tree.ok());
  Arena arena;
  Node* copy = arena.copy(tree->statement(), [&](const Node* node) -> Node* {
    auto* column = as<PgQuery__ColumnRef>(node);
    return column != nullptr && string_value(column->fields[0]) == "a" ? arena.integer(7) : nullptr;
  });
  EXPECT_EQ(*deparse_statement(copy), "SELECT 7 + f(7, b) FROM t WHERE 7 > 1");
  EXPECT_EQ(*deparse_statement(tree->statement()), "SELECT a + f(a, b) FROM t WHERE a > 1");
}

TEST(Deparse, Expressions) {
  auto tree = ParseTree::parse("SELECT CASE WHEN x THEN 'a''b' ELSE y::text END");
  ASSERT_TRUE(tree.ok());
  auto* target = as<PgQuery__ResTarget>(select_of(*tree)->target_list[0]);
  EXPECT_EQ(*deparse_expression(target->val), "CASE WHEN x THEN 'a''b' ELSE y::text END");
}

TEST(Quote, IdentifiersAndLiterals) {
  EXPECT_EQ(quote_identifier("user_id"), "user_id");
  EXPECT_EQ(quote_identifier("table"), "\"table\"");
  EXPECT_EQ(quote_identifier("A\"b"), "\"A\"\"b\"");
  EXPECT_EQ(quote_identifier("current_user"), "\"current_user\"");
  EXPECT_EQ(quote_literal("it's"), "'it''s'");
  EXPECT_EQ(quote_literal("a\\b"), " E'a\\\\b'");
}

TEST(Tokens, FollowThePostgresqlLexer) {
  std::string_view sql = "a.\"B c\" /* x /* y */ */ $1 $q$ ; $q$ E'\\'' 1.5e-3 U&'x' -- end\n(";
  TokenScanner scanner(sql);
  using Kind = Token::Kind;
  std::vector<Kind> kinds;
  for (Token token = scanner.next(); token.kind != Kind::end; token = scanner.next()) kinds.push_back(token.kind);
  EXPECT_EQ(kinds, (std::vector<Kind>{Kind::word, Kind::symbol, Kind::quoted, Kind::parameter, Kind::string,
                                      Kind::string, Kind::number, Kind::string, Kind::symbol}));
}

TEST(Tokens, UnterminatedTextIsBroken) {
  for (std::string_view sql : {"'abc", "\"abc", "$x$ abc", "/* abc", "E'\\'"}) {
    TokenScanner scanner(sql);
    EXPECT_EQ(scanner.next().kind, Token::Kind::broken) << sql;
  }
}

}  // namespace
}  // namespace pgmosaic::sql
