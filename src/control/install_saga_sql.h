// What the groups' databases hold of sagas (router/sagas.h). Idempotent; run by the internal role.
#pragma once

namespace pgmosaic::control {

// Of every group. A step's record stands where its transaction wrote. Row 0 of a saga is its fence on this group:
// 'open' lets steps in, 'closed' waits for those under way and lets no more in, 'finished' is the owner's word that
// nothing is to be compensated. Users can call pgmosaic_saga_note(), and have nothing to sign with.
inline constexpr const char* kInstallSagaSql = R"(
SET client_min_messages = warning;
SET lock_timeout = '30s';
SET allow_system_table_mods = on;
SET session_replication_role = replica;
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_saga_steps (
  saga text, n int, state text, request text, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (saga, n));
DO $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'pg_catalog.pgmosaic_saga_steps'::regclass AND relrowsecurity) THEN
      ALTER TABLE pg_catalog.pgmosaic_saga_steps ENABLE ROW LEVEL SECURITY;  -- pg_write_all_data writes no row of it
    END IF;
  END $$;
-- note: JSON in hexadecimal digits, the same under any client_encoding.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_note(note text, signature text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  DECLARE
    stack text;
    said jsonb;
    id text;
  BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF stack LIKE E'%\n%' OR NOT EXISTS (
         SELECT FROM pgmosaic_secret s
         WHERE signature = encode(sha256(convert_to(concat_ws(' ', 'saga', s.secret, s.group_id, note), 'UTF8')), 'hex')) THEN
      RAISE insufficient_privilege USING MESSAGE = 'only routers write the steps of sagas';
    END IF;
    said := convert_from(decode(note, 'hex'), 'UTF8')::jsonb;
    id := said->>'saga';
    IF said->>'what' = 'undo' THEN
      DELETE FROM pgmosaic_saga_steps s WHERE s.saga = id AND s.n = (said->>'n')::int;
      IF NOT FOUND THEN
        RAISE 'the step of saga % was compensated already', id USING ERRCODE = 'PMSG1';
      END IF;
      RETURN;
    END IF;
    INSERT INTO pgmosaic_saga_steps (saga, n, state) VALUES (id, 0, 'open') ON CONFLICT (saga, n) DO NOTHING;
    PERFORM FROM pgmosaic_saga_steps s WHERE s.saga = id AND s.n = 0 AND s.state = 'open' FOR SHARE;
    IF NOT FOUND THEN
      RAISE object_not_in_prerequisite_state USING MESSAGE = format('saga "%s" has ended', id);
    END IF;
    IF said->>'what' = 'finish' THEN
      UPDATE pgmosaic_saga_steps s SET state = 'finished' WHERE s.saga = id AND s.n = 0;
    ELSE
      INSERT INTO pgmosaic_saga_steps (saga, n, request) VALUES (id, (said->>'n')::int, note);
    END IF;
  END $$;
-- For the internal role: others may not write the table. The fence, and the steps behind it.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_close(saga text)
  RETURNS TABLE (n int, state text, request text)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
  AS $$
  #variable_conflict use_column
  BEGIN
    DELETE FROM pgmosaic_saga_steps s WHERE (s.saga, s.n) IN (
      SELECT o.saga, o.n FROM pgmosaic_saga_steps o WHERE o.state = 'closed' AND o.at < now() - interval '1 day'
        LIMIT 100 FOR UPDATE SKIP LOCKED);
    INSERT INTO pgmosaic_saga_steps AS s (saga, n, state) VALUES ($1, 0, 'closed')
      ON CONFLICT (saga, n) DO UPDATE SET state = 'closed', at = now() WHERE s.state = 'open';
    RETURN QUERY SELECT s.n, s.state, s.request FROM pgmosaic_saga_steps s WHERE s.saga = $1;
  END $$;
-- What a call of pgmosaic.saga_…() asks for, with the values of its arguments and of what the session is: the router
-- does it in their place.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_session() RETURNS jsonb LANGUAGE sql STABLE
  BEGIN ATOMIC
    SELECT jsonb_build_object('user', session_user, 'role', current_setting('role'),
                              'path', current_setting('search_path'), 'read_only', current_setting('transaction_read_only'),
                              'datestyle', current_setting('datestyle'), 'intervalstyle', current_setting('intervalstyle'),
                              'timezone', current_setting('timezone'));
  END;
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_begin(name text, timeout interval DEFAULT '1 hour') RETURNS text
  LANGUAGE sql
  BEGIN ATOMIC
    SELECT encode(convert_to((pgmosaic_saga_session() || jsonb_build_object('name', $1, 'seconds', extract(epoch FROM $2)))::text,
                             'UTF8'), 'hex');
  END;
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_step(saga text, step text, compensation text,
                                                         VARIADIC parameters text[] DEFAULT '{}') RETURNS text
  LANGUAGE sql
  BEGIN ATOMIC
    SELECT encode(convert_to((pgmosaic_saga_session() || jsonb_build_object('saga', $1, 'step', $2, 'compensation', $3,
                                                                            'parameters', $4))::text, 'UTF8'), 'hex');
  END;
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_compensate(saga text) RETURNS text LANGUAGE sql
  BEGIN ATOMIC
    SELECT encode(convert_to((pgmosaic_saga_session() || jsonb_build_object('saga', $1))::text, 'UTF8'), 'hex');
  END;
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_finish(saga text) RETURNS text LANGUAGE sql
  BEGIN ATOMIC
    SELECT encode(convert_to((pgmosaic_saga_session() || jsonb_build_object('saga', $1))::text, 'UTF8'), 'hex');
  END;
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_saga_forget(saga text) RETURNS text LANGUAGE sql
  BEGIN ATOMIC
    SELECT encode(convert_to((pgmosaic_saga_session() || jsonb_build_object('saga', $1))::text, 'UTF8'), 'hex');
  END;
RESET session_replication_role;
)";

// Of the home. keys: what the router logs in with as the owner, sealed (pg/seal.h) with a key that only the metadata
// store has.
inline constexpr const char* kInstallSagaHomeSql = R"(
SET client_min_messages = warning;
SET allow_system_table_mods = on;
SET session_replication_role = replica;
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_sagas (
  id text PRIMARY KEY, name text NOT NULL, owner oid NOT NULL, trusted boolean NOT NULL, keys text NOT NULL,
  began timestamptz NOT NULL DEFAULT now(), ends timestamptz);
DO $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'pg_catalog.pgmosaic_sagas'::regclass AND relrowsecurity) THEN
      ALTER TABLE pg_catalog.pgmosaic_sagas ENABLE ROW LEVEL SECURITY;
    END IF;
  END $$;
RESET session_replication_role;
)";

}  // namespace pgmosaic::control
