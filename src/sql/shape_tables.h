// Byte classes of the shape scanner, after PostgreSQL's lexer. For sql/ only.
#pragma once

#include <array>
#include <cstdint>

namespace pgmosaic::sql {

enum class ByteClass : uint8_t {
  other,
  blank,   // space \t \n \r \f
  letter,  // starts an identifier: A–Z a–z _ and every byte from 0x80
  digit,
  dot,
  quote,
  double_quote,
  dollar,
  dash,
  slash,
  semicolon,
  control,  // \0 and \x01: PostgreSQL refuses them, and \x01 marks literals in a normalized text
};

constexpr std::array<ByteClass, 256> make_byte_classes() {
  std::array<ByteClass, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[c] = table[c - 32] = ByteClass::letter;
  for (int c = 0x80; c < 0x100; ++c) table[c] = ByteClass::letter;
  for (int c = '0'; c <= '9'; ++c) table[c] = ByteClass::digit;
  for (const char c : {' ', '\t', '\n', '\r', '\f'}) table[static_cast<int>(c)] = ByteClass::blank;
  table['_'] = ByteClass::letter;
  table['.'] = ByteClass::dot;
  table['\''] = ByteClass::quote;
  table['"'] = ByteClass::double_quote;
  table['$'] = ByteClass::dollar;
  table['-'] = ByteClass::dash;
  table['/'] = ByteClass::slash;
  table[';'] = ByteClass::semicolon;
  table[0] = table[1] = ByteClass::control;
  return table;
}

inline constexpr std::array<ByteClass, 256> kByteClass = make_byte_classes();

// The folded byte for bytes that may stand inside an identifier, else 0.
constexpr std::array<char, 256> make_identifier_bytes() {
  std::array<char, 256> table{};
  for (int c = 0; c < 256; ++c) {
    const ByteClass byte_class = kByteClass[c];
    if (byte_class != ByteClass::letter && byte_class != ByteClass::digit && byte_class != ByteClass::dollar) continue;
    table[c] = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  }
  return table;
}

inline constexpr std::array<char, 256> kIdentifier = make_identifier_bytes();

// Bytes that may lead to the continuation of a string on the next line.
constexpr std::array<bool, 256> make_continuation_bytes() {
  std::array<bool, 256> table{};
  for (int c = 0; c < 256; ++c) table[c] = kByteClass[c] == ByteClass::blank || c == '-';
  return table;
}

inline constexpr std::array<bool, 256> kContinues = make_continuation_bytes();

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Copies the identifier at `p` folded to `out`, moves `p` behind it and returns the end of the copy.
inline char* copy_identifier(const char*& p, const char* end, char* out) {
  for (; p < end; ++p) {
    const char folded = kIdentifier[static_cast<unsigned char>(*p)];
    if (folded == 0) break;
    *out++ = folded;
  }
  return out;
}

}  // namespace pgmosaic::sql
