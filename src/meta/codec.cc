#include "meta/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace pgmosaic::meta {

namespace {

using nlohmann::json;

constexpr std::string_view kKindNames[] = {"local", "reference", "sharded", "view"};

std::string escape(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == '%')
      out += "%25";
    else if (c == '/')
      out += "%2F";
    else
      out += c;
  }
  return out;
}

std::string unescape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const bool percent = text.starts_with("%25"), slash = text.starts_with("%2F");
    out += percent ? '%' : slash ? '/' : text.front();
    text.remove_prefix(percent || slash ? 3 : 1);
  }
  return out;
}

// REQUIRES: valid UTF-8 in all strings
std::string dump(const json& value) {
  try {
    return value.dump();
  } catch (const json::exception&) {
    CHECK(!"metadata strings are UTF-8");
    return {};
  }
}

Error unreadable(const Entry& entry, std::string_view why) {
  return make_error("XX001", fmt::format("metadata key \"{}\" cannot be read", entry.key), {}, std::string(why));
}

// Runs a decoder of one JSON object; the library's exceptions end here.
template <class T, class Decode>
Result<T> decode(const Entry& entry, Decode decode_object) {
  try {
    return decode_object(json::parse(entry.value));
  } catch (const json::exception& e) {
    return unreadable(entry, e.what());
  }
}

// The number behind the last slash.
template <class Number>
bool key_number(std::string_view key, Number& number) {
  key.remove_prefix(key.rfind('/') + 1);
  const auto [end, ec] = std::from_chars(key.data(), key.data() + key.size(), number);
  return ec == std::errc() && end == key.data() + key.size();
}

