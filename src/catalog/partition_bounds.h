// Which partition of a table a row belongs to, for partitions that users declare.
//
// Read from the texts that PostgreSQL gives for partition bounds (pg_get_expr(relpartbound, oid)):
//   FOR VALUES FROM ('2024-01-01', MINVALUE) TO (MAXVALUE, MAXVALUE)
//   FOR VALUES IN ('a', 'b', NULL)
//   FOR VALUES WITH (modulus 4, remainder 0)
//   DEFAULT
// with DateStyle ISO, TimeZone UTC and standard_conforming_strings on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "catalog/hashing.h"

namespace pgmosaic::catalog {

class PartitionBounds {
 public:
  enum class Method : uint8_t { range, list, hash };
  struct KeyColumn {
    Oid type = 0;  // base type
    // Collation and operator class as the router can reproduce them: what order keys compare as, or are equal as.
    enum class Compared : uint8_t { by_order, by_equality, unknown } compared = Compared::unknown;
  };
  static constexpr uint32_t kNone = ~0U;  // no partition takes the row

  // `texts`: of the partitions in the order of their shards; `tellable`: false where the key has expressions.
  PartitionBounds(Method method, std::vector<KeyColumn> key, const std::vector<std::string>& texts, bool tellable);

  Method method() const { return method_; }
  // False: only a PostgreSQL can tell a row's partition.
  bool tellable() const { return tellable_; }

  // Collects the values of one row, in key order, and finds its partition.
  class Row {
   public:
    explicit Row(const PartitionBounds& bounds) : bounds_(bounds) {}
    void add_null();
    // False: this value's place cannot be told here.
    bool add(ValueFormat format, std::string_view value, const TextContext& context);
    // Index of the shard, or kNone. REQUIRES: every column was added.
    uint32_t find() const;

   private:
    const PartitionBounds& bounds_;
    std::string key_;
    size_t columns_ = 0;
    uint64_t hash_ = 0;
    bool null_ = false;
  };

  // Shards of a table by ranges that may have rows whose first key column lies between two order keys; nullopt: open.
  // More than need be where the key has several columns.
  std::vector<uint32_t> between(const std::optional<std::string>& lower, const std::optional<std::string>& upper,
                                bool upper_inclusive) const;
  // The order key of a value of the first key column. False: it cannot be told.
  bool first_key(std::string& key, ValueFormat format, std::string_view value, const TextContext& context) const;

 private:
  struct Range {
    std::string lower, upper;  // order keys; lower is within, upper is not
    uint32_t shard = 0;
  };

  bool read(const std::string& text, uint32_t shard);
  uint32_t find_range(const std::string& key) const;

  Method method_;
  std::vector<KeyColumn> key_;
  bool tellable_;
  std::vector<Range> ranges_;  // ascending
  std::unordered_map<std::string, uint32_t> values_;
  std::vector<uint32_t> remainders_;  // shard of each remainder of the largest modulus
  uint32_t null_shard_ = kNone, default_shard_ = kNone;
};

}  // namespace pgmosaic::catalog
