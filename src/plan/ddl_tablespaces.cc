// Tablespaces belong to servers: each gets one of the same name, at the same place on its own disks.
#include "plan/kinds.h"

namespace pgmosaic::plan {

using namespace sql;

// CREATE and DROP cannot be in a transaction: see router/tablespaces.h.
static Plan one_by_one(std::string tag, std::string_view sql, const char* name) {
  Plan plan = everywhere(std::move(tag), sql);
  plan.no_transaction = true;
  plan.ddl->transactional = plan.ddl->changes_catalog = false;
  plan.ddl->server_wide = true;
  plan.ddl->object = std::string(text_of(name));
  return plan;
}

std::optional<Plan> plan_tablespace(std::string_view sql, const Node* root) {
  if (auto* create = as<PgQuery__CreateTableSpaceStmt>(root))
    return one_by_one("CREATE TABLESPACE", sql, create->tablespacename);
  if (auto* drop = as<PgQuery__DropTableSpaceStmt>(root))
    return one_by_one("DROP TABLESPACE", sql, drop->tablespacename);
  if (as<PgQuery__AlterTableSpaceOptionsStmt>(root) != nullptr)
    return kind_everywhere(PG_QUERY__OBJECT_TYPE__OBJECT_TABLESPACE, "ALTER TABLESPACE", sql);
  return std::nullopt;
}

}  // namespace pgmosaic::plan
