// Parts of hashing.cc: PostgreSQL's byte hashes, and one function per type that needs parsing. For catalog/ only.
#pragma once

#include <cstdint>
#include <optional>
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

std::optional<uint64_t> hash_numeric_text(std::string_view text);
std::optional<uint64_t> hash_numeric_binary(std::string_view bytes);

// Days and microseconds since 2000-01-01, INT_MIN and INT_MAX for the infinities.
std::optional<int32_t> parse_date(std::string_view text);
std::optional<int64_t> parse_timestamp(std::string_view text);
std::optional<int64_t> parse_timestamptz(std::string_view text, const TextContext& context);
bool is_valid_date(int32_t days);
bool is_valid_timestamp(int64_t microseconds);

}  // namespace pgmosaic::catalog
