#include "control/membership.h"

#include <algorithm>

#include "meta/codec.h"
#include "pool/settings.h"

namespace pgmosaic::control {

namespace {

constexpr const char* kMakeMember = R"(
SET client_min_messages = warning;
SET allow_system_table_mods = on;
CREATE TABLE IF NOT EXISTS pg_catalog.pgmosaic_member (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  cluster_id text NOT NULL,
  group_name text NOT NULL);
)";

std::string names_of(const std::vector<catalog::Group>& groups) {
  std::string names;
  for (const catalog::Group& group : groups) names += (names.empty() ? "" : ", ") + group.name;
  return names;
}

const catalog::Group* find(const std::vector<catalog::Group>& groups, const std::string& name) {
  auto found = std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.name == name; });
  return found == groups.end() ? nullptr : &*found;
}

}  // namespace

Status check_groups(meta::Store& store, const std::vector<catalog::Group>& configured) {
  TRY_ASSIGN(std::vector<catalog::Group> recorded, meta::read_groups(store));
  const std::string hint =
      "Configure the groups that the cluster was made with, in this order: " + names_of(recorded) + ".";
  for (const catalog::Group& group : configured)
    if (find(recorded, group.name) == nullptr)
      return make_error("F0000", "group \"" + group.name + "\" is not of this cluster", hint,
                        "Groups cannot be added to a cluster that exists yet.");
  for (const catalog::Group& group : recorded) {
    const catalog::Group* same = find(configured, group.name);
    if (same == nullptr)
      return make_error("F0000", "group \"" + group.name + "\" of this cluster is not configured", hint,
                        "Its rows would be missing from every answer.");
    if (same->id != group.id)
      return make_error("F0000", "the groups are configured in another order than the cluster was made with", hint);
    if (same->home != group.home)
      return make_error("F0000", "another group than before is configured as home",
                        "The home keeps local tables and sequences: set home = true for the group it was.");
  }
  return {};
}

net::Task<Status> check_member(pool::ServerConn& conn, std::string cluster_id, catalog::Group group) {
  auto made = co_await conn.query(kMakeMember);
  if (!made.ok()) co_return std::move(made.error());
  const std::string claim = "INSERT INTO pg_catalog.pgmosaic_member (cluster_id, group_name) VALUES (" +
                            pool::quote_literal(cluster_id) + ", " + pool::quote_literal(group.name) +
                            ") ON CONFLICT DO NOTHING";
  auto claimed = co_await conn.query(claim);
  if (!claimed.ok()) co_return std::move(claimed.error());
  auto rows = co_await conn.query("SELECT cluster_id, group_name FROM pg_catalog.pgmosaic_member");
  if (!rows.ok()) co_return std::move(rows.error());
  const std::string& theirs = *rows->rows[0][0];
  const std::string& name = *rows->rows[0][1];
  const std::string where = group.host + " port " + std::to_string(group.port);
  if (theirs != cluster_id)
    co_return make_error(
        "F0000", "the server at " + where + " belongs to another cluster (" + theirs + ")",
        "Set metadata.path to the store that this cluster was made with. To make a new cluster of a "
        "server that is no longer in use: DROP TABLE pg_catalog.pgmosaic_member, pg_catalog.pgmosaic_commit_log and "
        "DROP SCHEMA pgmosaic_shards CASCADE in each of its databases.",
        "Cluster " + cluster_id + " is the one in the configured metadata store.");
  if (name != group.name)
    co_return make_error("F0000", "the server at " + where + " is group \"" + name + "\", not \"" + group.name + "\"",
                         "Correct host and port of the [[group]] sections.");
  co_return Status{};
}

}  // namespace pgmosaic::control
