// Plans against the oracle: one PostgreSQL with a schema that holds all rows and three that play the groups. Whatever
// the planner says can run over several groups is run there and put together as the executor would; rows, column names
// and types must be those of the one schema. Statements come from the golden files and from a generator.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <set>

#include "harness/pg_connection.h"
#include "harness/postgres_server.h"
#include "plan/explain_plan.h"
#include "plan/planner.h"
#include "plan/query_generator.h"
#include "plan/test_catalog.h"
#include "sql/deparse.h"
#include "sql/shape.h"

namespace pgmosaic::plan {
namespace {

using test::PgConnection;
using test::PgResult;
using test::PostgresServer;

constexpr int kGroups = 3;

const char* kTables =
    "CREATE TABLE users (id int8 PRIMARY KEY, name text, email varchar(40), age int4, score float8, "
    "  balance numeric(10,2), born date, seen timestamptz, active bool) SHARD BY HASH (id);"
    "CREATE TABLE orders (user_id int8 NOT NULL, order_id int8 NOT NULL, total numeric, qty int4, note text, "
    "  at timestamptz, PRIMARY KEY (user_id, order_id)) SHARD BY HASH (user_id);"
    "CREATE TABLE items (user_id int8, order_id int8, sku text, n int2) SHARD BY HASH (user_id);"
    "CREATE TABLE tags (tag text PRIMARY KEY, weight int4) SHARD BY HASH (tag);"
    "CREATE TABLE pairs (a int4, b text, v int4, PRIMARY KEY (a, b)) SHARD BY HASH (a, b);"
    "CREATE TABLE days (d date, ts timestamp, n int4) SHARD BY HASH (d);"
    "CREATE TABLE countries (code text PRIMARY KEY, name text, region_id int4) WITH (table_type = 'reference');"
    "CREATE TABLE regions (id int4 PRIMARY KEY, name text) WITH (table_type = 'reference');"
    "CREATE TABLE notes (id int4 PRIMARY KEY, body text)";

struct TableRows {
  const char* name;
  const char* definition;
  const char* key;  // as one text; nullptr: reference
  const char* rows;
};

// Few values, so that joins meet, and NULLs everywhere.
const TableRows kRows[] = {
    {"users",
     "id int8 PRIMARY KEY, name text, email varchar(40), age int4, score float8, balance numeric(10,2), born date, "
     "seen timestamptz, active bool",
     "id",
     "SELECT g, CASE WHEN g % 7 > 0 THEN chr(97 + g % 5) END, 'e' || g % 4, CASE WHEN g % 5 > 0 THEN g % 6 END, "
     "g / 4.0, (g % 9) * 1.25, date '2020-01-01' + g % 10, timestamptz '2020-01-01 00:00Z' + g % 3 * interval '1 day', "
     "g % 3 = 0 FROM generate_series(1, 30) g"},
    {"orders",
     "user_id int8 NOT NULL, order_id int8 NOT NULL, total numeric, qty int4, note text, at timestamptz, "
     "PRIMARY KEY (user_id, order_id)",
     "user_id",
     "SELECT g % 17, g, (g % 11) * 0.37, CASE WHEN g % 4 > 0 THEN g % 7 END, chr(97 + g % 6), "
     "timestamptz '2020-01-01 00:00Z' + g * interval '7 hours' FROM generate_series(1, 60) g"},
    {"items", "user_id int8, order_id int8, sku text, n int2", "user_id",
     "SELECT CASE WHEN g % 9 > 0 THEN g % 13 END, g % 20, chr(97 + g % 4), g % 5 FROM generate_series(1, 50) g"},
    {"tags", "tag text PRIMARY KEY, weight int4", "tag", "SELECT chr(97 + g), g % 4 FROM generate_series(0, 12) g"},
    {"pairs", "a int4, b text, v int4, PRIMARY KEY (a, b)", "a || ':' || b",
     "SELECT g % 4, chr(97 + g % 5), g FROM generate_series(0, 19) g"},
    {"days", "d date, ts timestamp, n int4", "d",
     "SELECT date '2024-01-01' + g % 5, date '2024-01-01' + g % 6, g FROM generate_series(1, 20) g"},
    {"countries", "code text PRIMARY KEY, name text, region_id int4", nullptr,
     "SELECT chr(97 + g), chr(97 + g % 3), g % 4 FROM generate_series(0, 5) g"},
    {"regions", "id int4 PRIMARY KEY, name text", nullptr, "SELECT g, chr(97 + g) FROM generate_series(0, 4) g"},
};

// The group of a key, as a function of its text; all that matters is that equal keys meet.
std::string group_of(const std::string& key) {
  return "coalesce(abs(hashtext((" + key + ")::text)) % " + std::to_string(kGroups) + ", 0) + 1";
}

struct Rows {
  std::vector<std::string> names;
  std::vector<unsigned> types;
  std::vector<std::string> rows;
};

class PlannerOracle : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new PostgresServer;
    PgConnection connection(server_->conninfo());
    connection.execute("CREATE SCHEMA one");
    for (int g = 1; g <= kGroups; ++g) connection.execute("CREATE SCHEMA g" + std::to_string(g));
    for (const TableRows& table : kRows) {
      std::string name = table.name;
      connection.execute("CREATE TABLE one." + name + " (" + table.definition + ")");
      connection.execute("INSERT INTO one." + name + " " + table.rows);
      for (int g = 1; g <= kGroups; ++g) {
        std::string group = "g" + std::to_string(g) + "." + name;
        connection.execute("CREATE TABLE " + group + " (" + table.definition + ")");
        connection.execute("INSERT INTO " + group + " SELECT * FROM one." + name +
                           (table.key == nullptr ? "" : " WHERE " + group_of(table.key) + " = " + std::to_string(g)));
      }
    }
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  PlannerOracle() : connection_(server_->conninfo()), snapshot_(build_test_catalog(kTables)) {
    connection_.execute("SET client_min_messages = error; SET statement_timeout = '2s'; SET timezone = 'UTC'");
    context_.snapshot = snapshot_.get();
    context_.database = snapshot_->database("test");
    context_.search_path = {"public"};
  }

