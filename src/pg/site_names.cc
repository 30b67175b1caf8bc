#include "pg/site_names.h"

#include <fmt/format.h>

#include <cstdint>

namespace pgmosaic::pg {

namespace {

constexpr std::size_t kMaxName = 63;  // NAMEDATALEN - 1

// FNV-1a.
uint32_t hash_of(std::string_view text) {
  uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

}  // namespace

std::string shards_database_name(std::string_view database) {
  std::string name = kShardsDatabasePrefix + std::string(database);
  if (name.size() <= kMaxName) return name;
  std::size_t keep = kMaxName - 9;
  while (keep > 0 && (static_cast<unsigned char>(name[keep]) & 0xC0) == 0x80) --keep;  // whole characters
  return fmt::format("{}_{:08x}", name.substr(0, keep), hash_of(database));
}

bool is_shards_database(std::string_view name) { return name.starts_with(kShardsDatabasePrefix); }

}  // namespace pgmosaic::pg
