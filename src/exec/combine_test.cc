#include "exec/combine.h"

#include <gtest/gtest.h>

namespace pgmosaic::exec {
namespace {

using Arrays = std::vector<std::optional<std::string>>;

TEST(PartialRows, ColumnsBecomeArrays) {
  PartialRows rows(2);
  rows.add({"1", "one"});
  rows.add({"2", std::nullopt});
  rows.add({std::nullopt, ""});
  EXPECT_GT(rows.bytes(), 5u);
  EXPECT_EQ(rows.take(), (Arrays{"{\"1\",\"2\",NULL}", "{\"one\",NULL,\"\"}"}));
}

TEST(PartialRows, NoRows) {
  PartialRows rows(3);
  EXPECT_EQ(rows.bytes(), 0u);
  EXPECT_EQ(rows.take(), (Arrays{"{}", "{}", "{}"}));
}

TEST(PartialRows, WhatArraysMustEscape) {
  PartialRows rows(1);
  rows.add({"a\"b\\c{d},e f"});
  rows.add({"NULL"});
  rows.add({"\n"});
  EXPECT_EQ(rows.take(), Arrays{"{\"a\\\"b\\\\c{d},e f\",\"NULL\",\"\n\"}"});
}

TEST(PartialRows, TooFewAndTooManyValues) {
  PartialRows rows(2);
  rows.add({"1"});
  rows.add({"1", "2", "hidden"});
  EXPECT_EQ(rows.take(), (Arrays{"{\"1\",\"1\"}", "{NULL,\"2\"}"}));
}

TEST(PartialRelation, OneParameterPerColumn) {
  EXPECT_EQ(partial_relation({"bigint", "text"}, 3),
            "(SELECT u1::bigint AS c1, u2::text AS c2 FROM unnest($3::pg_catalog.text[], $4::pg_catalog.text[])"
            " AS u(u1, u2)) AS pgmosaic_partial");
  EXPECT_EQ(partial_relation({"numeric(10,2)"}, 1),
            "(SELECT u1::numeric(10,2) AS c1 FROM unnest($1::pg_catalog.text[]) AS u(u1)) AS pgmosaic_partial");
}

}  // namespace
}  // namespace pgmosaic::exec
