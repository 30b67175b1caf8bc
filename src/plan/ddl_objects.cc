// Schema objects without rows of their own – functions, triggers, operators, extensions, … – which every group gets as
// the home does.
#include "plan/ddl_checks.h"
#include "plan/function_body.h"
#include "plan/function_traits.h"
#include "plan/partitions.h"
#include "plan/planning.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;
using Touches = catalog::UserFunction::Touches;

namespace {

std::string option_text(const PgQuery__CreateFunctionStmt* create, std::string_view name) {
  for (const Node* node : each(create->n_options, create->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr || text_of(option->defname) != name) continue;
    if (auto* value = as<PgQuery__String>(option->arg)) return std::string(text_of(value->sval));
    if (auto* list = as<PgQuery__List>(option->arg); list != nullptr && list->n_items > 0)
      return std::string(string_value(list->items[0]));
  }
  return {};
}

// A trigger runs on the group that has the row. What it may touch there is what every group has.
Plan plan_function(std::string_view sql, const PgQuery__CreateFunctionStmt* create, const PlanContext& context) {
  const char* kind = create->is_procedure ? "CREATE PROCEDURE" : "CREATE FUNCTION";
  const bool trigger = create->return_type != nullptr &&
                       last_name(create->return_type->n_names, create->return_type->names) == "trigger";
  if (trigger) {
    FunctionText text;
    text.name = last_name(create->n_funcname, create->funcname);
    text.language = option_text(create, "language");
    text.body = option_text(create, "as");
    const catalog::UserFunction function = read_function(text, *context.database);
    if (function.touches == Touches::shards)
      return unsupported("a trigger function that may touch " + function.what,
                         "It would see the rows of one group: do it in a statement of its own.");
  }
  Plan plan = everywhere(kind, sql);
  if (context.temporary != nullptr) {  // its body may name them: the home checks it for all
    plan.ddl->home_instead = {std::string(sql)};
    plan.ddl->everywhere[0] = "SET LOCAL check_function_bodies = off;" + std::string(sql);
  }
  return plan;
}

Plan plan_trigger(std::string_view sql, const PgQuery__CreateTrigStmt* create, const PlanContext& context) {
  const catalog::Table* table = lookup(context, create->relation);
  const std::string name(last_name(create->n_funcname, create->funcname));
  if (table != nullptr && has_leaves(*table) && names_tableoid(create->when_clause))
    return unsupported("tableoid in a trigger of a table that is sharded by hash",
                       "It is a shard's there: name the table.");
  const auto known = context.database->user_functions.find(name);
  if (known != context.database->user_functions.end() && table != nullptr) {
    const catalog::UserFunction& function = known->second;
    const bool spread = table->kind == TableKind::sharded || table->kind == TableKind::reference;
    const bool copies = function.touches == Touches::reference && !function.writes;
    if (function.touches == Touches::shards || (spread && function.touches != Touches::nothing && !copies))
      return unsupported("a trigger on " + std::string(spread ? "a sharded or reference table" : "a local table") +
                             " whose function may touch " + function.what,
                         "The trigger runs on the group that has the row, which has no other group's rows.");
  }
  if (known != context.database->user_functions.end() && table != nullptr && table->kind == TableKind::reference &&
      known->second.differs)
    return unsupported("a trigger on a reference table whose function computes what differs between servers",
                       "Leave now(), random() and their kin out of it: use a default instead.");
  Plan plan = everywhere("CREATE TRIGGER", sql);
  plan.ddl->unknown_relation = table == nullptr;
  return plan;
}

Plan plan_schema(std::string_view sql, const PgQuery__CreateSchemaStmt* create, const PlanContext& context) {
  if (create->n_schema_elts > 0 && context.default_sharded)
    return unsupported("CREATE SCHEMA with objects in it where tables are sharded by default",
                       "Create the schema first, then its objects.");
  if (reserved_schema(text_of(create->schemaname)))
    return unsupported(make_error("42939", "schema \"" + std::string(text_of(create->schemaname)) + "\" is reserved"));
  Plan plan = everywhere("CREATE SCHEMA", sql);
  plan.ddl->seals_sequences = create->n_schema_elts > 0;
  return plan;
}

// Row security: who may see a row must not depend on rows that the group does not have.
Plan plan_policy(std::string_view sql, std::string tag, const PgQuery__RangeVar* relation, const Node* qualification,
                 const Node* check, const PlanContext& context) {
  const catalog::Table* table = lookup(context, relation);
  if (table != nullptr && table->kind != TableKind::local)
    for (const Node* expression : {qualification, check})
      if (auto status = check_computed_by_groups(expression, context, "a policy"); !status.ok())
        return unsupported(std::move(status.error()));
  Plan plan = everywhere(std::move(tag), sql);
  plan.ddl->changes_catalog = false;
  plan.ddl->unknown_relation = table == nullptr;
  return plan;
}

// Any table may have a column of it.
Plan plan_domain(std::string_view sql, std::string tag, const Node* root, const PlanContext& context) {
  if (auto status = check_computed_by_groups(root, context, "a domain, which may be a column"); !status.ok())
    return unsupported(std::move(status.error()));
  return everywhere(std::move(tag), sql);
}

std::string definition_tag(PgQuery__ObjectType kind) {
  switch (kind) {
    case PG_QUERY__OBJECT_TYPE__OBJECT_AGGREGATE: return "CREATE AGGREGATE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_OPERATOR: return "CREATE OPERATOR";
    case PG_QUERY__OBJECT_TYPE__OBJECT_COLLATION: return "CREATE COLLATION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TYPE: return "CREATE TYPE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSPARSER: return "CREATE TEXT SEARCH PARSER";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSDICTIONARY: return "CREATE TEXT SEARCH DICTIONARY";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSTEMPLATE: return "CREATE TEXT SEARCH TEMPLATE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSCONFIGURATION: return "CREATE TEXT SEARCH CONFIGURATION";
    default: return {};
  }
}

// Statements that every group runs as they are, and their command tags.
std::string plain_tag(const Node* root) {
  if (as<PgQuery__CreateRangeStmt>(root)) return "CREATE TYPE";
  if (as<PgQuery__CreateEnumStmt>(root) || as<PgQuery__CompositeTypeStmt>(root)) return "CREATE TYPE";
  if (as<PgQuery__AlterEnumStmt>(root)) return "ALTER TYPE";
  if (as<PgQuery__AlterTypeStmt>(root)) return "ALTER TYPE";
  if (as<PgQuery__CreateCastStmt>(root)) return "CREATE CAST";
  if (as<PgQuery__CreateConversionStmt>(root)) return "CREATE CONVERSION";
  if (as<PgQuery__CreateOpClassStmt>(root)) return "CREATE OPERATOR CLASS";
  if (as<PgQuery__CreateOpFamilyStmt>(root)) return "CREATE OPERATOR FAMILY";
  if (as<PgQuery__AlterOpFamilyStmt>(root)) return "ALTER OPERATOR FAMILY";
  if (as<PgQuery__AlterOperatorStmt>(root)) return "ALTER OPERATOR";
  if (as<PgQuery__AlterCollationStmt>(root)) return "ALTER COLLATION";
  if (as<PgQuery__AlterTSDictionaryStmt>(root)) return "ALTER TEXT SEARCH DICTIONARY";
  if (as<PgQuery__AlterTSConfigurationStmt>(root)) return "ALTER TEXT SEARCH CONFIGURATION";
  if (as<PgQuery__CreateExtensionStmt>(root)) return "CREATE EXTENSION";
  if (as<PgQuery__AlterExtensionStmt>(root)) return "ALTER EXTENSION";
  if (as<PgQuery__AlterExtensionContentsStmt>(root)) return "ALTER EXTENSION";
  if (as<PgQuery__CreateStatsStmt>(root)) return "CREATE STATISTICS";
  if (as<PgQuery__AlterStatsStmt>(root)) return "ALTER STATISTICS";
  if (as<PgQuery__CreatePLangStmt>(root)) return "CREATE LANGUAGE";
  if (as<PgQuery__CreateTransformStmt>(root)) return "CREATE TRANSFORM";
  if (as<PgQuery__CreateAmStmt>(root)) return "CREATE ACCESS METHOD";
  if (as<PgQuery__AlterDefaultPrivilegesStmt>(root)) return "ALTER DEFAULT PRIVILEGES";
  if (auto* define = as<PgQuery__DefineStmt>(root)) return definition_tag(define->kind);
  if (auto* alter = as<PgQuery__AlterFunctionStmt>(root)) {
    if (alter->objtype == PG_QUERY__OBJECT_TYPE__OBJECT_PROCEDURE) return "ALTER PROCEDURE";
    return alter->objtype == PG_QUERY__OBJECT_TYPE__OBJECT_ROUTINE ? "ALTER ROUTINE" : "ALTER FUNCTION";
  }
  return {};
}

}  // namespace

