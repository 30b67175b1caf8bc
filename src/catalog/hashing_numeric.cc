// Hash of numeric: PostgreSQL hashes the base-10000 digits without leading and trailing zeros, and the weight of the
// first one. Sign and display scale do not count.
#include <array>
#include <cstring>

#include "catalog/hashing_types.h"

namespace pgmosaic::catalog {
namespace {

constexpr int kMaxDecimals = 1000;  // longer literals are PostgreSQL's to judge: its limits depend on the exponent

uint64_t hash_digits(const uint16_t* digits, int count, int weight) {
  while (count > 0 && digits[0] == 0) ++digits, --count, --weight;
  if (count == 0) return kPartitionSeed - 1;
  while (digits[count - 1] == 0) --count;
  // The weight is sign-extended, as an int is in PostgreSQL's expression.
  return hash_bytes(digits, static_cast<size_t>(count) * sizeof(uint16_t)) ^
         static_cast<uint64_t>(static_cast<int64_t>(weight));
}

// NaN, Infinity, inf with a sign, in any case.
bool is_special(std::string_view text) {
  std::string_view word = text;
  if (text.starts_with('-') || text.starts_with('+')) word.remove_prefix(1);
  char lower[9];
  if (word.size() > 8) return false;
  for (size_t i = 0; i < word.size(); ++i) lower[i] = static_cast<char>(word[i] | 0x20);
  word = std::string_view(lower, word.size());
  return word == "infinity" || word == "inf" || (word == "nan" && text.size() == 3);
}

// The decimals of a numeric literal: value = 0.d1d2d3… * 10^point.
struct Decimals {
  std::array<char, kMaxDecimals> digits;  // 0–9, not characters
  int count = 0;
  int point = 0;
};

// [+-] digits [. digits] [e [+-] digits], at least one digit in the mantissa.
bool parse_decimals(std::string_view text, Decimals& out) {
  size_t at = 0;
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
  bool any = false, dot = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.') {
      if (dot) return false;
      dot = true;
      continue;
    }
    if (c < '0' || c > '9') break;
    any = true;
    if (out.count == 0 && c == '0') {  // leading zeros only move the point
      if (dot) --out.point;
      continue;
    }
    if (out.count == kMaxDecimals) return false;
    out.digits[static_cast<size_t>(out.count++)] = static_cast<char>(c - '0');
    if (!dot) ++out.point;
  }
  if (!any) return false;
  if (at == text.size()) return true;
  if (text[at] != 'e' && text[at] != 'E') return false;
  ++at;
  bool negative = false;
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) negative = text[at++] == '-';
  if (at == text.size() || text.size() - at > 4) return false;
  int exponent = 0;
  for (; at < text.size(); ++at) {
    if (text[at] < '0' || text[at] > '9') return false;
    exponent = exponent * 10 + (text[at] - '0');
  }
  if (exponent > kMaxDecimals) return false;
  out.point += negative ? -exponent : exponent;
  return true;
}

}  // namespace

std::optional<uint64_t> hash_numeric_text(std::string_view text) {
  text = trim_space(text);
  if (is_special(text)) return kPartitionSeed;
  Decimals decimals;
  if (text.size() > 2 * kMaxDecimals || !parse_decimals(text, decimals)) return std::nullopt;
  if (decimals.count == 0) return kPartitionSeed - 1;
  // Groups of four decimals end at the point, so the first group takes 1–4 of them.
  int first = decimals.point % 4;
  if (first <= 0) first += 4;
  const int weight = (decimals.point - first) / 4;
  std::array<uint16_t, kMaxDecimals / 4 + 2> digits;
  int groups = 0;
  for (int at = 0, size = first; at < decimals.count; at += size, size = 4) {
    int group = 0;
    for (int i = at; i < at + size; ++i)
      group = group * 10 + (i < decimals.count ? decimals.digits[static_cast<size_t>(i)] : 0);
    digits[static_cast<size_t>(groups++)] = static_cast<uint16_t>(group);
  }
  return hash_digits(digits.data(), groups, weight);
}

