#include "exec/compare.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

#include "base/bytes.h"

namespace pgmosaic::exec {

namespace {

template <class T>
std::strong_ordering order(T left, T right) {
  return left < right   ? std::strong_ordering::less
         : left > right ? std::strong_ordering::greater
                        : std::strong_ordering::equal;
}

std::strong_ordering order_bytes(std::string_view left, std::string_view right) { return left <=> right; }

// NaN is greater than everything and equal to itself, as in PostgreSQL.
std::strong_ordering order_double(double left, double right) {
  if (std::isnan(left) || std::isnan(right)) return order<int>(std::isnan(left), std::isnan(right));
  return order(left, right);
}

int64_t text_int(std::string_view text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

int64_t binary_int(std::string_view bytes) {
  switch (bytes.size()) {
    case 2: return load_big_endian<int16_t>(bytes.data());
    case 4: return load_big_endian<int32_t>(bytes.data());
    case 8: return load_big_endian<int64_t>(bytes.data());
    default: return 0;
  }
}

double binary_double(std::string_view bytes) {
  if (bytes.size() == 4) return std::bit_cast<float>(load_big_endian<uint32_t>(bytes.data()));
  return bytes.size() == 8 ? std::bit_cast<double>(load_big_endian<uint64_t>(bytes.data())) : 0;
}

double text_double(std::string_view text) { return std::strtod(std::string(text).c_str(), nullptr); }

// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant's days_from_civil).
int64_t days_from_civil(int64_t year, unsigned month, unsigned day) {
  year -= month <= 2;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const unsigned year_of_era = static_cast<unsigned>(year - era * 400);
  const unsigned day_of_year = (153 * (month + (month > 2 ? -3u : 9u)) + 2) / 5 + day - 1;
  const unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + static_cast<int64_t>(day_of_era) - 719468;
}

// Dates reach to the year 5874897: microseconds alone would not fit.
struct Moment {
  int64_t seconds = 0, microseconds = 0;
  auto operator<=>(const Moment&) const = default;
};

// PostgreSQL's ISO output of date, timestamp and timestamptz; infinities as the ends of the range.
Moment iso_moment(std::string_view text) {
  if (text == "infinity") return {INT64_MAX, 0};
  if (text == "-infinity") return {INT64_MIN, 0};
  auto number = [&text]() -> int64_t {
    int64_t value = 0;
    while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
      value = value * 10 + (text[0] - '0');
      text.remove_prefix(1);
    }
    return value;
  };
  auto skip = [&text](char c) {
    if (text.empty() || text[0] != c) return false;
    text.remove_prefix(1);
    return true;
  };
  int64_t year = number();
  skip('-');
  const unsigned month = static_cast<unsigned>(number());
  skip('-');
  const unsigned day = static_cast<unsigned>(number());
  int64_t seconds = 0, micros = 0;
  if (!text.starts_with(" BC") && skip(' ')) {
    seconds = number() * 3600;
    skip(':');
    seconds += number() * 60;
    skip(':');
    seconds += number();
    if (skip('.')) {
      int digits = 0;
      for (; !text.empty() && text[0] >= '0' && text[0] <= '9'; text.remove_prefix(1), ++digits)
        micros = micros * 10 + (text[0] - '0');
      for (; digits < 6; ++digits) micros *= 10;
    }
    if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
      const int64_t sign = text[0] == '+' ? 1 : -1;
      text.remove_prefix(1);
      int64_t offset = number() * 3600;
      if (skip(':')) offset += number() * 60;
      if (skip(':')) offset += number();
      seconds -= sign * offset;
    }
  }
  if (text.starts_with(" BC")) year = 1 - year;
  return {days_from_civil(year, month, day) * 86400 + seconds, micros};
}

// A numeric as sign, position of the first digit and digits, from either wire format; compared without loss.
struct Decimal {
  int rank = 0;  // -2 -Infinity, -1 negative, 0 zero, 1 positive, 2 Infinity, 3 NaN
  int64_t exponent = 0;
  std::string digits;  // without leading zeros; trailing zeros removed
};

Decimal text_decimal(std::string_view text) {
  if (text == "NaN") return {3, 0, {}};
  if (text == "Infinity") return {2, 0, {}};
  if (text == "-Infinity") return {-2, 0, {}};
  Decimal result;
  bool negative = false;
  if (!text.empty() && text[0] == '-') {
    negative = true;
    text.remove_prefix(1);
  }
  const std::size_t dot = std::min(text.find('.'), text.size());
  result.exponent = static_cast<int64_t>(dot);
  for (char c : text)
    if (c != '.') result.digits += c;
  std::size_t leading = 0;
  while (leading < result.digits.size() && result.digits[leading] == '0') ++leading;
  result.digits.erase(0, leading);
  result.exponent -= static_cast<int64_t>(leading);
  while (!result.digits.empty() && result.digits.back() == '0') result.digits.pop_back();
  result.rank = result.digits.empty() ? 0 : negative ? -1 : 1;
  return result;
}

Decimal binary_decimal(std::string_view bytes) {
  if (bytes.size() < 8) return {};
  const uint16_t count = load_big_endian<uint16_t>(bytes.data());
  const int16_t weight = load_big_endian<int16_t>(bytes.data() + 2);
  const uint16_t sign = load_big_endian<uint16_t>(bytes.data() + 4);
  if (sign == 0xC000) return {3, 0, {}};
  if (sign == 0xD000) return {2, 0, {}};
  if (sign == 0xF000) return {-2, 0, {}};
  Decimal result;
  for (std::size_t i = 0; i < count && 8 + 2 * i + 2 <= bytes.size(); ++i) {
    char digits[5];
    const unsigned value = load_big_endian<uint16_t>(bytes.data() + 8 + 2 * i) % 10000;
    digits[0] = static_cast<char>('0' + value / 1000);
    digits[1] = static_cast<char>('0' + value / 100 % 10);
    digits[2] = static_cast<char>('0' + value / 10 % 10);
    digits[3] = static_cast<char>('0' + value % 10);
    result.digits.append(digits, 4);
  }
  result.exponent = (int64_t{weight} + 1) * 4;
  std::size_t leading = 0;
  while (leading < result.digits.size() && result.digits[leading] == '0') ++leading;
  result.digits.erase(0, leading);
  result.exponent -= static_cast<int64_t>(leading);
  while (!result.digits.empty() && result.digits.back() == '0') result.digits.pop_back();
  result.rank = result.digits.empty() ? 0 : sign == 0x4000 ? -1 : 1;
  return result;
}

std::strong_ordering order_decimal(const Decimal& left, const Decimal& right) {
  if (left.rank != right.rank) return order(left.rank, right.rank);
  if (left.rank != 1 && left.rank != -1) return std::strong_ordering::equal;
  std::strong_ordering magnitude = order(left.exponent, right.exponent);
  if (magnitude == 0) magnitude = order_bytes(left.digits, right.digits);
  return left.rank == 1 ? magnitude : 0 <=> magnitude;
}

}  // namespace

