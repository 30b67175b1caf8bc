// Order keys and partition bounds against a PostgreSQL: its ORDER BY, and the partition where it puts a row.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "catalog/key_order.h"
#include "catalog/partition_bounds.h"
#include "harness/key_values.h"
#include "harness/pg_connection.h"
#include "harness/postgres_server.h"

namespace pgmosaic::catalog {
namespace {

using test::array_literal;
using test::KeyType;
using test::make_values;
using test::PgConnection;
using test::PgResult;
using test::PostgresServer;
using test::Random;
using test::Texts;

constexpr int kValues = 1500, kPartitions = 9, kRounds = 4;
constexpr TextContext kUtc{.standard_timezone_utc = true};

std::string make_float(Random& random) {
  static const Texts special = {"0", "-0", "1e300", "-1e-300", "5e-324"};
  if (random.below(20) == 0) return special[random.below(special.size())];
  return (random.below(2) == 0 ? "-" : "") + random.digits(1 + random.below(5)) + "." + random.digits(3) + "e" +
         std::to_string(static_cast<int>(random.below(40)) - 20);
}

std::vector<KeyType> types() {
  std::vector<KeyType> result = test::key_types();
  result.push_back({701, "float8", make_float});
  return result;
}

// With a collation that compares bytes.
std::string column_type(const KeyType& type) { return type.name + (is_text_type(type.oid) ? " COLLATE \"C\"" : ""); }

class PartitionBoundsAgainstPostgres : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = std::make_unique<PostgresServer>();
    connection_ = std::make_unique<PgConnection>(server_->conninfo());
    connection_->execute("SET client_min_messages = warning; SET timezone = 'UTC'; SET datestyle = 'ISO'");
  }
  static void TearDownTestSuite() {
    connection_.reset();
    server_.reset();
  }
  static PgConnection& pg() { return *connection_; }

  // Different values in PostgreSQL's order, as it writes them.
  static Texts ordered(const KeyType& type, const Texts& values) {
    const PgResult rows =
        pg().query("SELECT DISTINCT v::" + column_type(type) + " AS d FROM unnest($1::text[]) AS u(v) ORDER BY d",
                   {array_literal(values)});
    Texts result;
    for (int i = 0; i < PQntuples(rows.get()); ++i) result.emplace_back(PQgetvalue(rows.get(), i, 0));
    return result;
  }

  // Every row of `t` lies in the partition p<index> that we find, from its text and its binary form.
  static void expect_partitions(const KeyType& type, const PartitionBounds& bounds) {
    ASSERT_TRUE(bounds.tellable()) << type.name;
    for (const ValueFormat format : {ValueFormat::text, ValueFormat::binary}) {
      const PgResult rows = pg().query("SELECT k FROM t ORDER BY n", {}, format == ValueFormat::binary ? 1 : 0);
      const PgResult places =
          pg().query("SELECT substr(tableoid::regclass::text, 2)::int, k IS NULL FROM t ORDER BY n");
      for (int i = 0; i < PQntuples(rows.get()); ++i) {
        PartitionBounds::Row row(bounds);
        const std::string_view value(PQgetvalue(rows.get(), i, 0), static_cast<size_t>(PQgetlength(rows.get(), i, 0)));
        if (PQgetisnull(rows.get(), i, 0) != 0) {
          row.add_null();
        } else {
          ASSERT_TRUE(row.add(format, value, kUtc)) << type.name << ": " << value;
        }
        ASSERT_EQ(std::to_string(row.find()), PQgetvalue(places.get(), i, 0)) << type.name << ": " << value;
      }
    }
  }

