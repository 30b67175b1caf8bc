// The questions of schema_facts.cc. They are asked with an empty search_path, so that what they print is qualified.
#pragma once

namespace pgmosaic::control {

// Rows: object, parent, property, value. In parts because each is a question of its own; UNION ALL stands between them.
inline constexpr const char* kFactNames = R"(
WITH space AS (
  SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
  WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgmosaic_shards')
    AND nspname !~ '^pg_(toast_)?temp_'),
member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
relation AS (
  SELECT c.*, format('%I.%I', s.nspname, c.relname) AS name,
         CASE WHEN c.relkind IN ('r', 'p', 'f') THEN 'table ' WHEN c.relkind = 'v' THEN 'view '
              WHEN c.relkind = 'm' THEN 'materialized view ' WHEN c.relkind = 'S' THEN 'sequence '
              WHEN c.relkind = 'c' THEN 'type ' ELSE 'index ' END || format('%I.%I', s.nspname, c.relname) AS object
  FROM pg_class c JOIN space s ON s.oid = c.relnamespace
  WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)),
routine AS (
  SELECT p.*, CASE p.prokind WHEN 'a' THEN 'aggregate ' WHEN 'p' THEN 'procedure ' ELSE 'function ' END ||
              format('%I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS object
  FROM pg_proc p JOIN space s ON s.oid = p.pronamespace
  WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)),
type AS (
  SELECT t.*, format('type %I.%I', s.nspname, t.typname) AS object
  FROM pg_type t JOIN space s ON s.oid = t.typnamespace
  WHERE t.typtype IN ('b', 'c', 'd', 'e', 'r')
    AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
    AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)))";

inline constexpr const char* kRelationFacts = R"(
SELECT r.object, CASE WHEN r.relkind IN ('i', 'I')
         THEN coalesce((SELECT format('constraint %I on %s', k.conname, t.name) FROM pg_constraint k
                        WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')),
                       t.object) END AS parent, v.property, v.value
FROM relation r LEFT JOIN pg_index i ON i.indexrelid = r.oid LEFT JOIN relation t ON t.oid = i.indrelid
     CROSS JOIN LATERAL (VALUES
  ('kind', CASE r.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' END),
  ('owner', CASE WHEN r.relkind NOT IN ('i', 'I') THEN pg_get_userbyid(r.relowner) END),
  ('persistence', CASE r.relpersistence WHEN 'u' THEN 'unlogged' END),
  ('access method', CASE WHEN r.relkind IN ('r', 'm') THEN (SELECT amname FROM pg_am WHERE oid = r.relam) END),
  ('options', array_to_string(r.reloptions, ', ')),
  ('row security', CASE WHEN r.relrowsecurity THEN 'on' || CASE WHEN r.relforcerowsecurity THEN ', forced' ELSE '' END END),
  ('partition key', CASE WHEN r.relkind = 'p' THEN pg_get_partkeydef(r.oid) END),
  ('partition bound', pg_get_expr(r.relpartbound, r.oid)),
  ('parents', CASE WHEN r.relkind IN ('r', 'p', 'f')
                   THEN (SELECT string_agg(h.inhparent::regclass::text, ', ' ORDER BY h.inhseqno)
                         FROM pg_inherits h WHERE h.inhrelid = r.oid) END),
  ('definition', CASE WHEN r.relkind IN ('v', 'm') THEN pg_get_viewdef(r.oid)
                      WHEN r.relkind IN ('i', 'I') THEN replace(pg_get_indexdef(r.oid), ' ON ONLY ', ' ON ') END),
  ('validity', CASE WHEN NOT i.indisvalid THEN 'invalid' END),
  ('columns', CASE WHEN r.relkind IN ('r', 'p', 'f', 'c')
                   THEN (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                         WHERE attrelid = r.oid AND attnum > 0 AND NOT attisdropped) END),
  ('column', CASE WHEN r.relkind = 'S'
                  THEN (SELECT d.refobjid::regclass || '.' || quote_ident(a.attname)
                        FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype IN ('a', 'i')
                          AND d.refclassid = 'pg_class'::regclass) END)) v(property, value)
WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'i', 'I'))";

