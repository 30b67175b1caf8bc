#include "catalog/key_order.h"

#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include "base/bytes.h"
#include "catalog/hashing_types.h"

namespace pgmosaic::catalog {
namespace {

constexpr Oid kBool = 16, kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kFloat8 = 701, kBpchar = 1042,
              kVarchar = 1043, kDate = 1082, kTimestamp = 1114, kTimestamptz = 1184, kNumeric = 1700, kUuid = 2950;

void append_unsigned(std::string& key, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) key += static_cast<char>(value >> shift & 0xFF);
}

bool append_signed(std::string& key, std::optional<int64_t> value) {
  if (value) append_unsigned(key, static_cast<uint64_t>(*value) ^ (uint64_t{1} << 63));
  return value.has_value();
}

bool append_bytes(std::string& key, std::string_view bytes) {
  for (const char c : bytes) {
    key += c;
    if (c == '\0') key += '\xFF';
  }
  key.append(2, '\0');
  return true;
}

bool append_text(std::string& key, std::string_view text, bool blank_padded, const TextContext& context) {
  if (!context.server_encoding && !is_ascii(text)) return false;
  if (text.find('\0') != std::string_view::npos) return false;
  if (blank_padded)
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return append_bytes(key, text);
}

bool append_bytea(std::string& key, ValueFormat format, std::string_view value, const TextContext& context) {
  if (format == ValueFormat::binary) return append_bytes(key, value);
  if (!context.server_encoding && !is_ascii(value)) return false;
  std::string bytes(value.size(), '\0');
  size_t size = 0;
  if (!parse_bytea(value, reinterpret_cast<unsigned char*>(bytes.data()), size)) return false;
  return append_bytes(key, std::string_view(bytes).substr(0, size));
}

// NaN is the largest and equal to itself; -0 is 0.
bool append_float(std::string& key, ValueFormat format, std::string_view value) {
  double number = 0;
  if (format == ValueFormat::binary) {
    if (value.size() != 8) return false;
    number = std::bit_cast<double>(read_big_endian<uint64_t>(value));
  } else {
    const std::string text(trim_space(value));
    if (text.empty() || text.find_first_not_of("0123456789+-.eE") != std::string::npos) return false;
    char* end = nullptr;
    errno = 0;
    number = std::strtod(text.c_str(), &end);
    if (*end != '\0' || (errno != 0 && (number == 0 || std::isinf(number)))) return false;
  }
  if (std::isnan(number)) {
    append_unsigned(key, UINT64_MAX);
    return true;
  }
  const auto bits = std::bit_cast<uint64_t>(number == 0 ? 0.0 : number);
  append_unsigned(key, bits >> 63 != 0 ? ~bits : bits | uint64_t{1} << 63);
  return true;
}

bool append_numeric(std::string& key, ValueFormat format, std::string_view value) {
  const auto number = decode_numeric(format, value);
  if (!number) return false;
  using Class = OrderedNumeric::Class;
  key += static_cast<char>(number->kind);
  if (number->kind != Class::negative && number->kind != Class::positive) return true;
  const size_t begin = key.size();
  append_signed(key, number->point);
  key.append(number->digits).append(1, '\0');
  if (number->kind == Class::negative)
    for (size_t i = begin; i < key.size(); ++i) key[i] = static_cast<char>(~key[i]);
  return true;
}

}  // namespace

bool append_order_key(std::string& key, Oid type, ValueFormat format, std::string_view value,
                      const TextContext& context) {
  switch (type) {
    case kInt8:
    case kInt4:
    case kInt2: return append_signed(key, decode_integer(type, format, value));
    case kDate: return append_signed(key, decode_date(format, value));
    case kTimestamp:
    case kTimestamptz: return append_signed(key, decode_timestamp(type, format, value, context));
    case kBool: {
      const auto truth = decode_bool(format, value);
      if (truth) key += static_cast<char>(*truth);
      return truth.has_value();
    }
    case kUuid: {
      unsigned char uuid[16];
      if (!decode_uuid(format, value, uuid)) return false;
      key.append(reinterpret_cast<const char*>(uuid), sizeof uuid);
      return true;
    }
    case kText:
    case kVarchar: return append_text(key, value, false, context);
    case kBpchar: return append_text(key, value, true, context);
    case kBytea: return append_bytea(key, format, value, context);
    case kFloat8: return append_float(key, format, value);
    case kNumeric: return append_numeric(key, format, value);
    default: return false;
  }
}

}  // namespace pgmosaic::catalog
