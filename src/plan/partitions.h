// Partitions that users declare (partitions.cc), as CREATE TABLE and ALTER TABLE are planned.
#pragma once

#include <string>
#include <vector>

#include "plan/ddl_checks.h"
#include "plan/plan.h"
#include "sql/dialect.h"

namespace pgmosaic::plan {

// Sharded, with partitions of the user's own under it.
bool spreads_partitions(const catalog::Table& table);
// Its rows are in leaves that the cluster made.
bool has_leaves(const catalog::Table& table);

// CREATE TABLE … PARTITION OF. `parent`: null where the catalog does not know it.
Result<Plan> plan_new_partition(std::string_view sql, const PgQuery__CreateStmt* create, const catalog::Table* parent,
                                const PlanContext& context);
// A partition that is listed with its table; `spread_by`: the columns of SHARD BY HASH, `storage`: WITH (…).
Result<Plan> plan_listed_partition(const sql::CreateTableText::Partition& partition, const PgQuery__RangeVar* parent,
                                   const std::vector<std::string>& spread_by, const std::string& storage);
// ATTACH and DETACH PARTITION among the commands of ALTER TABLE: what `ddl` needs beside the statement. `table`: null
// if it is not known.
Status change_partition(const catalog::Table* table, const PgQuery__AlterTableStmt* alter, const PlanContext& context,
                        Ddl& ddl);
// ALTER TABLE ONLY of a table with leaves: its groups have them to alter as well.
Status include_leaves(const catalog::Table* table, const PgQuery__AlterTableStmt* alter, std::string_view sql,
                      Ddl& ddl);

}  // namespace pgmosaic::plan
