// What the databases of the groups hold of ours. Idempotent; run by the internal role. Of the home alone:
// install_home_sql.h.
#pragma once

namespace pgmosaic::control {

// The home's, and every other group's: the home is where the user's schema is, so no more of ours is there than this,
// in a schema whose name tools take for the system's.
inline constexpr const char* kInstallSql = R"(
SET client_min_messages = warning;
SET lock_timeout = '30s';  -- an error, not a start that waits for ever
SET allow_system_table_mods = on;
SET session_replication_role = replica;  -- no event triggers of users
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_commit_log (
  gid text PRIMARY KEY,
  participants int[] NOT NULL,
  aborted boolean NOT NULL DEFAULT false,
  router text, label bigint);
-- Of a table made by an older version. Only then: ALTER TABLE waits for prepared transactions, which have rows in it and
-- are settled after this.
DO $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'pg_catalog.pgmosaic_commit_log'::regclass
                     AND attname = 'label') THEN
      ALTER TABLE pg_catalog.pgmosaic_commit_log ADD COLUMN router text, ADD COLUMN label bigint;
    END IF;
  END $$;
DROP FUNCTION IF EXISTS pg_catalog.pgmosaic_log_commit(text, int[]);
-- Of each router: all its transactions of labels up to `epoch` were finished on all groups before this was set here; the
-- rows of labels up to `trimmed` are gone, but for those `kept`.
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_epochs (
  router text PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 0,
  trimmed bigint NOT NULL DEFAULT 0,
  kept bigint[] NOT NULL DEFAULT '{}');
-- What routers sign rows with.
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_secret (secret text NOT NULL, group_id int PRIMARY KEY);
DO $$
  BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = 'pg_catalog.pgmosaic_secret'::regclass AND relrowsecurity) THEN
      ALTER TABLE pg_catalog.pgmosaic_secret ENABLE ROW LEVEL SECURITY;  -- pg_read_all_data reads no row of it
    END IF;
  END $$;
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_log_commit(gid text, participants int[], router text, label bigint,
                                                          signature text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER
  AS $$
  BEGIN
    -- Each name is qualified: SET search_path would cost more than the INSERT.
    INSERT INTO pg_catalog.pgmosaic_commit_log (gid, participants, router, label)
      SELECT $1, $2, $3, $4 FROM pg_catalog.pgmosaic_secret s
      WHERE $5 OPERATOR(pg_catalog.=) pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        pg_catalog.concat_ws(' ', s.secret, s.group_id, $1, pg_catalog.array_to_string($2, ','), $3, $4), 'UTF8')), 'hex');
    IF NOT FOUND THEN
      RAISE insufficient_privilege USING MESSAGE = 'only routers write to the commit log';
    END IF;
  END $$;
-- What a snapshot shows of transactions over several groups (exec/untorn.h); of all, whichever are asked for.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_seen_commits(groups int[]) RETURNS text
  LANGUAGE plpgsql STABLE SECURITY DEFINER
  AS $$
  DECLARE
    routers pg_catalog.text;
    sums pg_catalog.text;
  BEGIN
    SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', router, epoch, trimmed,
                                                      pg_catalog.array_to_string(kept, ',')), ';')
      INTO routers FROM pg_catalog.pgmosaic_epochs;
    IF EXISTS (SELECT FROM pg_catalog.pgmosaic_commit_log) THEN
      SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.array_to_string(participants, ','), router,
                                                        label, n, hashes), ';') INTO sums
        FROM (SELECT participants, router, label, pg_catalog.count(*) AS n,
                     pg_catalog.bit_xor(pg_catalog.hashtextextended(gid, 0)) AS hashes
              FROM pg_catalog.pgmosaic_commit_log WHERE NOT aborted GROUP BY participants, router, label) sums;
    END IF;
    RETURN pg_catalog.concat(routers, '|', sums);
  END $$;
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
-- Marks an index whose parts the groups are yet to build; the internal role makes it valid (Cluster::index_built). For
-- the session's statements alone: not for functions, in which others could have it marked.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_begin_index(index oid) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  DECLARE
    stack text;
  BEGIN
    GET DIAGNOSTICS stack = PG_CONTEXT;
    IF stack LIKE E'%\n%' OR index < 16384 OR NOT EXISTS (
         SELECT FROM pg_class c WHERE c.oid = index AND pg_has_role(session_user, c.relowner, 'MEMBER')) THEN
      RAISE insufficient_privilege USING MESSAGE = format('must be owner of index %s', index::regclass);
    END IF;
    UPDATE pg_index SET indisvalid = false WHERE indexrelid = index
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = index);
  END $$;
-- ALTER INDEX whole ATTACH PARTITION part, which computes what is constant in both, in a function that runs as the
-- table's owner and cannot become anybody else: SET ROLE would leave a way back. `path`: the caller's search_path.
CREATE OR REPLACE FUNCTION pg_catalog.pgmosaic_attach_index(whole oid, part oid, path text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$
  DECLARE
    runner text := format('pgmosaic_shards.pgmosaic_attach_%s()', part);
    role text := current_setting('session_replication_role');
    owner text;
    work text;
  BEGIN
    SELECT quote_ident(pg_get_userbyid(w.relowner)),
           format('ALTER INDEX %I.%I ATTACH PARTITION %I.%I', n.nspname, w.relname, m.nspname, p.relname)
      INTO owner, work
      FROM pg_class w JOIN pg_namespace n ON n.oid = w.relnamespace, pg_class p JOIN pg_namespace m ON m.oid = p.relnamespace
      WHERE w.oid = whole AND p.oid = part AND w.relowner = p.relowner AND w.relkind = 'I' AND p.relkind IN ('i', 'I')
        AND pg_has_role(session_user, w.relowner, 'MEMBER');
    IF work IS NULL THEN
      RAISE insufficient_privilege USING MESSAGE = format('must be owner of index %s', whole::regclass);
    END IF;
    PERFORM set_config('session_replication_role', 'replica', true);  -- no event triggers of users
    EXECUTE format('CREATE FUNCTION %s RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS %L', runner,
                   format('BEGIN PERFORM pg_catalog.set_config(''search_path'', %L, true); %s; END', path, work));
    EXECUTE format('ALTER FUNCTION %s OWNER TO %s', runner, owner);
    PERFORM set_config('session_replication_role', role, true);
    EXECUTE format('SELECT %s', runner);
    PERFORM set_config('session_replication_role', 'replica', true);
    EXECUTE format('DROP FUNCTION %s', runner);
    PERFORM set_config('session_replication_role', role, true);
  END $$;
RESET session_replication_role;
)";

// Of the groups that hold shards.
inline constexpr const char* kInstallShardsSql = R"(
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS pgmosaic_shards;
GRANT USAGE, CREATE ON SCHEMA pgmosaic_shards TO PUBLIC;
)";

}  // namespace pgmosaic::control
