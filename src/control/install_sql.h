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
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ INSERT INTO pgmosaic.commit_log (gid, participants) VALUES ($1, $2) $$;
)";

}  // namespace pgmosaic::control