inline constexpr const char* kColumnFacts = R"(
SELECT format('column %s.%I', r.name, a.attname), r.object, v.property, v.value
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
     CROSS JOIN LATERAL (VALUES
  ('type', format_type(a.atttypid, a.atttypmod)),
  ('not null', CASE WHEN a.attnotnull THEN 'yes' END),
  (CASE a.attgenerated WHEN '' THEN 'default' ELSE 'generation' END, pg_get_expr(f.adbin, f.adrelid)),
  ('identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END),
  ('collation', CASE WHEN a.attcollation NOT IN (0, 100) THEN a.attcollation::regcollation::text END)) v(property, value)
WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm', 'c'))";

inline constexpr const char* kTableFacts = R"(
SELECT format('constraint %I on %s', k.conname, coalesce(r.name, t.oid::regtype::text)), coalesce(r.object, t.object),
       v.property, v.value
FROM pg_constraint k LEFT JOIN relation r ON r.oid = k.conrelid LEFT JOIN type t ON t.oid = k.contypid
     CROSS JOIN LATERAL (VALUES
  ('definition', pg_get_constraintdef(k.oid)),
  ('inheritance', CASE WHEN k.contype = 'c' AND k.connoinherit THEN 'none' END)) v(property, value)
WHERE k.contype <> 't' AND k.conparentid = 0 AND k.conname <> 'pgmosaic_elsewhere' AND (r.oid IS NOT NULL OR t.oid IS NOT NULL)
UNION ALL
SELECT format('trigger %I on %s', g.tgname, r.name), r.object, v.property, v.value
FROM pg_trigger g JOIN relation r ON r.oid = g.tgrelid
     CROSS JOIN LATERAL (VALUES
  ('definition', pg_get_triggerdef(g.oid)),
  ('state', CASE g.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END)) v(property, value)
WHERE NOT g.tgisinternal AND g.tgparentid = 0
UNION ALL
SELECT format('rule %I on %s', w.rulename, r.name), r.object, v.property, v.value
FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class
     CROSS JOIN LATERAL (VALUES
  ('definition', pg_get_ruledef(w.oid)),
  ('state', CASE w.ev_enabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END)) v(property, value)
WHERE w.rulename <> '_RETURN'
UNION ALL
SELECT format('policy %I on %s', p.polname, r.name), r.object, v.property, v.value
FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
     CROSS JOIN LATERAL (VALUES
  ('kind', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END),
  ('command', p.polcmd::text),
  ('roles', (SELECT string_agg(CASE u WHEN 0 THEN 'public' ELSE pg_get_userbyid(u)::text END, ', ' ORDER BY 1)
             FROM unnest(p.polroles) u)),
  ('condition', pg_get_expr(p.polqual, p.polrelid)),
  ('check', pg_get_expr(p.polwithcheck, p.polrelid))) v(property, value))";

inline constexpr const char* kOtherFacts = R"(
SELECT format('schema %I', nspname), NULL, 'owner', pg_get_userbyid(nspowner) FROM space
UNION ALL
SELECT p.object, NULL, v.property, v.value
FROM routine p LEFT JOIN pg_aggregate g ON g.aggfnoid = p.oid
     CROSS JOIN LATERAL (VALUES
  ('owner', pg_get_userbyid(p.proowner)::text),
  ('definition', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid)
                      ELSE concat_ws(' ', p.prorettype::regtype, g.aggtransfn, g.aggfinalfn, g.aggcombinefn,
                                     g.aggtranstype::regtype, g.aggsortop::regoperator, g.agginitval) END)) v(property, value)
UNION ALL
SELECT t.object, NULL, v.property, v.value
FROM type t LEFT JOIN pg_range g ON g.rngtypid = t.oid
     CROSS JOIN LATERAL (VALUES
  ('kind', CASE t.typtype WHEN 'c' THEN 'composite' WHEN 'd' THEN 'domain' WHEN 'e' THEN 'enum' WHEN 'r' THEN 'range'
                          ELSE 'base type' END),
  ('owner', pg_get_userbyid(t.typowner)::text),
  ('labels', (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid)),
  ('base type', CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END),
  ('not null', CASE WHEN t.typnotnull THEN 'yes' END),
  ('default', t.typdefault),
  ('collation', CASE WHEN t.typtype = 'd' AND t.typcollation NOT IN (0, 100) THEN t.typcollation::regcollation::text END),
  ('columns', (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
               WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped)),
  ('subtype', g.rngsubtype::regtype::text)) v(property, value)
