#include "sql/functions.h"

#include <gtest/gtest.h>

namespace pgmosaic::sql {
namespace {

const FunctionInfo& builtin(std::string_view name) {
  const FunctionInfo* info = find_builtin(name);
  if (info != nullptr) return *info;
  ADD_FAILURE() << name << " is unknown";
  static const FunctionInfo none;
  return none;
}

TEST(Functions, names) {
  EXPECT_EQ(builtin("lower").name, "lower");
  for (const char* name : {"", "a", "lowe", "lowerx", "LOWER", "zzz", "my_function", "internal_in_no_table"})
    EXPECT_EQ(find_builtin(name), nullptr) << name;
}

TEST(Functions, kinds) {
  for (const char* name :
       {"count", "sum", "avg", "min", "array_agg", "string_agg", "bool_or", "stddev_pop", "jsonb_agg"}) {
    EXPECT_TRUE(builtin(name).is(kAggregate)) << name;
    EXPECT_FALSE(builtin(name).is(kOrderedSet) || builtin(name).is(kWindow) || builtin(name).is(kSetReturning)) << name;
  }
  for (const char* name : {"percentile_cont", "mode"}) EXPECT_TRUE(builtin(name).is(kOrderedSet)) << name;
  EXPECT_TRUE(builtin("rank").is(kOrderedSet) && builtin("rank").is(kWindow));
  EXPECT_TRUE(builtin("row_number").is(kWindow) && !builtin("row_number").is(kAggregate));
  for (const char* name : {"generate_series", "unnest", "jsonb_each", "regexp_matches"})
    EXPECT_TRUE(builtin(name).is(kSetReturning)) << name;
}

TEST(Functions, volatility) {
  EXPECT_EQ(builtin("lower").volatility, Volatility::immutable);
  EXPECT_EQ(builtin("to_char").volatility, Volatility::stable);
  EXPECT_EQ(builtin("now").volatility, Volatility::stable);
  EXPECT_EQ(builtin("random").volatility, Volatility::volatile_);
}

TEST(Functions, what_stays_in_the_session) {
  for (const char* name : {"lower", "now", "random", "pg_sleep", "pg_advisory_xact_lock", "txid_current", "lo_open",
                           "pg_notify", "pg_ls_dir"})
    EXPECT_TRUE(builtin(name).is(kHarmless)) << name;
  for (const char* name :
       {"set_config", "nextval", "setval", "setseed", "pg_advisory_lock", "pg_try_advisory_lock_shared",
        "pg_advisory_unlock_all", "pg_backup_start", "pg_replication_origin_session_setup", "query_to_xml"})
    EXPECT_FALSE(builtin(name).is(kHarmless)) << name;
}

TEST(Functions, where_they_run) {
  for (const char* name : {"nextval", "pg_advisory_lock", "pg_advisory_xact_lock", "pg_notify", "to_regclass",
                           "regclass", "pg_get_viewdef", "has_table_privilege", "pg_table_is_visible", "format_type",
                           "obj_description", "pg_total_relation_size", "pg_stat_get_activity", "pg_lock_status",
                           "lo_get", "pg_is_in_recovery", "pg_get_userbyid"})
    EXPECT_TRUE(builtin(name).is(kHomeOnly)) << name;
  for (const char* name :
       {"lower", "now", "random", "pg_typeof", "pg_column_size", "pg_size_pretty", "pg_sleep", "to_tsvector",
        "current_setting", "set_config", "current_schema", "version", "count", "pg_lsn"})
    EXPECT_FALSE(find_builtin(name) != nullptr && find_builtin(name)->is(kHomeOnly)) << name;
}

TEST(Functions, one_answer_for_all_groups) {
  for (const char* name :
       {"now", "current_timestamp", "localtime", "current_date", "clock_timestamp", "random", "gen_random_uuid",
        "txid_current", "pg_current_snapshot", "pg_backend_pid", "inet_server_addr", "version", "timeofday"})
    EXPECT_TRUE(differs_per_group(builtin(name), 0)) << name;
  for (const char* name : {"lower", "user", "current_user", "current_database", "to_char", "pg_sleep"})
    EXPECT_FALSE(differs_per_group(builtin(name), 1)) << name;
  EXPECT_TRUE(differs_per_group(builtin("age"), 1));
  EXPECT_FALSE(differs_per_group(builtin("age"), 2));
}

TEST(Functions, marks) {
  EXPECT_TRUE(builtin("pg_advisory_unlock").is(kSessionAdvisoryLock));
  EXPECT_FALSE(builtin("pg_advisory_xact_lock").is(kSessionAdvisoryLock));
  EXPECT_TRUE(builtin("set_config").is(kSetConfig));
  EXPECT_TRUE(builtin("currval").is(kSequence));
  EXPECT_TRUE(builtin("pg_notify").is(kNotPreparable));
  EXPECT_TRUE(builtin("pg_current_xact_id").is(kTransactionId));
  EXPECT_TRUE(builtin("loread").is(kLargeObject));
  EXPECT_TRUE(builtin("pg_sleep_for").is(kSleep));
  EXPECT_TRUE(builtin("ts_stat").is(kRunsSql));
}

}  // namespace
}  // namespace pgmosaic::sql
