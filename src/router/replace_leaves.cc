// NewTables: the shards that the cluster made for PARTITION BY HASH are provisional. The first partition that the user
// declares takes their place, while the table is empty.
#include "catalog/partition_bounds.h"
#include "pool/settings.h"
#include "router/new_tables.h"

namespace pgmosaic::router {

namespace {

// On the home a table with leaves is a plain one. This makes it a partitioned table of the same name, columns,
// constraints, indexes, sequences, owner, grants and comments. What would point to the old one is refused.
//   $TABLE$: its qualified name, $KEY$: the columns of its key
constexpr const char* kMakePartitioned = R"(DO LANGUAGE plpgsql $pgmosaic$
DECLARE
  old CONSTANT pg_catalog.regclass := $TABLE$;
  title text; place text; owner text; note text; acl pg_catalog.aclitem[];
  made text; held record; step record;
  statements text[] := '{}'; identities text[] := '{}';
BEGIN
  SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), c.relacl,
         pg_catalog.obj_description(c.oid, 'pg_class')
    INTO place, title, owner, acl, note
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = old;
  made := pg_catalog.format('%I.%I', place, title);
  SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) AS what INTO held FROM pg_catalog.pg_depend d
    WHERE (d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = old
           AND (d.classid = ANY (ARRAY['pg_catalog.pg_rewrite', 'pg_catalog.pg_policy',
                                       'pg_catalog.pg_publication_rel', 'pg_catalog.pg_proc']::pg_catalog.regclass[])
                OR (d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
                    AND NOT (SELECT t.tgisinternal FROM pg_catalog.pg_trigger t WHERE t.oid = d.objid))
                OR (d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
                    AND old <> (SELECT k.conrelid FROM pg_catalog.pg_constraint k WHERE k.oid = d.objid))))
       OR (d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.deptype = 'n'
           AND d.refobjid IN (SELECT y.oid FROM pg_catalog.pg_type y JOIN pg_catalog.pg_class c ON c.oid = old
                              WHERE y.oid = c.reltype OR y.typelem = c.reltype))
    LIMIT 1;
  IF FOUND OR EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = old AND attacl IS NOT NULL) THEN
    RAISE EXCEPTION USING ERRCODE = '2BP01',
      MESSAGE = pg_catalog.format('cannot replace the shards of table %I by partitions because other objects depend on it', title),
      DETAIL = coalesce(held.what || ' depends on it', 'It has privileges on columns'),
      HINT = 'Create the partitions right after the table.';
  END IF;
  FOR step IN SELECT pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', made, conname, pg_catalog.pg_get_constraintdef(oid)) AS run
              FROM pg_catalog.pg_constraint WHERE conrelid = old AND contype IN ('p', 'u', 'x', 'f') ORDER BY contype <> 'p', oid
  LOOP statements := statements || step.run; END LOOP;
  FOR step IN SELECT pg_catalog.pg_get_indexdef(i.indexrelid) AS run FROM pg_catalog.pg_index i
              WHERE i.indrelid = old AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conindid = i.indexrelid AND conrelid = old)
  LOOP statements := statements || step.run; END LOOP;
  FOR step IN SELECT pg_catalog.pg_get_statisticsobjdef(oid) AS run FROM pg_catalog.pg_statistic_ext WHERE stxrelid = old
  LOOP statements := statements || step.run; END LOOP;
  FOR step IN SELECT pg_catalog.format('ALTER TABLE %s %s ROW LEVEL SECURITY', made, w.what) AS run
              FROM pg_catalog.pg_class c
                   CROSS JOIN LATERAL (VALUES ('ENABLE', c.relrowsecurity), ('FORCE', c.relforcerowsecurity)) w (what, wanted)
              WHERE c.oid = old AND w.wanted
  LOOP statements := statements || step.run; END LOOP;
  IF note IS NOT NULL THEN
    statements := statements || pg_catalog.format('COMMENT ON TABLE %s IS %L', made, note);
  END IF;
  FOR step IN SELECT pg_catalog.format('GRANT %s ON %s TO %s%s', a.privilege_type, made,
                       CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS run
              FROM pg_catalog.aclexplode(acl) a
              WHERE a.grantee <> (SELECT relowner FROM pg_catalog.pg_class WHERE oid = old)
  LOOP statements := statements || step.run; END LOOP;
  -- A serial's sequence goes on with the new column; an identity's numbers go on in the new sequence.
  FOR step IN SELECT s.oid::pg_catalog.regclass AS sequence, n.nspname, s.relname, a.attname, d.deptype
              FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
                   JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
              WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid
                    AND d.refobjid = old AND d.deptype IN ('a', 'i')
  LOOP
    IF step.deptype = 'a' THEN
      statements := pg_catalog.format('ALTER SEQUENCE %s OWNED BY %s.%I', step.sequence, made, step.attname) || statements;
    ELSE
      EXECUTE pg_catalog.format('ALTER SEQUENCE %s RENAME TO %I', step.sequence, 'pgmosaic_replaced_' || step.attname);
      identities := identities || ARRAY[step.attname::text, step.relname::text];
    END IF;
  END LOOP;
  FOR step IN SELECT stxname, stxnamespace::pg_catalog.regnamespace AS place, oid FROM pg_catalog.pg_statistic_ext WHERE stxrelid = old
  LOOP
    EXECUTE pg_catalog.format('ALTER STATISTICS %s.%I RENAME TO %I', step.place, step.stxname, 'pgmosaic_replaced_' || step.oid);
  END LOOP;
  FOR step IN SELECT c.oid::pg_catalog.regclass AS index FROM pg_catalog.pg_index i
              JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = old
  LOOP EXECUTE pg_catalog.format('ALTER INDEX %s RENAME TO %I', step.index, 'pgmosaic_replaced_' || step.index::pg_catalog.oid); END LOOP;
  EXECUTE pg_catalog.format('ALTER TABLE %s RENAME TO pgmosaic_replaced', old);
  EXECUTE pg_catalog.format('CREATE TABLE %s (LIKE %I.pgmosaic_replaced INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS) '
                            'PARTITION BY HASH ($KEY$)', made, place);
  EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', made, owner);
  FOREACH note IN ARRAY statements LOOP EXECUTE note; END LOOP;
  FOR i IN 1 .. coalesce(pg_catalog.array_length(identities, 1), 0) BY 2 LOOP
    note := pg_catalog.pg_get_serial_sequence(made, identities[i]);
    SELECT q.seqtypid::pg_catalog.regtype AS type, q.* INTO step FROM pg_catalog.pg_sequence q
      WHERE q.seqrelid = pg_catalog.format('%I.%I', place, 'pgmosaic_replaced_' || identities[i])::pg_catalog.regclass;
    EXECUTE pg_catalog.format('ALTER SEQUENCE %s AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s %s CYCLE', note,
                              step.type, step.seqincrement, step.seqmin, step.seqmax, step.seqstart, step.seqcache,
                              CASE WHEN step.seqcycle THEN '' ELSE 'NO' END);
    EXECUTE pg_catalog.format('SELECT pg_catalog.setval(%L, last_value, is_called) FROM %I.%I', note, place,
                              'pgmosaic_replaced_' || identities[i]);
    IF note::pg_catalog.regclass
       IS DISTINCT FROM pg_catalog.to_regclass(pg_catalog.format('%I.%I', place, identities[i + 1])) THEN
      EXECUTE pg_catalog.format('ALTER SEQUENCE %s RENAME TO %I', note, identities[i + 1]);
    END IF;
  END LOOP;
  EXECUTE pg_catalog.format('DROP TABLE %I.pgmosaic_replaced', place);
END $pgmosaic$)";

