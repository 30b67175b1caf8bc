#include "catalog/hashing.h"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "base/bytes.h"
#include "catalog/hashing_types.h"

namespace pgmosaic::catalog {
namespace {

constexpr Oid kBool = 16, kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kBpchar = 1042, kVarchar = 1043,
              kDate = 1082, kTimestamp = 1114, kTimestamptz = 1184, kNumeric = 1700, kUuid = 2950;

// lookup3 by Bob Jenkins (public domain): three words of state, as PostgreSQL uses it.
struct Lookup3 {
  uint32_t a, b, c;

  // The state after the seed was mixed in; `size` is the length of the key in bytes.
  explicit constexpr Lookup3(uint32_t size) : a(0x9e3779b9 + size + 3923095), b(a), c(a) {
    a += static_cast<uint32_t>(kPartitionSeed >> 32);
    b += static_cast<uint32_t>(kPartitionSeed);
    mix();
  }

  constexpr void mix() {
    a = (a - c) ^ std::rotl(c, 4), c += b;
    b = (b - a) ^ std::rotl(a, 6), a += c;
    c = (c - b) ^ std::rotl(b, 8), b += a;
    a = (a - c) ^ std::rotl(c, 16), c += b;
    b = (b - a) ^ std::rotl(a, 19), a += c;
    c = (c - b) ^ std::rotl(b, 4), b += a;
  }

