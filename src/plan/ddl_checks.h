// What the shards of a table can enforce, and what every group would do alike: shared by CREATE TABLE and ALTER TABLE.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "plan/planner.h"
#include "sql/ast.h"

namespace pgmosaic::plan {

// The table a definition is about, as far as it is known.
struct TableUnderDefinition {
  catalog::TableKind kind = catalog::TableKind::local;
  std::string schema, name;
  std::vector<std::string> key_columns;  // sharded
  std::vector<catalog::Oid> key_types;   // 0: not known here
  std::vector<std::string> primary_key;  // empty: it has none, or it is not known here
  uint32_t shard_count = 0;
  std::string colocate_with;             // "none": with no other table
  catalog::ColocationId colocation = 0;  // of an existing table
  bool by_expression = false;            // its shards cannot enforce keys
  bool by_partition = false;             // PostgreSQL itself sees to what its partitions can enforce
  std::string must_colocate_with;        // set by a foreign key: the table it must share shards with
};

// A table that is there; null: it is not known.
TableUnderDefinition under_definition(const catalog::Table* table, const PgQuery__RangeVar* range,
                                      const PlanContext& context);
// 0A000 with the way out.
Error refused(std::string message, std::string hint);
// One constraint, written with a column (`column` is its name) or by itself.
Status check_constraint(TableUnderDefinition& table, const PgQuery__Constraint* constraint, std::string_view column,
                        const PlanContext& context);
// A column definition.
Status check_column(TableUnderDefinition& table, const PgQuery__ColumnDef* column, const PlanContext& context);
// serial or identity.
bool makes_sequence(const PgQuery__ColumnDef* column);
// An expression that groups compute for rows of theirs (a policy, CHECK, a generated column): of tables it may read
// reference tables.
Status check_computed_by_groups(const sql::Node* expression, const PlanContext& context, std::string_view what);
// The column that is a shard's own where a table is sharded by hash.
bool names_tableoid(const sql::Node* expression);
// Reads sharded tables, by their names or through views.
bool reads_shards(const sql::Node* query, const PlanContext& context);
// UNIQUE, PRIMARY KEY or a unique index over these columns.
Status check_unique(const TableUnderDefinition& table, const std::vector<std::string>& columns, std::string_view what);

enum class KeyType : uint8_t { hashable, refused, unknown };
// Whether values of a declared type can be a hash key; `type` is its OID where known.
KeyType classify_key_type(const PgQuery__TypeName* name, catalog::Oid& type);
Error key_type_refused(std::string_view column);

const catalog::Table* lookup(const PlanContext& context, const PgQuery__RangeVar* range);
bool reserved_schema(std::string_view schema);

}  // namespace pgmosaic::plan
