#include "control/schema_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace pgmosaic::control {

namespace {

using catalog::TableKind;

constexpr std::string_view kTable = "table ";
constexpr std::size_t kLongestShown = 80;

// Of the parent of a sharded table's leaves these cannot be as they are declared.
const std::set<std::string, std::less<>>& properties_of_leaves() {
  static const std::set<std::string, std::less<>> names = {"kind", "partition key", "persistence", "options",
                                                           "access method"};
  return names;
}

std::string property_of(const SchemaObject& object, const std::string& name) {
  const auto found = object.properties.find(name);
  return found == object.properties.end() ? std::string() : found->second;
}

std::string shown(const std::string& value) { return value.empty() ? "none" : value; }

std::string differs(const std::string& property, const std::string& here, const std::string& wanted) {
  const bool brief =
      std::max(here.size(), wanted.size()) <= kLongestShown && (here + wanted).find('\n') == std::string::npos;
  if (!brief) return property + " differs from the home's";
  return fmt::format("{} is {}, on the home {}", property, shown(here), shown(wanted));
}

std::vector<std::string> sorted_words(std::string_view list) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(", ", begin), list.size());
    words.emplace_back(list.substr(begin, end - begin));
    begin = end + 2;
  }
  std::sort(words.begin(), words.end());
  return words;
}

// Of two lists of columns only the order counts: a column too many is a finding of its own.
bool other_order(const std::string& here, const std::string& wanted) {
  return here != wanted && sorted_words(here) == sorted_words(wanted);
}

std::string table_of(const std::string& object) {
  return object.starts_with(kTable) ? object.substr(kTable.size()) : std::string();
}

class SchemaComparison {
 public:
  SchemaComparison(const SchemaFacts& home, const SchemaFacts& here, const Recorded& recorded, std::string group,
                   Findings& findings)
      : home_(home), here_(here), recorded_(recorded), group_(std::move(group)), findings_(findings) {}

  void run() {
    for (const auto& [name, object] : home_)
      if (!here_.contains(name) && (object.parent.empty() || here_.contains(object.parent))) find(name, "is missing");
    for (const auto& [name, object] : here_) {
      const auto wanted = home_.find(name);
      if (wanted != home_.end()) {
        compare(name, object, wanted->second);
      } else if (object.parent.empty() || home_.contains(object.parent)) {
        find(name, "is not on the home");
      }
    }
  }

 private:
  void find(const std::string& object, std::string difference) {
    findings_.push_back({group_, object, std::move(difference)});
  }

  void compare(const std::string& name, const SchemaObject& here, const SchemaObject& wanted) {
    const auto recorded = recorded_.tables.find(table_of(name));
    const bool sharded = recorded != recorded_.tables.end() && recorded->second.has_leaves;
    if (sharded) {
      must_be(name, here, "kind", "partitioned table");
      if (!recorded->second.partition_key.empty()) must_be(name, here, "partition key", recorded->second.partition_key);
    }
    std::set<std::string> properties;
    for (const auto& [property, value] : here.properties) properties.insert(property);
    for (const auto& [property, value] : wanted.properties) properties.insert(property);
    for (const std::string& property : properties) {
      if (sharded && properties_of_leaves().contains(property)) continue;
      const std::string ours = property_of(here, property), theirs = property_of(wanted, property);
      if (property == "columns" ? other_order(ours, theirs) : ours != theirs)
        find(name, differs(property == "columns" ? "order of columns" : property, ours, theirs));
    }
  }

  void must_be(const std::string& name, const SchemaObject& here, const std::string& property,
               const std::string& wanted) {
    const std::string value = property_of(here, property);
    if (value != wanted) find(name, fmt::format("{} is {}, must be {}", property, shown(value), wanted));
  }

  const SchemaFacts& home_;
  const SchemaFacts& here_;
  const Recorded& recorded_;
  const std::string group_;
  Findings& findings_;
};

std::string leaf_object(const std::string& leaf) { return "shard pgmosaic_shards." + pool::quote_identifier(leaf); }

std::string group_name(const std::vector<catalog::Group>& groups, catalog::GroupId id) {
  for (const catalog::Group& group : groups)
    if (group.id == id) return group.name;
  return std::to_string(id);
}

void compare_leaf(const Leaf& leaf, const RecordedLeaf& wanted, const std::string& group, const SchemaFacts& home,
                  Findings& findings) {
  const std::string object = leaf_object(leaf.name);
  if (leaf.parent != wanted.table) {
    findings.push_back(
        {group, object, fmt::format("is a partition of {}, must be of {}", shown(leaf.parent), wanted.table)});
    return;
  }
  if (leaf.bound != wanted.bound)
    findings.push_back({group, object, fmt::format("is {}, must be {}", leaf.bound, wanted.bound)});
  if (leaf.owner != leaf.parent_owner)
    findings.push_back(
        {group, object, fmt::format("owner is {}, that of its table {}", leaf.owner, leaf.parent_owner)});
  const auto table = home.find(std::string(kTable) + wanted.table);
  if (table != home.end() && leaf.unlogged != (property_of(table->second, "persistence") == "unlogged"))
    findings.push_back(
        {group, object, leaf.unlogged ? "is unlogged, its table is not" : "is logged, its table is not"});
}

