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
  return "DO LANGUAGE plpgsql $pgmosaic$ DECLARE o record; name pg_catalog.text; path pg_catalog.text := "
         "pg_catalog.current_setting('search_path'); here pg_catalog.oid; roles pg_catalog.oid[] := ARRAY(SELECT oid "
         "FROM "
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

// What DROP OWNED does within one database, statement by statement: privileges, policies, default privileges, objects.
// The home has done it as well, with all that can be said against it: CASCADE reaches nothing else here than what hangs
// on the home's objects, too. (Sequences of columns, types of tables and members of extensions go with these.)
constexpr std::string_view kDropHere = R"(
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
  SELECT oid INTO here FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database();
  FOR o IN
    SELECT pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s', pg_catalog.pg_get_userbyid(a.defaclrole),
                             ' IN SCHEMA ' || (SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_namespace
                                               WHERE oid = a.defaclnamespace)) AS command,
           CASE a.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                                WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END AS kind,
           a.defaclrole = ANY (roles) AS own, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.defaclrole)) AS owner,
           a.defaclnamespace = 0 AS everywhere,
           ARRAY(SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE
                                   pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END
                 FROM pg_catalog.aclexplode(a.defaclacl)
                 WHERE a.defaclrole = ANY (roles) OR grantee = ANY (roles)) AS grantees
    FROM pg_catalog.pg_default_acl a
    WHERE a.defaclrole = ANY (roles)
      OR EXISTS (SELECT FROM pg_catalog.aclexplode(a.defaclacl) WHERE grantee = ANY (roles))
  LOOP
    FOREACH name IN ARRAY o.grantees LOOP
      EXECUTE pg_catalog.format('%s REVOKE ALL ON %s FROM %s', o.command, o.kind, name);
    END LOOP;
    IF o.own AND o.everywhere THEN
      EXECUTE pg_catalog.format('%s GRANT ALL ON %s TO %s', o.command, o.kind, o.owner);
      IF o.kind IN ('FUNCTIONS', 'TYPES') THEN
        EXECUTE pg_catalog.format('%s GRANT ALL ON %s TO PUBLIC', o.command, o.kind);
      END IF;
    END IF;
  END LOOP;
  FOR o IN
    SELECT DISTINCT i.identity, pg_catalog.pg_get_userbyid(d.refobjid) AS role,
           CASE WHEN d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass THEN 'TABLE'
                WHEN d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'ROUTINE'
                WHEN i.type = 'server' THEN 'FOREIGN SERVER'
                ELSE pg_catalog.replace(i.type, '-', ' ') END AS kind
    FROM pg_catalog.pg_shdepend d CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
    WHERE d.dbid = here AND d.deptype = 'a' AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
      AND d.refobjid = ANY (roles) AND i.type <> 'default acl'
  LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %I CASCADE', o.kind, o.identity, o.role);
  END LOOP;
  FOR o IN
    SELECT p.polname, p.polrelid::pg_catalog.regclass AS of_table,
           (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r)), ', ')
            FROM pg_catalog.unnest(p.polroles) r WHERE r <> ALL (roles)) AS others
    FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
    WHERE p.polroles && roles AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
  LOOP
    EXECUTE CASE WHEN o.others IS NULL THEN pg_catalog.format('DROP POLICY %I ON %s', o.polname, o.of_table)
                 ELSE pg_catalog.format('ALTER POLICY %I ON %s TO %s', o.polname, o.of_table, o.others) END;
  END LOOP;
  LOOP
    SELECT CASE WHEN i.type = 'user mapping' THEN
                  pg_catalog.format('USER MAPPING FOR %s SERVER %I',
                                    CASE WHEN u.umuser = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(u.usename) END,
                                    u.srvname)
                ELSE pg_catalog.format('%s %s CASCADE', CASE i.type WHEN 'statistics object' THEN 'statistics'
                                         ELSE pg_catalog.replace(i.type, '-', ' ') END, i.identity) END AS what INTO o
    FROM pg_catalog.pg_shdepend d CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
         LEFT JOIN pg_catalog.pg_user_mappings u
           ON d.classid = 'pg_catalog.pg_user_mapping'::pg_catalog.regclass AND u.umid = d.objid
    WHERE d.dbid = here AND d.deptype = 'o' AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
      AND d.refobjid = ANY (roles) AND i.type <> 'default acl'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend s WHERE s.classid = d.classid AND s.objid = d.objid
                        AND s.objsubid = 0 AND (s.deptype IN ('i', 'e') OR s.deptype = 'a' AND i.type = 'sequence'))
    LIMIT 1;
    EXIT WHEN NOT FOUND;
    EXECUTE 'DROP ' || o.what;
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', path, true);)";

std::string drop_here(std::string_view sql, const PgQuery__DropOwnedStmt* drop) {
  return block(sql, role_names(drop->n_roles, drop->roles), "a", std::string(kDropHere));
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
