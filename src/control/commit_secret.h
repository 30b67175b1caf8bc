// The secret that the router in force signs rows of the commit logs with (install_sql.h). Each group keeps it: so what
// earlier routers have sent, and a group is late with, comes to nothing. A router takes the place of those that it has
// found, on each group; who is late with that himself finds others than he has seen.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pool/settings.h"

namespace pgmosaic::control {

inline constexpr std::string_view kSecretsSql = "SELECT secret FROM pg_catalog.pgmosaic_secret";

inline std::string replace_secret_sql(const std::vector<std::string>& found, const std::string& secret,
                                      uint32_t group) {
  std::string list;
  for (const std::string& one : found) list += ", " + pool::quote_literal(one);
  return "DELETE FROM pg_catalog.pgmosaic_secret WHERE secret IN (''" + list +
         "); INSERT INTO pg_catalog.pgmosaic_secret SELECT " + pool::quote_literal(secret) + ", " +
         std::to_string(group) + " WHERE NOT EXISTS (" + std::string(kSecretsSql) + ")";
}

// Rows of the routers before this one, when all is settled but for what clients have prepared: `undecided`.
inline std::string forget_commits_sql(const std::vector<std::string>& undecided, const std::string& secret) {
  const std::string in_force =
      "EXISTS (" + std::string(kSecretsSql) + " WHERE secret = " + pool::quote_literal(secret) + ")";
  std::string gids;
  for (const std::string& gid : undecided) gids += ", " + pool::quote_literal(gid);
  return "DELETE FROM pg_catalog.pgmosaic_commit_log WHERE NOT aborted AND gid NOT IN (''" + gids + ") AND " +
         in_force + "; DELETE FROM pg_catalog.pgmosaic_epochs WHERE " + in_force;
}

}  // namespace pgmosaic::control
