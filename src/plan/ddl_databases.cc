// Databases: each has one name for users, and on the home's server a second database beside it, for shards.
#include "pg/site_names.h"
#include "plan/kinds.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

// The statement with other names of databases, for the group on the home's server. Empty: it names none.
Result<std::string> for_shards_database(const Node* root) {
  Arena arena;
  auto renamed = [&](const char* name) { return arena.string(pg::shards_database_name(text_of(name))); };
  if (auto* create = as<PgQuery__CreatedbStmt>(root)) {
    auto* copy = arena.shallow(create);
    copy->dbname = renamed(create->dbname);
    return deparse_statement(arena.node(copy));
  }
  if (auto* drop = as<PgQuery__DropdbStmt>(root)) {
    auto* copy = arena.shallow(drop);
    copy->dbname = renamed(drop->dbname);
    return deparse_statement(arena.node(copy));
  }
  if (auto* reindex = as<PgQuery__ReindexStmt>(root);
      reindex != nullptr && reindex->kind != PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_SCHEMA) {
    auto* copy = arena.shallow(reindex);
    copy->name = renamed(reindex->name);
    return deparse_statement(arena.node(copy));
  }
  if (auto* rename = as<PgQuery__RenameStmt>(root);
      rename != nullptr && rename->rename_type == PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE) {
    auto* copy = arena.shallow(rename);
    copy->subname = renamed(rename->subname);
    copy->newname = renamed(rename->newname);
    return deparse_statement(arena.node(copy));
  }
  if (auto* alter = as<PgQuery__AlterDatabaseStmt>(root)) {
    auto* copy = arena.shallow(alter);
    copy->dbname = renamed(alter->dbname);
    return deparse_statement(arena.node(copy));
  }
  if (auto* alter = as<PgQuery__AlterDatabaseRefreshCollStmt>(root))  // which the deparser does not know
    return "ALTER DATABASE " + quote_identifier(text_of(renamed(alter->dbname))) + " REFRESH COLLATION VERSION";
  if (auto* alter = as<PgQuery__AlterDatabaseSetStmt>(root)) {
    auto* copy = arena.shallow(alter);
    copy->dbname = renamed(alter->dbname);
    return deparse_statement(arena.node(copy));
  }
  if (auto* alter = as<PgQuery__AlterRoleSetStmt>(root); alter != nullptr && !text_of(alter->database).empty()) {
    auto* copy = arena.shallow(alter);
    copy->database = renamed(alter->database);
    return deparse_statement(arena.node(copy));
  }
  if (auto* alter = as<PgQuery__AlterOwnerStmt>(root);
      alter != nullptr && alter->object_type == PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE) {
    auto* copy = arena.shallow(alter);
    copy->object = arena.string_node(pg::shards_database_name(string_value(alter->object)));
    return deparse_statement(arena.node(copy));
  }
  if (auto* grant = as<PgQuery__GrantStmt>(root);
      grant != nullptr && grant->objtype == PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE) {
    auto* copy = arena.shallow(grant);
    std::vector<Node*> names;
    for (std::size_t i = 0; i < grant->n_objects; ++i)
      names.push_back(arena.string_node(pg::shards_database_name(string_value(grant->objects[i]))));
    copy->objects = arena.list(names);
    return deparse_statement(arena.node(copy));
  }
  return std::string();
}

// All of the cluster's databases are in UTF8, as preflight demands.
bool other_encoding(const PgQuery__CreatedbStmt* create) {
  for (const Node* node : each(create->n_options, create->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr || text_of(option->defname) != "encoding" || inner(option->arg) == nullptr) continue;
    auto* name = as<PgQuery__String>(option->arg);
    if (name == nullptr) return true;  // its number
    std::string plain;
    for (const char c : text_of(name->sval))
      if (std::isalnum(static_cast<unsigned char>(c))) plain += static_cast<char>(std::tolower(c));
    if (plain != "utf8" && plain != "unicode") return true;
  }
  return false;
}