// Its rows are the home's; the other groups have it without data.
Plan plan_materialized_view(std::string_view sql, const PgQuery__CreateTableAsStmt* create,
                            const PlanContext& context) {
  Arena arena;
  Plan query = plan_tree(sql, create->query, context);
  if (query.kind == PlanKind::unsupported) return query;
  if (!query.virtual_relations.empty())
    return unsupported("a materialized view of what only the router knows", "CREATE TABLE ... AS the query.");
  if (query.target.kind == Target::Kind::everywhere && query.multi_group_error)
    return unsupported(std::move(*query.multi_group_error));
  const bool at_home = query.target.kind == Target::Kind::any || query.target.kind == Target::Kind::home;
  auto* empty = arena.shallow(create);
  empty->into = arena.shallow(create->into);
  empty->into->skip_data = 1;
  auto text = deparse_statement(arena.node(empty));
  if (!text) return unsupported(text.error());
  Plan plan = everywhere(create->into->skip_data ? "CREATE MATERIALIZED VIEW" : "SELECT", *text);
  if (at_home || create->into->skip_data) {
    plan.ddl->home_instead = {std::string(sql)};
    return plan;
  }
  auto name = deparse_from_item(arena.node(create->into->rel));
  if (!name) return unsupported(name.error());
  plan.ddl->view_rows = {.name = std::move(*name), .refresh = {}, .if_not_exists = create->if_not_exists != 0};
  return plan;
}

