// Asks a PostgreSQL for the shard of a row whose key the router cannot place exactly as PostgreSQL would: an unusual
// spelling of a date, a value that the column would round, a collation, an expression.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "exec/backends.h"
#include "exec/keys.h"

namespace pgmosaic::router {

// Of one session, for one statement. Asks on connections of its own: the session's may be in the middle of a COPY.
class ShardQuestions {
 public:
  using KeyTexts = std::vector<std::optional<std::string>>;  // the key's values, in key order; nullopt: NULL

  // `schema_changed`: by the session's open transaction, which other connections do not see.
  ShardQuestions(exec::Backends& backends, const catalog::Snapshot& snapshot, const catalog::Database& database,
                 bool schema_changed)
      : backends_(backends), snapshot_(snapshot), database_(database), schema_changed_(schema_changed) {}

  // The shard's index, or PartitionBounds::kNone. 22xxx: a value is none of its type.
  net::Task<Result<uint32_t>> shard_of(const catalog::Colocation& colocation, const plan::KeyTuple& tuple,
                                       const KeyTexts& values);
  // The group of a row that an INSERT makes; asks only where it must.
  net::Task<Result<exec::GroupId>> group_of_row(const catalog::Colocation& colocation, const plan::KeyTuple& tuple,
                                                const exec::Values& values);

 private:
  net::Task<Status> hash_of(const plan::KeySource& source, const std::string& value, uint64_t& hash);
  net::Task<Result<uint32_t>> by_hash(const catalog::Colocation& colocation, const plan::KeyTuple& tuple,
                                      const KeyTexts& values);
  net::Task<Result<uint32_t>> by_expression(const catalog::Colocation& colocation, const KeyTexts& values);
  net::Task<Status> read_expressions(pool::ServerConn& conn, const catalog::Colocation& colocation);
  net::Task<Result<uint32_t>> by_partition(const catalog::Colocation& colocation, const KeyTexts& values);
  net::Task<Status> read_partitions(pool::ServerConn& conn, const catalog::Table& table);

  exec::Backends& backends_;
  const catalog::Snapshot& snapshot_;
  const catalog::Database& database_;
  const bool schema_changed_;
  std::string of_expressions_, of_partitions_;  // the question for a row, once it is known
};

}  // namespace pgmosaic::router