void resolve_leaves(const meta::ShardedTableRecord& record, const catalog::Colocation& colocation,
                    const std::string& table, const std::vector<catalog::Group>& groups, Recorded& recorded,
                    Findings& findings) {
  for (const catalog::Shard& shard : colocation.shards) {
    const std::string name = record.shard_prefix + "_" + std::to_string(shard.remainder);
    const bool known = std::any_of(groups.begin(), groups.end(),
                                   [&](const catalog::Group& group) { return group.id == shard.group && !group.home; });
    if (!known)
      findings.push_back(
          {"catalog", leaf_object(name), fmt::format("is on group {}, which there is not", shard.group)});
    recorded.leaves[name] = {
        table, fmt::format("FOR VALUES WITH (modulus {}, remainder {})", shard.modulus, shard.remainder), shard.group};
  }
}

}  // namespace

Recorded resolve(const std::vector<meta::ShardedTableRecord>& records,
                 const std::vector<catalog::Colocation>& colocations, const Look& home,
                 const std::vector<catalog::Group>& groups, Findings& findings) {
  Recorded recorded;
  for (const meta::ShardedTableRecord& record : records) {
    const auto relation = home.relations.find(record.oid);
    if (relation == home.relations.end()) {
      std::string object = "record of table " + std::to_string(record.oid);
      if (!record.shard_prefix.empty()) object += " (" + record.shard_prefix + ")";
      findings.push_back({"catalog", std::move(object), "the table is gone"});
      continue;
    }
    const std::string& name = relation->second.name;
    RecordedTable& table = recorded.tables[name];
    table.kind = record.kind;
    table.group = record.group;
    table.has_leaves = !record.shard_prefix.empty();
    if (record.kind != TableKind::sharded || record.group != 0) continue;
    const auto colocation = std::find_if(colocations.begin(), colocations.end(),
                                         [&](const auto& each) { return each.id == record.colocation; });
    if (colocation == colocations.end())
      findings.push_back({"catalog", "table " + name, fmt::format("colocation {} is missing", record.colocation)});
    for (const int attnum : record.key_columns) {
      const auto column = relation->second.columns.find(attnum);
      if (column == relation->second.columns.end())
        findings.push_back({"catalog", "table " + name, fmt::format("its key has column {}, which is gone", attnum)});
      else
        table.partition_key += (table.partition_key.empty() ? "HASH (" : ", ") + column->second;
    }
    table.partition_key += ")";
    if (colocation == colocations.end()) continue;
    if (colocation->computed) table.partition_key.clear();
    if (table.has_leaves) resolve_leaves(record, *colocation, name, groups, recorded, findings);
  }
  return recorded;
}

void compare_schemas(const SchemaFacts& home, const SchemaFacts& here, const Recorded& recorded,
                     const std::string& group, Findings& findings) {
  SchemaComparison(home, here, recorded, group, findings).run();
}

void compare_leaves(const std::map<catalog::GroupId, const Look*>& looks, const std::vector<catalog::Group>& groups,
                    const SchemaFacts& home, const Recorded& recorded, Findings& findings) {
  std::map<catalog::GroupId, std::set<std::string>> found;
  for (const auto& [id, look] : looks)
    for (const Leaf& leaf : look->leaves) found[id].insert(leaf.name);
  for (const auto& [id, look] : looks) {
    const std::string group = group_name(groups, id);
    for (const Leaf& leaf : look->leaves) {
      const auto wanted = recorded.leaves.find(leaf.name);
      if (wanted == recorded.leaves.end()) {
        findings.push_back({group, leaf_object(leaf.name), "is not in the catalog"});
        continue;
      }
      compare_leaf(leaf, wanted->second, group, home, findings);
      if (wanted->second.group == id) continue;
      const bool twice = found[wanted->second.group].contains(leaf.name);
      findings.push_back({group, leaf_object(leaf.name),
                          fmt::format("belongs to {}{}", group_name(groups, wanted->second.group),
                                      twice ? ", which has one, too" : "")});
    }
  }
  for (const auto& [name, wanted] : recorded.leaves) {
    if (looks.contains(wanted.group) && !found[wanted.group].contains(name))
      findings.push_back({group_name(groups, wanted.group), leaf_object(name), "is missing"});
  }
}

std::vector<std::string> tables_without_rows(const SchemaFacts& here, const SchemaFacts& home, const Recorded& recorded,
                                             const catalog::Group& group) {
  std::vector<std::string> tables;
  for (const auto& [name, object] : here) {
    const std::string table = table_of(name);
    if (table.empty() || property_of(object, "kind") != "table" || !home.contains(name)) continue;
    const auto record = recorded.tables.find(table);
    const bool elsewhere =
        !group.home && record != recorded.tables.end() && record->second.group != 0 && record->second.group != group.id;
    if (elsewhere || recorded.kind(table) == (group.home ? TableKind::sharded : TableKind::local))
      tables.push_back(table);
  }
  return tables;
}

}  // namespace pgmosaic::control