// The home knows what the view is made of.
Plan plan_refresh(std::string_view sql, const PgQuery__RefreshMatViewStmt* refresh) {
  Arena arena;
  auto name = deparse_from_item(arena.node(refresh->relation));
  if (!name) return unsupported(name.error());
  Plan plan = everywhere("REFRESH MATERIALIZED VIEW", sql);
  plan.ddl->changes_catalog = false;
  plan.ddl->everywhere.clear();
  plan.ddl->view_rows = {.name = std::move(*name), .refresh = std::string(sql)};
  plan.ddl->view_rows->concurrently = refresh->concurrent;
  return plan;
}

std::optional<Plan> plan_object(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto* create = as<PgQuery__CreateFunctionStmt>(root)) return plan_function(sql, create, context);
  if (auto* create = as<PgQuery__CreateTrigStmt>(root)) return plan_trigger(sql, create, context);
  if (auto plan = plan_code(sql, root, context)) return plan;
  if (auto* statement = as<PgQuery__RefreshMatViewStmt>(root); statement != nullptr && !statement->skip_data)
    return plan_refresh(sql, statement);
  if (auto* statement = as<PgQuery__CreateSchemaStmt>(root)) return plan_schema(sql, statement, context);
  if (as<PgQuery__CreateDomainStmt>(root)) return plan_domain(sql, "CREATE DOMAIN", root, context);
  if (as<PgQuery__AlterDomainStmt>(root)) return plan_domain(sql, "ALTER DOMAIN", root, context);
  if (auto* policy = as<PgQuery__CreatePolicyStmt>(root))
    return plan_policy(sql, "CREATE POLICY", policy->table, policy->qual, policy->with_check, context);
  if (auto* policy = as<PgQuery__AlterPolicyStmt>(root))
    return plan_policy(sql, "ALTER POLICY", policy->table, policy->qual, policy->with_check, context);
  if (std::string tag = plain_tag(root); !tag.empty()) return everywhere(std::move(tag), sql);
  return std::nullopt;
}

}  // namespace pgmosaic::plan