UNION ALL
SELECT 'extension ' || quote_ident(e.extname), NULL, 'version', e.extversion FROM pg_extension e
UNION ALL
SELECT i.type || ' ' || i.identity, NULL, 'name', '' FROM (
  SELECT 'pg_operator'::regclass, oid FROM pg_operator UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast
  UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass
  UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily
  UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict
  UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation
  UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion
  UNION ALL SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext
  UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication
  UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language
  UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server) o(class, oid)
  CROSS JOIN LATERAL pg_identify_object(o.class, o.oid, 0) i
WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = o.class AND m.objid = o.oid)
UNION ALL
SELECT 'database', NULL, v.property, v.value
FROM pg_database d CROSS JOIN LATERAL (VALUES ('owner', pg_get_userbyid(d.datdba)::text)) v(property, value)
WHERE d.datname = current_database()
UNION ALL
SELECT 'database', NULL, 'settings' || CASE s.setrole WHEN 0 THEN '' ELSE ' of ' || pg_get_userbyid(s.setrole) END,
       (SELECT string_agg(c, ', ' ORDER BY c) FROM unnest(s.setconfig) c)
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database())";

// One property per role: "privileges of app", "INSERT, SELECT*" (with grant option).
inline constexpr const char* kPrivilegeFacts = R"(
SELECT a.object, a.parent,
       'privileges of ' || CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END,
       string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', ' ORDER BY x.privilege_type)
FROM (
  SELECT r.object, NULL::text AS parent,
         coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner)) AS acl
  FROM relation r WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
  UNION ALL SELECT format('column %s.%I', r.name, t.attname), r.object, t.attacl
  FROM relation r JOIN pg_attribute t ON t.attrelid = r.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped
  UNION ALL SELECT format('schema %I', nspname), NULL, coalesce(nspacl, acldefault('n', nspowner)) FROM space
  UNION ALL SELECT object, NULL, coalesce(proacl, acldefault('f', proowner)) FROM routine
  UNION ALL SELECT object, NULL, coalesce(typacl, acldefault('T', typowner)) FROM type
  UNION ALL SELECT 'language ' || quote_ident(lanname), NULL, lanacl FROM pg_language WHERE lanacl IS NOT NULL
  UNION ALL SELECT 'database', NULL, coalesce(datacl, acldefault('d', datdba)) FROM pg_database
  WHERE datname = current_database()
  UNION ALL SELECT format('default privileges of %s for %s%s', pg_get_userbyid(d.defaclrole), d.defaclobjtype,
                          (SELECT format(' in %I', s.nspname) FROM space s WHERE s.oid = d.defaclnamespace)),
                   NULL, d.defaclacl FROM pg_default_acl d) a
  CROSS JOIN LATERAL aclexplode(a.acl) x
GROUP BY a.object, a.parent, x.grantee)";

inline constexpr const char* kLeaves = R"(
SELECT c.relname, coalesce(i.inhparent::regclass::text, ''), coalesce(pg_get_userbyid(p.relowner), ''),
       coalesce(pg_get_expr(c.relpartbound, c.oid), ''), pg_get_userbyid(c.relowner), c.relpersistence = 'u'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'pgmosaic_shards'
     LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S'))";

// Indexes that were not finished: at home, and parts on a group that belong to no index of their table.
inline constexpr const char* kUnfinishedAtHome = R"(
SELECT c.oid::regclass
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_')";
inline constexpr const char* kUnfinishedParts = R"(
SELECT c.oid::regclass
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid AND NOT c.relispartition
     JOIN pg_class t ON t.oid = i.indrelid AND t.relispartition JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'pgmosaic_shards')";

inline constexpr const char* kOpenSequences = R"(
SELECT q.seqrelid::regclass
FROM pg_sequence q JOIN pg_class c ON c.oid = q.seqrelid AND c.relpersistence <> 't'
WHERE q.seqcycle OR pg_sequence_last_value(q.seqrelid) IS DISTINCT FROM
                    CASE WHEN q.seqincrement > 0 THEN q.seqmax ELSE q.seqmin END)";

inline constexpr const char* kHomeRelations = R"(
SELECT c.oid, c.oid::regclass, a.attnum, quote_ident(a.attname)
FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.oid IN ()";

inline constexpr const char* kStuck = R"(
SELECT gid, date_trunc('second', prepared) FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < now() - interval '1 minute')";

}  // namespace pgmosaic::control
