#include "sql/deparse.h"

#include <gtest/gtest.h>

#include "sql/parse.h"

namespace pgmosaic::sql {
namespace {

std::string fingerprint_of(std::string_view sql) {
  auto tree = ParseTree::parse(sql);
  EXPECT_TRUE(tree.ok()) << sql;
  return fingerprint(inner(tree->statement()), [](const PgQuery__ColumnRef*) { return std::string(); });
}

class WrittenAnew : public testing::TestWithParam<const char*> {};

TEST_P(WrittenAnew, MeansTheSame) {
  auto tree = ParseTree::parse(GetParam());
  ASSERT_TRUE(tree.ok()) << tree.error().message;
  auto text = deparse_statement(tree->statement());
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_EQ(fingerprint_of(*text), fingerprint_of(GetParam())) << *text;
}

// Operands that need parentheses.
INSTANTIATE_TEST_SUITE_P(
    Operands, WrittenAnew,
    testing::Values("SELECT (a OR b) IS NULL", "SELECT (a AND b) IS NOT TRUE", "SELECT (NOT a) IS UNKNOWN",
                    "SELECT (NOT a)::int", "SELECT (a > 0 AND b > 3)::int::text", "SELECT (x AT TIME ZONE 'UTC')::date",
                    "SELECT (x + interval '1 day') AT TIME ZONE 'UTC'", "SELECT (x AT TIME ZONE z) AT TIME ZONE 'UTC'",
                    "SELECT (ARRAY[1, 2])[i]", "SELECT (CASE WHEN a THEN b END)[1][2:3]",
                    "SELECT (coalesce(a, '{}'))[1]", "SELECT (a || b)[1:2]", "SELECT ((f(x)).y)[3].z",
                    "SELECT (a AND b) BETWEEN (c OR d) AND (e = f)", "SELECT (a = b) IN ((c = d), (NOT e))",
                    "SELECT (a IS DISTINCT FROM b) IS NULL", "SELECT (NOT a) = ANY (b)",
                    "SELECT (a = b) = ALL ((c)::bool[])", "SELECT (t COLLATE \"C\") BETWEEN 'a' AND 'b'",
                    "SELECT (a || b) COLLATE \"C\" < c", "SELECT a - (b - c)", "SELECT (a - b) - c", "SELECT -(-a)",
                    "SELECT - (a - b)", "SELECT (- 2) ^ 2", "SELECT -2 ^ 2", "SELECT a ->> ('b' || c)",
                    "SELECT (a -> 'b')::text", "SELECT (SELECT 1) IS NULL", "SELECT (a, b) = (SELECT c, d FROM t)",
                    "SELECT (a = b) = (c = d)", "SELECT (EXISTS (SELECT 1)) IS NULL", "SELECT (a LIKE b) LIKE c",
                    "SELECT a LIKE (b LIKE c)", "SELECT (a IN (1)) IN (true)", "SELECT (x IS NULL) IS NULL",
                    "SELECT NOT (a = b)", "SELECT (NOT a) AND (b OR c)", "SELECT a OR (b OR c) OR d",
                    "SELECT (a OR b) AND c", "SELECT ((a).b).c", "SELECT (a).*", "SELECT (ROW(1, 2)).f1",
                    "SELECT (a @> b) IS TRUE", "SELECT extract(year FROM (a AT TIME ZONE 'UTC'))",
                    "SELECT (extract(year FROM a))::int", "SELECT (a = 1.5)::int + 1",
                    "SELECT overlay((a || b) placing 'c' from (1 + 2))", "SELECT (a IS NOT NULL)::int * (b)::int"));

// What the deparser writes of all else.
INSTANTIATE_TEST_SUITE_P(
    Statements, WrittenAnew,
    testing::Values(
        "(SELECT 1 UNION SELECT 2) EXCEPT SELECT 3", "SELECT 1 UNION (SELECT 2 EXCEPT ALL SELECT 3)",
        "(SELECT 1 ORDER BY 1 LIMIT 1) UNION ALL SELECT 2 ORDER BY 1 OFFSET 2",
        "SELECT * FROM a JOIN (b JOIN c ON b.x = c.x) ON a.x = b.x",
        "SELECT * FROM (a CROSS JOIN b) x NATURAL LEFT JOIN c",
        "SELECT * FROM a FULL JOIN b USING (x) AS j, LATERAL (SELECT a.x) l (y), f(1) WITH ORDINALITY AS g (h, i)",
        "WITH RECURSIVE x (n) AS NOT MATERIALIZED (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 5) TABLE x",
        "SELECT rank() OVER (w ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t WINDOW w AS (PARTITION BY "
        "a ORDER BY b)",
        "SELECT a, count(*) FILTER (WHERE b) FROM t GROUP BY GROUPING SETS ((a), ()), CUBE (b, c), ROLLUP (d) HAVING "
        "sum(x) > 1",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x DESC NULLS LAST), string_agg(DISTINCT a, ',' ORDER BY a) "
        "FROM t",
        "SELECT DISTINCT ON (a, b + 1) * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (3) ORDER BY a USING < FETCH "
        "FIRST 3 ROWS WITH TIES",
        "SELECT * FROM a FOR KEY SHARE SKIP LOCKED", "SELECT * FROM a, b FOR UPDATE OF a FOR SHARE OF b",
        "SELECT B'101', X'1F', E'a\\nb\\\\', U&'\\0041', 1e10, .5, -5, 99999999999, interval '1' year, interval(3) "
        "'1.5', '1 day'::interval",
        "SELECT a::numeric(10,2)[], b::timestamp(3) with time zone, c::varchar(4), d::bit(3), e::\"My Type\", "
        "f::interval day to second",
        "SELECT substring(a from 1 for 2), substring(a similar 'b' escape '#'), trim(both 'x' from a), position('a' in "
        "b)",
        "SELECT a SIMILAR TO 'b' ESCAPE '#', a NOT ILIKE 'c', a LIKE ALL (ARRAY['d']), a IS NFC NORMALIZED, "
        "normalize(a, NFD)",
        "SELECT ROW(1, 2) = ROW(3, 4), (1, 2) OVERLAPS (3, 4), a OPERATOR(pg_catalog.+) b, @ c, GREATEST(a, b), "
        "NULLIF(a, b)",
        "SELECT current_timestamp(3), current_date, localtime, session_user, current_catalog, f(VARIADIC ARRAY[1]), "
        "f(a => 1, b := 2)",
        "SELECT xmlelement(name x, xmlattributes(a AS b), c), xmlforest(a, b AS c), xmlparse(document d), "
        "xmlserialize(content e AS text)",
        "SELECT a IS DOCUMENT, a IS NOT DISTINCT FROM b, a NOT BETWEEN SYMMETRIC b AND c, a NOT IN (1, 2), a <> ALL "
        "(b)",
        "SELECT ARRAY(SELECT 1), ARRAY[[1, 2], [3, 4]], '{}'::int[], a[1], a[1:], a[:2], NOT EXISTS (SELECT 1), a IN "
        "(SELECT 2)",
        "INSERT INTO t AS x (a, b[1], c.d) OVERRIDING USER VALUE VALUES (1, DEFAULT, $1) ON CONFLICT (a) WHERE b > 1 "
        "DO UPDATE SET "
        "(b, c) = (SELECT 1, 2) WHERE x.a > excluded.a RETURNING *, a + 1 AS \"B\"",
        "INSERT INTO t DEFAULT VALUES ON CONFLICT ON CONSTRAINT k DO NOTHING", "UPDATE t SET (b, c) = ROW(1, 2)",
        "UPDATE t SET (b, c) = (1, DEFAULT), x = 1",
        "UPDATE ONLY t SET a = DEFAULT, d[2] = 3 FROM u WHERE t.a = u.a AND CURRENT_DATE > e RETURNING t.*",
        "WITH x AS (DELETE FROM t USING u WHERE t.a = u.a RETURNING *) SELECT * FROM x",
        "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED AND t.b > 1 THEN UPDATE SET b = u.b WHEN NOT MATCHED THEN "
        "INSERT (a) VALUES (u.a)",
        "SELECT * FROM ROWS FROM (f(1), g(2) AS (a int, b text)) AS r",
        "SELECT * FROM json_to_recordset(x) AS (a int, b text COLLATE \"C\")",
        "SELECT * FROM xmltable('/a' PASSING b COLUMNS c int PATH 'd' DEFAULT 1 NOT NULL, e FOR ORDINALITY)",
        "VALUES (1, 'a'), (2, DEFAULT)", "SELECT \"select\", \"A b\".\"C\"\"d\" FROM \"A b\" \"from\"",
        "SELECT 1 AS \"?column?\", a AS b, count(*)", "SELECT FROM t",
        "CREATE TABLE t (a int PRIMARY KEY DEFAULT (1 + 2) CHECK ((a > 1) IS NOT FALSE), b text COLLATE \"C\" NOT "
        "NULL, EXCLUDE USING gist (c WITH &&))",
        "ALTER TABLE t ADD COLUMN a int GENERATED ALWAYS AS ((b AND c)::int) STORED, ALTER b TYPE text USING (b IS "
        "NULL)::text",
        "CREATE INDEX CONCURRENTLY i ON t USING btree (lower(a) DESC NULLS LAST, (b || c) text_pattern_ops) INCLUDE "
        "(d) WHERE (a OR b) IS NULL",
        "CREATE POLICY p ON t FOR UPDATE TO a USING ((a OR b) IS TRUE) WITH CHECK ((NOT a)::int = 1)",
        "CREATE VIEW v (a) AS SELECT (a OR b) IS NULL FROM t WITH LOCAL CHECK OPTION"));

// What the deparser cannot write is refused, and not written otherwise.
TEST(Deparse, RefusesWhatItWouldChange) {
  for (const char* sql :
       {"SELECT * FROM a, b FOR UPDATE OF a, b NOWAIT", "UPDATE t SET x = 1, (b, c) = (SELECT 1, 2)"}) {
    auto tree = ParseTree::parse(sql);
    ASSERT_TRUE(tree.ok());
    auto text = deparse_statement(tree->statement());
    ASSERT_FALSE(text.ok()) << *text;
    EXPECT_EQ(text.error().sqlstate, "0A000");
  }
}

}  // namespace
}  // namespace pgmosaic::sql