  void use(const std::string& schema) { connection_.execute("SET search_path TO " + schema); }

  Rows fetch(const std::string& sql) {
    PgResult result = connection_.query(sql);
    Rows rows;
    for (int c = 0; c < PQnfields(result.get()); ++c) {
      rows.names.emplace_back(PQfname(result.get(), c));
      rows.types.push_back(PQftype(result.get(), c));
    }
    for (int r = 0; r < PQntuples(result.get()); ++r) {
      std::string row;
      for (int c = 0; c < PQnfields(result.get()); ++c)
        row += PQgetisnull(result.get(), r, c) ? "NULL|" : std::string(PQgetvalue(result.get(), r, c)) + "|";
      rows.rows.push_back(row);
    }
    return rows;
  }

  // Groups of the plan's target.
  std::set<int> groups(const std::string& sql, const Plan& plan) {
    std::set<int> result;
    if (plan.target.kind == Target::Kind::any) return {2};
    if (plan.target.kind != Target::Kind::keys) {
      for (int g = 1; g <= kGroups; ++g) result.insert(g);
      return result;
    }
    sql::Shape shape;
    sql::scan_shape(sql, shape);
    for (const KeyTuple& key : plan.target.keys) {
      std::string text;
      for (const KeySource& source : key) {
        std::string scratch;
        std::string value = source.kind == KeySource::Kind::literal
                                ? std::string(sql::literal_value(sql, shape.literals[source.index], scratch))
                                : source.text;
        text += (text.empty() ? "" : ":") + std::string(source.negate ? "-" : "") + value;
      }
      result.insert(std::stoi(connection_.value("SELECT " + group_of(sql::quote_literal(text) + "::text"))));
    }
    if (result.empty()) result.insert(2);
    return result;
  }

  // Rows of each group's answer to `sql`, in a temporary table with columns c1, c2, …
  Rows collect(const std::set<int>& groups, const std::string& sql) {
    connection_.execute("DROP TABLE IF EXISTS pgmosaic_partial");
    Rows shape;
    for (int g : groups) {
      use("g" + std::to_string(g));
      if (shape.names.empty()) {
        shape = fetch("SELECT * FROM (" + sql + ") x LIMIT 0");
        std::string columns;
        for (size_t c = 1; c <= shape.names.size(); ++c) columns += (c > 1 ? ", c" : "c") + std::to_string(c);
        connection_.execute("CREATE TEMP TABLE pgmosaic_partial (" + columns + ") AS " + sql);
      } else {
        connection_.execute("INSERT INTO pgmosaic_partial " + sql);
      }
    }
    return shape;
  }

