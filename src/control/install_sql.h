// What the databases of the groups hold of ours. Idempotent; run by the internal role.
#pragma once

namespace pgmosaic::control {

#define PGMOSAIC_INSTALL_COMMON R"(
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS pgmosaic;
GRANT USAGE ON SCHEMA pgmosaic TO PUBLIC;
CREATE TABLE IF NOT EXISTS pgmosaic.commit_log (
  gid text PRIMARY KEY,
  participants int[] NOT NULL,
  aborted boolean NOT NULL DEFAULT false,
  written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());
CREATE OR REPLACE FUNCTION pgmosaic.log_commit(gid text, participants int[]) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ INSERT INTO pgmosaic.commit_log (gid, participants) VALUES ($1, $2) $$;
)"

// The home's: the user's schema as declared is beside it.
inline constexpr const char* kInstallSql = PGMOSAIC_INSTALL_COMMON;
// Of a group that holds shards.
inline constexpr const char* kInstallShardsSql = PGMOSAIC_INSTALL_COMMON R"(
CREATE SCHEMA IF NOT EXISTS pgmosaic_shards;
GRANT USAGE, CREATE ON SCHEMA pgmosaic_shards TO PUBLIC;
)";
#undef PGMOSAIC_INSTALL_COMMON

}  // namespace pgmosaic::control