// Format: int16 number of digits, weight, sign (0 +, 0x4000 -, 0xC000 NaN, 0xD000 +inf, 0xF000 -inf), display scale;
// then the digits, int16 each, 0–9999.
std::optional<uint64_t> hash_numeric_binary(std::string_view bytes) {
  if (bytes.size() < 8) return std::nullopt;
  const int count = read_big_endian<uint16_t>(bytes);
  const int weight = read_big_endian<int16_t>(bytes, 2);
  const int sign = read_big_endian<uint16_t>(bytes, 4);
  const int scale = read_big_endian<uint16_t>(bytes, 6);
  if (bytes.size() != 8 + 2 * static_cast<size_t>(count)) return std::nullopt;
  if (sign == 0xC000 || sign == 0xD000 || sign == 0xF000) return kPartitionSeed;
  if ((sign != 0 && sign != 0x4000) || count > kMaxDecimals || scale > 0x3FFF) return std::nullopt;
  std::array<uint16_t, kMaxDecimals> digits;
  for (int i = 0; i < count; ++i) {
    const uint16_t digit = read_big_endian<uint16_t>(bytes, 8 + 2 * static_cast<size_t>(i));
    if (digit > 9999) return std::nullopt;
    digits[static_cast<size_t>(i)] = digit;
    // PostgreSQL cuts what the display scale hides; such a value is left to it.
    const int shown =
        scale - 4 * (i - weight - 1);  // decimals of this digit within the scale; the integer part has all
    constexpr int kHidden[] = {10000, 1000, 100, 10};
    if (digit != 0 && i > weight && (shown <= 0 || (shown < 4 && digit % kHidden[shown] != 0))) return std::nullopt;
  }
  return hash_digits(digits.data(), count, weight);
}

namespace {

// As in PostgreSQL's special values, which is_special() recognizes.
OrderedNumeric::Class special_class(std::string_view text) {
  using Class = OrderedNumeric::Class;
  if ((text.back() | 0x20) == 'n') return Class::not_a_number;
  return text[0] == '-' ? Class::minus_infinity : Class::infinity;
}

void strip_zeros(OrderedNumeric& number) {
  size_t leading = 0;
  while (leading < number.digits.size() && number.digits[leading] == '0') ++leading;
  number.digits.erase(0, leading);
  number.point -= static_cast<int32_t>(leading);
  while (!number.digits.empty() && number.digits.back() == '0') number.digits.pop_back();
}

}  // namespace

std::optional<OrderedNumeric> decode_numeric(ValueFormat format, std::string_view value) {
  using Class = OrderedNumeric::Class;
  OrderedNumeric number;
  bool negative = false;
  if (format == ValueFormat::text) {
    value = trim_space(value);
    if (is_special(value)) {
      number.kind = special_class(value);
      return number;
    }
    Decimals decimals;
    if (value.size() > 2 * kMaxDecimals || !parse_decimals(value, decimals)) return std::nullopt;
    negative = value[0] == '-';
    number.point = decimals.point;
    for (int i = 0; i < decimals.count; ++i)
      number.digits += static_cast<char>('0' + decimals.digits[static_cast<size_t>(i)]);
  } else {
    if (!hash_numeric_binary(value)) return std::nullopt;  // not well-formed, or left to PostgreSQL
    const int sign = read_big_endian<uint16_t>(value, 4);
    if (sign == 0xC000) number.kind = Class::not_a_number;
    if (sign == 0xD000) number.kind = Class::infinity;
    if (sign == 0xF000) number.kind = Class::minus_infinity;
    if (sign >= 0xC000) return number;
    negative = sign == 0x4000;
    number.point = (read_big_endian<int16_t>(value, 2) + 1) * 4;
    for (size_t at = 8; at < value.size(); at += 2) {
      const int digit = read_big_endian<uint16_t>(value, at);
      for (const int unit : {1000, 100, 10, 1}) number.digits += static_cast<char>('0' + digit / unit % 10);
    }
  }
  strip_zeros(number);
  number.kind = number.digits.empty() ? Class::zero : negative ? Class::negative : Class::positive;
  return number;
}

}  // namespace pgmosaic::catalog