  // The bounds of p0, p1, …, as PostgreSQL writes them.
  static Texts bound_texts() {
    const PgResult rows = pg().query(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition ORDER BY substr(relname, 2)::int");
    Texts texts;
    for (int i = 0; i < PQntuples(rows.get()); ++i) texts.emplace_back(PQgetvalue(rows.get(), i, 0));
    return texts;
  }

  static std::unique_ptr<PostgresServer> server_;
  static std::unique_ptr<PgConnection> connection_;
};

std::unique_ptr<PostgresServer> PartitionBoundsAgainstPostgres::server_;
std::unique_ptr<PgConnection> PartitionBoundsAgainstPostgres::connection_;

TEST_F(PartitionBoundsAgainstPostgres, OrderKeysCompareAsValues) {
  Random random;
  for (const KeyType& type : types()) {
    const Texts values = make_values(type, random, kValues);
    const std::string sql =
        "v, dense_rank() OVER (ORDER BY v::" + column_type(type) + ") FROM unnest($1::text[]) AS u(v) ORDER BY 2";
    const PgResult texts = pg().query("SELECT " + sql, {array_literal(values)});
    const PgResult binary = pg().query("SELECT v::" + type.name + " AS " + sql, {array_literal(values)}, 1);
    ASSERT_EQ(PQntuples(texts.get()), kValues);
    std::string before, rank;
    for (int i = 0; i < kValues; ++i) {
      std::string key, from_binary;
      const std::string text = PQgetvalue(texts.get(), i, 0);
      ASSERT_TRUE(append_order_key(key, type.oid, ValueFormat::text, text, kUtc)) << type.name << ": " << text;
      const bool same_rank = rank == PQgetvalue(texts.get(), i, 1);
      if (i > 0) ASSERT_TRUE(same_rank ? key == before : key > before) << type.name << ": " << text;
      const std::string_view bytes(PQgetvalue(binary.get(), i, 0),
                                   static_cast<size_t>(PQgetlength(binary.get(), i, 0)));
      ASSERT_TRUE(append_order_key(from_binary, type.oid, ValueFormat::binary, bytes, kUtc)) << type.name;
      if (!same_rank) EXPECT_EQ(key, from_binary) << type.name << ": " << text;
      before = key;
      rank = PQgetvalue(texts.get(), i, 1);
    }
  }
}

TEST_F(PartitionBoundsAgainstPostgres, RangesAndTheirDefault) {
  Random random;
  using Compared = PartitionBounds::KeyColumn::Compared;
  for (const KeyType& type : types()) {
    if (type.name == "bool") continue;  // too few values
    for (int round = 0; round < kRounds; ++round) {
      Texts bounds;
      while (bounds.size() < kPartitions) bounds = ordered(type, make_values(type, random, 40));
      pg().execute("CREATE TABLE t (n serial, k " + column_type(type) + ") PARTITION BY RANGE (k)");
      for (int i = 0; i < kPartitions - 1; ++i) {
        auto quoted = [&](int at) {
          char* literal = PQescapeLiteral(pg().get(), bounds[static_cast<size_t>(at)].c_str(),
                                          bounds[static_cast<size_t>(at)].size());
          std::string result = literal;
          PQfreemem(literal);
          return result;
        };
        const std::string from = i == 0 && round % 2 == 0 ? "MINVALUE" : quoted(i);
        const std::string to = i == kPartitions - 2 && round % 2 == 1 ? "MAXVALUE" : quoted(i + 1);
        pg().execute("CREATE TABLE p" + std::to_string(i) + " PARTITION OF t FOR VALUES FROM (" + from + ") TO (" + to +
                     ")");
      }
      pg().execute("CREATE TABLE p" + std::to_string(kPartitions - 1) + " PARTITION OF t DEFAULT");
      Texts rows = make_values(type, random, 300);
      rows.insert(rows.end(), bounds.begin(), bounds.end());
      pg().query("INSERT INTO t (k) SELECT v::" + type.name + " FROM unnest($1::text[]) AS u(v)",
                 {array_literal(rows)});
      pg().execute("INSERT INTO t (k) VALUES (NULL)");
      expect_partitions(
          type, PartitionBounds(PartitionBounds::Method::range, {{type.oid, Compared::by_order}}, bound_texts(), true));
      pg().execute("DROP TABLE t");
    }
  }
}

TEST_F(PartitionBoundsAgainstPostgres, Lists) {
  Random random;
  using Compared = PartitionBounds::KeyColumn::Compared;
  for (const KeyType& type : types()) {
    const Texts values = ordered(type, make_values(type, random, 60));
    std::vector<Texts> lists(kPartitions - 1);
    for (const std::string& value : values) lists[random.below(lists.size())].push_back(value);
    pg().execute("CREATE TABLE t (n serial, k " + column_type(type) + ") PARTITION BY LIST (k)");
    int count = 0;
    for (const Texts& list : lists) {
      std::string literals = count == 0 ? "NULL" : "";
      for (const std::string& value : list) {
        char* literal = PQescapeLiteral(pg().get(), value.c_str(), value.size());
        literals += (literals.empty() ? "" : ", ") + std::string(literal);
        PQfreemem(literal);
      }
      if (literals.empty()) continue;
      pg().execute("CREATE TABLE p" + std::to_string(count++) + " PARTITION OF t FOR VALUES IN (" + literals + ")");
    }
    pg().execute("CREATE TABLE p" + std::to_string(count) + " PARTITION OF t DEFAULT");
    Texts rows = make_values(type, random, 100);
    rows.insert(rows.end(), values.begin(), values.end());
    pg().query("INSERT INTO t (k) SELECT v::" + type.name + " FROM unnest($1::text[]) AS u(v)", {array_literal(rows)});
    pg().execute("INSERT INTO t (k) VALUES (NULL)");
    expect_partitions(
        type, PartitionBounds(PartitionBounds::Method::list, {{type.oid, Compared::by_equality}}, bound_texts(), true));
    pg().execute("DROP TABLE t");
  }
}

TEST_F(PartitionBoundsAgainstPostgres, HashesOfSeveralModuli) {
  using Compared = PartitionBounds::KeyColumn::Compared;
  pg().execute(
      "CREATE TABLE t (n serial, k int8) PARTITION BY HASH (k);"
      "CREATE TABLE p0 PARTITION OF t FOR VALUES WITH (MODULUS 8, REMAINDER 1);"
      "CREATE TABLE p1 PARTITION OF t FOR VALUES WITH (MODULUS 8, REMAINDER 5);"
      "CREATE TABLE p2 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
      "CREATE TABLE p3 PARTITION OF t FOR VALUES WITH (MODULUS 16, REMAINDER 3);"
      "CREATE TABLE p4 PARTITION OF t FOR VALUES WITH (MODULUS 16, REMAINDER 11);"
      "CREATE TABLE p5 PARTITION OF t FOR VALUES WITH (MODULUS 8, REMAINDER 7);"
      "INSERT INTO t (k) SELECT i FROM generate_series(1, 2000) i; INSERT INTO t (k) VALUES (NULL)");
  const KeyType type{20, "int8", {}};
  const PartitionBounds bounds(PartitionBounds::Method::hash, {{20, Compared::by_order}}, bound_texts(), true);
  expect_partitions(type, bounds);
  pg().execute("DROP TABLE t");
}

TEST(PartitionBounds, SeveralColumnsAndWhatCannotBeTold) {
  using Compared = PartitionBounds::KeyColumn::Compared;
  using Method = PartitionBounds::Method;
  const std::vector<PartitionBounds::KeyColumn> key{{1082, Compared::by_order}, {23, Compared::by_order}};
  const PartitionBounds bounds(Method::range, key,
                               {"FOR VALUES FROM (MINVALUE, MINVALUE) TO ('2024-02-01', 500)",
                                "FOR VALUES FROM ('2024-02-01', 500) TO ('2024-03-01', MINVALUE)",
                                "FOR VALUES FROM ('2024-03-01', MINVALUE) TO (MAXVALUE, MAXVALUE)"},
                               true);
  auto find = [&](std::string_view day, std::string_view number) {
    PartitionBounds::Row row(bounds);
    EXPECT_TRUE(row.add(ValueFormat::text, day, kUtc) && row.add(ValueFormat::text, number, kUtc));
    return row.find();
  };
  EXPECT_EQ(find("0001-01-01", "7"), 0u);
  EXPECT_EQ(find("2024-02-01", "499"), 0u);
  EXPECT_EQ(find("2024-02-01", "500"), 1u);
  EXPECT_EQ(find("2024-02-29", "-2147483648"), 1u);
  EXPECT_EQ(find("2024-03-01", "-2147483648"), 2u);
  PartitionBounds::Row null(bounds);
  null.add_null();
  EXPECT_TRUE(null.add(ValueFormat::text, "1", kUtc));
  EXPECT_EQ(null.find(), PartitionBounds::kNone);

  EXPECT_FALSE(PartitionBounds(Method::range, {{25, Compared::by_equality}}, {}, true).tellable());
  EXPECT_TRUE(PartitionBounds(Method::list, {{25, Compared::by_equality}}, {}, true).tellable());
  EXPECT_FALSE(PartitionBounds(Method::list, {{25, Compared::unknown}}, {}, true).tellable());
  EXPECT_FALSE(PartitionBounds(Method::range, key, {}, false).tellable());
  EXPECT_FALSE(PartitionBounds(Method::list, {{16400, Compared::by_order}}, {"FOR VALUES IN ('a')"}, true).tellable());
  EXPECT_FALSE(PartitionBounds(Method::range, key, {"FOR VALUES FROM (1) TO (2)"}, true).tellable());
  EXPECT_FALSE(PartitionBounds(Method::hash, {{23, Compared::by_order}},
                               {"FOR VALUES WITH (modulus 2147483647, remainder 0)"}, true)
                   .tellable());
}

}  // namespace
}  // namespace pgmosaic::catalog
