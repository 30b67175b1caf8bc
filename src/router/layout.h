// Layouts of tables that are yet to be created (sql/layout.h): how the router takes them, uses them, and writes those
// of a database that exists.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "catalog/catalog.h"
#include "exec/control.h"

namespace pgmosaic::router {

// What a session knows of itself.
struct LayoutContext {
  exec::ClusterControl& control;
  const catalog::Database& database;
  const std::string& user;
};

// CREATE LAYOUT and DROP LAYOUT.
Status change_layout(const LayoutContext& context, std::string_view sql);

// A CREATE TABLE without clauses of ours, with those that its table has a layout of; any other statement as it is.
Result<std::string> with_layout(const LayoutContext& context, std::string_view sql);

// The commands that give an empty database the tables of this one. `all`: also those that are local.
std::vector<std::string> layout_commands(const catalog::Database& database, bool all);

}  // namespace pgmosaic::router
