// Relations that no group has: the executor fills them in when a statement reads them. The planner replaces each by
// json_to_recordset() over a string constant that is exactly virtual_marker(name); the executor puts a JSON array of
// objects in the marker's place (keeping the quotes around it, quotes inside doubled).
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace pgmosaic::plan {

struct VirtualRelation {
  std::string_view name;
  std::string_view columns;  // as in a column definition list
  bool catalog = false;      // one of PostgreSQL's views, of what the router keeps in the backends' place
};

inline constexpr std::string_view kVirtualSchema = "pgmosaic";

inline constexpr std::array<VirtualRelation, 8> kVirtualRelations{{
    {"tables",
     "schema_name text, table_name text, table_type text, distribution_column text, colocation_id int, "
     "shard_count int"},
    {"shards",
     "shard_id bigint, table_schema text, table_name text, colocation_id int, modulus int, remainder int, shard_name "
     "text, "
     "group_name text"},
    {"groups", "group_id int, group_name text, host text, port int, is_home bool"},
    {"activity",
     "pid int, group_name text, backend_pid int, datname text, usename text, application_name text, client_addr text, "
     "client_port int, state text, wait_event_type text, wait_event text, query text, xact_start timestamptz, "
     "query_start timestamptz"},
    {"operations",
     "operation_id bigint, kind text, datname text, usename text, pid int, object text, group_name text, state text, "
     "done bigint, total bigint, started_at timestamptz"},
    {"sagas",
     "saga_id text, saga_name text, usename text, state text, steps text[], began_at timestamptz, ends_at timestamptz, "
     "last_error text"},
    {"pg_prepared_statements",
     "name pg_catalog.text, statement pg_catalog.text, prepare_time pg_catalog.timestamptz, parameter_types "
     "pg_catalog.regtype[], from_sql pg_catalog.bool, generic_plans pg_catalog.int8, custom_plans pg_catalog.int8",
     true},
    {"pg_cursors",
     "name pg_catalog.text, statement pg_catalog.text, is_holdable pg_catalog.bool, is_binary pg_catalog.bool, "
     "is_scrollable pg_catalog.bool, creation_time pg_catalog.timestamptz",
     true},
}};

inline const VirtualRelation* find_virtual_relation(std::string_view schema, std::string_view name) {
  const bool catalog = schema.empty() || schema == "pg_catalog";
  if (schema != kVirtualSchema && !catalog) return nullptr;
  for (const VirtualRelation& relation : kVirtualRelations)
    if (relation.name == name && relation.catalog == catalog) return &relation;
  return nullptr;
}

// pg_backend_pid() beside them means the session's pid; the executor puts it in the place of this marker.
inline constexpr std::string_view kBackendPid = "backend_pid";

// The session's numbers of sequences, for currval() and lastval(): see numbers.cc.
inline constexpr std::string_view kNumbers = "numbers";

inline std::string virtual_marker(std::string_view name) { return "/*pgmosaic:" + std::string(name) + "*/"; }

}  // namespace pgmosaic::plan