bool copied_from(const PgQuery__CreatedbStmt* create) {
  for (const Node* node : each(create->n_options, create->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr || text_of(option->defname) != "template" || inner(option->arg) == nullptr) continue;
    auto* name = as<PgQuery__String>(option->arg);
    if (name == nullptr || (text_of(name->sval) != "template0" && text_of(name->sval) != "template1")) return true;
  }
  return false;
}

Plan plan_create_database(std::string_view sql, const PgQuery__CreatedbStmt* create) {
  if (other_encoding(create))
    return unsupported("a database with another encoding than UTF8 is not supported",
                       "Leave ENCODING out; clients may use any client_encoding.");
  if (copied_from(create))
    return unsupported("CREATE DATABASE from another template than template0 and template1 is not supported",
                       "Create the database, then restore a dump of the other one into it.");
  Plan plan = everywhere("CREATE DATABASE", sql);
  plan.no_transaction = true;
  plan.ddl->transactional = false;
  plan.ddl->object = std::string(text_of(create->dbname));
  return plan;
}

Plan plan_drop_database(std::string_view sql, const PgQuery__DropdbStmt* drop) {
  Plan plan = everywhere("DROP DATABASE", sql);
  plan.no_transaction = true;
  plan.ddl->transactional = false;
  plan.ddl->object = std::string(text_of(drop->dbname));
  plan.ddl->force = drop->n_options > 0;  // the grammar knows no other
  return plan;
}

// CONNECTION LIMIT, IS_TEMPLATE.
Plan plan_alter_database(std::string_view sql, const PgQuery__AlterDatabaseStmt* alter) {
  for (const Node* node : each(alter->n_options, alter->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr) continue;
    if (text_of(option->defname) == "tablespace")
      return unsupported("ALTER DATABASE ... SET TABLESPACE is not supported",
                         "Move its tables: ALTER TABLE ALL IN TABLESPACE ... SET TABLESPACE.");
    if (text_of(option->defname) == "allow_connections")
      return unsupported("ALTER DATABASE ... ALLOW_CONNECTIONS is not supported",
                         "The router itself has to connect: REVOKE CONNECT ON DATABASE ... FROM PUBLIC.");
  }
  Plan plan = everywhere("ALTER DATABASE", sql);
  plan.ddl->changes_catalog = false;
  return plan;
}

}  // namespace

Plan naming_databases(Plan plan, const Node* root) {
  if (plan.kind != PlanKind::ddl) return plan;
  auto text = for_shards_database(root);
  if (!text) return unsupported(text.error());
  plan.ddl->beside_home_instead = std::move(*text);
  return plan;
}

Plan plan_rename_database(std::string_view sql, const PgQuery__RenameStmt* rename) {
  Plan plan = everywhere("ALTER DATABASE", sql);
  plan.no_transaction = true;
  plan.ddl->transactional = false;
  plan.ddl->alone = "ALTER DATABASE ... RENAME";
  plan.ddl->object = std::string(text_of(rename->subname));
  plan.ddl->renamed_to = std::string(text_of(rename->newname));
  Arena arena;
  return naming_databases(std::move(plan), arena.node(const_cast<PgQuery__RenameStmt*>(rename)));
}

std::optional<Plan> plan_database(std::string_view sql, const Node* root) {
  if (auto* create = as<PgQuery__CreatedbStmt>(root)) return naming_databases(plan_create_database(sql, create), root);
  if (auto* drop = as<PgQuery__DropdbStmt>(root)) return naming_databases(plan_drop_database(sql, drop), root);
  if (auto* alter = as<PgQuery__AlterDatabaseStmt>(root))
    return naming_databases(plan_alter_database(sql, alter), root);
  if (as<PgQuery__AlterDatabaseSetStmt>(root) == nullptr && as<PgQuery__AlterDatabaseRefreshCollStmt>(root) == nullptr)
    return std::nullopt;
  Plan plan = everywhere("ALTER DATABASE", sql);
  plan.ddl->changes_catalog = false;
  return naming_databases(std::move(plan), root);
}

}  // namespace pgmosaic::plan
