#include "pool/settings.h"

#include <gtest/gtest.h>

namespace pgmosaic::pool {
namespace {

SettingsMap map_of(std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  SettingsMap map;
  for (const auto& [name, value] : values) map.emplace(name, set_statement(name, value));
  return map;
}

TEST(Settings, EqualSetsAreOneObject) {
  SettingsRegistry registry;
  EXPECT_EQ(registry.intern({}), registry.empty());
  const Settings first = registry.intern(map_of({{"a", "1"}, {"b", "2"}}));
  EXPECT_EQ(first, registry.intern(map_of({{"b", "2"}, {"a", "1"}})));
  EXPECT_NE(first, registry.intern(map_of({{"a", "1"}})));
  EXPECT_NE(first, registry.intern(map_of({{"a", "2"}, {"b", "1"}})));
  EXPECT_EQ(*first, map_of({{"a", "1"}, {"b", "2"}}));
}

TEST(Settings, UnusedSetsAreForgottenUsedOnesAreKept) {
  SettingsRegistry registry;
  const Settings kept = registry.intern(map_of({{"kept", "1"}}));
  std::weak_ptr<const SettingsMap> dropped = registry.intern(map_of({{"dropped", "1"}}));
  EXPECT_TRUE(dropped.expired());
  for (int i = 0; i < 5000; ++i) registry.intern(map_of({{"counter", std::to_string(i)}}));
  EXPECT_EQ(registry.intern(map_of({{"kept", "1"}})), kept);
}

TEST(Settings, TransitionsSetWhatDiffersAndResetWhatIsGone) {
  const SettingsMap none, a = map_of({{"a", "1"}}), ab = map_of({{"a", "1"}, {"b", "2"}}), a2 = map_of({{"a", "2"}});
  EXPECT_EQ(transition_sql(none, none), "");
  EXPECT_EQ(transition_sql(ab, ab), "");
  EXPECT_EQ(transition_sql(none, ab), "SET \"a\" TO '1';SET \"b\" TO '2';");
  EXPECT_EQ(transition_sql(ab, a), "RESET \"b\";");
  EXPECT_EQ(transition_sql(a, ab), "SET \"b\" TO '2';");
  EXPECT_EQ(transition_sql(a, a2), "SET \"a\" TO '2';");
  EXPECT_EQ(transition_sql(ab, none), "RESET \"a\";RESET \"b\";");
}

TEST(Settings, TheRoleIsLeftFirstAndEnteredLast) {
  const SettingsMap alice = map_of({{"role", "alice"}, {"work_mem", "1MB"}}),
                    bob = map_of({{"role", "bob"}, {"work_mem", "2MB"}});
  EXPECT_EQ(transition_sql(alice, bob), "RESET role;SET \"work_mem\" TO '2MB';SET \"role\" TO 'bob';");
  EXPECT_EQ(transition_sql({}, alice), "SET \"work_mem\" TO '1MB';SET \"role\" TO 'alice';");
  EXPECT_EQ(transition_sql(alice, {}), "RESET role;RESET \"work_mem\";");
  // the same role stays
  const SettingsMap alice_too = map_of({{"role", "alice"}});
  EXPECT_EQ(transition_sql(alice, alice_too), "RESET \"work_mem\";");
}

TEST(Settings, TheSessionUserGoesBeforeTheRole) {
  const SettingsMap both = map_of({{"role", "r"}, {"session_authorization", "s"}});
  const SettingsMap other = map_of({{"role", "r"}, {"session_authorization", "t"}});
  EXPECT_EQ(transition_sql({}, both), "SET \"session_authorization\" TO 's';SET \"role\" TO 'r';");
  EXPECT_EQ(transition_sql(both, {}), "RESET role;RESET session_authorization;");
  EXPECT_EQ(transition_sql(both, other),
            "RESET role;RESET session_authorization;SET \"session_authorization\" TO 't';SET \"role\" TO 'r';");
}

TEST(Settings, NamesOfObjectsMayBeRefusedAnywhereElse) {
  const SettingsMap plain = map_of({{"application_name", "a"}, {"search_path", "s"}}),
                    method = map_of({{"application_name", "a"}, {"default_table_access_method", "heap2"}}),
                    role = map_of({{"role", "r"}});
  EXPECT_FALSE(may_be_refused({}, plain));
  EXPECT_TRUE(may_be_refused(plain, method));
  EXPECT_FALSE(may_be_refused(method, method));
  EXPECT_FALSE(may_be_refused(method, plain));
  EXPECT_TRUE(may_be_refused({}, role));
}

TEST(Settings, Quoting) {
  EXPECT_EQ(set_statement("datestyle", "ISO, DMY"), "SET \"datestyle\" TO 'ISO, DMY'");
  EXPECT_EQ(set_statement("search_path", "a, b"), "SELECT pg_catalog.set_config('search_path', 'a, b', false)");
  EXPECT_EQ(set_statement("temp_tablespaces", "", true), "SELECT pg_catalog.set_config('temp_tablespaces', '', true)");
  EXPECT_EQ(set_statement("work_mem", "1MB", true), "SET LOCAL \"work_mem\" TO '1MB'");
  EXPECT_EQ(set_statement("application_name", "it's"), "SET \"application_name\" TO 'it''s'");
  EXPECT_EQ(set_statement("application_name", "a\\b'"), "SET \"application_name\" TO  E'a\\\\b'''");
  EXPECT_EQ(set_statement("my.custom", ""), "SET \"my\".\"custom\" TO ''");
  EXPECT_EQ(setting_name("My.\"x\".z"), "\"My\".\"\"\"x\"\"\".\"z\"");
  EXPECT_EQ(quote_identifier("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(quote_literal(""), "''");
}

}  // namespace
}  // namespace pgmosaic::pool
