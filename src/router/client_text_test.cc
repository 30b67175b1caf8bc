#include "router/client_text.h"

#include <gtest/gtest.h>

namespace pgmosaic::router {
namespace {

TEST(ClientText, ErrorsCountCharactersFromTheBeginningOfTheString) {
  const std::string_view string = "/* \u00e9\u20ac */ SELECT 1; SELECT nocol";
  ClientText text;
  EXPECT_EQ(text.in_string(8), 8);
  text.string = string;
  text.at = string.rfind("SELECT");
  EXPECT_EQ(text.before(), 19);
  EXPECT_EQ(text.in_string(8), 27);
  EXPECT_EQ(text.in_string(0), 0) << "no position";
}

TEST(ClientText, AnotherBeginning) {
  EXPECT_EQ(position_in("UPDATE t SET v = '\u00e9' WHERE x", "EXPLAIN UPDATE t SET v = '\u00e9' WHERE x", 36), 28);
  EXPECT_EQ(position_in("/* \u00e9 */ SELECT x", "SELECT x", 8), 16);
  EXPECT_EQ(position_in("SELECT '\u00e9', x, 1", "SELECT '\u00e9', x, 2", 13), 13);
}

TEST(ClientText, OtherBlanks) {
  EXPECT_EQ(position_in("select  '\u00e9' ,  X  from t", "SELECT '\u00e9', x FROM t LIMIT 1", 13), 16);
  EXPECT_EQ(position_in("SELECT a", "SELECT b, x", 11), 0) << "no such place";
  EXPECT_EQ(position_in("SELECT a", "SELECT a FROM", 14), 0) << "the end";
}

}  // namespace
}  // namespace pgmosaic::router
