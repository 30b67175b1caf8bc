// What the databases of the groups hold of ours. Idempotent; run by the internal role.
#pragma once

namespace pgmosaic::control {

// The home's, and every other group's: the home is where the user's schema is, so no more of ours is there than this,
// in a schema whose name tools take for the system's.
inline constexpr const char* kInstallSql = R"(
SET client_min_messages = warning;
SET allow_system_table_mods = on;
SET session_replication_role = replica;  -- no event triggers of users
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_commit_log (
  gid text PRIMARY KEY,
  participants int[] NOT NULL,
  aborted boolean NOT NULL DEFAULT false,
  written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_log_commit(gid text, participants int[]) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ INSERT INTO pg_catalog.pgmosaic_commit_log (gid, participants) VALUES ($1, $2) $$;
-- nextval() of an identity column: who may insert into the table needs no right on the sequence.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_next_identity(sequence oid) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = sequence
                     AND d.deptype = 'i' AND d.refclassid = 'pg_class'::regclass
                     AND EXISTS (SELECT FROM pg_roles r WHERE pg_has_role(session_user, r.oid, 'MEMBER')
                                   AND has_any_column_privilege(r.oid, d.refobjid, 'INSERT'))) THEN
      RAISE insufficient_privilege USING MESSAGE = format('permission denied for sequence %s', sequence::regclass);
    END IF;
    RETURN nextval(sequence::regclass);
  END $$;
-- Marks an index whose parts the groups are yet to build; the internal role makes it valid (Cluster::index_built).
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_begin_index(index oid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = index AND pg_has_role(session_user, c.relowner, 'MEMBER')) THEN
      RAISE insufficient_privilege USING MESSAGE = format('must be owner of index %s', index::regclass);
    END IF;
    UPDATE pg_index SET indisvalid = false WHERE indexrelid = index
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = index);
  END $$;
RESET session_replication_role;
)";

// Of the home. While a statement is guarded (router/guard.h), what functions do to the schema is noted for the other
// groups, temporary objects aside. Of what is dropped within ALTER the event behind it tells. What a backend knows of
// sequences is told by pgmosaic_numbers(); currval() and lastval() are told what else the session has drawn
// (router/numbers.h).
inline constexpr const char* kInstallHomeSql = R"(
SET client_min_messages = warning;
SET allow_system_table_mods = on;
-- "oid=number,oid=number,;lastval" of these sequences; NULL: of all. "oid=": somebody else has it locked.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_numbers(sequences oid[]) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  DECLARE
    sequence oid;
    numbers text := '';
    patience text := current_setting('lock_timeout');
  BEGIN
    IF sequences IS NULL THEN
      PERFORM set_config('lock_timeout', '50ms', true);
      SELECT coalesce(array_agg(seqrelid), '{}') INTO sequences FROM pg_sequence;
    END IF;
    FOREACH sequence IN ARRAY sequences LOOP
      BEGIN
        numbers := numbers || sequence || '=' || currval(sequence::regclass) || ',';
      EXCEPTION
        WHEN lock_not_available THEN numbers := numbers || sequence || '=,';
        WHEN OTHERS THEN NULL;
      END;
    END LOOP;
    PERFORM set_config('lock_timeout', patience, true);
    BEGIN
      numbers := numbers || ';' || lastval();
    EXCEPTION
      WHEN OTHERS THEN NULL;
    END;
    RETURN numbers;
  END $$;
-- numbers: pairs of OID and number, the last one for lastval().
CREATE OR REPLACE FUNCTION pg_catalog.currval(sequence regclass, numbers bigint[]) RETURNS bigint
  LANGUAGE plpgsql STRICT
  AS $$
  DECLARE
    pair bigint[];
  BEGIN
    RETURN pg_catalog.currval(sequence);
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    FOREACH pair SLICE 1 IN ARRAY numbers LOOP
      IF pair[1] OPERATOR(pg_catalog.=) sequence::pg_catalog.oid::pg_catalog.int8 THEN
        RETURN pair[2];
      END IF;
    END LOOP;
    RAISE;
  END $$;
