#include "sql/shape.h"

#include <gtest/gtest.h>
#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>

namespace pgmosaic::sql {
namespace {

Shape shape_of(std::string_view sql) {
  Shape shape;
  scan_shape(sql, shape);
  return shape;
}

std::string text_of(std::string_view sql, const Literal& literal) {
  return std::string(sql.substr(literal.begin, literal.end - literal.begin));
}

std::vector<std::string> tokens_of(std::string_view sql) {
  std::vector<std::string> tokens;
  for (const Literal& literal : shape_of(sql).literals) tokens.push_back(text_of(sql, literal));
  return tokens;
}

std::string value_of(std::string_view sql, size_t index = 0) {
  const Shape shape = shape_of(sql);
  std::string scratch;
  return std::string(literal_value(sql, shape.literals.at(index), scratch));
}

using Tokens = std::vector<std::string>;

TEST(Shape, statements_that_differ_in_literals_and_blanks_share_a_shape) {
  const Shape first = shape_of("SELECT a FROM t WHERE k = 17 AND s = 'x'");
  const Shape second = shape_of("  select  A /* c */\n FROM t -- more\n WHERE k = 4 AND s = 'it''s'  ");
  EXPECT_EQ(first.normalized, second.normalized);
  EXPECT_EQ(first.hash, second.hash);
  EXPECT_EQ(first.normalized, "select a from t where k = \x01i and s = \x01s");
}

TEST(Shape, what_the_plan_depends_on_makes_another_shape) {
  const std::vector<std::string> statements = {
      "select a from t where k = 1",
      "select a from t where k = '1'",
      "select a from t where k = 1.0",
      "select a from t where k = E'1'",
      "select a from t where k = $1",
      "select a from t where k = $2",
      "select a from t where k = 3000000000",
      "select a from t where k = 9223372036854775808",
      "select a from t where k = -1",
      "select a from t where k = null",
      "select a from t where k = true",
      "select \"A\" from t where k = 1",
      "select \"a\" from t where k = 1",
      "select a from \"T\" where k = 1",
      "select a from t where k = 1;",
      "/*+ REPLICA */ select a from t where k = 1",
      "select a from t where k = 1 or k = 1",
      "select a from t where k = b'1'",
      "select a from t where k=1",
      "select a from t where k = n'1'",
      "select a from t where k = n '1'",
      "select a from t where k = x '1'",
  };
  for (size_t i = 0; i < statements.size(); ++i)
    for (size_t j = i + 1; j < statements.size(); ++j) {
      EXPECT_NE(shape_of(statements[i]).normalized, shape_of(statements[j]).normalized)
          << statements[i] << statements[j];
      EXPECT_NE(shape_of(statements[i]).hash, shape_of(statements[j]).hash);
    }
}

TEST(Shape, one_hash_per_process_and_text) {
  std::mt19937 random(7);
  std::vector<uint64_t> hashes;
  for (size_t size = 0; size < 200; ++size)
    for (int variant = 0; variant < 50; ++variant) {
      std::string sql(size, 'a');
      for (char& c : sql) c = static_cast<char>('a' + random() % 26);
      EXPECT_EQ(shape_of(sql).hash, shape_of(sql).hash);
      hashes.push_back(shape_of(sql + "_" + std::to_string(variant) + "x" + std::to_string(size)).hash);
    }
  std::sort(hashes.begin(), hashes.end());
  EXPECT_EQ(std::unique(hashes.begin(), hashes.end()), hashes.end());
  // Buckets by the low bits are even: 10,000 hashes in 16 buckets, each 625 ± 6 standard deviations.
  std::vector<int> buckets(16);
  for (const uint64_t hash : hashes) ++buckets[hash & 15];
  for (const int count : buckets) EXPECT_NEAR(count, 625, 150);
}

TEST(Shape, numbers) {
  EXPECT_EQ(tokens_of("select 1, 2.5, .5, 3., 1e5, 1.5e-3, 2.E+7"),
            (Tokens{"1", "2.5", ".5", "3.", "1e5", "1.5e-3", "2.E+7"}));
  EXPECT_EQ(tokens_of("select a[1..10], 1.5.3"), (Tokens{"1", "10", "1.5", ".3"}));
  EXPECT_EQ(tokens_of("select -5, 3-1, a1, t2.c3"), (Tokens{"5", "3", "1"}));
  const Shape shape = shape_of("select 1, 1.0, 99999999999");
  EXPECT_EQ(shape.literals[0].kind, Literal::Kind::integer);
  EXPECT_EQ(shape.literals[1].kind, Literal::Kind::decimal);
  EXPECT_EQ(shape.literals[2].kind, Literal::Kind::integer);
  EXPECT_EQ(shape_of("2147483647").normalized, "\x01i");
  EXPECT_EQ(shape_of("2147483648").normalized, "\x01I");
  EXPECT_EQ(shape_of("0002147483647").normalized, "\x01i");
  EXPECT_EQ(shape_of("9223372036854775807").normalized, "\x01I");
  EXPECT_EQ(shape_of("9223372036854775808").normalized, "\x01N");
}

TEST(Shape, junk_behind_numbers_is_never_cached) {
  for (const char* sql : {"select 1a", "select 0x1F", "select 1_000", "select 1e", "select 1e+", "select 1.5e-x",
                          "select $1a", "select \x01"})
    EXPECT_FALSE(shape_of(sql).complete) << sql;
}

TEST(Shape, strings) {
  EXPECT_EQ(tokens_of("select 'a', '', 'o''hara', ''''"), (Tokens{"'a'", "''", "'o''hara'", "''''"}));
  EXPECT_EQ(tokens_of(R"(select E'a\'b', e'\\', 'a\')"), (Tokens{R"(E'a\'b')", R"(e'\\')", R"('a\')"}));
  EXPECT_EQ(tokens_of("select x'1''2'"), (Tokens{"x'1'", "'2'"}));
  EXPECT_EQ(tokens_of("select b'01', X'1f', N'n', U&'\\0061'"), (Tokens{"b'01'", "X'1f'", "'n'", "U&'\\0061'"}));
  EXPECT_EQ(tokens_of("select date '2024-01-01', name'x'"), (Tokens{"'2024-01-01'", "'x'"}));
  EXPECT_EQ(tokens_of("select $$a'b$$, $t$ $$ $u$ $t$, a$b$c$b$"), (Tokens{"$$a'b$$", "$t$ $$ $u$ $t$"}));
  const Shape shape = shape_of("select 'a', E'a', b'1', x'1', n'1', u&'1', $$1$$");
  ASSERT_EQ(shape.literals.size(), 7u);
  EXPECT_EQ(shape.literals[0].kind, Literal::Kind::string);
  EXPECT_EQ(shape.literals[1].kind, Literal::Kind::escape_string);
  for (size_t i = 2; i < 7; ++i) EXPECT_EQ(shape.literals[i].kind, Literal::Kind::other);
}

TEST(Shape, strings_continue_on_the_next_line) {
  EXPECT_EQ(tokens_of("select 'a'\n  'b', 'c'"), (Tokens{"'a'\n  'b'", "'c'"}));
  EXPECT_EQ(tokens_of("select 'a' -- and\n -- so on\n 'b'"), (Tokens{"'a' -- and\n -- so on\n 'b'"}));
  EXPECT_EQ(tokens_of("select 'a' 'b'"), (Tokens{"'a'", "'b'"}));
  EXPECT_EQ(tokens_of("select 'a'\n/* */ 'b'"), (Tokens{"'a'", "'b'"}));
  EXPECT_EQ(tokens_of("select 'a' -- 'b'"), (Tokens{"'a'"}));
  EXPECT_EQ(tokens_of("select E'a'\n'\\'', 2"), (Tokens{"E'a'\n'\\''", "2"}));
  EXPECT_EQ(shape_of("select 'a'\n'b'").literals[0].kind, Literal::Kind::other);
  EXPECT_EQ(value_of("select 'a'\n'b'"), "'a'\n'b'");
}

TEST(Shape, the_escape_character_of_an_identifier_counts) {
  const std::string_view sql = "select U&\"d!0061t\" uescape '!' from t";
  EXPECT_EQ(tokens_of(sql), (Tokens{"'!'"}));
  EXPECT_NE(shape_of(sql).normalized, shape_of("select U&\"d!0061t\" uescape '?' from t").normalized);
}

TEST(Shape, comments_and_hints) {
  EXPECT_EQ(shape_of("select /* a /* b */ 'c' */ 1").normalized, "select \x01i");
  EXPECT_EQ(shape_of("select 1 --'x\n+ 2").normalized, "select \x01i + \x01i");
  EXPECT_EQ(shape_of("select 1 +-- x").normalized, "select \x01i +");
  EXPECT_EQ(shape_of("select 1*/**/2").normalized, "select \x01i* \x01i");
  EXPECT_EQ(shape_of("select a/**/b").normalized, "select a b");
  const Shape hint = shape_of("/*+ REPLICA */ select 1");
  EXPECT_TRUE(hint.has_hint);
  EXPECT_EQ(hint.normalized, "/*+ REPLICA */ select \x01i");
  EXPECT_TRUE(shape_of("select /*+ NODE(2) */ 1").has_hint);
  EXPECT_FALSE(shape_of("select '/*+ REPLICA */'").has_hint);
  EXPECT_FALSE(shape_of("select /* /*+ no */ */ 1").has_hint);
}

TEST(Shape, unterminated) {
  for (const char* sql : {"select 'a", "select E'a\\'", "select \"a", "select /* a", "select /* /* */", "select $$a",
                          "select $t$a$$", "select 'a'\n'b", "select x'1", "'", "E'", "\"", "$$", "E'\\"})
    EXPECT_FALSE(shape_of(sql).complete) << sql;
  for (const char* sql : {"", "select 1", "select '' \"\"\"\"", "-- x", "$", "a$$", "select 1 -"})
    EXPECT_TRUE(shape_of(sql).complete) << sql;
}

TEST(Shape, single_statement) {
  for (const char* sql :
       {"", "select 1", "select 1;", "select 1 ; -- bye", "select ';'", ";", "select 1;;", "select \";\""})
    EXPECT_TRUE(shape_of(sql).single_statement) << sql;
  for (const char* sql : {"select 1; select 2", ";select 1", "begin;commit;"})
    EXPECT_FALSE(shape_of(sql).single_statement) << sql;
}

TEST(Shape, a_shape_can_be_used_again) {
  Shape shape;
  scan_shape("/*+ X */ select 'a; select 2", shape);
  scan_shape("select 5", shape);
  EXPECT_EQ(shape.normalized, "select \x01i");
  EXPECT_EQ(shape.literals.size(), 1u);
  EXPECT_TRUE(shape.complete && shape.single_statement);
  EXPECT_FALSE(shape.has_hint);
  scan_shape("select '" + std::string(3 << 20, 'x') + "'", shape);
  EXPECT_EQ(shape.literals[0].end, 9u + (3u << 20));
  scan_shape("select 5", shape);
  EXPECT_EQ(shape.normalized, "select \x01i");
  EXPECT_LT(shape.normalized.capacity(), 1000u);
}

TEST(Shape, a_warm_shape_allocates_nothing) {
  Shape shape;
  scan_shape("select a from t where k = 1 and s = 'a long enough first statement'", shape);
  const char* text = shape.normalized.data();
  const Literal* literals = shape.literals.data();
  scan_shape("select a from t where k = 2 and s = 'x'", shape);
  EXPECT_EQ(shape.normalized.data(), text);
  EXPECT_EQ(shape.literals.data(), literals);
}

TEST(LiteralValue, plain_strings) {
  EXPECT_EQ(value_of("select 42"), "42");
  EXPECT_EQ(value_of("select 'abc'"), "abc");
  EXPECT_EQ(value_of("select ''"), "");
  EXPECT_EQ(value_of("select 'o''hara''s'"), "o'hara's");
  EXPECT_EQ(value_of("select ''''"), "'");
  EXPECT_EQ(value_of("select ''''''"), "''");
  EXPECT_EQ(value_of(R"(select 'a\n')"), R"(a\n)");
  EXPECT_EQ(value_of("select x'1f'"), "x'1f'");
}

TEST(LiteralValue, escapes) {
  EXPECT_EQ(value_of("select E'abc'"), "abc");
  EXPECT_EQ(value_of(R"(select E'a\tb\n\r\b\f\\\'''')"), "a\tb\n\r\b\f\\''");
  EXPECT_EQ(value_of(R"(select E'\101\x42\x4Ax\7')"), "ABJx\a");
  EXPECT_EQ(value_of(R"(select E'\q\xg\8')"), "qxg8");
  EXPECT_EQ(value_of(R"(select E'\u00e4\u20ac\U0001F600')"), "ä€😀");
  EXPECT_EQ(value_of(R"(select E'\ud83d\ude00')"), "😀");
}

TEST(LiteralValue, what_postgresql_refuses_stays_raw) {
  for (const char* literal :
       {R"(E'\ud83d')", R"(E'\ud83dx')", R"(E'\ude00')", R"(E'\u12')", R"(E'\0')", R"(E'\x00')", R"(E'\U00110000')"})
    EXPECT_EQ(value_of(std::string("select ") + literal), literal);
}

// Any bytes at all: buffers of exact size, so that a sanitizer sees a read behind the end.
TEST(Shape, any_bytes) {
  std::mt19937 random(99);
  constexpr std::string_view kLikely = "'\"$\\eEuUxXbBnN&-/*.;1a \n\x01+";
  Shape shape;
  std::string scratch;
  for (int round = 0; round < 50000; ++round) {
    const size_t size = random() % 24;
    const auto bytes = std::make_unique<char[]>(size);
    for (size_t i = 0; i < size; ++i)
      bytes[i] = random() % 8 == 0 ? static_cast<char>(random()) : kLikely[random() % kLikely.size()];
    const std::string_view sql(bytes.get(), size);
    scan_shape(sql, shape);
    uint32_t end = 0;
    for (const Literal& literal : shape.literals) {
      ASSERT_LE(end, literal.begin);
      ASSERT_LT(literal.begin, literal.end);
      ASSERT_LE(literal.end, size);
      end = literal.end;
      EXPECT_LE(literal_value(sql, literal, scratch).size(), size * 2);
    }
  }
}

// The constants as PostgreSQL's own lexer sees them; nullopt if it refuses the text.
std::optional<std::vector<std::pair<uint32_t, uint32_t>>> constants_of(const std::string& sql) {
  const PgQueryScanResult result = pg_query_scan(sql.c_str());
  std::optional<std::vector<std::pair<uint32_t, uint32_t>>> constants;
  if (result.error == nullptr) {
    PgQuery__ScanResult* scan =
        pg_query__scan_result__unpack(nullptr, result.pbuf.len, reinterpret_cast<const uint8_t*>(result.pbuf.data));
    constants.emplace();
    for (size_t i = 0; i < scan->n_tokens; ++i) {
      const PgQuery__ScanToken& token = *scan->tokens[i];
      switch (token.token) {
        case PG_QUERY__TOKEN__ICONST:
        case PG_QUERY__TOKEN__FCONST:
        case PG_QUERY__TOKEN__SCONST:
        case PG_QUERY__TOKEN__BCONST:
        case PG_QUERY__TOKEN__XCONST: constants->emplace_back(token.start, token.end); break;
        default: break;
      }
    }
    pg_query__scan_result__free_unpacked(scan, nullptr);
  }
  pg_query_free_scan_result(result);
  return constants;
}

void expect_same_borders(const std::string& sql) {
  const auto expected = constants_of(sql);
  const Shape shape = shape_of(sql);
  if (!expected.has_value()) return;
  EXPECT_TRUE(shape.complete) << sql;
  std::vector<std::pair<uint32_t, uint32_t>> actual;
  for (const Literal& literal : shape.literals) actual.emplace_back(literal.begin, literal.end);
  EXPECT_EQ(actual, *expected) << sql;
}

TEST(ShapeAgainstPostgres, statements) {
  const std::vector<std::string> statements = {
      "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
      "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, -4, CURRENT_TIMESTAMP)",
      "SELECT * FROM t WHERE a IN (1, 2, 3) AND b BETWEEN 1.5 AND 2.5e3 OR c LIKE 'x%' ESCAPE '\\'",
      "SELECT a::int4, b::numeric(10,2), '5'::text, interval '1 day', timestamp with time zone '2024-01-01 00:00+00'",
      "SELECT ARRAY[1,2,3], '{1,2}'::int[], a[1:2], (x).y, t.*, row(1,'a')",
      "SELECT E'a\\'b\\\\', E'\\x41', 'it''s', $$dollar 'quoted'$$, $fn$ body $$ inner $$ $fn$",
      "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS $$ SELECT a + 1; $$",
      "SELECT 1 -- trailing 'comment'\n, 2 /* block 'q' /* nested */ */, 3",
      "SELECT j->'a'->>'b', j #> '{a,b}', j @> '{\"a\": 1}'::jsonb, j ? 'k', -1, - 1, @ -5, !! 5",
      "SELECT \"Quoted \"\"Id'ent\"\"\", t.\"x\" FROM \"S\".\"T\" WHERE \"a\" = 'b'",
      "SELECT B'1010', x'ABCDEF', N'national', b''",
      "UPDATE t SET a = a + 1, b = DEFAULT, c = NULL, d = TRUE WHERE id = $1 AND k = $22 RETURNING *",
      "SELECT 1.5.3, 1., .5, 0.0, 00012, 1e10, 1.e5, .5e-7",
      "SELECT a<-1, a<=-1, a=-1, a*-1, a-1, a -1, a- 1, 1-1, 1- -1, 1+-1",
      "SELECT 'a'\n'b'\n\n  'c', 'd' , 'e'",
      "SELECT x FROM generate_series(1, 100) AS g(x) ORDER BY 1 DESC LIMIT 10 OFFSET 5",
      "SELECT count(*) FILTER (WHERE a > 5), sum(b) OVER (PARTITION BY c ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) "
      "FROM t",
      "SELECT $1, $2::text, $3||'x'||$4, a$1, _b$2c",
      "SELECT e, b, x, n, u, E 'a', b.c, x.e'1', U & 'a'",
      "SELECT 'ünï', ünï, \"ü\", 'é'''",
      "SELECT a->-1, a || E'\\n' || b, 5 !~~ 'x', ~1, 1^2, 1%2, 5/2",
      "COPY t FROM STDIN WITH (FORMAT csv, DELIMITER ',', QUOTE '''')",
      "DO $do$ BEGIN RAISE NOTICE '%', $$x$$; END $do$",
      "SET search_path TO a, b; SELECT 1",
      "SELECT :a, a:b, a := 5, f(a => 5), a ** 2, x@>y, 1<>2, 1!=2",
  };
  for (const std::string& sql : statements) {
    ASSERT_TRUE(constants_of(sql).has_value()) << sql;
    expect_same_borders(sql);
  }
}

TEST(ShapeAgainstPostgres, random_token_soup) {
  const std::vector<std::string> pieces = {"1",           "42",          "1.5",    ".5",      "7.",
                                           "1e5",         "2.5E-3",      "..",     ".",       "'a'",
                                           "''",          "'o''h'",      "E'\\''", "e'\\\\'", "E'\\n'",
                                           "b'1'",        "x'F'",        "N'x'",   "$$d$$",   "$t$ $$ $t$",
                                           "$1",          "$23",         "$",      "a",       "E",
                                           "x",           "sel$ect",     "_9",     "ü",       "\"q\"",
                                           "\"a\"\"'b\"", "+",           "-",      "*",       "/",
                                           "<>",          "->>",         "::",     ":=",      "@",
                                           "(",           ")",           ",",      ";",       "[",
                                           "]",           "\n",          " ",      " ",       "\t",
                                           "/*c*/",       "/*'/*x*/'*/", "e",      "12",      "0",
                                           "9999999999",  "'\\'",        "%",      "&",       "|",
                                           "TRUE",        "null",        "--x'\n", "\r",      "'multi\nline'",
                                           "U",           "^",           "=",      "!",       "~",
                                           "#",           "`",           "\"U&\"", "select",  "tag$x"};
  std::mt19937 random(20240117);
  int scanned = 0;
  for (int round = 0; round < 40000; ++round) {
    std::string sql;
    const size_t count = 1 + random() % 12;
    bool string_end = false;
    for (size_t i = 0; i < count; ++i) {
      const std::string& piece = pieces[random() % pieces.size()];
      // libpg_query keeps comments as tokens, so there a comment ends a string that PostgreSQL would continue.
      if (string_end && piece[0] == '-') continue;
      sql += piece;
      string_end =
          piece.back() == '\'' || (string_end && (piece == " " || piece == "\n" || piece == "\t" || piece == "\r"));
    }
    // libpg_query gives U&'…' no extent.
    if (sql.find("U&'") != std::string::npos || sql.find("U&\"") != std::string::npos) continue;
    scanned += constants_of(sql).has_value() ? 1 : 0;
    expect_same_borders(sql);
    if (HasFailure()) break;
  }
  EXPECT_GT(scanned, 10000);
}

}  // namespace
}  // namespace pgmosaic::sql