void put(std::string& text, std::string_view mark, const std::string& value) {
  const std::size_t at = text.find(mark);
  text.replace(at, mark.size(), value);
}

}  // namespace

// Locked and empty on every group: 55000 if it is not.
net::Task<Status> NewTables::lock_empty(const std::string& name, const std::string& title) {
  for (const catalog::Group& group : snapshot_.groups) {
    pool::ServerConn& conn = *backends_.held(group.id)->conn;
    const std::string lock = "LOCK TABLE " + name + " IN ACCESS EXCLUSIVE MODE";
    auto locked = co_await conn.query(lock);
    if (!locked.ok()) co_return std::move(locked.error());
    if (group.home) continue;
    const std::string question = "SELECT EXISTS (SELECT FROM " + name + ")";
    auto rows = co_await conn.query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    if (rows->rows[0][0] == "t")
      co_return make_error("55000", "table \"" + title + "\" has rows in the shards that the cluster made for it",
                           "Partitions of your own can take their place while the table is empty: create another "
                           "table with its partitions, and copy the rows.");
  }
  co_return Status{};
}

net::Task<Status> NewTables::replace_leaves(const plan::Ddl::ReplacedLeaves& replaced) {
  const auto known = database_.tables_by_oid.find(replaced.table);
  if (known == database_.tables_by_oid.end()) co_return Status{};
  const catalog::Table& table = *known->second;
  const catalog::Colocation& colocation = *database_.colocation(table.colocation);
  const std::string name = qualified_name(table.schema, table.name);
  CO_TRY(co_await lock_empty(name, table.name));
  std::string keys;
  for (int key : table.key_columns)
    keys += (keys.empty() ? "" : ", ") + pool::quote_identifier(table.columns[static_cast<std::size_t>(key)].name);
  std::string convert = kMakePartitioned;
  put(convert, "$TABLE$", pool::quote_literal(name));
  put(convert, "$KEY$", keys);
  auto converted = co_await backends_.held(snapshot_.home)->conn->query(convert);
  if (!converted.ok()) co_return std::move(converted.error());
  std::vector<exec::Backend*> others;
  std::vector<std::string> texts;
  for (const catalog::Group& group : snapshot_.groups) {
    if (group.home) continue;
    others.push_back(backends_.held(group.id));
    std::string& text = texts.emplace_back();
    for (const catalog::Shard& shard : colocation.shards)
      if (shard.group == group.id)
        text += "DROP TABLE pgmosaic_shards." +
                pool::quote_identifier(table.shard_prefix + "_" + std::to_string(shard.remainder)) + ";";
  }
  CO_TRY(co_await run_on_groups(others, texts, nullptr));
  plan::Ddl::NewSharded wish;
  wish.schema = table.schema;
  wish.table = table.name;
  co_return co_await by_partition(wish);
}

}  // namespace pgmosaic::router
