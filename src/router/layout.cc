#include "router/layout.h"

#include <fmt/format.h>

#include "pool/settings.h"
#include "sql/layout.h"

namespace pgmosaic::router {

namespace {

using catalog::TableKind;
using Name = std::pair<std::string, std::string>;  // schema, table

std::string quoted(const Name& name) {
  return pool::quote_identifier(name.first) + "." + pool::quote_identifier(name.second);
}

// Whose shards the table's are to lie with: another table's, its own, or any that fit (an empty name).
Name companion(const sql::CreateTableText& text, const Name& self) {
  if (!text.colocate_with) return {};
  if (*text.colocate_with == "none") return self;
  const std::size_t dot = text.colocate_with->find('.');
  if (dot == std::string::npos) return {self.first, *text.colocate_with};
  return {text.colocate_with->substr(0, dot), text.colocate_with->substr(dot + 1)};
}

// Tables are restored in any order: the first of those that are to lie together is made apart, the others join it.
Result<std::string> colocation_of(const Name& together, const Name& self, const meta::Layouts& layouts,
                                  const catalog::Database& database) {
  for (const auto& [name, clauses] : layouts) {
    if (name == self) continue;
    const catalog::Table* table = database.find(name.first, name.second);
    if (table == nullptr || table->kind != TableKind::sharded) continue;
    TRY_ASSIGN(const sql::CreateTableText text, sql::read_layout_clauses(clauses));
    if (name == together || companion(text, name) == together) return quoted(name);
  }
  const catalog::Table* table = database.find(together.first, together.second);
  return table != nullptr && table->kind == TableKind::sharded ? quoted(together) : std::string("'none'");
}

std::string sharded_clauses(const std::vector<std::string>& keys, const std::string& options) {
  std::string columns;
  for (const std::string& key : keys) columns += (columns.empty() ? "" : ", ") + pool::quote_identifier(key);
  return "SHARD BY HASH (" + columns + ")" + (options.empty() ? "" : " WITH (" + options + ")");
}

std::string commands_for(const catalog::Table& table, const catalog::Database& database,
                         std::map<catalog::ColocationId, Name>& apart) {
  const Name name = {table.schema, table.name};
  const std::string head = "CREATE LAYOUT FOR " + quoted(name) + " ";
  if (table.kind == TableKind::reference) return head + "WITH (table_type = 'reference')";
  if (table.kind == TableKind::local) return head + "WITH (table_type = 'local')";
  const catalog::Colocation& colocation = *database.colocation(table.colocation);
  if (colocation.by_partition) return head + "WITH (table_type = 'sharded')";
  std::string options = fmt::format("shard_count = {}", colocation.shards.size());
  if (colocation.explicit_only) {
    const auto [first, inserted] = apart.emplace(colocation.id, name);
    options += ", colocate_with = " + (inserted ? "'none'" : quoted(first->second));
  }
  std::vector<std::string> keys;
  for (const int key : table.key_columns) keys.push_back(table.columns[static_cast<std::size_t>(key)].name);
  return head + sharded_clauses(keys, options);
}

// A partition of one group: the dump attaches it, empty, and its place is found then.
bool follows_parent(const catalog::Table& table, const catalog::Database& database) {
  if (table.kind != TableKind::sharded || table.partition_of == 0) return false;
  return table.colocation >= catalog::kFirstSingleColocation || database.colocation(table.colocation)->by_partition;
}

}  // namespace

Status change_layout(const LayoutContext& context, std::string_view sql) {
  TRY_ASSIGN(const sql::LayoutCommand command, sql::read_layout_command(sql));
  if (!context.database.superusers.contains(context.user))
    return make_error("42501", "permission denied to change layouts", "Layouts are for superusers.");
  if (command.all) return context.control.set_layout(context.database.name, "", "", "");
  return context.control.set_layout(context.database.name, command.name.schema, command.name.table, command.clauses);
}

Result<std::string> with_layout(const LayoutContext& context, std::string_view sql) {
  std::string same(sql);
  const auto created = sql::created_table(sql);
  if (!created) return same;
  const auto given = sql::read_create_table(sql);
  if (!given.ok() || !*given || (*given)->has_clause() || !(*given)->as_query.empty()) return same;
  TRY_ASSIGN(const meta::Layouts layouts, context.control.layouts(context.database.name));
  const Name name = {created->schema, created->table};
  const auto layout = layouts.find(name);
  if (layout == layouts.end()) return same;
  TRY_ASSIGN(const sql::CreateTableText text, sql::read_layout_clauses(layout->second));
  const Name together = companion(text, name);
  if (together.second.empty()) return sql::add_clauses(sql, layout->second);
  TRY_ASSIGN(const std::string with, colocation_of(together, name, layouts, context.database));
  const std::string count = text.shard_count ? fmt::format(", shard_count = {}", *text.shard_count) : "";
  return sql::add_clauses(sql, sharded_clauses(text.key_columns, "colocate_with = " + with + count));
}

std::vector<std::string> layout_commands(const catalog::Database& database, bool all) {
  std::map<catalog::ColocationId, Name> apart;  // the first table of those that nothing may join unasked
  std::vector<std::string> commands;
  for (const auto& [schema, tables] : database.schemas)
    for (const auto& [name, table] : tables)
      if (table->kind != TableKind::view && (all || table->kind != TableKind::local) &&
          !follows_parent(*table, database))
        commands.push_back(commands_for(*table, database, apart));
  return commands;
}

}  // namespace pgmosaic::router
