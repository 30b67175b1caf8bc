// Values of the literals that scan_shape found.
#include <array>
#include <cstdint>
#include <optional>

#include "sql/shape.h"

namespace pgmosaic::sql {
namespace {

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

// Reads up to `most` digits of `base` at `p`; the value, with `p` behind them.
uint32_t read_digits(const char*& p, const char* end, int base, int most) {
  uint32_t value = 0;
  for (int i = 0; i < most && p < end && digit_value(*p) < base; ++i)
    value = value * static_cast<uint32_t>(base) + static_cast<uint32_t>(digit_value(*p++));
  return value;
}

void append_utf8(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      out += static_cast<char>(0xE0 | code >> 12);
    } else {
      out += static_cast<char>(0xF0 | code >> 18);
      out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    }
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
  }
  out += static_cast<char>(0x80 | (code & 0x3F));
}

// Undoes the escapes between the quotes of E'…'. False where PostgreSQL would refuse the string.
class EscapeDecoder {
 public:
  EscapeDecoder(std::string_view body, std::string& out) : p_(body.data()), end_(p_ + body.size()), out_(out) {}

  bool run() {
    while (p_ < end_) {
      if (*p_ == '\\') {
        if (!escape()) return false;
        continue;
      }
      if (high_surrogate_ != 0) return false;
      if (*p_ == '\'') ++p_;  // '' is one quote
      if (p_ < end_) out_ += *p_++;
    }
    return high_surrogate_ == 0;
  }

 private:
  bool escape() {
    if (++p_ == end_) return false;
    const char c = *p_++;
    if (c == 'u' || c == 'U') return unicode(c == 'u' ? 4 : 8);
    if (high_surrogate_ != 0) return false;
    switch (c) {
      case 'b': out_ += '\b'; return true;
      case 'f': out_ += '\f'; return true;
      case 'n': out_ += '\n'; return true;
      case 'r': out_ += '\r'; return true;
      case 't': out_ += '\t'; return true;
      case 'x': return hexadecimal();
      default: break;
    }
    if (c < '0' || c > '7') {
      out_ += c;
      return true;
    }
    --p_;
    return byte(read_digits(p_, end_, 8, 3));
  }

  bool hexadecimal() {
    if (p_ == end_ || digit_value(*p_) == 16) {
      out_ += 'x';  // \x without digits is the letter
      return true;
    }
    return byte(read_digits(p_, end_, 16, 2));
  }

  bool byte(uint32_t value) {
    out_ += static_cast<char>(value & 0xFF);
    return (value & 0xFF) != 0;
  }

  bool unicode(int digits) {
    const char* first = p_;
    const uint32_t code = read_digits(p_, end_, 16, digits);
    if (p_ - first != digits || code == 0 || code > 0x10FFFF) return false;
    const bool high = code >= 0xD800 && code < 0xDC00;
    const bool low = code >= 0xDC00 && code < 0xE000;
    if (low != (high_surrogate_ != 0)) return false;
    if (high) {
      high_surrogate_ = code;
      return true;
    }
    append_utf8(low ? 0x10000 + ((high_surrogate_ - 0xD800) << 10) + (code - 0xDC00) : code, out_);
    high_surrogate_ = 0;
    return true;
  }

  const char* p_;
  const char* end_;
  std::string& out_;
  uint32_t high_surrogate_ = 0;  // waits for its other half
};

}  // namespace

std::string_view literal_value(std::string_view sql, const Literal& literal, std::string& scratch) {
  const std::string_view token = sql.substr(literal.begin, literal.end - literal.begin);
  if (literal.kind == Literal::Kind::string && token.size() >= 2) {
    const std::string_view body = token.substr(1, token.size() - 2);
    size_t quote = body.find('\'');
    if (quote == std::string_view::npos) return body;
    scratch.clear();
    size_t from = 0;
    for (; quote != std::string_view::npos; quote = body.find('\'', from)) {
      scratch.append(body, from, quote + 1 - from);
      from = quote + 2;
    }
    scratch.append(body, from > body.size() ? body.size() : from);
    return scratch;
  }
  if (literal.kind == Literal::Kind::escape_string && token.size() >= 3) {
    const std::string_view body = token.substr(2, token.size() - 3);
    if (body.find_first_of("\\'") == std::string_view::npos) return body;
    scratch.clear();
    if (EscapeDecoder(body, scratch).run()) return scratch;
  }
  return token;
}

}  // namespace pgmosaic::sql
