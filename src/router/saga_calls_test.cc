#include "router/saga_calls.h"

#include <gtest/gtest.h>

namespace pgmosaic::router {
namespace {

std::string sent(std::string_view sql) {
  const auto call = parse_saga_call(sql);
  return call ? call->sql + " | " + call->arguments : "";
}

TEST(SagaCall, IsAskedAsAFunctionOfTheGroups) {
  EXPECT_EQ(sent("SELECT pgmosaic.saga_begin('x')"),
            "SELECT pg_catalog.pgmosaic_saga_begin('x') AS \"saga_begin\" | 'x'");
  EXPECT_EQ(sent("select PgMosaic . \"saga_begin\"($1, timeout => '1 h') as Id ;"),
            "SELECT pg_catalog.pgmosaic_saga_begin($1, timeout => '1 h') AS \"id\" | $1,  '1 h'");
  EXPECT_EQ(sent("SELECT pgmosaic.saga_begin()"), "SELECT pg_catalog.pgmosaic_saga_begin() AS \"saga_begin\" | ");
  EXPECT_EQ(sent("SELECT pgmosaic.saga_finish(f(1, (2)))"),
            "SELECT pg_catalog.pgmosaic_saga_finish(f(1, (2))) AS \"saga_finish\" | f(1, (2))");
}

TEST(SagaCall, CastsParametersOfCompensations) {
  EXPECT_EQ(sent("SELECT pgmosaic.saga_step('i','s','c',1,ARRAY[2,3])"),
            "SELECT pg_catalog.pgmosaic_saga_step('i','s','c',(1)::pg_catalog.text,(ARRAY[2,3])::pg_catalog.text) AS "
            "\"saga_step\" | 'i', 's', 'c', 1, ARRAY[2,3]");
  EXPECT_EQ(sent("SELECT pgmosaic.saga_step('i','s','c',VARIADIC $1)"),
            "SELECT pg_catalog.pgmosaic_saga_step('i','s','c',VARIADIC $1) AS \"saga_step\" | 'i', 's', 'c',  $1");
}

TEST(SagaCall, StandsAlone) {
  for (const char* sql :
       {"SELECT pgmosaic.saga_begin('x'), 1", "SELECT saga_begin('x')", "SELECT other.saga_begin('x')",
        "SELECT pgmosaic.saga_end('x')", "SELECT pgmosaic.saga_begin('x') FROM t", "SELECT pgmosaic.saga_begin('x'",
        "SELECT pgmosaic.saga_begin('x',)", "SELECT pgmosaic.saga_begin(,'x')", "VALUES (pgmosaic.saga_begin('x'))"})
    EXPECT_EQ(sent(sql), "") << sql;
}

}  // namespace
}  // namespace pgmosaic::router
