#include "plan/ddl_checks.h"

#include <algorithm>

#include "catalog/hashing.h"
#include "plan/function_traits.h"
#include "plan/types.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

namespace {

std::string kind_name(TableKind kind) {
  return kind == TableKind::sharded ? "sharded" : kind == TableKind::reference ? "reference" : "local";
}

Status check_foreign_key_to_sharded(TableUnderDefinition& table, const catalog::Table* referenced,
                                    const std::vector<std::string>& from, const std::vector<std::string>& to,
                                    const PlanContext& context) {
  const char* hint =
      "Give both tables the same distribution key and shard count and include it in the foreign key, or "
      "make the referenced table a reference table.";
  if (table.kind != TableKind::sharded)
    return refused("a foreign key from a " + kind_name(table.kind) + " table to a sharded table", hint);
  if (table.by_expression) return refused("a foreign key from a table that is sharded by an expression", hint);
  bool self = referenced == nullptr;
  const catalog::Colocation* theirs = self ? nullptr : context.database->colocation(referenced->colocation);
  // By the same partitions? NewTables::check_range_keys looks at the catalog.
  if (table.by_partition && (self || (theirs != nullptr && theirs->by_partition))) return {};
  std::vector<std::string> referenced_keys = table.key_columns;
  if (!self) {
    referenced_keys.clear();
    for (int key : referenced->key_columns) referenced_keys.push_back(referenced->columns[key].name);
    const catalog::Colocation* shards = context.database->colocation(referenced->colocation);
    bool together = table.colocation != 0
                        ? table.colocation == referenced->colocation
                        : shards != nullptr && !shards->by_partition && !shards->computed &&
                              !table.key_columns.empty() && shards->shards.size() == table.shard_count &&
                              shards->key_types == table.key_types && table.colocate_with != "none";
    if (!together) return refused("a foreign key to a sharded table that is not co-located with this one", hint);
    table.must_colocate_with = referenced->schema + "." + referenced->name;
  }
  if (from.size() != to.size() || referenced_keys.size() != table.key_columns.size())
    return refused("a foreign key between sharded tables that does not list its columns", hint);
  for (size_t i = 0; i < table.key_columns.size(); ++i) {
    bool matched = false;
    for (size_t j = 0; j < from.size(); ++j)
      matched = matched || (from[j] == table.key_columns[i] && to[j] == referenced_keys[i]);
    if (!matched)
      return refused("a foreign key between sharded tables that does not contain their distribution columns", hint);
  }
  return {};
}

// The row would have to move to where the new key belongs, while the group that deletes or updates what it references
// knows only its own shards: whether that works depends on the values.
Status check_key_actions(const TableUnderDefinition& table, const PgQuery__Constraint* constraint,
                         const std::vector<std::string>& from) {
  if (table.kind != TableKind::sharded || table.by_partition) return {};
  const auto sets = [](std::string_view action) { return action == "n" || action == "d"; };
  const auto refuse = [&](const char* event, std::string_view action,
                          const std::vector<std::string>& columns) -> Status {
    const std::string what = std::string("ON ") + event + (action == "n" ? " SET NULL" : " SET DEFAULT");
    const char* hint =
        "Rows would have to move to another group: let the foreign key CASCADE or RESTRICT, and UPDATE the "
        "rows first.";
    if (sets(action) && table.by_expression && table.key_columns.empty())
      return refused(what + " of a table that is sharded by an expression", hint);
    for (const std::string& key : table.key_columns)
      if (sets(action) && std::find(columns.begin(), columns.end(), key) != columns.end())
        return refused(what + " of the distribution column \"" + key + "\"", hint);
    return {};
  };
  const std::vector<std::string> set = names_of(constraint->n_fk_del_set_cols, constraint->fk_del_set_cols);
  TRY(refuse("DELETE", text_of(constraint->fk_del_action), set.empty() ? from : set));
  return refuse("UPDATE", text_of(constraint->fk_upd_action), from);
}

Status check_foreign_key(TableUnderDefinition& table, const PgQuery__Constraint* constraint, std::string_view column,
                         const PlanContext& context) {
  std::vector<std::string> from = names_of(constraint->n_fk_attrs, constraint->fk_attrs);
  if (from.empty() && !column.empty()) from.emplace_back(column);
  TRY(check_key_actions(table, constraint, from));
  std::vector<std::string> to = names_of(constraint->n_pk_attrs, constraint->pk_attrs);
  const catalog::Table* referenced = lookup(context, constraint->pktable);
  bool self =
      text_of(constraint->pktable->relname) == table.name &&
      (text_of(constraint->pktable->schemaname).empty() || text_of(constraint->pktable->schemaname) == table.schema);
  if (self) {
    if (table.kind != TableKind::sharded) return {};
    if (to.empty()) to = table.primary_key;
    return check_foreign_key_to_sharded(table, nullptr, from, to, context);
  }
  if (referenced == nullptr) {
    if (table.kind == TableKind::local) return {};
    return refused("a foreign key to a table that is not known yet",
                   "Create the referenced table first and commit; then add the foreign key.");
  }
  if (referenced->kind == TableKind::reference) return {};
  if (referenced->kind == TableKind::sharded) {
    if (to.empty()) {
      for (const catalog::UniqueKey& key : referenced->unique_keys) {
        if (!to.empty() || !key.primary) continue;
        for (int index : key.columns) to.push_back(referenced->columns[index].name);
      }
    }
    return check_foreign_key_to_sharded(table, referenced, from, to, context);
  }
  if (table.kind == TableKind::local) return {};
  return refused("a foreign key from a " + kind_name(table.kind) + " table to a local table",
                 "Make the referenced table a reference table: WITH (table_type = 'reference').");
}

}  // namespace

