#include <benchmark/benchmark.h>

#include <string>

#include "sql/shape.h"

namespace pgmosaic::sql {
namespace {

void scan(benchmark::State& state, std::string_view sql) {
  Shape shape;
  for (auto _ : state) {
    benchmark::DoNotOptimize(sql);
    scan_shape(sql, shape);
    benchmark::DoNotOptimize(shape.hash);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * sql.size()));
}

void point_select(benchmark::State& state) {
  scan(state, "SELECT name, price FROM items WHERE tenant_id = 4711 AND item_id = 815");
}
BENCHMARK(point_select);

void pgbench_select(benchmark::State& state) {
  scan(state, "SELECT abalance FROM pgbench_accounts WHERE aid = 123456;");
}
BENCHMARK(pgbench_select);

void prepared_select(benchmark::State& state) {
  scan(state, "SELECT name, price FROM items WHERE tenant_id = $1 AND item_id = $2");
}
BENCHMARK(prepared_select);

void string_keys(benchmark::State& state) {
  scan(state, "UPDATE carts SET note = 'two for one', updated = now() WHERE user_name = 'o''hara' AND id = 7");
}
BENCHMARK(string_keys);

void thousand_row_insert(benchmark::State& state) {
  std::string sql = "INSERT INTO measurements (device, at, value) VALUES ";
  for (int i = 0; i < 1000; ++i) {
    if (i > 0) sql += ", ";
    sql += "(" + std::to_string(i) + ", '2024-01-01 10:00:00', " + std::to_string(i) + ".25)";
  }
  scan(state, sql);
}
BENCHMARK(thousand_row_insert);

void literals(benchmark::State& state) {
  const std::string_view sql = "SELECT 'plain', 'o''hara', E'line\\n'";
  Shape shape;
  scan_shape(sql, shape);
  std::string scratch;
  for (auto _ : state)
    for (const Literal& literal : shape.literals) benchmark::DoNotOptimize(literal_value(sql, literal, scratch));
}
BENCHMARK(literals);

}  // namespace
}  // namespace pgmosaic::sql