CREATE OR REPLACE FUNCTION pg_catalog.lastval(numbers bigint[]) RETURNS bigint
  LANGUAGE plpgsql STRICT
  AS $$
  DECLARE
    last oid := numbers[pg_catalog.array_length(numbers, 1)][1];
  BEGIN
    RETURN pg_catalog.lastval();
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) last) THEN
      RAISE;
    END IF;
    RETURN pg_catalog.currval(last::pg_catalog.regclass, numbers);  -- the backend may know a newer one by setval()
  END $$;
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_guard() RETURNS event_trigger
  LANGUAGE plpgsql
  AS $$
  DECLARE
    stack pg_catalog.text;
    made pg_catalog.oid;
  BEGIN
    IF pg_catalog.current_setting('pgmosaic.guard', true) IS DISTINCT FROM 'on' THEN
      RETURN;
    ELSIF TG_EVENT = 'sql_drop' THEN
      IF TG_TAG NOT LIKE 'DROP %' OR
         NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() WHERE NOT is_temporary) THEN
        RETURN;
      END IF;
    ELSE
      SELECT objid INTO made FROM pg_catalog.pg_event_trigger_ddl_commands()
        WHERE schema_name IS DISTINCT FROM 'pg_temp' AND NOT in_extension LIMIT 1;
      IF NOT FOUND THEN
        RETURN;
      END IF;
    END IF;
    GET DIAGNOSTICS stack = PG_CONTEXT;
    PERFORM pg_catalog.set_config('pgmosaic.schema_changes',
      (coalesce(nullif(pg_catalog.current_setting('pgmosaic.schema_changes', true), ''), '[]')::pg_catalog.jsonb ||
       pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
         'tag', TG_TAG, 'stack', stack, 'made', made, 'role', current_user,
         'path', pg_catalog.current_setting('search_path'))))::pg_catalog.text, true);
  END $$;
-- Of a materialized view and a temporary view of the same columns: each gets the other's query. The update of pg_class
-- tells all caches of it. Without `source` others who refresh the view wait from now on.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_swap_queries(kept oid, source oid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  BEGIN
    IF (SELECT count(*) FROM pg_class c WHERE pg_has_role(session_user, c.relowner, 'MEMBER')
          AND (c.oid = kept AND c.relkind = 'm' OR c.oid = source AND c.relkind = 'v' AND c.relpersistence = 't')) <>
            CASE WHEN source IS NULL THEN 1 ELSE 2 END
        OR source IS NOT NULL
          AND EXISTS (SELECT attnum, atttypid, atttypmod, attcollation FROM pg_attribute WHERE attrelid = kept
                        AND attnum > 0
                      EXCEPT SELECT attnum, atttypid, atttypmod, attcollation FROM pg_attribute WHERE attrelid = source)
        OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = source AND attnum > 0
                   AND attnum NOT IN (SELECT attnum FROM pg_attribute WHERE attrelid = kept)) THEN
      RAISE insufficient_privilege USING MESSAGE = 'not a materialized view and a temporary view of the same columns';
    ELSIF source IS NULL THEN
      PERFORM FROM pg_rewrite WHERE ev_class = kept FOR UPDATE;
      RETURN;
    END IF;
    UPDATE pg_rewrite r SET ev_action = o.ev_action FROM pg_rewrite o
      WHERE r.rulename = '_RETURN' AND o.rulename = '_RETURN'
        AND (r.ev_class = kept AND o.ev_class = source OR r.ev_class = source AND o.ev_class = kept);
    UPDATE pg_class SET relhasrules = relhasrules WHERE oid IN (kept, source);
  END $$;
REVOKE EXECUTE ON FUNCTION pg_catalog.pgmosaic_swap_queries(oid, oid) FROM PUBLIC;
-- REFRESH of rows that the router has read (router/materialized.cc). It has the session's search_path, for functions in
-- indexes, and therefore nothing that one could redirect.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_refresh(kept oid, source oid, concurrently boolean) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER
  AS $$
  DECLARE
    command pg_catalog.text := pg_catalog.format('REFRESH MATERIALIZED VIEW %s %s',
      CASE WHEN concurrently THEN 'CONCURRENTLY' END, kept::pg_catalog.regclass);
  BEGIN
    PERFORM pg_catalog.pgmosaic_swap_queries(kept, source);
    IF source IS NULL THEN
      RETURN;
    END IF;
    EXECUTE command;
    PERFORM pg_catalog.pgmosaic_swap_queries(kept, source);
  END $$;
DO $$
  DECLARE
    event text;
  BEGIN
    FOREACH event IN ARRAY ARRAY['ddl_command_end', 'sql_drop'] LOOP
      IF NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = 'pgmosaic_guard_' || event) THEN
        EXECUTE format('CREATE EVENT TRIGGER %I ON %s EXECUTE FUNCTION pg_catalog.pgmosaic_guard()',
                       'pgmosaic_guard_' || event, event);
      END IF;
    END LOOP;
  END $$;
)";

// Of the groups that hold shards.
inline constexpr const char* kInstallShardsSql = R"(
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS pgmosaic_shards;
GRANT USAGE, CREATE ON SCHEMA pgmosaic_shards TO PUBLIC;
)";

}  // namespace pgmosaic::control
