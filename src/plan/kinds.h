// Objects beside tables, functions and types that statements make, change and drop. Internal to plan/.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "plan/planning.h"

namespace pgmosaic::plan {

// ddl_kinds.cc
// "TABLE", "TEXT SEARCH PARSER", … as in PostgreSQL's command tags; empty: no object that can be named.
std::string kind_of_object(PgQuery__ObjectType type);
std::string drop_tag(PgQuery__ObjectType type);   // "DROP TABLE"; empty: as above
std::string alter_tag(PgQuery__ObjectType type);  // "ALTER TABLE"
// A schema change of the home's alone, which no plan depends on.
Plan at_home(std::string tag, std::string_view sql);
bool of_home_alone(PgQuery__ObjectType type);
bool of_server(PgQuery__ObjectType type);
// Where the objects of this kind are.
Plan kind_everywhere(PgQuery__ObjectType type, std::string tag, std::string_view sql);
// nullopt: none of these statements.
std::optional<Plan> plan_kind(std::string_view sql, const sql::Node* root, const PlanContext& context);

// ddl_databases.cc
Plan naming_databases(Plan plan, const sql::Node* root);  // adds the text for the group beside the home
std::optional<Plan> plan_database(std::string_view sql, const sql::Node* root);
Plan plan_rename_database(std::string_view sql, const PgQuery__RenameStmt* rename);

// ddl_leaves.cc: changes ddl.everywhere where leaves are to follow
Status alter_leaves(const catalog::Table* table, const PgQuery__AlterTableStmt* alter, std::string_view sql, Ddl& ddl);
// ddl_owned.cc: DROP OWNED and REASSIGN OWNED
std::optional<Plan> plan_owned(std::string_view sql, const sql::Node* root);
// ddl_publications.cc
std::optional<Plan> plan_publication(std::string_view sql, const sql::Node* root, const PlanContext& context);
// ddl_subscriptions.cc
std::optional<Plan> plan_subscription(std::string_view sql, const sql::Node* root);
// ddl_tablespaces.cc
std::optional<Plan> plan_tablespace(std::string_view sql, const sql::Node* root);
// rewrite_rules.cc
Plan plan_rule(std::string_view sql, const PgQuery__RuleStmt* rule, const PlanContext& context);

}  // namespace pgmosaic::plan
