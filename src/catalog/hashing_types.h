// Parts of hashing.cc: PostgreSQL's byte hashes, and one function per type that needs parsing. For catalog/ only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "catalog/hashing.h"

namespace pgmosaic::catalog {

inline constexpr uint64_t kPartitionSeed = 0x7A5B22367996DCFD;

// hash_bytes_extended and hash_bytes_uint32_extended with the partition seed.
uint64_t hash_bytes(const void* data, size_t size);
uint64_t hash_uint32(uint32_t value);

inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }  // isspace() of the C locale
std::string_view trim_space(std::string_view text);

// REQUIRES: text.size() >= offset + sizeof(Integer)
template <class Integer>
Integer read_big_endian(std::string_view bytes, size_t offset = 0) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Integer); ++i) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return static_cast<Integer>(value);
}

// Values in either format; nullopt or false: not decided here. A binary integer may have any width.
std::optional<bool> decode_bool(ValueFormat format, std::string_view value);
std::optional<int64_t> decode_integer(Oid type, ValueFormat format, std::string_view value);
std::optional<int32_t> decode_date(ValueFormat format, std::string_view value);
std::optional<int64_t> decode_timestamp(Oid type, ValueFormat format, std::string_view value,
                                        const TextContext& context);
// 32 hexadecimal digits, a hyphen allowed behind each fourth, the whole in braces or not; `out` has 16 bytes.
bool decode_uuid(ValueFormat format, std::string_view value, unsigned char* out);
// The bytes of a bytea literal; at most as many as the text has. Returns false where PostgreSQL refuses it.
bool parse_bytea(std::string_view text, unsigned char* out, size_t& size);

// A numeric's class and decimals: value = ±0.d1d2d3… * 10^point, d1 and the last digit not 0.
struct OrderedNumeric {
  enum class Class : uint8_t { minus_infinity, negative, zero, positive, infinity, not_a_number } kind = Class::zero;
  int32_t point = 0;
  std::string digits;  // characters
};
std::optional<OrderedNumeric> decode_numeric(ValueFormat format, std::string_view value);

std::optional<uint64_t> hash_numeric_text(std::string_view text);
std::optional<uint64_t> hash_numeric_binary(std::string_view bytes);

// Days and microseconds since 2000-01-01, INT_MIN and INT_MAX for the infinities.
std::optional<int32_t> parse_date(std::string_view text);
std::optional<int64_t> parse_timestamp(std::string_view text);
std::optional<int64_t> parse_timestamptz(std::string_view text, const TextContext& context);
bool is_valid_date(int32_t days);
bool is_valid_timestamp(int64_t microseconds);

}  // namespace pgmosaic::catalog
