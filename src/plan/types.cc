#include "plan/types.h"

#include <algorithm>
#include <array>

namespace pgmosaic::plan {
namespace {

struct TypeRow {
  std::string_view name;
  catalog::Oid type;
  catalog::Oid array;
};

constexpr std::array<TypeRow, 28> kTypes{{
    {"bool", oid::boolean, 1000},
    {"bytea", oid::bytea, 1001},
    {"int8", oid::int8, 1016},
    {"int2", oid::int2, 1005},
    {"int4", oid::int4, 1007},
    {"text", oid::text, 1009},
    {"oid", oid::oid, 1028},
    {"json", oid::json, 199},
    {"float4", oid::float4, 1021},
    {"float8", oid::float8, 1022},
    {"money", oid::money, 791},
    {"bpchar", oid::bpchar, 1014},
    {"varchar", oid::varchar, 1015},
    {"date", oid::date, 1182},
    {"time", oid::time, 1183},
    {"timestamp", oid::timestamp, 1115},
    {"timestamptz", oid::timestamptz, 1185},
    {"interval", oid::interval, 1187},
    {"timetz", oid::timetz, 1270},
    {"bit", oid::bit, 1561},
    {"varbit", oid::varbit, 1563},
    {"numeric", oid::numeric, 1231},
    {"uuid", oid::uuid, 2951},
    {"jsonb", oid::jsonb, 3807},
    {"name", oid::name, 1003},
    {"char", oid::character, 1002},
    {"inet", 869, 1041},
    {"cidr", 650, 651},
}};

}  // namespace

uint32_t type_family(catalog::Oid type) {
  if (is_integer(type)) return oid::int8;
  if (type == oid::varchar) return oid::text;
  return type;
}

bool is_integer(catalog::Oid type) { return type == oid::int2 || type == oid::int4 || type == oid::int8; }

bool is_collatable(catalog::Oid type) {
  return type == oid::text || type == oid::varchar || type == oid::bpchar || type == oid::name;
}

catalog::Oid array_element(catalog::Oid array_type) {
  auto it = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeRow& row) { return row.array == array_type; });
  return it == kTypes.end() ? 0 : it->type;
}

catalog::Oid builtin_type(std::string_view name) {
  auto it = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeRow& row) { return row.name == name; });
  return it == kTypes.end() ? 0 : it->type;
}

catalog::Oid plain_type(const PgQuery__TypeName* type, bool* is_array) {
  if (is_array != nullptr) *is_array = false;
  if (type == nullptr || type->setof || type->pct_type || type->n_typmods > 0) return 0;
  if (type->n_array_bounds > 0) {
    if (is_array == nullptr || type->n_array_bounds > 1) return 0;
    *is_array = true;
  }
  bool qualified = type->n_names == 2 && sql::string_value(type->names[0]) == "pg_catalog";
  if (type->n_names != 1 && !qualified) return 0;
  std::string_view name = sql::last_name(type->n_names, type->names);
  // "char" in quotes is the one-byte type, char without quotes arrives as pg_catalog.bpchar with a typmod.
  return builtin_type(name);
}

std::string_view type_name(catalog::Oid type) {
  auto it = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeRow& row) { return row.type == type; });
  return it == kTypes.end() ? std::string_view() : it->name;
}

}  // namespace pgmosaic::plan