  Rows run(const std::string& sql, const Plan& plan, const std::set<int>& groups) {
    if (groups.size() == 1) {
      use("g" + std::to_string(*groups.begin()));
      return fetch(sql);
    }
    if (plan.combine) {
      collect(groups, plan.combine->partial_sql);
      return fetch(plan.combine->final_prefix + "pgmosaic_partial" + plan.combine->final_suffix);
    }
    Rows shape = collect(groups, plan.gather->sql.empty() ? sql : plan.gather->sql);
    size_t width = shape.names.size() - plan.gather->hidden_columns;
    std::string final_sql = "SELECT ", order;
    for (size_t c = 1; c <= width; ++c)
      final_sql += (c > 1 ? ", c" : "c") + std::to_string(c) + " AS \"" + shape.names[c - 1] + "\"";
    for (const SortKey& key : plan.gather->merge) {
      EXPECT_EQ(key.type, shape.types[key.column]) << sql;
      order += (order.empty() ? " ORDER BY pgmosaic_partial.c" : ", pgmosaic_partial.c") +
               std::to_string(key.column + 1) + (key.descending ? " DESC" : "") +
               (key.nulls_first ? " NULLS FIRST" : " NULLS LAST");
    }
    final_sql += " FROM pgmosaic_partial" + order;
    if (plan.gather->limit.constant) final_sql += " LIMIT " + std::to_string(*plan.gather->limit.constant);
    if (plan.gather->offset.constant) final_sql += " OFFSET " + std::to_string(*plan.gather->offset.constant);
    return fetch(final_sql);
  }

  // False if the statement is refused, or PostgreSQL itself refuses it.
  bool check(const std::string& sql, bool exact_order) {
    Plan plan = plan_statement(sql, context_);
    if (plan.kind != PlanKind::route || plan.target.kind == Target::Kind::home || plan.effects.writes) return false;
    std::set<int> targets = groups(sql, plan);
    if (targets.size() > 1 && plan.multi_group_error) return false;
    several_ += targets.size() > 1 ? 1 : 0;
    Rows expected;
    use("one");
    try {
      expected = fetch(sql);
    } catch (const std::runtime_error&) {
      return false;
    }
    compare(sql, plan, targets, expected, exact_order);
    // A key value that the router cannot hash sends the statement to every group.
    if (plan.target.kind == Target::Kind::keys && !plan.multi_group_error && targets.size() < kGroups)
      compare(sql, plan, {1, 2, 3}, expected, exact_order);
    return true;
  }

  // A plan from the shape cache must serve every statement of its shape. False: it would not be found for `sql`.
  bool check_cached(const Plan& plan, const std::string& sql) {
    if (plan.kind != PlanKind::route || !plan.cacheable || plan.target.kind == Target::Kind::home) return false;
    sql::Shape shape;
    sql::scan_shape(sql, shape);
    for (const Plan::StructuralLiteral& literal : plan.structural_literals) {
      const sql::Literal& own = shape.literals[literal.index];
      if (sql.substr(own.begin, own.end - own.begin) != literal.text) return false;
    }
    std::set<int> targets = groups(sql, plan);
    if (targets.size() > 1 && (plan.multi_group_error || plan.rewritten_literals)) return false;
    use("one");
    Rows expected;
    try {
      expected = fetch(sql);
    } catch (const std::runtime_error&) {
      return false;
    }
    compare(sql, plan, targets, expected, true);
    return true;
  }

  void compare(const std::string& sql, const Plan& plan, const std::set<int>& targets, Rows expected,
               bool exact_order) {
    Rows actual;
    try {
      actual = run(sql, plan, targets);
    } catch (const std::runtime_error& error) {
      ADD_FAILURE() << error.what() << "\n" << sql << "\n" << describe_plan(plan);
      return;
    }
    EXPECT_EQ(expected.names, actual.names) << sql << "\n" << describe_plan(plan);
    EXPECT_EQ(expected.types, actual.types) << sql << "\n" << describe_plan(plan);
    bool moment = sql.find("random()") != std::string::npos || sql.find("now()") != std::string::npos;
    if (sql.find("TABLESAMPLE") != std::string::npos) return;
    bool cut = sql.find("LIMIT") != std::string::npos || sql.find("OFFSET") != std::string::npos ||
               sql.find("FETCH") != std::string::npos || sql.find("DISTINCT ON") != std::string::npos;
    if (moment || (cut && !exact_order)) {
      EXPECT_EQ(expected.rows.size(), actual.rows.size()) << sql << "\n" << describe_plan(plan);
      return;
    }
    if (!exact_order) {
      std::sort(expected.rows.begin(), expected.rows.end());
      std::sort(actual.rows.begin(), actual.rows.end());
    }
    EXPECT_EQ(expected.rows, actual.rows) << sql << "\n" << describe_plan(plan);
  }

