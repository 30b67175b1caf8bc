#include "router/home_roles.h"

#include <set>

#include "pool/settings.h"

namespace pgmosaic::router {

namespace {

// OID, name, attributes.
std::string roles_sql(bool passwords) {
  std::string sql = "SELECT oid, rolname";
  for (const char* attribute : {"super", "inherit", "createrole", "createdb", "canlogin", "replication", "bypassrls"}) {
    std::string word = attribute == std::string_view("canlogin") ? "LOGIN" : attribute;
    if (word == "super") word = "SUPERUSER";
    sql += std::string(", CASE WHEN rol") + attribute + " THEN '" + word + "' ELSE 'NO" + word + "' END";
  }
  sql +=
      ", 'CONNECTION LIMIT ' || rolconnlimit, CASE WHEN pg_catalog.isfinite(rolvaliduntil) THEN 'VALID UNTIL ''' || "
      "pg_catalog.to_char(rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00''' WHEN rolvaliduntil "
      "IS NOT NULL THEN 'VALID UNTIL ''' || rolvaliduntil || '''' END";
  if (!passwords) return sql + " FROM pg_catalog.pg_roles";
  return sql + ", pg_catalog.format('PASSWORD %L', rolpassword) FROM pg_catalog.pg_authid";
}

// Key, undo, redo. Lists of names are stored as SET takes them, or else (FROM CURRENT) as anything.
constexpr const char* kEntries = R"sql(
SELECT 'member ' || roleid || ' ' || member,
       pg_catalog.format('REVOKE %I FROM %I', pg_catalog.pg_get_userbyid(roleid), pg_catalog.pg_get_userbyid(member)),
       pg_catalog.format('GRANT %I TO %I', pg_catalog.pg_get_userbyid(roleid), pg_catalog.pg_get_userbyid(member))
         || CASE WHEN admin_option THEN ' WITH ADMIN OPTION' ELSE '' END
FROM pg_catalog.pg_auth_members
UNION ALL
SELECT 'setting ' || setdatabase || ' ' || setrole || ' ' || name,
       CASE WHEN setdatabase = 0 THEN pg_catalog.format('ALTER ROLE %s RESET %s', role, quoted) END,
       pg_catalog.format('ALTER ROLE %s SET %s TO ', role, quoted)
         || CASE WHEN name NOT IN ('local_preload_libraries', 'search_path', 'session_preload_libraries',
                                   'shared_preload_libraries', 'temp_tablespaces') THEN pg_catalog.quote_literal(value)
                 WHEN value IN ('', '""') THEN ''''''
                 WHEN value ~ '^("([^"]|"")+"|[a-z_][a-z0-9_$]*)(, ?("([^"]|"")+"|[a-z_][a-z0-9_$]*))*$' THEN value END
FROM (SELECT setdatabase, setrole, pg_catalog.split_part(setting, '=', 1) AS name,
             pg_catalog.substr(setting, pg_catalog.strpos(setting, '=') + 1) AS value,
             CASE setrole WHEN 0 THEN 'ALL' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(setrole)) END AS role,
             (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(part), '.') FROM pg_catalog.string_to_table(
                pg_catalog.split_part(setting, '=', 1), '.') part) AS quoted
      FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) setting) s
UNION ALL
SELECT 'comment ' || classoid || ' ' || objoid,
       CASE WHEN classoid = 1260 THEN
         pg_catalog.format('COMMENT ON ROLE %I IS NULL', pg_catalog.pg_get_userbyid(objoid)) END,
       CASE WHEN classoid = 1260 THEN
         pg_catalog.format('COMMENT ON ROLE %I IS %L', pg_catalog.pg_get_userbyid(objoid), description)
         ELSE description END
FROM pg_catalog.pg_shdescription
UNION ALL
SELECT 'label ' || classoid || ' ' || objoid || ' ' || provider,
       CASE WHEN classoid = 1260 THEN pg_catalog.format('SECURITY LABEL FOR %I ON ROLE %I IS NULL', provider,
                                                        pg_catalog.pg_get_userbyid(objoid)) END,
       CASE WHEN classoid = 1260 THEN pg_catalog.format('SECURITY LABEL FOR %I ON ROLE %I IS %L', provider,
                                                        pg_catalog.pg_get_userbyid(objoid), label)
         ELSE label END
FROM pg_catalog.pg_shseclabel)sql";

std::string words(const std::vector<std::string>& attributes, const std::vector<std::string>* but = nullptr) {
  std::string text;
  for (std::size_t i = 0; i < attributes.size(); ++i)
    if (!attributes[i].empty() && (but == nullptr || attributes[i] != (*but)[i])) text += " " + attributes[i];
  return text;
}

}  // namespace

net::Task<Result<RoleCatalogs>> read_roles(pool::ServerConn& conn, bool passwords) {
  RoleCatalogs read;
  auto roles = co_await conn.query(roles_sql(passwords));
  if (!roles.ok()) co_return std::move(roles.error());
  for (const auto& row : roles->rows) {
    RoleCatalogs::Role& role = read.roles[*row[0]];
    role.name = *row[1];
    for (std::size_t i = 2; i < row.size(); ++i) role.attributes.push_back(row[i].value_or(""));
  }
  auto entries = co_await conn.query(kEntries);
  if (!entries.ok()) co_return std::move(entries.error());
  for (const auto& row : entries->rows) read.entries[*row[0]] = {row[1].value_or(""), row[2].value_or("")};
  co_return read;
}

RoleChanges compare_roles(const RoleCatalogs& before, const RoleCatalogs& behind) {
  RoleChanges changes;
  const auto undo = [&](const RoleCatalogs::Entry& entry) {
    changes.of_others = changes.of_others || entry.undo.empty();
    changes.first.push_back(entry.undo);
  };
  for (const auto& [key, entry] : before.entries) {  // by the names from before
    if (!behind.entries.contains(key)) undo(entry);
  }
  std::set<std::string> made;
  for (const auto& [oid, role] : behind.roles)
    if (!before.roles.contains(oid)) made.insert(role.name);
  for (const auto& [oid, role] : before.roles) {
    if (behind.roles.contains(oid)) continue;
    const bool again = made.contains(role.name);
    if (again) changes.remade.push_back(role.name);
    (again ? changes.first : changes.last).push_back("DROP ROLE " + pool::quote_identifier(role.name));
  }
  for (const auto& [oid, role] : behind.roles) {
    const std::string name = pool::quote_identifier(role.name);
    const auto was = before.roles.find(oid);
    if (was == before.roles.end()) {
      changes.first.push_back("CREATE ROLE " + name + words(role.attributes));
      continue;
    }
    if (was->second.name != role.name)
      changes.first.push_back("ALTER ROLE " + pool::quote_identifier(was->second.name) + " RENAME TO " + name);
    const std::string differs = words(role.attributes, &was->second.attributes);
    if (!differs.empty()) changes.first.push_back("ALTER ROLE " + name + differs);
  }
  for (const auto& [key, entry] : behind.entries) {
    const auto was = before.entries.find(key);
    if (was != before.entries.end() && was->second.redo == entry.redo) continue;
    if (was != before.entries.end()) undo(entry);
    changes.of_others = changes.of_others || entry.undo.empty() || entry.redo.empty();
    changes.first.push_back(entry.redo);
  }
  return changes;
}

}  // namespace pgmosaic::router