Error refused(std::string message, std::string hint) {
  return make_error("0A000", std::move(message), std::move(hint));
}

const catalog::Table* lookup(const PlanContext& context, const PgQuery__RangeVar* range) {
  if (range == nullptr || context.database == nullptr) return nullptr;
  std::string_view schema = text_of(range->schemaname), name = text_of(range->relname);
  if (!schema.empty()) return context.database->find(schema, name);
  if (context.temporary != nullptr && context.temporary->contains(name)) return nullptr;
  for (const std::string& candidate : context.search_path)
    if (auto* table = context.database->find(candidate, name)) return table;
  return nullptr;
}

TableUnderDefinition under_definition(const catalog::Table* table, const PgQuery__RangeVar* range,
                                      const PlanContext& context) {
  TableUnderDefinition result;
  result.schema = text_of(range->schemaname);
  result.name = text_of(range->relname);
  if (table == nullptr) return result;
  result.kind = table->kind == TableKind::view ? TableKind::local : table->kind;
  result.schema = table->schema;
  result.colocation = table->colocation;
  const catalog::Colocation* shards = context.database->colocation(table->colocation);
  result.by_partition = shards != nullptr && shards->by_partition;
  result.by_expression = shards != nullptr && shards->computed;
  for (const catalog::UniqueKey& key : table->unique_keys)
    for (size_t i = 0; key.primary && i < key.columns.size(); ++i)
      result.primary_key.push_back(table->columns[key.columns[i]].name);
  for (int key : table->key_columns) {
    result.key_columns.push_back(table->columns[key].name);
    result.key_types.push_back(table->columns[key].base_type);
  }
  return result;
}

bool reserved_schema(std::string_view schema) { return schema == "pgmosaic" || schema == "pgmosaic_shards"; }

Status check_unique(const TableUnderDefinition& table, const std::vector<std::string>& columns, std::string_view what) {
  if (table.kind != TableKind::sharded || table.by_partition) return {};
  if (table.by_expression)
    return refused(
        std::string(what) + " of a table that is sharded by an expression",
        "PostgreSQL enforces keys of partitioned tables by columns: shard the table by a column of the key.");
  for (const std::string& key : table.key_columns) {
    if (std::find(columns.begin(), columns.end(), key) != columns.end()) continue;
    return refused(std::string(what) + " of a sharded table must contain its distribution column \"" + key + "\"",
                   "The shards can only enforce what is within one of them: add \"" + key +
                       "\" to the key, or shard the table by a column of the key.");
  }
  return {};
}

Status check_computed_by_groups(const Node* expression, const PlanContext& context, std::string_view what) {
  using Touches = catalog::UserFunction::Touches;
  Status status;
  walk(expression, [&](const Message* message) {
    std::string touched;
    if (auto* range = as<PgQuery__RangeVar>(message)) {
      const catalog::Table* table = lookup(context, range);
      if (table != nullptr && table->kind != TableKind::reference) touched = "table \"" + table->name + "\"";
    }
    if (auto* call = as<PgQuery__FuncCall>(message)) {
      const auto user = context.database->user_functions.find(last_name(call->n_funcname, call->funcname));
      const bool known = user != context.database->user_functions.end();
      if (known && (user->second.touches > Touches::reference || user->second.writes)) touched = user->second.what;
    }
    if (!touched.empty() && status.ok())
      status = refused(std::string(what) + " of a sharded or reference table that may touch " + touched,
                       "Every group computes it, and has all rows of reference tables only.");
    return status.ok();
  });
  return status;
}