  constexpr uint64_t finish() {
    c = (c ^ b) - std::rotl(b, 14);
    a = (a ^ c) - std::rotl(c, 11);
    b = (b ^ a) - std::rotl(a, 25);
    c = (c ^ b) - std::rotl(b, 16);
    a = (a ^ c) - std::rotl(c, 4);
    b = (b ^ a) - std::rotl(a, 14);
    c = (c ^ b) - std::rotl(b, 24);
    return static_cast<uint64_t>(b) << 32 | c;
  }
};

constexpr Lookup3 kSeededForUint32(sizeof(uint32_t));

// PostgreSQL hashes in the byte order of the machine; clusters here are little-endian throughout.
static_assert(std::endian::native == std::endian::little);

uint32_t load32(const unsigned char* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

bool equals_prefix(std::string_view text, std::string_view lower_case_word) {
  if (text.size() > lower_case_word.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != lower_case_word[i]) return false;
  }
  return true;
}

// Unique prefixes of true, false, yes, no, on, off; 1 and 0.
std::optional<bool> parse_bool(std::string_view text) {
  text = trim_space(text);
  if (text.empty()) return std::nullopt;
  if (text == "1" || equals_prefix(text, "true") || equals_prefix(text, "yes")) return true;
  if (text == "0" || equals_prefix(text, "false") || equals_prefix(text, "no")) return false;
  if (text.size() < 2) return std::nullopt;
  if (equals_prefix(text, "on")) return true;
  if (equals_prefix(text, "off")) return false;
  return std::nullopt;
}

bool fits(Oid type, int64_t value) {
  if (type == kInt2)
    return value >= std::numeric_limits<int16_t>::min() && value <= std::numeric_limits<int16_t>::max();
  if (type == kInt4)
    return value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
  return true;
}

std::optional<uint64_t> hash_text(std::string_view value, bool blank_padded) {
  if (value.find('\0') != std::string_view::npos) return std::nullopt;
  if (blank_padded)
    while (!value.empty() && value.back() == ' ') value.remove_suffix(1);
  return hash_bytes(value.data(), value.size());
}

constexpr std::array<int8_t, 256> make_hex_digits() {
  std::array<int8_t, 256> table{};
  for (int8_t& digit : table) digit = -1;
  for (int i = 0; i < 10; ++i) table['0' + i] = static_cast<int8_t>(i);
  for (int i = 0; i < 6; ++i) table['a' + i] = table['A' + i] = static_cast<int8_t>(10 + i);
  return table;
}

constexpr std::array<int8_t, 256> kHexDigits = make_hex_digits();

int hex_digit(char c) { return kHexDigits[static_cast<unsigned char>(c)]; }

std::optional<uint64_t> hash_bytea_text(std::string_view text) {
  unsigned char small[1024];
  std::string large;  // allocates for values that are long for a key
  unsigned char* bytes = small;
  if (text.size() > sizeof small) {
    large.resize(text.size());
    bytes = reinterpret_cast<unsigned char*>(large.data());
  }
  size_t size = 0;
  if (!parse_bytea(text, bytes, size)) return std::nullopt;
  return hash_bytes(bytes, size);
}

}  // namespace

uint64_t hash_uint32(uint32_t value) {
  Lookup3 state = kSeededForUint32;
  state.a += value;
  return state.finish();
}

uint64_t hash_bytes(const void* data, size_t size) {
  const auto* p = static_cast<const unsigned char*>(data);
  Lookup3 state(static_cast<uint32_t>(size));
  for (; size >= 12; p += 12, size -= 12) {
    state.a += load32(p);
    state.b += load32(p + 4);
    state.c += load32(p + 8);
    state.mix();
  }
  // The last 0–11 bytes fill a, b and the upper three bytes of c, whose lowest byte stays out.
  unsigned char tail[12] = {};
  if (size > 0) std::memcpy(tail, p, size);
  state.a += load32(tail);
  state.b += load32(tail + 4);
  state.c += load32(tail + 8) << 8;
  return state.finish();
}

std::string_view trim_space(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<bool> decode_bool(ValueFormat format, std::string_view value) {
  if (format == ValueFormat::text) return parse_bool(value);
  if (value.size() != 1) return std::nullopt;
  return value[0] != 0;
}

std::optional<int64_t> decode_integer(Oid type, ValueFormat format, std::string_view value) {
  if (format == ValueFormat::text) {
    const std::optional<int64_t> parsed = parse_int(value);
    return parsed && fits(type, *parsed) ? parsed : std::nullopt;
  }
  switch (value.size()) {
    case 8: return read_big_endian<int64_t>(value);
    case 4: return read_big_endian<int32_t>(value);
    case 2: return read_big_endian<int16_t>(value);
    default: return std::nullopt;
  }
}

std::optional<int32_t> decode_date(ValueFormat format, std::string_view value) {
  if (format == ValueFormat::text) return parse_date(value);
  if (value.size() != 4) return std::nullopt;
  const auto days = read_big_endian<int32_t>(value);
  return is_valid_date(days) ? std::optional(days) : std::nullopt;
}

std::optional<int64_t> decode_timestamp(Oid type, ValueFormat format, std::string_view value,
                                        const TextContext& context) {
  if (format == ValueFormat::text)
    return type == kTimestamp ? parse_timestamp(value) : parse_timestamptz(value, context);
  if (value.size() != 8) return std::nullopt;
  const auto microseconds = read_big_endian<int64_t>(value);
  return is_valid_timestamp(microseconds) ? std::optional(microseconds) : std::nullopt;
}

bool decode_uuid(ValueFormat format, std::string_view value, unsigned char* out) {
  if (format == ValueFormat::binary) {
    if (value.size() != 16) return false;
    std::memcpy(out, value.data(), 16);
    return true;
  }
  if (value.size() >= 2 && value.front() == '{') {
    if (value.back() != '}') return false;
    value = value.substr(1, value.size() - 2);
  }
  size_t at = 0;
  for (int i = 0; i < 16; ++i) {
    if (at + 2 > value.size()) return false;
    const int high = hex_digit(value[at]), low = hex_digit(value[at + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<unsigned char>(high << 4 | low);
    at += 2;
    if (i % 2 == 1 && i < 15 && at < value.size() && value[at] == '-') ++at;
  }
  return at == value.size();
}

bool parse_bytea(std::string_view text, unsigned char* out, size_t& size) {
  unsigned char* const begin = out;
  if (text.starts_with("\\x")) {
    for (size_t i = 2; i < text.size(); ++i) {
      const char c = text[i];
      if (c == ' ' || c == '\n' || c == '\t' || c == '\r') continue;
      if (i + 1 == text.size()) return false;
      const int high = hex_digit(c), low = hex_digit(text[++i]);
      if (high < 0 || low < 0) return false;
      *out++ = static_cast<unsigned char>(high << 4 | low);
    }
  } else {
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\0') return false;
      if (text[i] != '\\') {
        *out++ = static_cast<unsigned char>(text[i]);
        continue;
      }
      const std::string_view escape = text.substr(i + 1, 3);
      if (escape.starts_with('\\')) {
        *out++ = '\\';
        i += 1;
        continue;
      }
      if (escape.size() < 3 || escape[0] < '0' || escape[0] > '3') return false;
      if (escape[1] < '0' || escape[1] > '7' || escape[2] < '0' || escape[2] > '7') return false;
      *out++ = static_cast<unsigned char>((escape[0] - '0') << 6 | (escape[1] - '0') << 3 | (escape[2] - '0'));
      i += 3;
    }
  }
  size = static_cast<size_t>(out - begin);
  return true;
}

uint64_t hash_int(int64_t value) {
  const auto low = static_cast<uint32_t>(value);
  const auto high = static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32);
  return hash_uint32(low ^ (value >= 0 ? high : ~high));
}

uint64_t combine_hash(uint64_t row_hash, uint64_t column_hash) {
  return row_hash ^ (column_hash + 0x49a0f4dd15e5a8e3 + (row_hash << 54) + (row_hash >> 7));
}

std::optional<int64_t> parse_int(std::string_view text) {
  text = trim_space(text);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  uint64_t magnitude = 0;
  const uint64_t limit = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + (negative ? 1 : 0);
  for (const char c : text) {
    const auto digit = static_cast<unsigned>(c - '0');
    if (digit > 9 || magnitude > (limit - digit) / 10) return std::nullopt;
    magnitude = magnitude * 10 + digit;
  }
  return static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
}

bool hashable_key_type(Oid base_type) {
  switch (base_type) {
    case kBool:
    case kBytea:
    case kInt8:
    case kInt2:
    case kInt4:
    case kText:
    case kBpchar:
    case kVarchar:
    case kDate:
    case kTimestamp:
    case kTimestamptz:
    case kNumeric:
    case kUuid: return true;
    default: return false;
  }
}

std::optional<uint64_t> hash_key_value(Oid type, ValueFormat format, std::string_view value,
                                       const TextContext& context) {
  const bool text = format == ValueFormat::text;
  const auto of_int = [](const auto& decoded) {
    return decoded ? std::optional(hash_int(*decoded)) : std::optional<uint64_t>();
  };
  const auto of_uint32 = [](const auto& decoded) {
    return decoded ? std::optional(hash_uint32(static_cast<uint32_t>(*decoded))) : std::optional<uint64_t>();
  };
  unsigned char uuid[16];
  switch (type) {
    case kInt8:
    case kInt4:
    case kInt2: return of_int(decode_integer(type, format, value));
    case kText:
    case kVarchar:
    case kBpchar:
      if (!context.server_encoding && !is_ascii(value)) return std::nullopt;
      return hash_text(value, type == kBpchar);
    case kUuid:
      if (!decode_uuid(format, value, uuid)) return std::nullopt;
      return hash_bytes(uuid, sizeof uuid);
    case kBytea:
      if (text && !context.server_encoding && !is_ascii(value)) return std::nullopt;
      return text ? hash_bytea_text(value) : hash_bytes(value.data(), value.size());
    case kBool: return of_uint32(decode_bool(format, value));
    case kNumeric: return text ? hash_numeric_text(value) : hash_numeric_binary(value);
    case kDate: return of_uint32(decode_date(format, value));
    case kTimestamp:
    case kTimestamptz: return of_int(decode_timestamp(type, format, value, context));
    default: return std::nullopt;
  }
}

}  // namespace pgmosaic::catalog
