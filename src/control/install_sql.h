// What every database of every group holds of ours. Idempotent; run by the internal role.
#pragma once

namespace pgmosaic::control {

inline constexpr const char* kInstallSql = R"(
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS pgmosaic;
GRANT USAGE ON SCHEMA pgmosaic TO PUBLIC;
CREATE SCHEMA IF NOT EXISTS pgmosaic_shards;
GRANT USAGE, CREATE ON SCHEMA pgmosaic_shards TO PUBLIC;
CREATE TABLE IF NOT EXISTS pgmosaic.commit_log (
  gid text PRIMARY KEY,
  participants int[] NOT NULL,
  aborted boolean NOT NULL DEFAULT false,
  written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());
CREATE OR REPLACE FUNCTION pgmosaic.log_commit(gid text, participants int[]) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
  AS $$ INSERT INTO pgmosaic.commit_log (gid, participants) VALUES ($1, $2) $$;

-- Who may do what with a table or its columns, in one comparable value.
CREATE OR REPLACE FUNCTION pgmosaic.privileges(relation oid)
  RETURNS TABLE (grantee oid, privilege text, column_name name) LANGUAGE sql STABLE SET search_path = pg_catalog
  AS $$
    SELECT a.grantee, a.privilege_type, NULL::name
    FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE c.oid = $1
    UNION
    SELECT a.grantee, a.privilege_type, t.attname
    FROM pg_attribute t, aclexplode(t.attacl) a WHERE t.attrelid = $1 AND t.attnum > 0 AND NOT t.attisdropped
  $$;

-- Point reads name leaves: their owner and privileges are those of their table, at all times.
CREATE OR REPLACE FUNCTION pgmosaic.align_leaves() RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
  AS $$
  DECLARE
    leaf record;
    item record;
    who text;
  BEGIN
    FOR leaf IN
      SELECT c.oid, c.relowner <> p.relowner AS moved, p.relowner::regrole AS owner, p.oid AS parent,
             format('pgmosaic_shards.%I', c.relname) AS name
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
      WHERE c.relnamespace = 'pgmosaic_shards'::regnamespace AND c.relkind IN ('r', 'p')
        AND (c.relowner <> p.relowner
             OR EXISTS ((SELECT * FROM pgmosaic.privileges(c.oid) EXCEPT SELECT * FROM pgmosaic.privileges(p.oid))
                        UNION ALL
                        (SELECT * FROM pgmosaic.privileges(p.oid) EXCEPT SELECT * FROM pgmosaic.privileges(c.oid))))
    LOOP
      IF leaf.moved THEN
        EXECUTE format('ALTER TABLE %s OWNER TO %s', leaf.name, leaf.owner);
      END IF;
      FOR item IN SELECT DISTINCT p.grantee FROM pgmosaic.privileges(leaf.oid) p LOOP
        who := CASE item.grantee WHEN 0 THEN 'PUBLIC' ELSE item.grantee::regrole::text END;
        EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', leaf.name, who);
      END LOOP;
      FOR item IN SELECT * FROM pgmosaic.privileges(leaf.parent) LOOP
        who := CASE item.grantee WHEN 0 THEN 'PUBLIC' ELSE item.grantee::regrole::text END;
        EXECUTE format('GRANT %s %s ON %s TO %s', item.privilege, '(' || quote_ident(item.column_name) || ')', leaf.name, who);
      END LOOP;
    END LOOP;
  END $$;
SELECT pgmosaic.align_leaves();
)";

}  // namespace pgmosaic::control
