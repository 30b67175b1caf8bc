// DROP OWNED and REASSIGN OWNED: every group runs them. The group on the home's server must leave alone what the two
// databases share – databases, tablespaces, privileges on them –, which the home's transaction has changed already: it
// would wait for that transaction, and so for itself.
#include "plan/kinds.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

// Roles as elements of a list in SQL: their names.
std::string role_names(size_t count, Node** roles) {
  std::string names;
  for (const Node* node : each(count, roles)) {
    auto* role = as<PgQuery__RoleSpec>(node);
    if (role == nullptr) continue;
    names += names.empty() ? "" : ", ";
    switch (role->roletype) {
      case PG_QUERY__ROLE_SPEC_TYPE__ROLESPEC_SESSION_USER: names += "session_user"; break;
      case PG_QUERY__ROLE_SPEC_TYPE__ROLESPEC_CSTRING: names += quote_literal(text_of(role->rolename)); break;
      default: names += "current_user"; break;
    }
  }
  return names;
}

std::string role_text(const PgQuery__RoleSpec* role) {
  switch (role->roletype) {
    case PG_QUERY__ROLE_SPEC_TYPE__ROLESPEC_SESSION_USER: return "SESSION_USER";
    case PG_QUERY__ROLE_SPEC_TYPE__ROLESPEC_CSTRING: return quote_identifier(text_of(role->rolename));
    default: return "CURRENT_USER";
  }
}

std::string block(std::string_view sql, const std::string& names, std::string_view shared, const std::string& where) {
  return "DO LANGUAGE plpgsql $pgmosaic$ DECLARE o record; roles pg_catalog.oid[] := ARRAY(SELECT oid FROM "
         "pg_catalog.pg_roles WHERE rolname IN (" +
         names + ")); BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_shdepend WHERE dbid = 0 AND deptype = '" +
         std::string(shared) +
         "' AND refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND refobjid = ANY (roles)) THEN " +
         std::string(sql) + "; RETURN; END IF; " + where + " END $pgmosaic$";
}

// ALTER … OWNER TO of all that is in this database. Sequences of columns follow their tables.
std::string reassign_here(std::string_view sql, const PgQuery__ReassignOwnedStmt* reassign) {
  const std::string each_object =
      "FOR o IN SELECT CASE i.type WHEN 'statistics object' THEN 'statistics' WHEN 'foreign-data wrapper' THEN "
      "'foreign data wrapper' ELSE i.type END AS kind, i.identity FROM pg_catalog.pg_shdepend d CROSS JOIN LATERAL "
      "pg_catalog.pg_identify_object(d.classid, d.objid, 0) i WHERE d.dbid = (SELECT oid FROM pg_catalog.pg_database "
      "WHERE datname = pg_catalog.current_database()) AND d.deptype = 'o' AND d.refclassid = "
      "'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid = ANY (roles) AND i.type NOT IN ('default acl', "
      "'user mapping') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend s WHERE s.classid = d.classid AND s.objid = "
      "d.objid AND s.objsubid = 0 AND s.deptype IN ('a', 'i') AND i.type = 'sequence') LOOP "
      "IF o.kind = 'extension' THEN RAISE feature_not_supported USING MESSAGE = pg_catalog.format("
      "'REASSIGN OWNED of a role that owns databases or tablespaces and the extension %s', o.identity), HINT = "
      "'Give the databases and tablespaces another owner first: ALTER DATABASE ... OWNER TO.'; END IF; "
      "EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %s', o.kind, o.identity, ";
  return block(sql, role_names(reassign->n_roles, reassign->roles), "o",
               each_object + quote_literal(role_text(reassign->newrole)) + "); END LOOP;");
}

std::string drop_here(std::string_view sql, const PgQuery__DropOwnedStmt* drop) {
  return block(
      sql, role_names(drop->n_roles, drop->roles), "a",
      "RAISE feature_not_supported USING MESSAGE = 'DROP OWNED of a role with privileges on databases, "
      "tablespaces or settings', HINT = 'REVOKE those first, and commit: REVOKE ALL ON DATABASE ... FROM ...';");
}

}  // namespace

std::optional<Plan> plan_owned(std::string_view sql, const Node* root) {
  if (auto* reassign = as<PgQuery__ReassignOwnedStmt>(root)) {
    Plan plan = everywhere("REASSIGN OWNED", sql);
    plan.ddl->beside_home_instead = reassign_here(sql, reassign);
    return plan;
  }
  if (auto* drop = as<PgQuery__DropOwnedStmt>(root)) {
    Plan plan = everywhere("DROP OWNED", sql);
    plan.ddl->beside_home_instead = drop_here(sql, drop);
    return plan;
  }
  return std::nullopt;
}

}  // namespace pgmosaic::plan