bool reads_shards(const Node* query, const PlanContext& context) {
  bool found = false;
  auto sharded = [](const catalog::Table* table) { return table != nullptr && table->kind == TableKind::sharded; };
  walk(query, [&](const Message* message) {
    auto* range = as<PgQuery__RangeVar>(message);
    const catalog::Table* table = range == nullptr ? nullptr : lookup(context, range);
    if (table == nullptr) return true;
    found = found || sharded(table);
    for (const auto& [schema, name] : table->depends_on) found = found || sharded(context.database->find(schema, name));
    return !found;
  });
  return found;
}

bool names_tableoid(const Node* expression) {
  bool found = false;
  walk(expression, [&](const Message* message) {
    auto* column = as<PgQuery__ColumnRef>(message);
    found = found || (column != nullptr && string_value(column->fields[column->n_fields - 1]) == "tableoid");
    return !found;
  });
  return found;
}

Status check_constraint(TableUnderDefinition& table, const PgQuery__Constraint* constraint, std::string_view column,
                        const PlanContext& context) {
  switch (constraint->contype) {
    case PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY:
    case PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE: {
      std::vector<std::string> columns = names_of(constraint->n_keys, constraint->keys);
      if (columns.empty() && !column.empty()) columns.emplace_back(column);
      if (!text_of(constraint->indexname).empty()) {
        if (table.kind == TableKind::sharded)
          return refused("a constraint USING INDEX of a sharded table", "Add the constraint with its columns.");
        return {};
      }
      return check_unique(
          table, columns,
          constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY ? "the primary key" : "a unique constraint");
    }
    case PG_QUERY__CONSTR_TYPE__CONSTR_EXCLUSION:
      if (table.kind == TableKind::sharded)
        return refused("an exclusion constraint of a sharded table",
                       "The shards cannot enforce it: use a unique constraint with the distribution column, or a "
                       "reference table.");
      return {};
    case PG_QUERY__CONSTR_TYPE__CONSTR_CHECK:
    case PG_QUERY__CONSTR_TYPE__CONSTR_GENERATED:
      if (table.kind == TableKind::local) return {};
      if (table.kind == TableKind::sharded && !table.by_partition && names_tableoid(constraint->raw_expr))
        return refused("tableoid in a check or generated column of a table that is sharded by hash",
                       "It is a shard's there: name the table.");
      return check_computed_by_groups(constraint->raw_expr, context, "a check or generated column");
    case PG_QUERY__CONSTR_TYPE__CONSTR_FOREIGN: return check_foreign_key(table, constraint, column, context);
    default: return {};
  }
}

Status check_column(TableUnderDefinition& table, const PgQuery__ColumnDef* column, const PlanContext& context) {
  for (const Node* node : each(column->n_constraints, column->constraints))
    if (auto* constraint = as<PgQuery__Constraint>(node))
      TRY(check_constraint(table, constraint, text_of(column->colname), context));
  return {};
}

bool makes_sequence(const PgQuery__ColumnDef* column) {
  if (column->type_name != nullptr && column->type_name->n_names == 1) {
    const std::string_view type = string_value(column->type_name->names[0]);
    for (std::string_view serial : {"serial", "serial4", "serial8", "bigserial", "smallserial", "serial2"})
      if (type == serial) return true;
  }
  for (const Node* node : each(column->n_constraints, column->constraints))
    if (auto* constraint = as<PgQuery__Constraint>(node);
        constraint != nullptr && constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_IDENTITY)
      return true;
  return false;
}

KeyType classify_key_type(const PgQuery__TypeName* name, catalog::Oid& type) {
  type = 0;
  if (name == nullptr || name->pct_type) return KeyType::unknown;
  if (name->n_array_bounds > 0 || name->setof) return KeyType::refused;
  std::string_view last = last_name(name->n_names, name->names);
  bool builtin = name->n_names == 1 || string_value(name->names[0]) == "pg_catalog";
  if (!builtin) return KeyType::unknown;
  if (last.starts_with("reg") && last.size() > 3) return KeyType::refused;
  type = builtin_type(last);
  if (type == 0) return KeyType::unknown;
  return catalog::hashable_key_type(type) ? KeyType::hashable : KeyType::refused;
}

Error key_type_refused(std::string_view column) {
  return refused("column \"" + std::string(column) + "\" has a type that cannot be a distribution key",
                 "Use text or an integer; the hash of an enum, for one, depends on its OID, which differs between "
                 "servers. Possible are integers, text, varchar, char, uuid, date, timestamp, timestamptz, numeric, "
                 "bool and bytea.");
}

}  // namespace pgmosaic::plan
