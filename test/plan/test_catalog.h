// A catalog in memory from CREATE TABLE statements in our dialect, for golden tests. Used by tests only.
//
//   CREATE TABLE t (k int PRIMARY KEY, v text) SHARD BY HASH (k) WITH (shard_count = 4);
//   CREATE VIEW v AS SELECT … FROM t;      (its columns are not known; reads the tables named in FROM)
//   CREATE FUNCTION f();                   (a user function that may do anything)
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>

#include "catalog/catalog.h"
#include "plan/draws.h"
#include "plan/planner.h"
#include "plan/types.h"
#include "sql/deparse.h"
#include "sql/dialect.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

namespace test_catalog {

class Builder {
 public:
  void add(std::string_view statement);
  std::shared_ptr<catalog::Snapshot> finish();

 private:
  void add_table(const CreateTableText& text, const PgQuery__CreateStmt* create);
  void add_view(const PgQuery__ViewStmt* view);
  void put(catalog::Table table) {
    table.oid = next_oid_++;
    table.owner = "tester";
    auto shared = std::make_shared<const catalog::Table>(std::move(table));
    database_.schemas[shared->schema][shared->name] = shared;
    database_.tables_by_oid[shared->oid] = shared;
  }

  catalog::Database database_;
  catalog::Oid next_oid_ = 20000;
};

inline void add_unique(catalog::Table& table, const PgQuery__Constraint* constraint, const std::string& column) {
  if (constraint == nullptr || (constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY &&
                                constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE))
    return;
  std::vector<std::string> columns = names_of(constraint->n_keys, constraint->keys);
  if (columns.empty()) columns.push_back(column);
  bool primary = constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY;
  catalog::UniqueKey key{table.name + (primary ? "_pkey" : "_key"), {}, primary};
  for (const std::string& name : columns) {
    key.columns.push_back(table.column_index(name));
    if (primary) table.columns[key.columns.back()].not_null = true;
  }
  table.unique_keys.push_back(key);
}

// Constraints and defaults.
inline void describe_column(const PgQuery__ColumnDef* definition, std::string_view type, catalog::Column& column) {
  for (const Node* part : each(definition->n_constraints, definition->constraints)) {
    auto* constraint = as<PgQuery__Constraint>(part);
    if (constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_NOTNULL) column.not_null = true;
    if (constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_DEFAULT) {
      column.has_default = true;
      column.default_sql = *deparse_expression(constraint->raw_expr);
    }
    if (constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_IDENTITY) {
      column.has_default = true;
      column.identity = text_of(constraint->generated_when) == "a" ? catalog::Column::Identity::always
                                                                   : catalog::Column::Identity::by_default;
      column.sequence = 17000;
    }
  }
  column.type_name = type;
  if (type == "serial") {
    column.type = column.base_type = 23;
    column.type_name = "integer";
    column.has_default = column.not_null = true;
    column.default_sql = "nextval('public.s'::regclass)";
    column.sequence = 17001;
  }
}

inline void Builder::add_table(const CreateTableText& text, const PgQuery__CreateStmt* create) {
  catalog::Table table;
  table.schema = text_of(create->relation->schemaname).empty() ? "public" : create->relation->schemaname;
  table.name = create->relation->relname;
  for (const Node* node : each(create->n_table_elts, create->table_elts)) {
    auto* definition = as<PgQuery__ColumnDef>(node);
    if (definition == nullptr) continue;
    catalog::Column column;
    column.name = definition->colname;
    std::string_view type = last_name(definition->type_name->n_names, definition->type_name->names);
    column.type = builtin_type(type);
    if (column.type == 0) column.type = 16500;  // a user's type
    column.base_type = column.type;
    if (definition->type_name->n_typmods > 0) column.typmod = 14;
    column.collation = is_collatable(column.type) ? 100 : 0;
    if (definition->coll_clause != nullptr) {
      column.collation = 12345;
      column.bytewise_collation = false;
    }
    describe_column(definition, type, column);
    table.columns.push_back(column);
    for (const Node* part : each(definition->n_constraints, definition->constraints))
      add_unique(table, as<PgQuery__Constraint>(part), column.name);
  }
  for (const Node* node : each(create->n_table_elts, create->table_elts))
    add_unique(table, as<PgQuery__Constraint>(node), "");
  if (text.table_type == "reference") table.kind = TableKind::reference;
  if (!text.key_columns.empty()) {
    table.kind = TableKind::sharded;
    table.shard_prefix = table.name;
    catalog::Colocation wanted;
    for (const std::string& key : text.key_columns) {
      int index = table.column_index(key);
      ASSERT_GE(index, 0) << key;
      table.key_columns.push_back(index);
      wanted.key_types.push_back(table.columns[index].base_type);
      wanted.key_collations.push_back(table.columns[index].collation);
    }
    uint32_t count = text.shard_count.value_or(16);
    for (uint32_t i = 0; i < count; ++i) wanted.shards.push_back({i + 1, count, i, i % 4 + 1});
    wanted.explicit_only = text.colocate_with == "none";
    for (const auto& [id, other] : database_.colocations)
      if (!wanted.explicit_only && !other.explicit_only && other.key_types == wanted.key_types &&
          other.shards.size() == count)
        table.colocation = id;
    if (table.colocation == 0) {
      table.colocation = wanted.id = static_cast<catalog::ColocationId>(database_.colocations.size() + 1);
      database_.colocations[wanted.id] = wanted;
    }
  }
  put(std::move(table));
}

inline void Builder::add_view(const PgQuery__ViewStmt* view) {
  catalog::Table table;
  table.schema = "public";
  table.name = view->view->relname;
  table.kind = TableKind::view;
  walk(view->query, [&](const Message* message) {
    if (auto* range = as<PgQuery__RangeVar>(message)) table.depends_on.emplace_back("public", range->relname);
    return true;
  });
  put(std::move(table));
}

inline void Builder::add(std::string_view statement) {
  if (is_create_table(statement)) {
    auto text = read_create_table(statement);
    ASSERT_TRUE(text.ok() && text->has_value()) << statement;
    auto tree = ParseTree::parse((*text)->plain_sql());
    ASSERT_TRUE(tree.ok()) << statement;
    add_table(**text, as<PgQuery__CreateStmt>(tree->statement()));
    return;
  }
  auto words = statement.substr(0, 16);
  if (words == "CREATE FUNCTION ") {
    size_t open = statement.find('(');
    // The name says what it does.
    const std::string name(statement.substr(16, open - 16));
    using Touches = catalog::UserFunction::Touches;
    catalog::UserFunction& function = database_.user_functions[name];
    function.clean = name != "my_func";
    if (name == "my_func") function.touches = Touches::home;
    if (name == "counts_shards") function.touches = Touches::shards;
    if (name == "counts_shards") function.what = "table \"users\"";
    if (name == "pure_func") function.volatility = 'i';
    return;
  }
  auto tree = ParseTree::parse(statement);
  ASSERT_TRUE(tree.ok()) << statement;
  auto* view = as<PgQuery__ViewStmt>(tree->statement());
  ASSERT_NE(view, nullptr) << statement;
  add_view(view);
}

inline std::shared_ptr<catalog::Snapshot> Builder::finish() {
  auto snapshot = std::make_shared<catalog::Snapshot>();
  snapshot->epoch = 1;
  snapshot->home = 1;
  for (uint32_t i = 1; i <= 4; ++i)
    snapshot->groups.push_back({i, "g" + std::to_string(i), "127.0.0.1", static_cast<uint16_t>(5432 + i), i == 1});
  database_.name = "test";
  database_.sequences.by_name[{"public", "s"}] = database_.sequences.by_oid[17001] = {17001};
  find_draws({}, database_);
  snapshot->databases["test"] = std::make_shared<const catalog::Database>(std::move(database_));
  return snapshot;
}

}  // namespace test_catalog

// Aborts on a statement it does not understand.
inline std::shared_ptr<catalog::Snapshot> build_test_catalog(std::string_view statements) {
  test_catalog::Builder builder;
  for (std::string_view statement : split_statements(statements)) builder.add(statement);
  return builder.finish();
}

}  // namespace pgmosaic::plan
