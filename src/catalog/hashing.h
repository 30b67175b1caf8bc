// PostgreSQL's own partition hash, computed without a server.
//
// Source of the algorithm: PostgreSQL 15, hash_bytes_extended / hash_uint32_extended (common/hashfn.c, Bob Jenkins'
// lookup3), the hash*extended support functions of each type, hash_combine64 and compute_partition_hash_value
// (partitioning/partbounds.c) with HASH_PARTITION_SEED 0x7A5B22367996DCFD.
// A property test holds it against satisfies_hash_partition() for every supported type.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "catalog/catalog.h"

namespace pgmosaic::catalog {

enum class ValueFormat : uint8_t { text, binary };

// True if values of this base type can be a hash key: bool, int2/4/8, text, varchar, bpchar, uuid, date, timestamp,
// timestamptz, numeric, bytea. Everything else (enums, reg*, floats, arrays, …) is not supported as a hash key.
bool hashable_key_type(Oid base_type);

// text, varchar, bpchar: the binary form is the text.
inline bool is_text_type(Oid base_type) { return base_type == 25 || base_type == 1043 || base_type == 1042; }

// Session settings that change what a text literal means. `iso_mdy`: DateStyle is ISO, MDY or ISO, YMD or ISO, DMY
// (unambiguous ISO input is accepted under any); `utc_offset_known`: reserved.
struct TextContext {
  bool standard_timezone_utc = false;  // TimeZone is UTC/GMT, so a timestamptz literal without zone is UTC
  bool server_encoding = true;         // false: client_encoding is another, in which only ASCII text is as it is stored
};

// One column's extended hash with the partition seed. `value` is the value as a client sends it, in text or binary
// form of `type`. nullopt: this value cannot be decided here exactly as PostgreSQL would (unusual date spelling, a
// literal PostgreSQL would refuse, …): the caller asks a PostgreSQL or uses all groups. Never guesses.
std::optional<uint64_t> hash_key_value(Oid type, ValueFormat format, std::string_view value,
                                       const TextContext& context);

// INSERT and UPDATE round or cut a value to its column's type modifier (numeric(10,2), timestamp(3), varchar(5)), which
// may move its hash. True if `value` is surely stored with the hash that hash_key_value gives; false: ask a PostgreSQL,
// or let it choose the group. Comparisons (WHERE k = …) do not round and need no such check.
bool stored_unchanged(Oid type, int32_t typmod, ValueFormat format, std::string_view value);

// Integer keys on the hot path: the value of an int2/int4/int8 column. One hash function serves all three
// (PostgreSQL makes them compatible).
uint64_t hash_int(int64_t value);

// Combines column hashes in key order, starting from 0; a NULL column contributes nothing. The first form takes
// one non-null column. The result % modulus is the remainder of the partition.
uint64_t combine_hash(uint64_t row_hash, uint64_t column_hash);

// Parses the text form of an integer as PostgreSQL's int8in would (blanks, sign); nullopt if it is none.
std::optional<int64_t> parse_int(std::string_view text);

}  // namespace pgmosaic::catalog
