// Kinds of objects that are the same on every server and of which no plan depends: their names in command tags, and the
// statements about them that every group, or the home alone, runs as they are.
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/kinds.h"
#include "plan/planning.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

std::string kind_of_object(PgQuery__ObjectType type) {
  switch (type) {
    case PG_QUERY__OBJECT_TYPE__OBJECT_ACCESS_METHOD: return "ACCESS METHOD";
    case PG_QUERY__OBJECT_TYPE__OBJECT_AGGREGATE: return "AGGREGATE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_ATTRIBUTE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_TYPE: return "TYPE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_CAST: return "CAST";
    case PG_QUERY__OBJECT_TYPE__OBJECT_COLLATION: return "COLLATION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN:
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABCONSTRAINT:
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE: return "TABLE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_CONVERSION: return "CONVERSION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE: return "DATABASE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_DOMAIN:
    case PG_QUERY__OBJECT_TYPE__OBJECT_DOMCONSTRAINT: return "DOMAIN";
    case PG_QUERY__OBJECT_TYPE__OBJECT_EVENT_TRIGGER: return "EVENT TRIGGER";
    case PG_QUERY__OBJECT_TYPE__OBJECT_EXTENSION: return "EXTENSION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_FDW: return "FOREIGN DATA WRAPPER";
    case PG_QUERY__OBJECT_TYPE__OBJECT_FOREIGN_SERVER: return "SERVER";
    case PG_QUERY__OBJECT_TYPE__OBJECT_FOREIGN_TABLE: return "FOREIGN TABLE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_FUNCTION: return "FUNCTION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_INDEX: return "INDEX";
    case PG_QUERY__OBJECT_TYPE__OBJECT_LANGUAGE: return "LANGUAGE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_LARGEOBJECT: return "LARGE OBJECT";
    case PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW: return "MATERIALIZED VIEW";
    case PG_QUERY__OBJECT_TYPE__OBJECT_OPCLASS: return "OPERATOR CLASS";
    case PG_QUERY__OBJECT_TYPE__OBJECT_OPERATOR: return "OPERATOR";
    case PG_QUERY__OBJECT_TYPE__OBJECT_OPFAMILY: return "OPERATOR FAMILY";
    case PG_QUERY__OBJECT_TYPE__OBJECT_POLICY: return "POLICY";
    case PG_QUERY__OBJECT_TYPE__OBJECT_PROCEDURE: return "PROCEDURE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_PUBLICATION: return "PUBLICATION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_ROLE: return "ROLE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_ROUTINE: return "ROUTINE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_RULE: return "RULE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_SCHEMA: return "SCHEMA";
    case PG_QUERY__OBJECT_TYPE__OBJECT_SEQUENCE: return "SEQUENCE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_STATISTIC_EXT: return "STATISTICS";
    case PG_QUERY__OBJECT_TYPE__OBJECT_SUBSCRIPTION: return "SUBSCRIPTION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABLESPACE: return "TABLESPACE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TRANSFORM: return "TRANSFORM";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TRIGGER: return "TRIGGER";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSCONFIGURATION: return "TEXT SEARCH CONFIGURATION";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSDICTIONARY: return "TEXT SEARCH DICTIONARY";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSPARSER: return "TEXT SEARCH PARSER";
    case PG_QUERY__OBJECT_TYPE__OBJECT_TSTEMPLATE: return "TEXT SEARCH TEMPLATE";
    case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW: return "VIEW";
    default: return {};
  }
}

std::string drop_tag(PgQuery__ObjectType type) {
  const std::string kind = kind_of_object(type);
  return kind.empty() ? kind : "DROP " + kind;
}

std::string alter_tag(PgQuery__ObjectType type) {
  const std::string kind = kind_of_object(type);
  return kind.empty() ? kind : "ALTER " + kind;
}

Plan at_home(std::string tag, std::string_view sql) {
  Plan plan = everywhere(std::move(tag), "");
  plan.ddl->home_instead = {std::string(sql)};
  plan.ddl->changes_catalog = false;
  return plan;
}

// Of these the home alone has any: an event trigger fires once, at the server that runs schema changes as they are
// written, and a subscription applies rows to the home's own tables.
bool of_home_alone(PgQuery__ObjectType type) {
  return type == PG_QUERY__OBJECT_TYPE__OBJECT_EVENT_TRIGGER || type == PG_QUERY__OBJECT_TYPE__OBJECT_SUBSCRIPTION;
}

// Of these a server has one, whichever of its databases asks.
bool of_server(PgQuery__ObjectType type) {
  return type == PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE || type == PG_QUERY__OBJECT_TYPE__OBJECT_ROLE ||
         type == PG_QUERY__OBJECT_TYPE__OBJECT_TABLESPACE || type == PG_QUERY__OBJECT_TYPE__OBJECT_PARAMETER_ACL;
}

