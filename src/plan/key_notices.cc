#include "plan/key_notices.h"

#include <algorithm>
#include <array>

#include "plan/types.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

constexpr std::size_t kFewValues = 32;

const PgQuery__ColumnDef* column_of(const PgQuery__CreateStmt* create, std::string_view name) {
  for (const Node* node : each(create->n_table_elts, create->table_elts)) {
    auto* definition = as<PgQuery__ColumnDef>(node);
    if (definition != nullptr && text_of(definition->colname) == name) return definition;
  }
  return nullptr;
}

bool has_constraint(const PgQuery__ColumnDef* column, std::initializer_list<PgQuery__ConstrType> kinds) {
  return std::any_of(column->constraints, column->constraints + column->n_constraints, [&](const Node* node) {
    auto* constraint = as<PgQuery__Constraint>(node);
    return constraint != nullptr && std::find(kinds.begin(), kinds.end(), constraint->contype) != kinds.end();
  });
}

bool in_primary_key(const PgQuery__CreateStmt* create, std::string_view name) {
  for (const Node* node : each(create->n_table_elts, create->table_elts)) {
    auto* constraint = as<PgQuery__Constraint>(node);
    if (constraint == nullptr || constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY) continue;
    for (const Node* key : each(constraint->n_keys, constraint->keys))
      if (string_value(key) == name) return true;
  }
  return false;
}

bool never_null(const PgQuery__CreateStmt* create, const PgQuery__ColumnDef* column) {
  const std::string_view type =
      column->type_name == nullptr ? "" : last_name(column->type_name->n_names, column->type_name->names);
  return has_constraint(column, {PG_QUERY__CONSTR_TYPE__CONSTR_NOTNULL, PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY,
                                 PG_QUERY__CONSTR_TYPE__CONSTR_IDENTITY}) ||
         type.ends_with("serial") || in_primary_key(create, text_of(column->colname));
}

// CHECK (name IN ('a', 'b', …)), with the column or by itself.
bool is_enumerated(const PgQuery__CreateStmt* create, const PgQuery__ColumnDef* column) {
  bool found = false;
  auto look = [&](const Node* node) {
    auto* constraint = as<PgQuery__Constraint>(node);
    if (constraint == nullptr || constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_CHECK) return;
    auto* in = as<PgQuery__AExpr>(constraint->raw_expr);
    auto* list = in == nullptr ? nullptr : as<PgQuery__List>(in->rexpr);
    auto* reference = in == nullptr ? nullptr : as<PgQuery__ColumnRef>(in->lexpr);
    found = found || (list != nullptr && reference != nullptr && list->n_items <= kFewValues &&
                      in->kind == PG_QUERY__A__EXPR__KIND__AEXPR_IN &&
                      string_value(reference->fields[reference->n_fields - 1]) == text_of(column->colname));
  };
  for (const Node* node : each(create->n_table_elts, create->table_elts)) look(node);
  for (const Node* node : each(column->n_constraints, column->constraints)) look(node);
  return found;
}

bool looks_changeable(std::string_view name) {
  constexpr std::array<std::string_view, 7> kNames{"status",    "state",      "updated_at", "modified_at",
                                                   "last_seen", "last_login", "assigned_to"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

Error notice(std::string message, std::string detail, std::string hint) {
  return make_error("00000", std::move(message), std::move(hint), std::move(detail));
}

}  // namespace

std::vector<Error> key_notices(const PgQuery__CreateStmt* create, std::vector<std::string> keys) {
  std::vector<Error> notices;
  const bool by_partition = keys.empty();
  if (by_partition && create->partspec != nullptr)
    for (const Node* node : each(create->partspec->n_part_params, create->partspec->part_params))
      if (auto* element = as<PgQuery__PartitionElem>(node)) keys.emplace_back(text_of(element->name));
  const bool by_list = by_partition && create->partspec != nullptr && text_of(create->partspec->strategy) == "list";
  for (const std::string& key : keys) {
    const PgQuery__ColumnDef* column = column_of(create, key);
    if (column == nullptr || column->type_name == nullptr) continue;
    const std::string quoted = "\"" + key + "\"";
    const catalog::Oid type = builtin_type(last_name(column->type_name->n_names, column->type_name->names));
    if (!never_null(create, column) && !by_list)
      notices.push_back(notice("distribution column " + quoted + " may be NULL",
                               by_partition ? "Rows with NULL fit into a DEFAULT partition only."
                                            : "All rows with NULL are in one shard, and no equality finds them.",
                               "Declare it NOT NULL, with a DEFAULT if need be, or shard by a column that always has a "
                               "value, such as the primary key."));
    const bool few = type == oid::boolean || is_enumerated(create, column);
    if (few && keys.size() == 1 && !by_list)
      notices.push_back(notice("distribution column " + quoted + " has few different values",
                               "At most as many shards have rows as there are values, and the load on them is uneven.",
                               "Shard by a column with many values, or by several columns together."));
    const bool moment = type == oid::date || type == oid::timestamp || type == oid::timestamptz;
    if (moment && keys.size() == 1)
      notices.push_back(by_partition
                            ? notice("all new rows go to the latest partition of " + quoted,
                                     "A range of time is on one group, so writes are not spread.",
                                     "SHARD BY HASH (column) PARTITION BY RANGE (" + key +
                                         ") spreads every partition over the groups.")
                            : notice("distribution column " + quoted + " is a moment in time",
                                     "A query for a range of time has to ask every group, and no equality names one.",
                                     "SHARD BY HASH (column) PARTITION BY RANGE (" + key +
                                         ") by a column that statements give with =."));
    if (looks_changeable(key))
      notices.push_back(
          notice("distribution column " + quoted + " looks as if it were often updated",
                 "A row whose key changes has to move to the group that owns the new one, in a transaction over both.",
                 "Shard by a column that stays, such as the primary key."));
  }
  return notices;
}

}  // namespace pgmosaic::plan
