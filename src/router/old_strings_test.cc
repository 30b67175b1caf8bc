#include "router/old_strings.h"

#include <gtest/gtest.h>

namespace pgmosaic::router {
namespace {

TEST(OldStrings, WhatHasABackslashIsAnEscapeString) {
  EXPECT_EQ(with_escape_strings(R"(SELECT 'a\'b', 'c', e'\n', $$\'$$, "\'" -- '\'
, 'd\\' /* '\' */)")
                .text,
            R"(SELECT E'a\'b', 'c', e'\n', $$\'$$, "\'" -- '\'
, E'd\\' /* '\' */)");
  EXPECT_EQ(with_escape_strings(R"(SELECT '\', 'x\'; DROP TABLE t; --')").text,
            R"(SELECT E'\', 'x\'; DROP TABLE t; --')");
  EXPECT_EQ(with_escape_strings("SELECT 'a' -- no\n -- more\n 'b\\n', 'c' 'd'").text,
            "SELECT E'a' -- no\n -- more\n 'b\\n', 'c' 'd'")
      << "one string in parts";
  EXPECT_EQ(with_escape_strings(R"(SELECT N'a\n')").text, R"(SELECT Nchar E'a\n')");
  EXPECT_EQ(with_escape_strings(R"(SELECT 'a\n', 'b\')").text, R"(SELECT E'a\n', 'b\')") << "it does not end";
}

TEST(OldStrings, PlacesOfTheClientsText) {
  const OldStrings strings = with_escape_strings(R"(SELECT 'é\n', 'b\t')");
  EXPECT_EQ(strings.text, R"(SELECT E'é\n', E'b\t')");
  EXPECT_EQ(strings.inserted, (std::vector<int>{8, 16}));
  EXPECT_NE(strings.warnings.find("nonstandard use of escape"), std::string::npos);
}

}  // namespace
}  // namespace pgmosaic::router