Plan kind_everywhere(PgQuery__ObjectType type, std::string tag, std::string_view sql) {
  if (of_home_alone(type)) return at_home(std::move(tag), sql);
  Plan plan = everywhere(std::move(tag), sql);
  plan.ddl->server_wide = of_server(type);
  return plan;
}

namespace {

Plan plan_security_label(std::string_view sql, const PgQuery__SecLabelStmt* label) {
  Plan plan = kind_everywhere(label->objtype, "SECURITY LABEL", sql);
  plan.ddl->changes_catalog = false;
  return plan;
}

// LOAD stays in the process that runs it.
Plan plan_load() {
  Plan plan = temporary("LOAD");
  plan.effects.not_preparable = false;
  return plan;
}

Plan plan_foreign_table(std::string_view sql, const PgQuery__CreateForeignTableStmt* create,
                        const PlanContext& context) {
  const PgQuery__CreateStmt* base = create->base_stmt;
  if (is_temporary(base->relation)) return temporary("CREATE FOREIGN TABLE");
  for (const Node* node : each(base->n_inh_relations, base->inh_relations)) {
    const catalog::Table* parent = lookup(context, as<PgQuery__RangeVar>(node));
    if (parent != nullptr && parent->kind != catalog::TableKind::local)
      return unsupported("a foreign table as a part of the sharded or reference table \"" + parent->name + "\"",
                         "Leave the table local: WITH (table_type = 'local').");
  }
  if (reserved_schema(text_of(base->relation->schemaname)))
    return unsupported(
        make_error("42939", "schema \"" + std::string(text_of(base->relation->schemaname)) + "\" is reserved"));
  Plan plan = everywhere("CREATE FOREIGN TABLE", sql);
  plan.ddl->new_table = Ddl::NewTable{std::string(text_of(base->relation->schemaname)),
                                      std::string(text_of(base->relation->relname)), catalog::TableKind::local};
  return plan;
}

// Statements that the home runs as they are, and their tags.
std::string home_tag(const Node* root) {
  if (as<PgQuery__CreateEventTrigStmt>(root) != nullptr) return "CREATE EVENT TRIGGER";
  if (as<PgQuery__AlterEventTrigStmt>(root) != nullptr) return "ALTER EVENT TRIGGER";
  return {};
}

std::string everywhere_tag(const Node* root) {
  if (as<PgQuery__CreateFdwStmt>(root) != nullptr) return "CREATE FOREIGN DATA WRAPPER";
  if (as<PgQuery__AlterFdwStmt>(root) != nullptr) return "ALTER FOREIGN DATA WRAPPER";
  if (as<PgQuery__CreateForeignServerStmt>(root) != nullptr) return "CREATE SERVER";
  if (as<PgQuery__AlterForeignServerStmt>(root) != nullptr) return "ALTER SERVER";
  if (as<PgQuery__CreateUserMappingStmt>(root) != nullptr) return "CREATE USER MAPPING";
  if (as<PgQuery__AlterUserMappingStmt>(root) != nullptr) return "ALTER USER MAPPING";
  if (as<PgQuery__DropUserMappingStmt>(root) != nullptr) return "DROP USER MAPPING";
  if (as<PgQuery__ImportForeignSchemaStmt>(root) != nullptr) return "IMPORT FOREIGN SCHEMA";
  if (auto* alter = as<PgQuery__AlterObjectDependsStmt>(root)) return alter_tag(alter->object_type);
  if (auto* move = as<PgQuery__AlterTableMoveAllStmt>(root)) return alter_tag(move->objtype);
  return {};
}

}  // namespace

std::optional<Plan> plan_kind(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto plan = plan_owned(sql, root)) return plan;
  if (auto plan = plan_publication(sql, root, context)) return plan;
  if (auto plan = plan_subscription(sql, root)) return plan;
  if (auto plan = plan_tablespace(sql, root)) return plan;
  if (auto* create = as<PgQuery__CreateForeignTableStmt>(root)) return plan_foreign_table(sql, create, context);
  if (auto* rule = as<PgQuery__RuleStmt>(root)) return plan_rule(sql, rule, context);
  if (auto* label = as<PgQuery__SecLabelStmt>(root)) return plan_security_label(sql, label);
  if (as<PgQuery__LoadStmt>(root) != nullptr) return plan_load();
  if (as<PgQuery__AlterSystemStmt>(root) != nullptr)
    return unsupported("ALTER SYSTEM is not supported",
                       "It belongs to one server, and there are several: run it on each, without the router. ALTER "
                       "DATABASE and ALTER ROLE ... SET reach all of them.");
  if (std::string tag = home_tag(root); !tag.empty()) {
    Plan plan = at_home(std::move(tag), sql);
    plan.ddl->changes_catalog = true;  // of functions matters what calls them
    return plan;
  }
  if (std::string tag = everywhere_tag(root); !tag.empty()) return everywhere(std::move(tag), sql);
  return std::nullopt;
}

}  // namespace pgmosaic::plan
