#include <benchmark/benchmark.h>

#include "catalog/hashing.h"

namespace pgmosaic::catalog {
namespace {

void hash_literal(benchmark::State& state, Oid type, std::string_view value) {
  const TextContext context{.standard_timezone_utc = true};
  for (auto _ : state) {
    benchmark::DoNotOptimize(value);
    benchmark::DoNotOptimize(hash_key_value(type, ValueFormat::text, value, context));
  }
}

void int8_text(benchmark::State& state) { hash_literal(state, 20, "9001234567"); }
BENCHMARK(int8_text);
void text_20_bytes(benchmark::State& state) { hash_literal(state, 25, "customer-000000004711"); }
BENCHMARK(text_20_bytes);
void uuid_text(benchmark::State& state) { hash_literal(state, 2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"); }
BENCHMARK(uuid_text);
void numeric_text(benchmark::State& state) { hash_literal(state, 1700, "12345678.90"); }
BENCHMARK(numeric_text);
void timestamptz_text(benchmark::State& state) { hash_literal(state, 1184, "2024-05-06 07:08:09.123456+02"); }
BENCHMARK(timestamptz_text);

void int8_binary(benchmark::State& state) {
  const std::string_view value("\0\0\0\0\0\x12\x34\x56", 8);
  for (auto _ : state) benchmark::DoNotOptimize(hash_key_value(20, ValueFormat::binary, value, {}));
}
BENCHMARK(int8_binary);

}  // namespace
}  // namespace pgmosaic::catalog
