// What PostgreSQL calls "cached plan must not change result type": a prepared statement whose columns are others after
// a schema change. PostgreSQL compares descriptors; the router compares what they come from in the catalog.
#include <set>

#include "plan/planning.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 0xFF51AFD7ED558CCDull; }
uint64_t mix(uint64_t hash, std::string_view text) { return mix(hash, std::hash<std::string_view>()(text)); }

}  // namespace

uint64_t result_signature(const Planning& p) {
  bool star = false;
  std::set<std::string, std::less<>> named;
  walk(p.root, [&](const Message* message) {
    star = star || as<PgQuery__AStar>(message) != nullptr;
    if (auto* column = as<PgQuery__ColumnRef>(message); column != nullptr && column->n_fields > 0)
      if (auto* name = as<PgQuery__String>(column->fields[column->n_fields - 1])) named.emplace(text_of(name->sval));
    return true;
  });
  uint64_t hash = 1;
  for (const Instance& instance : p.statement.instances) {
    if (instance.table == nullptr) continue;
    for (const catalog::Column& column : instance.table->columns)
      if (star || named.contains(column.name)) hash = mix(mix(hash, column.name), column.type);
  }
  return hash;
}

}  // namespace pgmosaic::plan
