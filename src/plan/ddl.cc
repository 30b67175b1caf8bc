// Schema changes other than CREATE TABLE: what each group runs in one distributed transaction, or why not.
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/kinds.h"
#include "plan/partitions.h"
#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/table_options.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

Plan everywhere(std::string tag, std::string_view sql) {
  Plan plan;
  plan.kind = PlanKind::ddl;
  plan.command = tag;
  plan.returns_rows = false;
  plan.effects.writes = true;
  plan.target.kind = Target::Kind::everywhere;
  plan.ddl.emplace();
  plan.ddl->everywhere = {std::string(sql)};
  plan.ddl->tag = std::move(tag);
  return plan;
}

Plan temporary(std::string command) {
  Plan plan;
  plan.command = std::move(command);
  plan.returns_rows = false;
  plan.target.kind = Target::Kind::home;
  plan.effects.writes = plan.effects.pins = plan.effects.not_preparable = true;
  return plan;
}

bool is_temporary(const PgQuery__RangeVar* range) {
  return range != nullptr && (text_of(range->relpersistence) == "t" || text_of(range->schemaname) == "pg_temp");
}

namespace {

// Grants, comments, roles: nothing that a plan depends on.
Plan no_new_epoch(std::string tag, std::string_view sql) {
  Plan plan = everywhere(std::move(tag), sql);
  plan.ddl->changes_catalog = false;
  return plan;
}

Plan server_wide(Plan plan) {
  plan.ddl->server_wide = true;
  return plan;
}

bool is_key(const TableUnderDefinition& table, std::string_view column) {
  return std::find(table.key_columns.begin(), table.key_columns.end(), column) != table.key_columns.end();
}

Status check_add_column(TableUnderDefinition& table, const PgQuery__AlterTableCmd* command,
                        const PlanContext& context) {
  auto* column = as<PgQuery__ColumnDef>(command->def);
  if (column == nullptr) return {};
  return check_column(table, column, context);
}

// What every group does alike, whichever kind of table it is. Of storage see alter_leaves(); rules and foreign tables
// are local ones', or PostgreSQL says that there are none.
bool fits_every_table(PgQuery__AlterTableType subtype) {
  switch (subtype) {
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ColumnDefault:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AddIdentity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetIdentity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DropIdentity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DropNotNull:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetNotNull:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DropExpression:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetStatistics:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ResetOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetStorage:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetCompression:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AlterConstraint:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ValidateConstraint:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DropConstraint:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ChangeOwner:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableTrig:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableAlwaysTrig:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableReplicaTrig:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DisableTrig:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableTrigAll:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DisableTrigAll:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableTrigUser:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DisableTrigUser:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableRowSecurity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DisableRowSecurity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ForceRowSecurity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_NoForceRowSecurity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ReplicaIdentity:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetLogged:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetUnLogged:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetAccessMethod:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetTableSpace:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableRule:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableAlwaysRule:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_EnableReplicaRule:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DisableRule:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnGenericOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_GenericOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DropOids:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DetachPartitionFinalize: return true;
    default: return false;
  }
}

// SET (…) and RESET (…).
Status check_parameters(const PgQuery__AlterTableCmd* command) {
  auto* list = as<PgQuery__List>(command->def);
  if (list == nullptr) return {};
  for (const Node* node : each(list->n_items, list->items)) {
    auto* parameter = as<PgQuery__DefElem>(node);
    if (parameter == nullptr || !text_of(parameter->defnamespace).empty()) continue;
    const std::string name(text_of(parameter->defname));
    if (is_table_option(name))
      return refused("changing " + name + " of a table that is there is not supported yet",
                     "Make a new table with it, and copy the rows.");
    if (command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_SetRelOptions) TRY(check_parameter_name(name));
  }
  return {};
}

Status check_alter(TableUnderDefinition& table, const PgQuery__AlterTableCmd* command, const PlanContext& context) {
  std::string_view name = text_of(command->name);
  switch (command->subtype) {
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AddColumn: return check_add_column(table, command, context);
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetRelOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ResetRelOptions: return check_parameters(command);
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AttachPartition:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DetachPartition: return {};  // see change_partition()
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AddConstraint: {
      auto* constraint = as<PgQuery__Constraint>(command->def);
      return constraint == nullptr ? Status() : check_constraint(table, constraint, "", context);
    }
    case PG_QUERY__ALTER_TABLE_TYPE__AT_DropColumn:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnType:
      if (is_key(table, name) && !table.by_partition)
        return refused("the distribution column \"" + std::string(name) + "\" cannot be dropped or change its type",
                       "Create a new table with the key you want and copy the rows.");
      return {};
    case PG_QUERY__ALTER_TABLE_TYPE__AT_AddInherit: {
      const catalog::Table* parent = lookup(context, as<PgQuery__RangeVar>(command->def));
      if (table.kind == TableKind::local && (parent == nullptr || parent->kind == TableKind::local)) return {};
      return refused("INHERIT with a sharded or reference table", "It is for local tables: use LIKE.");
    }
    default:
      if (table.kind == TableKind::local || fits_every_table(command->subtype)) return {};
      return refused("this form of ALTER TABLE of a sharded or reference table is not supported",
                     "It is for local tables.");
  }
}

// Of identity columns; with a column's type its sequence's bounds change.
bool touches_sequences(const PgQuery__AlterTableStmt* alter) {
  return std::any_of(alter->cmds, alter->cmds + alter->n_cmds, [](const Node* node) {
    auto* command = as<PgQuery__AlterTableCmd>(node);
    if (command == nullptr) return false;
    auto* column = as<PgQuery__ColumnDef>(command->def);
    return command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_AddIdentity ||
           command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_SetIdentity ||
           command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnType ||
           (command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_AddColumn && column != nullptr &&
            makes_sequence(column));
  });
}

Plan plan_alter_table(std::string_view sql, const PgQuery__AlterTableStmt* alter, const PlanContext& context) {
  const std::string tag = alter_tag(alter->objtype);
  const catalog::Table* table = lookup(context, alter->relation);
  TableUnderDefinition definition = under_definition(table, alter->relation, context);
  for (const Node* node : each(alter->n_cmds, alter->cmds)) {
    auto* command = as<PgQuery__AlterTableCmd>(node);
    if (command == nullptr) continue;
    if (auto status = tag == "ALTER TABLE" || tag == "ALTER VIEW" || tag == "ALTER FOREIGN TABLE"
                          ? check_alter(definition, command, context)
                          : Status();
        !status)
      return unsupported(status.error());
  }
  Plan plan = everywhere(tag, sql);
  Arena arena;
  auto filled = fill_new_columns(sql, tag == "ALTER TABLE" ? table : nullptr, alter, context, arena, *plan.ddl);
  if (!filled) return unsupported(filled.error());
  if (*filled != alter) {
    alter = *filled;
    auto text = deparse_statement(arena.node(arena.shallow(alter)));
    if (!text) return unsupported(text.error());
    plan.ddl->home_instead = {std::string(sql)};
    plan.ddl->everywhere[0] = std::move(*text);
  }
  plan.ddl->seals_sequences = touches_sequences(alter) || plan.ddl->new_columns;
  const bool retyped = std::any_of(alter->cmds, alter->cmds + alter->n_cmds, [](const Node* node) {
    auto* command = as<PgQuery__AlterTableCmd>(node);
    return command != nullptr && command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnType;
  });
  if (retyped && table != nullptr)
    plan.ddl->reopens_sequences_of = quote_identifier(table->schema) + "." + quote_identifier(table->name);
  if (auto status = strip_identity_options(plan, alter); !status) return unsupported(status.error());
  if (auto status = change_partition(table, alter, context, *plan.ddl); !status) return unsupported(status.error());
  if (auto status = include_leaves(table, alter, sql, *plan.ddl); !status) return unsupported(status.error());
  if (auto status = alter_leaves(table, alter, sql, *plan.ddl); !status) return unsupported(status.error());
  plan.ddl->unknown_relation = table == nullptr && tag == "ALTER TABLE";
  plan.ddl->moves_owner = std::any_of(alter->cmds, alter->cmds + alter->n_cmds, [](const Node* node) {
    auto* command = as<PgQuery__AlterTableCmd>(node);
    return command != nullptr && command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_ChangeOwner;
  });
  return plan;
}

Plan plan_drop(std::string_view sql, const PgQuery__DropStmt* drop, const PlanContext& context) {
  std::string tag = drop_tag(drop->remove_type);
  if (tag.empty())
    return unsupported("DROP of this kind of object is not supported", "PostgreSQL 15 knows no such statement.");
  if (of_home_alone(drop->remove_type)) {
    Plan plan = at_home(tag, sql);
    plan.ddl->changes_catalog = true;
    return plan;
  }
  Plan plan = everywhere(tag, sql);
  std::vector<Node*> lasting;
  for (Node* node : each(drop->n_objects, drop->objects)) {
    std::vector<std::string> names;
    if (auto* list = as<PgQuery__List>(node)) names = names_of(list->n_items, list->items);
    if (as<PgQuery__String>(node) != nullptr) names = {std::string(string_value(node))};
    if (names.empty()) {  // a function, a type
      lasting.push_back(node);
      continue;
    }
    bool qualified = names.size() > 1;
    if (reserved_schema(names[0]) && (qualified || tag == "DROP SCHEMA"))
      return unsupported(make_error("42501", "schema \"" + names[0] + "\" is reserved"));
    if (!qualified && context.temporary != nullptr && context.temporary->contains(names[0])) continue;
    lasting.push_back(node);
    if (tag == "DROP TABLE" && !qualified) {
      PgQuery__RangeVar range = PG_QUERY__RANGE_VAR__INIT;
      range.relname = names[0].data();
      if (lookup(context, &range) == nullptr) plan.ddl->unknown_relation = true;
    }
  }
  if (lasting.empty()) plan.ddl->unknown_relation = drop->n_objects > 0;
  if (!lasting.empty() && lasting.size() < drop->n_objects) {  // the other groups have those that are not temporary
    if (tag != "DROP TABLE" && tag != "DROP VIEW" && tag != "DROP SEQUENCE")
      return unsupported(tag + " of temporary and other objects together", "DROP them with statements of their own.");
    Arena arena;
    auto* others = arena.shallow(drop);
    others->n_objects = lasting.size();
    others->objects = lasting.data();
    auto text = deparse_statement(arena.node(others));
    if (!text) return unsupported(text.error());
    plan.ddl->home_instead = {std::string(sql)};
    plan.ddl->everywhere = {std::move(*text)};
    plan.ddl->unknown_relation = false;
  }
  if (tag == "DROP INDEX")
    if (auto status = drop_indexes(plan, drop); !status) return unsupported(status.error());
  // One with temporary tables in its arguments is the home's alone (temporary.cc).
  if ((tag == "DROP FUNCTION" || tag == "DROP PROCEDURE" || tag == "DROP ROUTINE" || tag == "DROP AGGREGATE") &&
      context.temporary != nullptr && !context.temporary->empty()) {
    Arena arena;
    auto* others = arena.shallow(drop);
    others->missing_ok = 1;
    auto text = deparse_statement(arena.node(others));
    if (!text) return unsupported(text.error());
    plan.ddl->home_instead = {std::string(sql)};
    plan.ddl->everywhere = {std::move(*text)};
  }
  return plan;
}

Plan plan_rename(std::string_view sql, const PgQuery__RenameStmt* rename, const PlanContext& context) {
  const bool column = rename->rename_type == PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN;
  const std::string tag = alter_tag(column ? rename->relation_type : rename->rename_type);
  if (tag.empty())
    return unsupported("RENAME of this kind of object is not supported", "PostgreSQL 15 knows no such statement.");
  if (rename->rename_type == PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE) return plan_rename_database(sql, rename);
  Plan plan = kind_everywhere(rename->rename_type, tag, sql);
  plan.ddl->unknown_relation = tag == "ALTER TABLE" && lookup(context, rename->relation) == nullptr;
  return plan;
}

Plan plan_view(std::string_view sql, const PgQuery__ViewStmt* view, const PlanContext& context) {
  if (is_temporary(view->view) && !reads_shards(view->query, context)) return temporary("CREATE VIEW");
  if (is_temporary(view->view)) return refuse_temporary_view();
  bool reads_virtual = false;
  walk(view->query, [&](const Message* message) {
    reads_virtual = reads_virtual || find_virtual(as<PgQuery__RangeVar>(message));
    return true;
  });
  if (reads_virtual) return unsupported("a view over pgmosaic's own relations", "Query them directly.");
  return everywhere("CREATE VIEW", sql);
}

// Passwords are hashed once, so that all groups hold the same verifier.
Plan plan_role(std::string_view sql, std::string tag, size_t count, Node* const* options) {
  Plan plan = no_new_epoch(std::move(tag), sql);
  for (size_t i = 0; i < count; ++i) {
    auto* option = as<PgQuery__DefElem>(options[i]);
    if (option == nullptr || text_of(option->defname) != "password") continue;
    auto* password = as<PgQuery__String>(option->arg);
    plan.ddl->hash_password = password != nullptr && !text_of(password->sval).empty();
  }
  return plan;
}

Plan plan_truncate(std::string_view sql, const PgQuery__TruncateStmt* truncate, const PlanContext& context) {
  Planning p(sql, context, nullptr);
  Level* level = p.statement.new_level(nullptr, nullptr);
  Plan plan;
  plan.command = "TRUNCATE TABLE";
  plan.returns_rows = false;
  plan.single_tag = true;
  plan.effects.writes = true;
  plan.target.kind = Target::Kind::home;
  for (const Node* node : each(truncate->n_relations, truncate->relations)) {
    auto* range = as<PgQuery__RangeVar>(node);
    if (range == nullptr) continue;
    const Instance& table = p.statement.add_table(level, range, -1);
    if (context.temporary != nullptr && text_of(range->schemaname).empty() &&
        context.temporary->contains(text_of(range->relname)) && truncate->n_relations > 1)
      return unsupported("TRUNCATE of temporary and other tables together", "TRUNCATE them one by one.");
    // CASCADE may reach tables of other kinds; every group has them all.
    if (table.placement != Instance::Placement::home ||
        (truncate->behavior == PG_QUERY__DROP_BEHAVIOR__DROP_CASCADE && table.table != nullptr))
      plan.target.kind = Target::Kind::everywhere;
    if (table.table != nullptr && table.table->has_statement_triggers && table.placement != Instance::Placement::home)
      return unsupported("TRUNCATE of a sharded or reference table with statement-level triggers",
                         "They would fire once per group: use DELETE.");
  }
  plan.guarded = plan.target.kind == Target::Kind::home && !context.database->guarded_tables.empty();
  if (truncate->restart_seqs && plan.target.kind == Target::Kind::everywhere) return plan_restart(sql, truncate);
  return plan;
}

}  // namespace

