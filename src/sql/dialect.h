// Our clauses of CREATE TABLE, taken out of the text before PostgreSQL's grammar sees it:
//
//   CREATE TABLE t (…) SHARD BY [HASH] (k, …)        the same as  PARTITION BY HASH (k, …)
//   SHARD BY [HASH] (lower(k), …)                    by expressions
//   SHARD BY (HASH(k) % n)                           the same as  SHARD BY HASH (k) WITH (shard_count = n)
//   SHARD BY RANGE | LIST (k, …) (SHARD 'name' VALUES FROM a TO b | IN (…) | DEFAULT, …)
//                                                    the same as  PARTITION BY RANGE | LIST (k, …) and its partitions
//   PARTITION BY RANGE | LIST (k, …) (PARTITION name VALUES LESS THAN (a) | FROM a TO b | IN (…) | DEFAULT, …)
//   WITH (shard_count = n, table_type = 'reference' | 'local' | 'sharded', colocate_with = 'none' | 'table', …)
//
// in any order, mixed with PostgreSQL's own clauses; in CREATE TABLE … AS all but lists of partitions, before AS. Hints
// (/*+ … */) are comments to PostgreSQL and stay.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pgmosaic::sql {

struct CreateTableText {
  // The statement without our clauses and without PARTITION BY HASH, in pieces: what stands before the place where
  // PARTITION BY goes, and what follows it. `storage` are ordinary storage parameters ("fillfactor=70").
  std::string head;
  std::string method;  // USING access_method
  std::string tail;
  std::string storage;

  std::string by_hash;  // " PARTITION BY HASH (…)" as written: PostgreSQL's own, for a table that is not sharded
  std::optional<Error> by_hash_error;  // why it cannot be the key of a sharded one
  bool partitioned = false;            // PARTITION BY RANGE or LIST, which is in `head`
  bool shard_by_bounds = false;        // … written as SHARD BY
  struct Partition {
    std::string name;   // unquoted
    std::string bound;  // FOR VALUES …, or DEFAULT
  };
  std::vector<Partition> partitions;     // listed with it
  std::vector<std::string> key_columns;  // SHARD BY / PARTITION BY HASH; empty: none, or …
  std::string key_expressions;           // … the whole list, where it has other things than columns
  std::optional<uint32_t> shard_count;
  std::optional<std::string> table_type;     // reference, local or sharded
  std::optional<std::string> colocate_with;  // "none" or a table's name as written

  std::string create, clauses;  // what stands before the columns, and behind them up to AS, as written
  std::string as_query;         // CREATE TABLE … AS: " AS …"

  bool keyed() const { return !key_columns.empty() || !key_expressions.empty() || by_hash_error; }
  bool has_clause() const {
    return (keyed() && by_hash.empty()) || shard_count || table_type || colocate_with || shard_by_bounds ||
           !partitions.empty();
  }
  // For PostgreSQL's parser, and for tables that are not partitioned.
  std::string plain_sql() const { return plain_table() + as_query; }
  std::string plain_table() const { return head + method + (storage.empty() ? "" : " WITH (" + storage + ")") + tail; }
  // The same, partitioned as declared.
  std::string declared_sql() const {
    return head + by_hash + method + (storage.empty() ? "" : " WITH (" + storage + ")") + tail;
  }
};

// True if the statement begins CREATE [GLOBAL | LOCAL] [TEMP | TEMPORARY | UNLOGGED] TABLE.
bool is_create_table(std::string_view sql);

// Reads the clauses. nullopt: no clauses can stand in this form (PARTITION OF); take it as it is.
// REQUIRES: is_create_table(sql)
Result<std::optional<CreateTableText>> read_create_table(std::string_view sql);

}  // namespace pgmosaic::sql
