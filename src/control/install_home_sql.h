// What the home holds of ours beside what every group does (install_sql.h). Idempotent; run by the internal role.
#pragma once

namespace pgmosaic::control {

// Of the home. What functions do to the schema is noted for the other groups (router/guard.h), temporary objects aside.
// Only event triggers can write such a note, and what it says of the session comes from PostgreSQL: the statements in
// it run with the session's rights elsewhere. Of what is dropped within ALTER the event behind it tells. What a
// backend knows of sequences is told by pgmosaic_numbers(); currval() and lastval() are told what else the session has
// drawn (router/numbers.h).
inline constexpr const char* kInstallHomeSql = R"(
SET client_min_messages = warning;
SET allow_system_table_mods = on;
SET session_replication_role = replica;
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
-- So many numbers, or fewer where the sequence ends: "first,step,count;" for each run of them.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_draw(sequence oid, count int) RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS $$
  DECLARE
    runs text := '';
    step bigint := (SELECT seqincrement FROM pg_sequence WHERE seqrelid = sequence);
    first bigint; last bigint; number bigint; length int := 0;
  BEGIN
    BEGIN
      FOR i IN 1..count LOOP
        number := nextval(sequence);
        IF length > 0 AND number = last + step THEN
          length := length + 1;
        ELSE
          IF length > 0 THEN runs := runs || first || ',' || step || ',' || length || ';'; END IF;
          first := number;
          length := 1;
        END IF;
        last := number;
      END LOOP;
    EXCEPTION WHEN sequence_generator_limit_exceeded OR numeric_value_out_of_range THEN
      IF length = 0 THEN RAISE; END IF;
    END;
    RETURN runs || first || ',' || step || ',' || length || ';';
  END $$;
-- The same of an identity column: see pgmosaic_next_identity().
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_draw_identity(sequence oid, count int) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  DECLARE
    first text := pgmosaic_next_identity(sequence) || ',0,1;';
  BEGIN
    RETURN first || CASE WHEN count > 1 THEN pgmosaic_draw(sequence, count - 1) ELSE '' END;
  EXCEPTION WHEN sequence_generator_limit_exceeded THEN
    RETURN first;
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
-- A relation's columns as CREATE TABLE has them; whether their values keep their meaning in any output style: floats,
-- times with zones and what may hold them are written otherwise in some.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_columns(relation oid, OUT columns text, OUT exact boolean)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  AS $$
    SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
                      || CASE WHEN a.attcollation <> t.typcollation
                              THEN ' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(l.collname) ELSE '' END
                      || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attnum),
           coalesce(bool_and(t.typtype IN ('b', 'e') AND t.typcategory NOT IN ('A', 'G')
                             AND t.oid NOT IN (700, 701, 1184, 1266)), true)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
         LEFT JOIN pg_namespace n ON n.oid = l.collnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = relation
  $$;
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_home_changes (
  xact xid8, n int, tag text, role text, path text, stack text, made oid, name text, columns text,
  PRIMARY KEY (xact, n));
-- Who changes the schema, told to pgmosaic_note(), which runs next. It has the settings of whoever does: so it must not
-- have anything that one could redirect.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_guard() RETURNS event_trigger
  LANGUAGE plpgsql
  AS $$
  BEGIN
    PERFORM pg_catalog.set_config('pgmosaic.changer', current_user::pg_catalog.text, true),
            pg_catalog.set_config('pgmosaic.changer_path', pg_catalog.current_setting('search_path'), true);
  END $$;