template <class T, class Decode>
Result<std::vector<T>> read_all(Store& store, std::string_view prefix, Decode decode_entry) {
  TRY_ASSIGN(const Entries read, store.read_prefix(prefix));
  std::vector<T> values;
  for (const Entry& entry : read.entries) {
    TRY_ASSIGN(T value, decode_entry(entry));
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace

// Numbers in keys are padded, so that the order of keys is the order of numbers.
std::string group_key(catalog::GroupId id) { return fmt::format("{}{:010}", kGroupPrefix, id); }

std::string colocation_prefix(std::string_view database) {
  return fmt::format("{}{}/colocations/", kDatabasePrefix, escape(database));
}

std::string colocation_key(std::string_view database, catalog::ColocationId id) {
  return fmt::format("{}{:010}", colocation_prefix(database), id);
}

std::string table_prefix(std::string_view database) {
  return fmt::format("{}{}/tables/", kDatabasePrefix, escape(database));
}

std::string table_key(std::string_view database, catalog::Oid oid) {
  return fmt::format("{}{:010}", table_prefix(database), oid);
}

std::string layout_prefix(std::string_view database) {
  return fmt::format("{}{}/layouts/", kDatabasePrefix, escape(database));
}

std::string layout_key(std::string_view database, std::string_view schema, std::string_view table) {
  return fmt::format("{}{}/{}", layout_prefix(database), escape(schema), escape(table));
}

std::string ids_key(std::string_view sequence) { return fmt::format("ids/{}", sequence); }

std::string encode_group(const catalog::Group& group) {
  return dump({{"name", group.name}, {"host", group.host}, {"port", group.port}, {"home", group.home}});
}

std::string encode_colocation(const catalog::Colocation& colocation) {
  json shards = json::array();
  for (const catalog::Shard& shard : colocation.shards) {
    shards.push_back(
        {{"id", shard.id}, {"modulus", shard.modulus}, {"remainder", shard.remainder}, {"group", shard.group}});
  }
  return dump({{"key_types", colocation.key_types},
               {"key_collations", colocation.key_collations},
               {"shards", std::move(shards)},
               {"explicit_only", colocation.explicit_only},
               {"by_partition", colocation.by_partition},
               {"computed", colocation.computed}});
}

std::string encode_table(const ShardedTableRecord& record) {
  return dump({{"kind", kKindNames[static_cast<size_t>(record.kind)]},
               {"key_columns", record.key_columns},
               {"colocation", record.colocation},
               {"shard_prefix", record.shard_prefix},
               {"group", record.group}});
}

Result<catalog::Group> decode_group(const Entry& entry) {
  catalog::Group group;
  if (!key_number(entry.key, group.id)) return unreadable(entry, "The key does not end in a number.");
  return decode<catalog::Group>(entry, [&](const json& value) {
    group.name = value.at("name").get<std::string>();
    group.host = value.at("host").get<std::string>();
    group.port = value.at("port").get<uint16_t>();
    group.home = value.at("home").get<bool>();
    return group;
  });
}

Result<catalog::Colocation> decode_colocation(const Entry& entry) {
  catalog::Colocation colocation;
  if (!key_number(entry.key, colocation.id)) return unreadable(entry, "The key does not end in a number.");
  TRY_ASSIGN(
      colocation, decode<catalog::Colocation>(entry, [&](const json& value) {
        colocation.key_types = value.at("key_types").get<std::vector<catalog::Oid>>();
        colocation.key_collations = value.at("key_collations").get<std::vector<catalog::Oid>>();
        colocation.explicit_only = value.at("explicit_only").get<bool>();
        colocation.by_partition = value.value("by_partition", false);
        colocation.computed = value.value("computed", false);
        for (const json& item : value.at("shards")) {
          colocation.shards.push_back({item.at("id").get<catalog::ShardId>(), item.at("modulus").get<uint32_t>(),
                                       item.at("remainder").get<uint32_t>(), item.at("group").get<catalog::GroupId>()});
        }
        return colocation;
      }));
  // group_of_hash() relies on this.
  for (size_t i = 0; i < colocation.shards.size(); ++i) {
    const catalog::Shard& shard = colocation.shards[i];
    if (shard.remainder != i || shard.modulus != colocation.shards.size()) {
      return unreadable(entry, "The shards are not one per remainder, in order.");
    }
  }
  return colocation;
}

Result<ShardedTableRecord> decode_table(const Entry& entry) {
  ShardedTableRecord record;
  const std::string_view key = entry.key;
  const size_t table = key.rfind("/tables/");
  if (!key.starts_with(kDatabasePrefix) || table == key.npos || !key_number(key, record.oid)) {
    return unreadable(entry, "The key is not that of a table.");
  }
  record.database = unescape(key.substr(kDatabasePrefix.size(), table - kDatabasePrefix.size()));
  std::string kind;
  TRY_ASSIGN(record, decode<ShardedTableRecord>(entry, [&](const json& value) {
               kind = value.at("kind").get<std::string>();
               record.key_columns = value.at("key_columns").get<std::vector<int>>();
               record.colocation = value.at("colocation").get<catalog::ColocationId>();
               record.shard_prefix = value.at("shard_prefix").get<std::string>();
               record.group = value.value("group", catalog::GroupId{0});
               return record;
             }));
  const auto* found = std::find(std::begin(kKindNames), std::end(kKindNames), kind);
  if (found == std::end(kKindNames)) return unreadable(entry, fmt::format("Unknown kind of table: {}.", kind));
  record.kind = static_cast<catalog::TableKind>(found - std::begin(kKindNames));
  return record;
}

Result<std::vector<catalog::Group>> read_groups(Store& store) {
  return read_all<catalog::Group>(store, kGroupPrefix, decode_group);
}

Result<std::vector<catalog::Colocation>> read_colocations(Store& store, std::string_view database) {
  return read_all<catalog::Colocation>(store, colocation_prefix(database), decode_colocation);
}

Result<std::vector<ShardedTableRecord>> read_tables(Store& store, std::string_view database) {
  return read_all<ShardedTableRecord>(store, table_prefix(database), decode_table);
}

Result<Layouts> read_layouts(Store& store, std::string_view database) {
  const std::string prefix = layout_prefix(database);
  TRY_ASSIGN(const Entries read, store.read_prefix(prefix));
  Layouts layouts;
  for (const Entry& entry : read.entries) {
    const std::string_view name = std::string_view(entry.key).substr(prefix.size());
    const size_t slash = name.find('/');
    if (slash == name.npos) return unreadable(entry, "The key is not that of a layout.");
    layouts[{unescape(name.substr(0, slash)), unescape(name.substr(slash + 1))}] = entry.value;
  }
  return layouts;
}

}  // namespace pgmosaic::meta