std::strong_ordering compare_values(catalog::Oid type, bool binary, std::string_view left, std::string_view right) {
  switch (type) {
    case 16: return order_bytes(left, right);  // f < t, 0 < 1
    case 20:
    case 21:
    case 23: return binary ? order(binary_int(left), binary_int(right)) : order(text_int(left), text_int(right));
    case 26:
      return binary ? order(static_cast<uint32_t>(binary_int(left)), static_cast<uint32_t>(binary_int(right)))
                    : order(text_int(left), text_int(right));
    case 700:
    case 701:
      return binary ? order_double(binary_double(left), binary_double(right))
                    : order_double(text_double(left), text_double(right));
    case 1082:
    case 1114:
    case 1184: return binary ? order(binary_int(left), binary_int(right)) : iso_moment(left) <=> iso_moment(right);
    case 1700:
      return binary ? order_decimal(binary_decimal(left), binary_decimal(right))
                    : order_decimal(text_decimal(left), text_decimal(right));
    default:
      return order_bytes(left, right);  // text, varchar with a bytewise collation, uuid, bytea (hex keeps the order)
  }
}

int compare_by(const plan::SortKey& key, bool binary, const std::optional<std::string_view>& left,
               const std::optional<std::string_view>& right) {
  if (!left || !right) {
    if (!left && !right) return 0;
    const bool null_is_less = key.nulls_first;
    return (!left) == null_is_less ? -1 : 1;
  }
  const std::strong_ordering result = compare_values(key.type, binary, *left, *right);
  if (result == 0) return 0;
  return (result < 0) != key.descending ? -1 : 1;
}

}  // namespace pgmosaic::exec