static std::optional<Plan> plan_privileges(std::string_view sql, const Node* root) {
  // Whether an owner may read tables and use schemas decides plans.
  if (auto* grant = as<PgQuery__GrantStmt>(root)) {
    Plan plan = naming_databases(everywhere(grant->is_grant ? "GRANT" : "REVOKE", sql), root);
    if (plan.ddl) plan.ddl->server_wide = of_server(grant->objtype) && plan.ddl->beside_home_instead.empty();
    return plan;
  }
  if (auto* grant = as<PgQuery__GrantRoleStmt>(root))
    return server_wide(no_new_epoch(grant->is_grant ? "GRANT ROLE" : "REVOKE ROLE", sql));
  if (auto* role = as<PgQuery__CreateRoleStmt>(root)) {
    Plan plan = server_wide(plan_role(sql, "CREATE ROLE", role->n_options, role->options));
    plan.ddl->object = std::string(text_of(role->role));
    return plan;
  }
  if (auto* role = as<PgQuery__AlterRoleStmt>(root)) {
    Plan plan = server_wide(plan_role(sql, "ALTER ROLE", role->n_options, role->options));
    if (role->role != nullptr) plan.ddl->object = std::string(text_of(role->role->rolename));
    return plan;
  }
  if (auto* alter = as<PgQuery__AlterRoleSetStmt>(root)) {
    Plan plan = no_new_epoch("ALTER ROLE", sql);
    return text_of(alter->database).empty() ? server_wide(std::move(plan)) : naming_databases(std::move(plan), root);
  }
  if (as<PgQuery__DropRoleStmt>(root) != nullptr) return server_wide(no_new_epoch("DROP ROLE", sql));
  if (auto* comment = as<PgQuery__CommentStmt>(root)) {
    Plan plan = kind_everywhere(comment->objtype, "COMMENT", sql);
    plan.ddl->changes_catalog = false;
    return plan;
  }
  return std::nullopt;
}

