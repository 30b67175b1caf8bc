// The few things the planner knows about PostgreSQL's built-in types: their OIDs (fixed by pg_type.dat), their names in
// SQL, and which of them have the same equality and hash.
#pragma once

#include <string>
#include <string_view>

#include "catalog/catalog.h"
#include "sql/ast.h"

namespace pgmosaic::plan {

namespace oid {
inline constexpr catalog::Oid boolean = 16, bytea = 17, int8 = 20, int2 = 21, int4 = 23, text = 25, oid = 26,
                              json = 114, float4 = 700, float8 = 701, unknown = 705, money = 790, bpchar = 1042,
                              varchar = 1043, date = 1082, time = 1083, timestamp = 1114, timestamptz = 1184,
                              interval = 1186, timetz = 1266, bit = 1560, varbit = 1562, numeric = 1700, uuid = 2950,
                              jsonb = 3802, name = 19, character = 18;
}

// Types whose values may be compared with each other without changing their hash: all integers are one family, text and
// varchar another, each other type its own. 0: unknown type.
uint32_t type_family(catalog::Oid type);
bool is_integer(catalog::Oid type);
bool is_collatable(catalog::Oid type);
// The element type of a built-in array type of a hashable key type, else 0.
catalog::Oid array_element(catalog::Oid array_type);

// OID of a built-in type by the name the grammar gives it (int4, pg_catalog.int4, timestamptz, …); 0: not built in.
catalog::Oid builtin_type(std::string_view name);
// A type name without array bounds, typmods and %TYPE; 0 for everything else. `is_array` is set for T[].
catalog::Oid plain_type(const PgQuery__TypeName* type, bool* is_array = nullptr);
// The name to cast to: "int8", "numeric", …; "" if not known here.
std::string_view type_name(catalog::Oid type);

}  // namespace pgmosaic::plan
