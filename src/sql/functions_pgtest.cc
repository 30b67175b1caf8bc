// The generated table against pg_proc of a server.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "harness/pg_connection.h"
#include "harness/postgres_server.h"
#include "sql/functions.h"

namespace pgmosaic::sql {
namespace {

constexpr const char* kCallable = R"(
  SELECT proname::text,
         max(CASE provolatile WHEN 'v' THEN 2 WHEN 's' THEN 1 ELSE 0 END),
         bool_or(prokind = 'a'), bool_or(prokind = 'a' AND aggkind <> 'n'), bool_or(prokind = 'w'), bool_or(proretset)
  FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
  WHERE pronamespace = 'pg_catalog'::regnamespace
    AND NOT proargtypes::oid[] && ARRAY['internal'::regtype::oid]
    AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
  GROUP BY proname)";

TEST(FunctionsAgainstPostgres, table_is_pg_proc) {
  test::PostgresServer server;
  test::PgConnection connection(server.conninfo());
  const test::PgResult rows = connection.query(kCallable);
  ASSERT_GT(PQntuples(rows.get()), 2000);
  const bool generated_from_this = connection.value("SHOW server_version_num").starts_with("15");
  for (int i = 0; i < PQntuples(rows.get()); ++i) {
    const auto text = [&](int column) { return std::string(PQgetvalue(rows.get(), i, column)); };
    const FunctionInfo* info = find_builtin(text(0));
    if (info == nullptr) {
      EXPECT_FALSE(generated_from_this) << text(0) << " is missing: run tools/gen_functions.py";
      continue;
    }
    EXPECT_EQ(static_cast<int>(info->volatility), std::stoi(text(1))) << text(0);
    EXPECT_EQ(info->is(kAggregate), text(2) == "t") << text(0);
    EXPECT_EQ(info->is(kOrderedSet), text(3) == "t") << text(0);
    EXPECT_EQ(info->is(kWindow), text(4) == "t") << text(0);
    EXPECT_EQ(info->is(kSetReturning), text(5) == "t") << text(0);
  }
}

// Stable functions that are sent to any group must not read catalogs that hold OIDs or names of user objects; the
// volatile ones among them must be listed by hand. A new one in a later PostgreSQL shows up here.
TEST(FunctionsAgainstPostgres, volatile_functions_that_run_anywhere) {
  test::PostgresServer server;
  test::PgConnection connection(server.conninfo());
  const std::set<std::string> expected = {"amvalidate",
                                          "clock_timestamp",
                                          "current_query",
                                          "currtid2",
                                          "cursor_to_xml",
                                          "cursor_to_xmlschema",
                                          "gen_random_uuid",
                                          "pg_jit_available",
                                          "pg_sleep",
                                          "pg_sleep_for",
                                          "pg_sleep_until",
                                          "plpgsql_call_handler",
                                          "plpgsql_validator",
                                          "query_to_xml",
                                          "query_to_xml_and_xmlschema",
                                          "query_to_xmlschema",
                                          "random",
                                          "set_config",
                                          "setseed",
                                          "timeofday",
                                          "ts_rewrite",
                                          "ts_stat"};
  std::set<std::string> actual;
  const test::PgResult rows = connection.query(kCallable);
  for (int i = 0; i < PQntuples(rows.get()); ++i) {
    const FunctionInfo* info = find_builtin(PQgetvalue(rows.get(), i, 0));
    if (info != nullptr && info->volatility == Volatility::volatile_ && !info->is(kHomeOnly))
      actual.insert(std::string(info->name));
  }
  EXPECT_EQ(actual, expected);
}

}  // namespace
}  // namespace pgmosaic::sql
