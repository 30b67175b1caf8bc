// Layouts: the clauses of tables that are yet to be created, told beforehand. A dump that knows nothing of shards can
// then be restored into a cluster as it is.
//
//   CREATE LAYOUT FOR schema.table clauses   clauses as behind the columns of CREATE TABLE, see sql/dialect.h
//   DROP LAYOUT FOR schema.table
//   DROP LAYOUT ALL
//
// A CREATE TABLE takes the layout of the table that it names with its schema, as pg_dump does.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sql/dialect.h"

namespace pgmosaic::sql {

struct TableName {
  std::string schema, table;
};

struct LayoutCommand {
  bool drop = false, all = false;
  TableName name;
  std::string clauses;
};

// True if the statement begins CREATE LAYOUT or DROP LAYOUT.
bool is_layout_command(std::string_view sql);
// REQUIRES: is_layout_command(sql). Error: 42601, or what the clauses are refused for.
Result<LayoutCommand> read_layout_command(std::string_view sql);

// The clauses of a layout, read.
Result<CreateTableText> read_layout_clauses(const std::string& clauses);

// What a CREATE TABLE creates; nullopt: it is none, makes a temporary table, or names no schema.
std::optional<TableName> created_table(std::string_view sql);
// The statement with more clauses behind it.
std::string add_clauses(std::string_view create_table, const std::string& clauses);

}  // namespace pgmosaic::sql
