// From a plan's Target and the values of one execution to the groups that must run it.
#pragma once

#include <string_view>
#include <vector>

#include "catalog/catalog.h"
#include "catalog/hashing.h"
#include "pg/frontend.h"
#include "plan/plan.h"
#include "sql/shape.h"

namespace pgmosaic::exec {

// Where the values of one execution are. `shape` belongs to `sql`; `bind` is null for simple queries.
struct Values {
  std::string_view sql;
  const sql::Shape* shape = nullptr;
  const pg::BindMessage* bind = nullptr;
  catalog::TextContext text;
  bool null_is_value = false;  // INSERT: a NULL key is a row's key; elsewhere k = NULL finds nothing
};

// The groups a statement goes to. The one-group case allocates nothing.
struct Resolution {
  bool undecided = false;    // a key's hash cannot be computed here exactly: ask a PostgreSQL, or use all groups
  catalog::GroupId one = 0;  // != 0: exactly this group
  static constexpr uint32_t kNoShard = ~0U;
  uint32_t shard = kNoShard;             // index of the shard, where the target's one key tuple is proven
  std::vector<catalog::GroupId> groups;  // else these, ascending
  bool single() const { return one != 0; }
  bool proven() const { return shard != kNoShard; }
};

// Hash of one column's value, before it is combined; nullopt: undecided. `is_null`: it has none.
std::optional<uint64_t> hash_source(const plan::KeySource& source, const Values& values, bool& is_null);
// NULL, or a parameter that is NULL.
bool is_null(const plan::KeySource& source, const Values& values);
// The value as text, for asking a PostgreSQL. False: it came in binary.
bool text_value(const plan::KeySource& source, const Values& values, std::string& text);
// The shard of one key tuple: its index, PartitionBounds::kNone if no partition takes it; nullopt: undecided. `is_null`
// is set if some value is NULL (equality never holds).
std::optional<uint32_t> shard_of(const plan::KeyTuple& tuple, const Values& values,
                                 const catalog::Colocation& colocation, bool& is_null);

// REQUIRES: snapshot and database outlive the call.
Resolution resolve(const plan::Target& target, const Values& values, const catalog::Snapshot& snapshot,
                   const catalog::Database& database);

// Every group that holds shards of the colocation, ascending.
std::vector<catalog::GroupId> groups_of(const catalog::Colocation& colocation);
// The group of a shard; of kNone any that has the table: it says that no partition takes the row.
inline catalog::GroupId group_of(const catalog::Colocation& colocation, uint32_t shard,
                                 const catalog::Snapshot& snapshot) {
  if (shard < colocation.shards.size()) return colocation.shards[shard].group;
  return colocation.shards.empty() ? snapshot.any_shards_group() : colocation.shards[0].group;
}

}  // namespace pgmosaic::exec
