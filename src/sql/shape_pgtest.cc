// literal_value against the value that a PostgreSQL computes for the same literal, and literal borders against its
// parser: a statement with every literal replaced by its own parameter must give the same row.
#include <gtest/gtest.h>

#include <random>

#include "harness/pg_connection.h"
#include "harness/postgres_server.h"
#include "sql/shape.h"

namespace pgmosaic::sql {
namespace {

TEST(LiteralValueAgainstPostgres, random_strings) {
  test::PostgresServer server;
  test::PgConnection connection(server.conninfo());
  connection.execute("SET client_min_messages = error");
  const std::vector<std::string> pieces = {"a",
                                           "Z ",
                                           "''",
                                           "\\\\",
                                           "\\'",
                                           "\\n",
                                           "\\t",
                                           "\\b",
                                           "\\f",
                                           "\\r",
                                           "\\q",
                                           "\\101",
                                           "\\7",
                                           "\\x41",
                                           "\\x4",
                                           "\\xg",
                                           "\\u00e4",
                                           "\\u20AC",
                                           "\\ud83d\\ude00",
                                           "\\ud83d",
                                           "\\0",
                                           "\\u12",
                                           "\\U0001F600",
                                           "\\u0041",
                                           "ä",
                                           "€",
                                           "\n",
                                           "\"",
                                           "$1",
                                           "\\xc3\\xa4",
                                           "\\303\\244",
                                           "\\\n",
                                           "--",
                                           "/*",
                                           "\\08",
                                           "\\400",
                                           "\\u0000"};
  std::mt19937 random(42);
  Shape shape;
  std::string scratch;
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    const bool escapes = random() % 4 > 0;
    std::string literal = escapes ? "E'" : "'";
    for (size_t n = random() % 7; n > 0; --n) {
      const std::string& piece = pieces[random() % pieces.size()];
      if (escapes || piece != "\\'") literal += piece;
    }
    literal += "'";
    const std::string sql = "SELECT " + literal + ", length(" + literal + ")";
    scan_shape(sql, shape);
    const test::PgResult row(PQexec(connection.get(), sql.c_str()));
    if (PQresultStatus(row.get()) != PGRES_TUPLES_OK) {
      // What PostgreSQL refuses is never decoded to something else than itself, bytes of broken characters apart.
      const std::string state = PQresultErrorField(row.get(), PG_DIAG_SQLSTATE);
      if (state == "22021") continue;
      ASSERT_EQ(literal_value(sql, shape.literals.at(0), scratch), literal);
      continue;
    }
    ++accepted;
    ASSERT_EQ(shape.literals.size(), 2u) << sql;
    EXPECT_EQ(literal_value(sql, shape.literals[0], scratch), PQgetvalue(row.get(), 0, 0)) << sql;
  }
  EXPECT_GT(accepted, 1500);
}

// The statement with literal n replaced by $n.
std::string parameterized(const std::string& sql, const Shape& shape) {
  std::string out;
  size_t from = 0;
  for (size_t i = 0; i < shape.literals.size(); ++i) {
    out += sql.substr(from, shape.literals[i].begin - from) + "$" + std::to_string(i + 1) + "::text";
    from = shape.literals[i].end;
  }
  return out + sql.substr(from);
}

TEST(ShapeAgainstPostgresServer, literals_can_be_taken_out) {
  test::PostgresServer server;
  test::PgConnection connection(server.conninfo());
  const std::vector<std::string> statements = {
      "SELECT 'a', 'it''s' || 'b', E'x\\'y' /* 'no' */ -- 'neither'\n, 'd'",
      "SELECT 'one'\n  'two', 'three' -- joined\n  'four' AS \"q'q\", $$dollar '$$ || $x$ $$ $x$",
      "SELECT * FROM (VALUES ('a', E'\\\\'), ('''', 'b')) AS \"t'\"(x, y) WHERE x <> 'c' ORDER BY x",
      "SELECT 'a'/* /* 'x' */ */||'b', 'c'\n\t\n'd'",
  };
  Shape shape;
  for (const std::string& sql : statements) {
    scan_shape(sql, shape);
    std::vector<std::string> values;
    std::string scratch;
    for (const Literal& literal : shape.literals) {
      const std::string token = sql.substr(literal.begin, literal.end - literal.begin);
      values.push_back(literal.kind == Literal::Kind::other ? connection.value("SELECT " + token)
                                                            : std::string(literal_value(sql, literal, scratch)));
    }
    const test::PgResult expected = connection.query(sql);
    const test::PgResult actual = connection.query(parameterized(sql, shape), values);
    ASSERT_EQ(PQntuples(expected.get()), PQntuples(actual.get())) << sql;
    for (int row = 0; row < PQntuples(expected.get()); ++row)
      for (int column = 0; column < PQnfields(expected.get()); ++column)
        EXPECT_STREQ(PQgetvalue(expected.get(), row, column), PQgetvalue(actual.get(), row, column)) << sql;
  }
}

}  // namespace
}  // namespace pgmosaic::sql
