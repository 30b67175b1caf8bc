// Does a column's type modifier (varchar(n), numeric(p, s), timestamp(p)) change a value on its way into the table?
#include <algorithm>

#include "catalog/hashing_types.h"

namespace pgmosaic::catalog {
namespace {

constexpr Oid kVarchar = 1043, kTimestamp = 1114, kTimestamptz = 1184, kNumeric = 1700;
constexpr int32_t kHeaderSize = 4;  // what PostgreSQL adds to lengths and numeric modifiers

size_t digits_behind_point(std::string_view text) {
  const size_t point = text.find('.');
  if (point == std::string_view::npos) return 0;
  const size_t end = text.find_first_not_of("0123456789", point + 1);
  return std::min(end, text.size()) - point - 1;
}

bool numeric_fits(int32_t typmod, ValueFormat format, std::string_view value) {
  const int32_t scale = (((typmod - kHeaderSize) & 0x7ff) ^ 1024) - 1024;  // 11 bits with a sign
  if (scale < 0) return false;
  if (format == ValueFormat::binary) return value.size() >= 8 && read_big_endian<uint16_t>(value, 6) <= scale;
  return value.find_first_of("eE") == std::string_view::npos &&
         digits_behind_point(value) <= static_cast<size_t>(scale);
}

bool timestamp_fits(int32_t precision, ValueFormat format, std::string_view value) {
  if (precision >= 6) return true;
  if (format == ValueFormat::text) return digits_behind_point(value) <= static_cast<size_t>(precision);
  if (value.size() != 8) return false;
  int64_t unit_us = 1;
  for (int32_t i = precision; i < 6; ++i) unit_us *= 10;
  const auto microseconds = read_big_endian<int64_t>(value);
  return microseconds % unit_us == 0;
}

}  // namespace

bool stored_unchanged(Oid type, int32_t typmod, ValueFormat format, std::string_view value) {
  if (typmod < 0) return true;
  switch (type) {
    case kVarchar: return value.size() <= static_cast<size_t>(std::max(typmod - kHeaderSize, 0));
    case kNumeric: return numeric_fits(typmod, format, value);
    case kTimestamp:
    case kTimestamptz: return timestamp_fits(typmod, format, value);
    default: return true;  // bpchar: blanks do not count in its hash, and other excess is an error
  }
}

}  // namespace pgmosaic::catalog
