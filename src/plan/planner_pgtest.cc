// Plans against the oracle: one PostgreSQL with a schema that holds all rows and three that play the groups. Whatever
// the planner says can run over several groups is run there and put together as the executor would; rows, column names
// and types must be those of the one schema. Statements come from the golden files and from a generator.
#include "plan/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <set>

#include "harness/pg_connection.h"
#include "harness/postgres_server.h"
#include "plan/explain_plan.h"
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
    {"tags", "tag text PRIMARY KEY, weight int4", "tag",
     "SELECT chr(97 + g), g % 4 FROM generate_series(0, 12) g"},
    {"pairs", "a int4, b text, v int4, PRIMARY KEY (a, b)", "a || ':' || b",
     "SELECT g % 4, chr(97 + g % 5), g FROM generate_series(0, 19) g"},
    {"days", "d date, ts timestamp, n int4", "d",
     "SELECT date '2024-01-01' + g % 5, date '2024-01-01' + g % 6, g FROM generate_series(1, 20) g"},
    {"countries", "code text PRIMARY KEY, name text, region_id int4", nullptr,
     "SELECT chr(97 + g), chr(97 + g % 3), g % 4 FROM generate_series(0, 5) g"},
    {"regions", "id int4 PRIMARY KEY, name text", nullptr,
     "SELECT g, chr(97 + g) FROM generate_series(0, 4) g"},
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
      order += (order.empty() ? " ORDER BY pgmosaic_partial.c" : ", pgmosaic_partial.c") + std::to_string(key.column + 1) +
               (key.descending ? " DESC" : "") + (key.nulls_first ? " NULLS FIRST" : " NULLS LAST");
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

  void compare(const std::string& sql, const Plan& plan, const std::set<int>& targets, Rows expected, bool exact_order) {
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

// Random queries over the tables above: joins of all kinds, derived tables, sub-queries, aggregates, set operations.
class Generator {
 public:
  explicit Generator(uint32_t seed) : random_(seed) {}

  std::string statement() {
    aliases_.clear();
    int shape = below(12);
    if (shape == 0) return set_operation();
    std::string from = from_clause(1 + below(3), 0);
    std::vector<Alias> here = aliases_;
    std::string where = below(3) > 0 ? " WHERE " + condition(here, 2) : "";
    if (shape <= 4) return aggregate(here, from, where);
    std::string columns;
    int width = 1 + below(3);
    for (int i = 0; i < width; ++i) columns += (i > 0 ? ", " : "") + expression(here) + " AS x" + std::to_string(i);
    std::string order;
    for (int i = 1; i <= width; ++i) order += (i > 1 ? ", " : " ORDER BY ") + std::to_string(i) + direction();
    std::string distinct = below(5) == 0 ? "DISTINCT " : "";
    std::string window;
    if (below(8) == 0) {
      columns += ", count(*) OVER (PARTITION BY " + column(here) + ")";
      order += ", " + std::to_string(width + 1);
    }
    return "SELECT " + distinct + columns + " FROM " + from + where + order + limit();
  }

 private:
  struct Alias {
    std::string name;
    std::vector<std::string> ints, texts;  // columns
    std::string key;                       // "" for reference tables
  };

  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }
  template <class T>
  const T& pick(const std::vector<T>& items) { return items[below(static_cast<int>(items.size()))]; }
  std::string direction() {
    static const std::vector<std::string> kWays{"", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"};
    return pick(kWays);
  }
  std::string limit() {
    std::string text;
    if (below(3) == 0) text += " LIMIT " + std::to_string(below(8));
    if (below(6) == 0) text += " OFFSET " + std::to_string(below(4));
    return text;
  }

  Alias table(std::string& sql) {
    static const std::vector<Alias> kTables{
        {"users", {"id", "age"}, {"name"}, "id"},         {"orders", {"user_id", "order_id", "qty"}, {"note"}, "user_id"},
        {"items", {"user_id", "order_id", "n"}, {"sku"}, "user_id"}, {"users", {"id", "age"}, {"name"}, "id"},
        {"orders", {"user_id", "order_id", "qty"}, {"note"}, "user_id"},
        {"countries", {"region_id"}, {"code", "name"}, ""}, {"regions", {"id"}, {"name"}, ""},
        {"tags", {"weight"}, {"tag"}, "tag"}};
    Alias alias = pick(kTables);
    sql = alias.name;
    return alias;
  }

  std::string from_item(int depth) {
    std::string sql;
    Alias alias = table(sql);
    std::string name = "t" + std::to_string(++counter_);
    if (depth < 2 && below(4) == 0) {
      std::string where = below(2) == 0 ? " WHERE " + alias.ints[0] + " > " + std::to_string(below(6)) : "";
      std::string k = alias.key.empty() || alias.key == "tag" ? alias.ints[0] : alias.key;
      std::string other = pick(alias.ints), text = pick(alias.texts);
      switch (below(6)) {
        case 0: sql = "(SELECT " + k + " AS k, count(*) AS c, max(" + text + ") AS s FROM " + sql + where + " GROUP BY " + k + ")"; break;
        case 1: sql = "(SELECT DISTINCT " + k + " AS k, " + other + " AS c, " + text + " AS s FROM " + sql + where + ")"; break;
        case 2: sql = "(SELECT " + k + " AS k, " + other + " AS c, " + text + " AS s FROM " + sql + where + ")"; break;
        case 3:
          sql = "(SELECT " + other + " AS k, count(*) AS c, min(" + text + ") AS s FROM " + sql + where + " GROUP BY " +
                other + ")";
          break;
        case 4: sql = "(SELECT id AS k, age AS c, name AS s FROM users UNION ALL SELECT user_id, qty, note FROM orders)"; break;
        default: sql = "(SELECT id AS k, age AS c, name AS s FROM users EXCEPT SELECT user_id, qty, note FROM orders)"; break;
      }
      alias = Alias{"", {"k", "c"}, {"s"}, "k"};
    }
    alias.name = name;
    aliases_.push_back(alias);
    return sql + " " + name;
  }

  std::string from_clause(int count, int depth) {
    std::string sql = from_item(depth);
    for (int i = 1; i < count; ++i) {
      std::vector<Alias> left = aliases_;
      std::string item = from_item(depth);
      if (below(5) == 0) {
        sql += ", " + item;
        continue;
      }
      static const std::vector<std::string> kJoins{" JOIN ", " JOIN ", " LEFT JOIN ", " LEFT JOIN ", " RIGHT JOIN ", " FULL JOIN "};
      sql += pick(kJoins) + item + " ON " + join_condition(left, aliases_.back());
    }
    return sql;
  }

  std::string join_condition(const std::vector<Alias>& left, const Alias& right) {
    const Alias& other = pick(left);
    std::string sql;
    if (below(4) > 0 && !right.key.empty() && !other.key.empty() && (right.key == "tag") == (other.key == "tag")) {
      sql = other.name + "." + other.key + " = " + right.name + "." + right.key;
    } else if (below(2) == 0) {
      sql = other.name + "." + pick(other.ints) + " = " + right.name + "." + pick(right.ints);
    } else {
      sql = other.name + "." + pick(other.texts) + " = " + right.name + "." + pick(right.texts);
    }
    if (below(4) == 0) sql += " AND " + comparison(below(2) == 0 ? other : right);
    if (below(8) == 0) sql += " AND " + condition({other, right}, 1);
    return sql;
  }

  std::string comparison(const Alias& alias) {
    bool use_key = !alias.key.empty() && alias.key != "tag" && below(2) == 0;
    std::string c = alias.name + "." + (use_key ? alias.key : pick(alias.ints));
    std::string n = std::to_string(below(8)), m = std::to_string(below(8));
    switch (below(6)) {
      case 0:
      case 1: return c + " = " + n;
      case 2: return c + " IN (" + n + ", " + m + ")";
      case 3: return c + " > " + n;
      case 4: return c + " IS NULL";
      default: return alias.name + "." + pick(alias.texts) + " = '" + std::string(1, static_cast<char>('a' + below(5))) + "'";
    }
  }

  std::string condition(const std::vector<Alias>& scope, int depth) {
    const Alias& a = pick(scope);
    switch (below(depth > 0 ? 10 : 4)) {
      case 0:
      case 1:
      case 2: return comparison(a);
      case 3: {
        const Alias& b = pick(scope);
        return !a.key.empty() && !b.key.empty() && (a.key == "tag") == (b.key == "tag")
                   ? a.name + "." + a.key + " = " + b.name + "." + b.key
                   : comparison(b);
      }
      case 4: return "(" + condition(scope, depth - 1) + " AND " + condition(scope, depth - 1) + ")";
      case 5: return "(" + condition(scope, depth - 1) + " OR " + condition(scope, depth - 1) + ")";
      case 6: return "NOT (" + condition(scope, depth - 1) + ")";
      case 7: {
        std::string sql;
        Alias inner_alias = table(sql);
        inner_alias.name = "s" + std::to_string(++counter_);
        bool tie = !a.key.empty() && !inner_alias.key.empty() && (a.key == "tag") == (inner_alias.key == "tag");
        std::string where = tie && below(4) > 0 ? inner_alias.name + "." + inner_alias.key + " = " + a.name + "." + a.key
                                                : comparison(inner_alias);
        return std::string(below(2) == 0 ? "" : "NOT ") + "EXISTS (SELECT 1 FROM " + sql + " " + inner_alias.name +
               " WHERE " + where + ")";
      }
      case 8: {
        std::string sql;
        Alias inner_alias = table(sql);
        std::string outer = a.key.empty() || a.key == "tag" ? pick(a.ints) : a.key;
        std::string target = inner_alias.key.empty() || inner_alias.key == "tag" ? pick(inner_alias.ints) : inner_alias.key;
        return a.name + "." + outer + (below(3) == 0 ? " NOT" : "") + " IN (SELECT " + target + " FROM " + sql +
               (below(3) == 0 ? " GROUP BY " + target : "") + (below(6) == 0 ? " LIMIT 3" : "") + ")";
      }
      default: {
        std::string sql;
        Alias inner_alias = table(sql);
        inner_alias.name = "s" + std::to_string(++counter_);
        bool tie = !a.key.empty() && !inner_alias.key.empty() && (a.key == "tag") == (inner_alias.key == "tag");
        return "(SELECT count(*) FROM " + sql + " " + inner_alias.name +
               (tie ? " WHERE " + inner_alias.name + "." + inner_alias.key + " = " + a.name + "." + a.key : "") + ") > " +
               std::to_string(below(4));
      }
    }
  }

  std::string column(const std::vector<Alias>& scope) {
    const Alias& a = pick(scope);
    if (!a.key.empty() && below(3) == 0) return a.name + "." + a.key;
    return a.name + "." + (below(2) == 0 ? pick(a.ints) : pick(a.texts));
  }
  std::string integer(const std::vector<Alias>& scope) {
    const Alias& a = pick(scope);
    return a.name + "." + pick(a.ints);
  }
  std::string expression(const std::vector<Alias>& scope) {
    switch (below(6)) {
      case 0: return integer(scope) + " + 1";
      case 1: return "coalesce(" + integer(scope) + ", 0)";
      default: return column(scope);
    }
  }

  std::string aggregate(const std::vector<Alias>& scope, const std::string& from, const std::string& where) {
    static const std::vector<std::string> kNames{"sum", "avg", "min", "max", "count", "count"};
    std::string columns, group;
    int groups = below(3);
    for (int i = 0; i < groups; ++i) {
      columns += expression(scope) + " AS g" + std::to_string(i) + ", ";
      group += (i > 0 ? ", " : " GROUP BY ") + std::to_string(i + 1);
    }
    int aggregates = 1 + below(2);
    bool distinct = below(5) == 0;
    std::string argument = integer(scope);
    for (int i = 0; i < aggregates; ++i) {
      if (i > 0) columns += ", ";
      if (!distinct) argument = below(5) == 0 ? integer(scope) + " * 2" : integer(scope);
      bool star = below(6) == 0 && !distinct;
      std::string call = star ? "count(*)" : pick(kNames) + "(" + (distinct ? "DISTINCT " : "") + argument + ")";
      if (below(6) == 0 && !distinct) call += " FILTER (WHERE " + comparison(pick(scope)) + ")";
      columns += call + (below(6) == 0 ? " + 1" : "");
    }
    std::string order;
    for (int i = 1; i <= groups + aggregates; ++i) order += (i > 1 ? ", " : " ORDER BY ") + std::to_string(i) + direction();
    std::string having = below(4) == 0 ? " HAVING count(*) > " + std::to_string(below(4)) : "";
    return "SELECT " + columns + " FROM " + from + where + group + having + order + limit();
  }

  std::string set_operation() {
    static const std::vector<std::string> kOps{" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT "};
    auto arm = [&] {
      std::string sql;
      Alias alias = table(sql);
      std::string k = alias.key.empty() || alias.key == "tag" ? pick(alias.ints) : below(3) > 0 ? alias.key : pick(alias.ints);
      alias.name = sql;
      return "SELECT " + k + "::int8 AS x, " + pick(alias.texts) + " AS y FROM " + sql +
             (below(2) == 0 ? " WHERE " + comparison(alias) : "");
    };
    auto plain = [&] {
      std::string sql;
      Alias alias = table(sql);
      while (alias.key.empty() || alias.key == "tag") alias = table(sql);
      alias.name = sql;
      return "SELECT " + alias.key + " AS x, " + pick(alias.texts) + " AS y FROM " + sql +
             (below(2) == 0 ? " WHERE " + comparison(alias) : "");
    };
    std::string sql = below(2) == 0 ? arm() : plain();
    int more = 1 + below(2);
    for (int i = 0; i < more; ++i) sql += pick(kOps) + (below(2) == 0 ? arm() : plain());
    return sql + " ORDER BY 1, 2" + limit();
  }

  std::mt19937 random_;
  std::vector<Alias> aliases_;
  int counter_ = 0;
};

TEST_F(PlannerOracle, RandomQueries) {
  const char* seed_text = std::getenv("PGMOSAIC_SEED");
  uint32_t seed = seed_text == nullptr ? 1 : static_cast<uint32_t>(std::atoi(seed_text));
  const char* count_text = std::getenv("PGMOSAIC_QUERIES");
  int count = count_text == nullptr ? 3000 : std::atoi(count_text);
  int checked = 0;
  Generator generator(seed);
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
  Generator generator(random());
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
