// What PostgreSQL calls "cached plan must not change result type": a prepared statement whose columns are others after
// a schema change. PostgreSQL compares descriptors; the router compares what they come from in the catalog.
#include <algorithm>
#include <set>

#include "plan/planning.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 0xFF51AFD7ED558CCDull; }
uint64_t mix(uint64_t hash, std::string_view text) { return mix(hash, std::hash<std::string_view>()(text)); }

// Columns that an expression speaks of, wherever they are from: its type depends on theirs.
uint64_t mix_sources(uint64_t hash, const Planning& p, const Message* expression) {
  bool star = false;
  std::set<std::string, std::less<>> named;
  walk(expression, [&](const Message* message) {
    star = star || as<PgQuery__AStar>(message) != nullptr;
    if (auto* column = as<PgQuery__ColumnRef>(message); column != nullptr && column->n_fields > 0)
      if (auto* name = as<PgQuery__String>(column->fields[column->n_fields - 1])) named.emplace(text_of(name->sval));
    return true;
  });
  for (const Instance& instance : p.statement.instances) {
    if (instance.table == nullptr) continue;
    for (const catalog::Column& column : instance.table->columns)
      if (star || named.contains(column.name)) hash = mix(mix(hash, column.name), column.type);
  }
  return hash;
}

uint64_t mix_outputs(uint64_t hash, const Planning& p, const Level& level) {
  for (const Level* arm : level.arms) hash = mix_outputs(hash, p, *arm);
  for (const OutputColumn& output : level.outputs) {
    hash = mix(hash, output.name);
    hash = output.type != 0 ? mix(hash, output.type) : mix_sources(hash, p, inner(output.expr));
  }
  return hash;
}

bool outputs_known(const Level& level) {
  return level.outputs_known &&
         std::all_of(level.arms.begin(), level.arms.end(), [](auto* arm) { return outputs_known(*arm); });
}

}  // namespace

uint64_t result_signature(const Planning& p) {
  if (auto* select = as<PgQuery__SelectStmt>(p.root))
    for (const Level& level : p.statement.levels)
      if (level.select == select && outputs_known(level) && !level.outputs.empty()) return mix_outputs(1, p, level);
  return mix_sources(1, p, inner(p.root));
}

}  // namespace pgmosaic::plan