std::optional<Plan> plan_ddl(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto plan = plan_privileges(sql, root)) return plan;
  if (auto plan = plan_database(sql, root)) return plan;
  if (auto plan = plan_kind(sql, root, context)) return plan;
  if (auto plan = plan_sequence(sql, root)) return plan;
  if (auto plan = plan_object(sql, root, context)) return plan;
  if (auto* statement = as<PgQuery__AlterTableStmt>(root)) return plan_alter_table(sql, statement, context);
  if (auto plan = plan_index(sql, root, context)) return plan;
  if (auto* statement = as<PgQuery__DropStmt>(root)) return plan_drop(sql, statement, context);
  if (auto* statement = as<PgQuery__RenameStmt>(root)) return plan_rename(sql, statement, context);
  if (auto* statement = as<PgQuery__ViewStmt>(root)) return plan_view(sql, statement, context);
  if (auto* statement = as<PgQuery__TruncateStmt>(root)) return plan_truncate(sql, statement, context);
  if (auto* statement = as<PgQuery__AlterOwnerStmt>(root)) {
    const PgQuery__ObjectType type = statement->object_type;
    if (type == PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE)
      return naming_databases(everywhere("ALTER DATABASE", sql), root);
    Plan plan = kind_everywhere(type, alter_tag(type), sql);
    plan.ddl->moves_owner = !of_server(type) && !of_home_alone(type);
    return plan;
  }
  if (auto* statement = as<PgQuery__AlterObjectSchemaStmt>(root)) {
    if (reserved_schema(text_of(statement->newschema)))
      return unsupported(
          make_error("42501", "schema \"" + std::string(text_of(statement->newschema)) + "\" is reserved"));
    return everywhere(alter_tag(statement->object_type), sql);
  }
  if (auto* statement = as<PgQuery__CreateTableAsStmt>(root);
      statement != nullptr && statement->objtype == PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW)
    return plan_materialized_view(sql, statement, context);
  if (auto* select = as<PgQuery__SelectStmt>(root)) return plan_select_into(sql, select, context);
  return std::nullopt;
}

}  // namespace pgmosaic::plan
