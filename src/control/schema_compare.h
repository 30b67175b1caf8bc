// The home's schema against a group's, and the metadata store's records against both. No I/O: fsck.cc asks, this says
// what differs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "control/schema_facts.h"
#include "meta/codec.h"

namespace pgmosaic::control {

struct Finding {
  std::string group, object, difference;
  auto operator<=>(const Finding&) const = default;
};
using Findings = std::vector<Finding>;

// A table that the metadata store has a record of.
struct RecordedTable {
  catalog::TableKind kind = catalog::TableKind::local;
  bool has_leaves = false;
  std::string partition_key;   // of one with leaves: "HASH (a, b)"; empty: by expressions
  catalog::GroupId group = 0;  // of a partition that the user declared: where its rows are
};

struct RecordedLeaf {
  std::string table;  // "public.t"
  std::string bound;  // as Leaf::bound
  catalog::GroupId group = 0;
};

// What the records say, by names as PostgreSQL quotes them.
struct Recorded {
  std::map<std::string, RecordedTable> tables;
  std::map<std::string, RecordedLeaf> leaves;
  catalog::TableKind kind(const std::string& table) const {
    const auto found = tables.find(table);
    return found == tables.end() ? catalog::TableKind::local : found->second.kind;
  }
};

// Joins the records with the home's names. Findings: records of what is gone, shards on groups that there are not.
Recorded resolve(const std::vector<meta::ShardedTableRecord>& records,
                 const std::vector<catalog::Colocation>& colocations, const Look& home,
                 const std::vector<catalog::Group>& groups, Findings& findings);

void compare_schemas(const SchemaFacts& home, const SchemaFacts& here, const Recorded& recorded,
                     const std::string& group, Findings& findings);

// `looks`: of all groups but the home. Leaves that are missing, too many, on the wrong group or with wrong bounds.
void compare_leaves(const std::map<catalog::GroupId, const Look*>& looks, const std::vector<catalog::Group>& groups,
                    const SchemaFacts& home, const Recorded& recorded, Findings& findings);

// The home's tables that must have no row of their own on this group, which has the schema `here`.
std::vector<std::string> tables_without_rows(const SchemaFacts& here, const SchemaFacts& home, const Recorded& recorded,
                                             const catalog::Group& group);

}  // namespace pgmosaic::control