  static PostgresServer* server_;
  PgConnection connection_;
  std::shared_ptr<catalog::Snapshot> snapshot_;
  PlanContext context_;
  int several_ = 0;  // queries that ran over more than one group
};

PostgresServer* PlannerOracle::server_ = nullptr;

TEST_F(PlannerOracle, GoldenStatements) {
  int checked = 0;
  for (const char* file : {"route", "joins", "gather", "aggregates"}) {
    std::ifstream in(std::string("test/plan/") + file + ".plan");
    std::string sql;
    bool in_plan = true;
    for (std::string line; std::getline(in, line);) {
      if (line == "----") {
        if (sql.find('$') == std::string::npos && sql.find("CREATE") == std::string::npos)
          checked += check(sql, false) ? 1 : 0;
        sql.clear();
        in_plan = true;
      } else if (line.empty()) {
        in_plan = false;
        sql.clear();
      } else if (!in_plan && line[0] != '#' && !line.starts_with("-- ")) {
        sql += line;
      }
    }
  }
  EXPECT_GT(checked, 180);
}

TEST_F(PlannerOracle, RandomQueries) {
  const char* seed_text = std::getenv("PGMOSAIC_SEED");
  uint32_t seed = seed_text == nullptr ? 1 : static_cast<uint32_t>(std::atoi(seed_text));
  const char* count_text = std::getenv("PGMOSAIC_QUERIES");
  int count = count_text == nullptr ? 3000 : std::atoi(count_text);
  int checked = 0;
  QueryGenerator generator(seed);
  for (int i = 0; i < count && !HasFailure(); ++i) checked += check(generator.statement(), true) ? 1 : 0;
  std::printf("%d of %d random queries ran, %d of them over several groups\n", checked, count, several_);
  EXPECT_GT(several_, count / 8);
  EXPECT_GT(checked, count / 5) << "the planner refuses too much, or the generator has lost its way";
}

// The statement with other numbers and strings in the places of its own, seldom where the plan forbids it.
std::string with_other_literals(const std::string& sql, const Plan& plan, std::mt19937& random) {
  sql::Shape shape;
  sql::scan_shape(sql, shape);
  std::string result;
  size_t at = 0;
  for (uint32_t i = 0; i < shape.literals.size(); ++i) {
    const sql::Literal& literal = shape.literals[i];
    result += sql.substr(at, literal.begin - at);
    at = literal.end;
    std::string own = sql.substr(literal.begin, literal.end - literal.begin);
    bool structural = std::any_of(plan.structural_literals.begin(), plan.structural_literals.end(),
                                  [&](const Plan::StructuralLiteral& fixed) { return fixed.index == i; });
    if (structural && random() % 50 > 0) {
      result += own;
      continue;
    }
    if (random() % 2 == 0 && literal.kind == sql::Literal::Kind::integer) own = std::to_string(random() % 8);
    if (random() % 2 == 0 && literal.kind == sql::Literal::Kind::string && own.size() == 3) own[1] = 'a' + random() % 5;
    result += own;
  }
  return result + sql.substr(at);
}

TEST_F(PlannerOracle, CachedPlansServeTheirShape) {
  const char* seed_text = std::getenv("PGMOSAIC_SEED");
  std::mt19937 random(seed_text == nullptr ? 1 : std::atoi(seed_text));
  const char* count_text = std::getenv("PGMOSAIC_QUERIES");
  int count = count_text == nullptr ? 3000 : std::atoi(count_text);
  int served = 0;
  QueryGenerator generator(random());
  for (int i = 0; i < count && !HasFailure(); ++i) {
    std::string sql = generator.statement();
    Plan plan = plan_statement(sql, context_);
    std::string other = with_other_literals(sql, plan, random);
    if (other == sql || !check_cached(plan, other)) continue;
    ++served;
    if (HasFailure()) std::printf("planned for: %s\n", sql.c_str());
  }
  std::printf("%d of %d random statements were served by another one's plan\n", served, count);
  EXPECT_GT(served, count / 30);
}

}  // namespace
}  // namespace pgmosaic::plan