-- An event trigger, which nobody else can call. The first line of its stack is its own, the others are those of whoever
-- changes the schema.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_note() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  #variable_conflict use_variable
  DECLARE
    stack text;
    made oid;
    names text;
    name text;
  BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF strpos(stack, E'\n') = 0 THEN
      RETURN;  -- a statement of its own
    ELSIF TG_EVENT = 'sql_drop' THEN
      IF NOT EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary)
          OR TG_TAG NOT LIKE 'DROP %' THEN
        RETURN;
      END IF;
    ELSE
      SELECT objid INTO made FROM pg_event_trigger_ddl_commands()
        WHERE schema_name IS DISTINCT FROM 'pg_temp' AND NOT in_extension
        ORDER BY object_type IN ('table', 'materialized view') DESC LIMIT 1;  -- not its sequence
      IF NOT FOUND THEN
        RETURN;
      END IF;
    END IF;
    IF TG_TAG IN ('CREATE TABLE AS', 'SELECT INTO') THEN
      name := made::regclass;
      names := (SELECT c.columns FROM pgmosaic_columns(made) c);
    END IF;
    DELETE FROM pgmosaic_home_changes WHERE (xact, n) IN (
      SELECT o.xact, o.n FROM pgmosaic_home_changes o WHERE o.xact < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY o.xact LIMIT 100 FOR UPDATE SKIP LOCKED);
    INSERT INTO pgmosaic_home_changes
      SELECT pg_current_xact_id(), 1 + count(*), TG_TAG, current_setting('pgmosaic.changer'),
             current_setting('pgmosaic.changer_path'), substr(stack, strpos(stack, E'\n') + 1), made, name, names
        FROM pgmosaic_home_changes o WHERE o.xact = pg_current_xact_id();
  END $$;
-- Of the transaction, behind the first ones.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_changes(behind int) RETURNS SETOF pg_catalog.pgmosaic_home_changes
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT * FROM pgmosaic_home_changes WHERE xact = pg_current_xact_id_if_assigned() AND n > $1 ORDER BY n $$;
-- Of a materialized view and a temporary view of the same columns: each gets the other's query. The update of pg_class
-- tells all caches of it. Without `source` others who refresh the view wait from now on.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_swap_queries(kept oid, source oid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  DECLARE
    stack text;
  BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF stack !~ '^[^\n]*\nSQL statement "[^"]*"\nPL/pgSQL function pgmosaic_refresh\(oid,oid,boolean\) line \d+ at PERFORM$'
        OR (SELECT count(*) FROM pg_class c WHERE pg_has_role(session_user, c.relowner, 'MEMBER')
          AND (c.oid = kept AND c.relkind = 'm' OR c.oid = source AND c.relkind = 'v' AND c.relpersistence = 't')) <>
            (CASE WHEN source IS NULL THEN 1 ELSE 2 END)
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
-- REFRESH of rows that the router has read (router/materialized.cc), for the session's statements alone. It has their
-- search_path, for functions in indexes, and therefore nothing that one could redirect.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_refresh(kept oid, source oid, beside_readers boolean) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER
  AS $$
  DECLARE
    stack pg_catalog.text;
    command pg_catalog.text := pg_catalog.format('REFRESH MATERIALIZED VIEW %s %s',
      CASE WHEN beside_readers THEN 'CONCURRENTLY' END, kept::pg_catalog.regclass);
  BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF pg_catalog.strpos(stack, E'\n') OPERATOR(pg_catalog.>) 0 THEN
      RAISE insufficient_privilege USING MESSAGE = 'not for functions';
    END IF;
    PERFORM pg_catalog.pgmosaic_swap_queries(kept, source);
    IF source IS NULL THEN
      RETURN;
    END IF;
    EXECUTE command;
    PERFORM pg_catalog.pgmosaic_swap_queries(kept, source);
  END $$;
-- Event triggers run by their names' order.
DO $$
  DECLARE
    event text;
    name text;
  BEGIN
    FOREACH event IN ARRAY ARRAY['ddl_command_end', 'sql_drop'] LOOP
      FOREACH name IN ARRAY ARRAY['pgmosaic_guard_' || event, 'pgmosaic_guard_' || event || '_note'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = name) THEN
          EXECUTE format('CREATE EVENT TRIGGER %I ON %s EXECUTE FUNCTION pg_catalog.%I()', name, event,
                         CASE WHEN name LIKE '%note' THEN 'pgmosaic_note' ELSE 'pgmosaic_guard' END);
          EXECUTE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', name);
        END IF;
      END LOOP;
    END LOOP;
  END $$;
RESET session_replication_role;
)";

}  // namespace pgmosaic::control
