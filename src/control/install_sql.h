// What the databases of the groups hold of ours. Idempotent; run by the internal role. Of the home alone:
// install_home_sql.h.
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
RESET session_replication_role;
)";

// Of the groups that hold shards.
inline constexpr const char* kInstallShardsSql = R"(
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS pgmosaic_shards;
GRANT USAGE, CREATE ON SCHEMA pgmosaic_shards TO PUBLIC;
)";

}  // namespace pgmosaic::control
