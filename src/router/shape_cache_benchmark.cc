// What a statement of a known shape costs before it is sent: scan, plan lookup, hash of its key, group. `allocations`
// is the number of them per statement.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "exec/keys.h"
#include "router/shape_cache.h"

namespace {

std::atomic<uint64_t> allocations{0};

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace pgmosaic;

catalog::Database database_of_one_colocation() {
  catalog::Database database;
  catalog::Colocation& colocation = database.colocations[1];
  colocation.id = 1;
  for (uint32_t i = 0; i < 16; ++i) colocation.shards.push_back({i + 1, 16, i, i % 4 + 1});
  return database;
}

plan::PlanPtr plan_by_key(catalog::Oid type) {
  plan::Plan plan;
  plan.target.kind = plan::Target::Kind::keys;
  plan.target.colocation = 1;
  plan::KeySource source;
  source.type = type;
  plan.target.keys = {{source}};
  return std::make_shared<const plan::Plan>(std::move(plan));
}

void known_shape(benchmark::State& state, const std::string& sql, catalog::Oid type) {
  const catalog::Database database = database_of_one_colocation();
  catalog::Snapshot snapshot;
  router::ShapeCache cache;
  sql::Shape shape;
  for (int other = 0; other < 1000; ++other) {  // a busy application's other statements
    sql::scan_shape("SELECT c" + std::to_string(other) + " FROM t WHERE k = 1", shape);
    cache.insert(shape, 7, router::CachedPlan(plan_by_key(type)));
  }
  sql::scan_shape(sql, shape);
  cache.insert(shape, 7, router::CachedPlan(plan_by_key(type)));
  const uint64_t before = allocations;
  for (auto _ : state) {
    sql::scan_shape(sql, shape);
    const router::CachedPlan* found = cache.find(sql, shape, 7);
    exec::Values values;
    values.sql = sql;
    values.shape = &shape;
    const exec::Resolution where = exec::resolve(found->plan->target, values, snapshot, database);
    benchmark::DoNotOptimize(where.one);
  }
  state.counters["allocations"] =
      benchmark::Counter(static_cast<double>(allocations - before), benchmark::Counter::kAvgIterations);
}

BENCHMARK_CAPTURE(known_shape, int_key, "SELECT abalance FROM accounts WHERE aid = 4711", 23);
BENCHMARK_CAPTURE(known_shape, text_key, "SELECT a, b, c FROM some_table t WHERE t.name = 'Stone Mosaic'", 25);
BENCHMARK_CAPTURE(known_shape, uuid_key,
                  "SELECT * FROM orders WHERE order_id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AND state <> 'closed'",
                  2950);

}  // namespace
