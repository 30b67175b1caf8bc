#include "exec/keys.h"

#include <strings.h>

#include <algorithm>

#include "base/bytes.h"
#include "catalog/partition_bounds.h"

namespace pgmosaic::exec {

namespace {

using catalog::GroupId;
using plan::KeySource;

// Binary integers may arrive in another width than the column's.
catalog::Oid type_of_value(const KeySource& source, std::string_view value, bool binary) {
  catalog::Oid type = source.type;
  auto is_int = [](catalog::Oid oid) { return oid == 20 || oid == 21 || oid == 23; };
  if (!binary || !is_int(type)) return type;
  return value.size() == 8 ? 20 : value.size() == 4 ? 23 : 21;
}

// One value as it will be hashed or compared.
struct KeyValue {
  catalog::Oid type = 0;
  catalog::ValueFormat format = catalog::ValueFormat::text;
  std::string_view value;
};

// nullopt: not to be told here. `scratch` keeps what `value` points to.
std::optional<KeyValue> key_value(const KeySource& source, const Values& values, std::string& scratch, bool& is_null) {
  KeyValue result;
  result.type = source.type;
  switch (source.kind) {
    case KeySource::Kind::literal:
      if (values.shape == nullptr || source.index >= values.shape->literals.size()) return std::nullopt;
      result.value = sql::literal_value(values.sql, values.shape->literals[source.index], scratch);
      if (source.negate) {
        std::string negative = "-";
        negative.append(result.value);
        scratch = std::move(negative);
        result.value = scratch;
      }
      break;
    case KeySource::Kind::parameter: {
      if (values.bind == nullptr || source.index >= values.bind->values.size()) return std::nullopt;
      const auto& value = values.bind->values[source.index];
      if (!value) {
        is_null = true;
        return std::nullopt;
      }
      result.value = *value;
      if (values.bind->binary(source.index)) {
        result.format = catalog::ValueFormat::binary;
        result.type = type_of_value(source, *value, true);
      }
      break;
    }
    case KeySource::Kind::constant: result.value = source.text; break;
    case KeySource::Kind::null_value: is_null = true; return std::nullopt;
    case KeySource::Kind::array_param: return std::nullopt;
  }
  // A type modifier may change the value on its way into the column.
  if (!catalog::stored_unchanged(source.type, source.typmod, result.format, result.value)) return std::nullopt;
  return result;
}

std::optional<uint32_t> shard_by_hash(const plan::KeyTuple& tuple, const Values& values,
                                      const catalog::Colocation& colocation, bool& is_null) {
  uint64_t row_hash = 0;
  for (const KeySource& source : tuple) {
    bool null_here = false;
    auto hash = hash_source(source, values, null_here);
    if (null_here) {
      is_null = true;
      continue;
    }
    if (!hash) return std::nullopt;
    row_hash = catalog::combine_hash(row_hash, *hash);
  }
  return colocation.shard_of_hash(row_hash);
}

std::optional<uint32_t> shard_by_bounds(const plan::KeyTuple& tuple, const Values& values,
                                        const catalog::PartitionBounds& bounds, bool& is_null) {
  bool tellable = bounds.tellable();
  catalog::PartitionBounds::Row row(bounds);
  for (const KeySource& source : tuple) {
    bool null_here = false;
    std::string scratch;
    const auto value = key_value(source, values, scratch, null_here);
    if (null_here) {
      is_null = true;
      if (tellable) row.add_null();
      continue;
    }
    tellable = tellable && value && row.add(value->format, value->value, values.text);
  }
  if (!tellable) return std::nullopt;
  return row.find();
}

// Elements of a one-dimensional array parameter. False: not understood here.
bool array_elements(std::string_view value, bool binary, std::vector<std::optional<std::string>>& elements) {
  if (binary) {
    pg::FieldReader reader(value);
    const int32_t dimensions = reader.int32();
    reader.int32();
    reader.int32();
    if (dimensions == 0) return !reader.bad();
    if (dimensions != 1) return false;
    const int32_t count = reader.int32();
    reader.int32();
    for (int32_t i = 0; i < count && !reader.bad(); ++i) {
      const int32_t length = reader.int32();
      if (length < 0) {
        elements.emplace_back(std::nullopt);
      } else {
        elements.emplace_back(std::string(reader.bytes(static_cast<std::size_t>(length))));
      }
    }
    return reader.done();
  }
  if (value.size() < 2 || value.front() != '{' || value.back() != '}') return false;
  std::string_view rest = value.substr(1, value.size() - 2);
  if (rest.empty()) return true;
  while (true) {
    std::string element;
    bool quoted = false;
    std::size_t i = 0;
    if (!rest.empty() && rest[0] == '"') {
      quoted = true;
      for (i = 1; i < rest.size() && rest[i] != '"'; ++i) {
        if (rest[i] == '\\' && i + 1 < rest.size()) ++i;
        element += rest[i];
      }
      if (i >= rest.size()) return false;
      ++i;
    } else {
      for (; i < rest.size() && rest[i] != ','; ++i) {
        // PostgreSQL drops blanks around an element and keeps those within.
        if (std::string_view("{}\"\\ \t\n\v\f\r").find(rest[i]) != std::string_view::npos) return false;
        element += rest[i];
      }
      if (element.empty()) return false;
    }
    const bool null = !quoted && element.size() == 4 && strncasecmp(element.c_str(), "null", 4) == 0;
    null ? elements.emplace_back(std::nullopt) : elements.emplace_back(std::move(element));
    if (i == rest.size()) return true;
    if (rest[i] != ',') return false;
    rest.remove_prefix(i + 1);
  }
}

void add_group(std::vector<GroupId>& groups, GroupId group) {
  auto place = std::lower_bound(groups.begin(), groups.end(), group);
  if (place == groups.end() || *place != group) groups.insert(place, group);
}

// false: undecided
bool add_array(const KeySource& source, const Values& values, const catalog::Colocation& colocation,
               std::vector<GroupId>& groups) {
  if (values.bind == nullptr || source.index >= values.bind->values.size()) return false;
  const auto& value = values.bind->values[source.index];
  if (!value) return true;
  const bool binary = values.bind->binary(source.index);
  const auto format = binary ? catalog::ValueFormat::binary : catalog::ValueFormat::text;
  std::vector<std::optional<std::string>> elements;
  if (!array_elements(*value, binary, elements)) return false;
  if (colocation.computed || (colocation.bounds != nullptr && !colocation.bounds->tellable())) return false;
  for (const auto& element : elements) {
    if (!element) continue;
    if (colocation.bounds != nullptr) {
      catalog::PartitionBounds::Row row(*colocation.bounds);
      if (!row.add(format, *element, values.text)) return false;
      const uint32_t shard = row.find();
      if (shard < colocation.shards.size()) add_group(groups, colocation.shards[shard].group);
      continue;
    }
    auto hash = catalog::hash_key_value(type_of_value(source, *element, binary), format, *element, values.text);
    if (!hash) return false;
    add_group(groups, colocation.group_of_hash(catalog::combine_hash(0, *hash)));
  }
  return true;
}

Resolution from_list(std::vector<GroupId> groups) {
  Resolution result;
  if (groups.size() == 1) {
    result.one = groups[0];
  } else {
    result.groups = std::move(groups);
  }
  return result;
}

// The narrowest of the sides; nullopt: open. `contradiction`: a comparison with NULL.
std::optional<std::string> narrowest(const std::vector<plan::KeyWindow::Side>& sides, bool upper, const Values& values,
                                     const catalog::PartitionBounds& bounds, bool& inclusive, bool& contradiction) {
  std::optional<std::string> result;
  for (const auto& side : sides) {
    bool null = false;
    std::string scratch, key;
    const auto value = key_value(side.value, values, scratch, null);
    contradiction = contradiction || null;
    if (!value || !bounds.first_key(key, value->format, value->value, values.text)) continue;
    const bool narrower = !result || (upper ? key < *result : key > *result);
    if (result && key == *result) inclusive = inclusive && side.inclusive;
    if (!narrower) continue;
    result = std::move(key);
    inclusive = side.inclusive;
  }
  return result;
}

std::vector<GroupId> groups_within(const std::vector<plan::KeyWindow>& windows, const Values& values,
                                   const catalog::Colocation& colocation) {
  std::vector<GroupId> groups;
  for (const plan::KeyWindow& window : windows) {
    bool lower_inclusive = false, upper_inclusive = false, contradiction = false;
    const auto lower = narrowest(window.lower, false, values, *colocation.bounds, lower_inclusive, contradiction);
    const auto upper = narrowest(window.upper, true, values, *colocation.bounds, upper_inclusive, contradiction);
    if (contradiction) continue;
    for (uint32_t shard : colocation.bounds->between(lower, upper, upper_inclusive))
      add_group(groups, colocation.shards[shard].group);
  }
  return groups;
}

Resolution resolve_keys(const plan::Target& target, const Values& values, const catalog::Colocation& colocation,
                        const catalog::Snapshot& snapshot) {
  Resolution result;
  std::vector<GroupId> groups;
  for (const plan::KeyTuple& tuple : target.keys) {
    if (tuple.size() == 1 && tuple[0].kind == KeySource::Kind::array_param) {
      if (!add_array(tuple[0], values, colocation, groups)) result.undecided = true;
      continue;
    }
    bool is_null = false;
    auto shard = shard_of(tuple, values, colocation, is_null);
    if (is_null && !values.null_is_value) continue;  // k = NULL finds nothing
    if (!shard) {
      result.undecided = true;
      continue;
    }
    if (target.keys.size() == 1) {
      result.one = group_of(colocation, *shard, snapshot);
      result.shard = *shard;
      return result;
    }
    if (*shard < colocation.shards.size() || values.null_is_value)
      add_group(groups, group_of(colocation, *shard, snapshot));
  }
  if (result.undecided) {
    result.groups = groups_of(colocation);
    if (result.groups.empty()) result.groups.push_back(snapshot.any_shards_group());
    if (result.groups.size() == 1) result.one = result.groups[0];
    return result;
  }
  if (groups.empty()) {  // contradiction: any one group gives the empty answer
    result.one = group_of(colocation, catalog::PartitionBounds::kNone, snapshot);
    return result;
  }
  return from_list(std::move(groups));
}

}  // namespace

std::optional<uint64_t> hash_source(const KeySource& source, const Values& values, bool& is_null) {
  std::string scratch;
  const auto value = key_value(source, values, scratch, is_null);
  if (!value) return std::nullopt;
  return catalog::hash_key_value(value->type, value->format, value->value, values.text);
}

std::optional<uint32_t> shard_of(const plan::KeyTuple& tuple, const Values& values,
                                 const catalog::Colocation& colocation, bool& is_null) {
  if (colocation.computed) {
    is_null =
        std::any_of(tuple.begin(), tuple.end(), [&](const KeySource& source) { return exec::is_null(source, values); });
    return std::nullopt;
  }
  if (colocation.by_partition) return shard_by_bounds(tuple, values, *colocation.bounds, is_null);
  return shard_by_hash(tuple, values, colocation, is_null);
}

bool is_null(const KeySource& source, const Values& values) {
  if (source.kind == KeySource::Kind::null_value) return true;
  return source.kind == KeySource::Kind::parameter && values.bind != nullptr &&
         source.index < values.bind->values.size() && !values.bind->values[source.index];
}

bool text_value(const KeySource& source, const Values& values, std::string& text) {
  switch (source.kind) {
    case KeySource::Kind::literal: {
      std::string scratch;
      text = source.negate ? "-" : "";
      const sql::Literal& literal = values.shape->literals[source.index];
      text += sql::literal_value(values.sql, literal, scratch);
      // What escapes (E'\303\244', U&'\00e4') stand for is in the server's encoding already.
      return values.text.server_encoding || is_ascii(text) || values.sql[literal.begin] == '\'';
    }
    case KeySource::Kind::parameter:
      if (values.bind == nullptr || source.index >= values.bind->values.size() ||
          (values.bind->binary(source.index) && !catalog::is_text_type(source.type)))
        return false;
      text = values.bind->values[source.index].value_or("");
      return true;
    case KeySource::Kind::constant: text = source.text; return true;
    default: return false;
  }
}

std::vector<GroupId> groups_of(const catalog::Colocation& colocation) {
  std::vector<GroupId> groups;
  for (const catalog::Shard& shard : colocation.shards) add_group(groups, shard.group);
  return groups;
}

Resolution resolve(const plan::Target& target, const Values& values, const catalog::Snapshot& snapshot,
                   const catalog::Database& database) {
  Resolution result;
  switch (target.kind) {
    case plan::Target::Kind::any:
    case plan::Target::Kind::home: result.one = snapshot.home; return result;
    case plan::Target::Kind::everywhere: {
      std::vector<GroupId> groups;
      for (const catalog::Group& group : snapshot.groups) groups.push_back(group.id);
      return from_list(std::move(groups));
    }
    case plan::Target::Kind::all:
    case plan::Target::Kind::keys: {
      const catalog::Colocation* colocation = database.colocation(target.colocation);
      CHECK(colocation != nullptr);
      if (target.kind == plan::Target::Kind::keys) return resolve_keys(target, values, *colocation, snapshot);
      std::vector<GroupId> groups =
          target.windows.empty() ? groups_of(*colocation) : groups_within(target.windows, values, *colocation);
      if (groups.empty()) groups.push_back(snapshot.any_shards_group());  // no partition, or none that matters
      return from_list(std::move(groups));
    }
  }
  return result;
}

}  // namespace pgmosaic::exec
