// The scanner behind the shape cache: one pass over the bytes, one class table, no token objects.
//
// Token borders are those of PostgreSQL's lexer. What the parser would refuse anyway (junk behind a number, a control
// byte outside quotes) marks the shape as incomplete, so that no plan is ever cached under it.
//
// Format of Shape::normalized
//   keyword, identifier   as written, A–Z folded
//   "quoted identifier"   as written
//   literal               \x01 and one letter: i d s e o as Literal::Kind; I an integer that needs int8, N one that
//                         needs numeric (their type, hence the plan, may differ). A UESCAPE string follows its marker
//                         verbatim, since it changes the meaning of the identifier before it.
//   /*+ hint */           as written
//   blanks and comments   one space, none at the ends
//   all else              as written
#include "sql/shape.h"

#include <array>
#include <cstring>

#include "base/random.h"
#include "sql/shape_tables.h"

namespace pgmosaic::sql {
namespace {

__extension__ using uint128 = unsigned __int128;

constexpr size_t kKeepCapacity = size_t{1} << 20;  // buffers of larger statements are given back

uint64_t fold_multiply(uint64_t a, uint64_t b) {
  const uint128 product = static_cast<uint128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t load64(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

uint64_t load32(const char* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

const uint64_t kHashSeed = random_u64();

// Folded 64×64→128 multiplications over 16-byte blocks, keyed per process: clients cannot aim for collisions.
uint64_t hash_text(const char* p, size_t size) {
  constexpr uint64_t kA = 0x9fb21c651e98df25, kB = 0xd6e8feb86659fd93, kC = 0xa0761d6478bd642f;
  uint64_t state = kHashSeed ^ fold_multiply(size ^ kA, kC);
  if (size >= 16) {
    const char* last = p + size - 16;
    for (; p < last; p += 16) state = fold_multiply(load64(p) ^ kB ^ state, load64(p + 8) ^ kC ^ (state >> 32));
    state = fold_multiply(load64(last) ^ kA ^ state, load64(last + 8) ^ kB);
  } else {
    uint64_t low = 0, high = 0;
    if (size >= 8) {
      low = load64(p);
      high = load64(p + size - 8);
    } else if (size >= 4) {
      low = load32(p);
      high = load32(p + size - 4);
    } else if (size > 0) {
      low = static_cast<unsigned char>(p[0]);
      high =
          static_cast<uint64_t>(static_cast<unsigned char>(p[size / 2])) << 8 | static_cast<unsigned char>(p[size - 1]);
    }
    state = fold_multiply(low ^ kA ^ state, high ^ kB);
  }
  return fold_multiply(state ^ kC, kHashSeed | 1);
}

enum class Quoting : uint8_t { doubled, escapes, bits };  // '…', E'…', and B'…' where '' is no quote but an end

class Scanner {
 public:
  Scanner(std::string_view sql, Shape& shape)
      : begin_(sql.data()), end_(sql.data() + sql.size()), p_(sql.data()), shape_(shape) {}

  void run();

 private:
  bool at(const char* p, char c) const { return p < end_ && *p == c; }
  void separate() {
    if (blank_ && out_ != out_begin_) *out_++ = ' ';
    blank_ = false;
  }
  void put(const char* from, const char* to) {
    std::memcpy(out_, from, static_cast<size_t>(to - from));
    out_ += to - from;
  }
  void put_literal(Literal::Kind kind, char marker, const char* from) {
    *out_++ = '\x01';
    *out_++ = marker;
    shape_.literals.push_back({kind, static_cast<uint32_t>(from - begin_), static_cast<uint32_t>(p_ - begin_)});
  }
  const char* find(const char* from, char c) const {
    return static_cast<const char*>(std::memchr(from, c, static_cast<size_t>(end_ - from)));
  }

  void identifier();
  void quoted_identifier();
  void number();
  void string(const char* token, Literal::Kind kind, char marker, Quoting quoting);
  const char* end_of_string_part(const char* p, Quoting quoting) const;
  const char* continuation(const char* p) const;
  const char* skip_line(const char* p) const;
  void dollar();
  void line_comment();
  void block_comment();
  void finish();

  const char* begin_;
  const char* end_;
  const char* p_;
  Shape& shape_;
  char* out_ = nullptr;
  char* out_begin_ = nullptr;
  char* semicolon_ = nullptr;  // the first one in the output
  bool blank_ = false;         // blanks or a comment since the last token
  bool after_uescape_ = false;
};

void Scanner::run() {
  const size_t size = static_cast<size_t>(end_ - begin_);
  // A one-byte literal becomes two bytes; nothing else grows.
  shape_.normalized.resize(2 * size + 16);
  out_ = out_begin_ = shape_.normalized.data();
  while (p_ < end_) {
    const auto c = static_cast<unsigned char>(*p_);
    switch (kByteClass[c]) {
      case ByteClass::blank:
        ++p_;
        blank_ = true;
        continue;
      case ByteClass::dash:
        if (at(p_ + 1, '-')) {
          line_comment();
          continue;
        }
        break;
      case ByteClass::slash:
        if (at(p_ + 1, '*')) {
          block_comment();
          continue;
        }
        break;
      case ByteClass::letter:
        separate();
        identifier();
        continue;
      case ByteClass::digit:
        separate();
        number();
        continue;
      case ByteClass::dot:
        separate();
        if (p_ + 1 < end_ && is_digit(p_[1])) {
          number();
        } else {
          *out_++ = *p_++;
          if (at(p_, '.')) *out_++ = *p_++;  // ".." is one token, also before a digit
        }
        continue;
      case ByteClass::quote:
        separate();
        string(p_, Literal::Kind::string, 's', Quoting::doubled);
        continue;
      case ByteClass::double_quote:
        separate();
        quoted_identifier();
        continue;
      case ByteClass::dollar:
        separate();
        dollar();
        continue;
      case ByteClass::semicolon:
        separate();
        if (semicolon_ == nullptr) semicolon_ = out_;
        *out_++ = *p_++;
        continue;
      case ByteClass::control: shape_.complete = false; break;
      case ByteClass::other: break;
    }
    separate();
    *out_++ = *p_++;
  }
  finish();
}

void Scanner::finish() {
  if (semicolon_ != nullptr)
    for (const char* p = semicolon_; p < out_; ++p)
      if (*p != ';' && *p != ' ') shape_.single_statement = false;
  const size_t size = static_cast<size_t>(out_ - out_begin_);
  shape_.normalized.resize(size);
  shape_.hash = hash_text(out_begin_, size);
}

void Scanner::identifier() {
  const char* token = p_;
  out_ = copy_identifier(p_, end_, out_);
  const size_t size = static_cast<size_t>(p_ - token);
  if (size == 1 && p_ < end_) {
    const char letter = out_[-1];
    if (*p_ == '\'') {
      switch (letter) {
        case 'e': --out_; return string(token, Literal::Kind::escape_string, 'e', Quoting::escapes);
        case 'b':
        case 'x': --out_; return string(token, Literal::Kind::other, 'o', Quoting::bits);
        case 'n':  // PostgreSQL's lexer gives the keyword NCHAR and a string; its type is bpchar
          return string(p_, Literal::Kind::other, 'o', Quoting::doubled);
        default: return;
      }
    }
    if (letter == 'u' && *p_ == '&' && p_ + 1 < end_) {
      if (p_[1] == '\'') {
        --out_;
        ++p_;
        return string(token, Literal::Kind::other, 'o', Quoting::doubled);
      }
      if (p_[1] == '"') {
        *out_++ = *p_++;
        return quoted_identifier();
      }
    }
  } else if (size == 7 && std::memcmp(out_ - 7, "uescape", 7) == 0) {
    after_uescape_ = true;
  }
}

void Scanner::quoted_identifier() {
  const char* token = p_;
  const char* quote = find(p_ + 1, '"');
  while (quote != nullptr && at(quote + 1, '"')) quote = find(quote + 2, '"');
  shape_.complete &= quote != nullptr;
  p_ = quote == nullptr ? end_ : quote + 1;
  put(token, p_);
}

// integer: the kind of marker tells int4, int8 and numeric apart, as PostgreSQL types the constant.
char integer_marker(const char* from, const char* to) {
  while (from < to && *from == '0') ++from;
  const std::string_view digits(from, static_cast<size_t>(to - from));
  constexpr std::string_view kMaxInt4 = "2147483647", kMaxInt8 = "9223372036854775807";
  if (digits.size() < kMaxInt4.size() || (digits.size() == kMaxInt4.size() && digits <= kMaxInt4)) return 'i';
  if (digits.size() < kMaxInt8.size() || (digits.size() == kMaxInt8.size() && digits <= kMaxInt8)) return 'I';
  return 'N';
}

// REQUIRES: a digit, or a dot and a digit, at p_.
void Scanner::number() {
  const char* token = p_;
  const char* p = p_;
  bool decimal = false;
  while (p < end_ && is_digit(*p)) ++p;
  if (at(p, '.') && !(p > token && at(p + 1, '.'))) {  // 1..10 is 1 .. 10
    decimal = true;
    ++p;
    while (p < end_ && is_digit(*p)) ++p;
  }
  if (p < end_ && (*p == 'e' || *p == 'E')) {
    const char* exponent = p + 1;
    if (exponent < end_ && (*exponent == '+' || *exponent == '-')) ++exponent;
    if (exponent < end_ && is_digit(*exponent)) {
      decimal = true;
      p = exponent;
      while (p < end_ && is_digit(*p)) ++p;
    }
  }
  if (p < end_ && kByteClass[static_cast<unsigned char>(*p)] == ByteClass::letter) {
    // Junk for PostgreSQL 15; later versions know 0x1F and 1_000.
    while (p < end_ && kIdentifier[static_cast<unsigned char>(*p)] != 0) ++p;
    p_ = p;
    shape_.complete = false;
    put_literal(Literal::Kind::other, 'o', token);
    return;
  }
  p_ = p;
  if (decimal)
    put_literal(Literal::Kind::decimal, 'd', token);
  else
    put_literal(Literal::Kind::integer, p - token < 10 ? 'i' : integer_marker(token, p), token);
}

// REQUIRES: a quote at p_. `token` is where the literal begins, which may be at its prefix.
void Scanner::string(const char* token, Literal::Kind kind, char marker, Quoting quoting) {
  const char* p = p_;
  for (;;) {
    const char* last = end_of_string_part(p + 1, quoting);
    if (last == nullptr) {
      shape_.complete = false;
      kind = Literal::Kind::other;
      marker = 'o';
      p_ = end_;
      break;
    }
    p_ = last;
    if (p_ == end_ || !kContinues[static_cast<unsigned char>(*p_)]) break;
    p = continuation(p_);
    if (p == nullptr) break;
    kind = Literal::Kind::other;
    marker = 'o';
  }
  put_literal(kind, marker, token);
  if (after_uescape_) {
    put(token, p_);
    after_uescape_ = false;
  }
}

// Behind the quote that ends a string whose content starts at `p`; nullptr if there is none.
const char* Scanner::end_of_string_part(const char* p, Quoting quoting) const {
  if (quoting == Quoting::bits) {
    const char* quote = find(p, '\'');
    return quote == nullptr ? nullptr : quote + 1;
  }
  if (quoting == Quoting::doubled) {
    for (const char* quote = find(p, '\''); quote != nullptr; quote = find(quote + 2, '\''))
      if (!at(quote + 1, '\'')) return quote + 1;
    return nullptr;
  }
  while (p < end_) {
    if (*p == '\\') {
      p += 2;
    } else if (*p != '\'') {
      ++p;
    } else if (at(p + 1, '\'')) {
      p += 2;
    } else {
      return p + 1;
    }
  }
  return nullptr;
}

const char* Scanner::skip_line(const char* p) const {
  while (p < end_ && *p != '\n' && *p != '\r') ++p;
  return p;
}

// SQL joins 'a' <blanks with a newline, -- comments> 'b'. The opening quote of the next part, or nullptr.
const char* Scanner::continuation(const char* p) const {
  bool newline = false;
  while (p < end_) {
    if (*p == '\'') return newline ? p : nullptr;
    if (*p == '-' && at(p + 1, '-')) {
      p = skip_line(p);
    } else if (kByteClass[static_cast<unsigned char>(*p)] == ByteClass::blank) {
      newline |= *p == '\n' || *p == '\r';
      ++p;
    } else {
      return nullptr;
    }
  }
  return nullptr;
}

// $1, $$…$$, $tag$…$tag$ or a lone dollar sign.
void Scanner::dollar() {
  const char* p = p_ + 1;
  if (p < end_ && is_digit(*p)) {
    while (p < end_ && is_digit(*p)) ++p;
    if (p < end_ && kByteClass[static_cast<unsigned char>(*p)] == ByteClass::letter) shape_.complete = false;
    put(p_, p);
    p_ = p;
    return;
  }
  while (p < end_ && *p != '$' && kIdentifier[static_cast<unsigned char>(*p)] != 0) ++p;
  if (!at(p, '$')) {
    *out_++ = *p_++;
    return;
  }
  const std::string_view delimiter(p_, static_cast<size_t>(p + 1 - p_));
  const std::string_view rest(p + 1, static_cast<size_t>(end_ - p - 1));
  const size_t found = rest.find(delimiter);
  const char* token = p_;
  shape_.complete &= found != std::string_view::npos;
  p_ = found == std::string_view::npos ? end_ : rest.data() + found + delimiter.size();
  put_literal(Literal::Kind::other, 'o', token);
}

void Scanner::line_comment() {
  p_ = skip_line(p_);
  blank_ = true;
}

// Block comments nest. A hint stays in the normalized text.
void Scanner::block_comment() {
  const char* token = p_;
  int depth = 1;
  p_ += 2;
  while (depth > 0 && p_ < end_) {
    if (*p_ == '*' && at(p_ + 1, '/')) {
      --depth;
      p_ += 2;
    } else if (*p_ == '/' && at(p_ + 1, '*')) {
      ++depth;
      p_ += 2;
    } else {
      ++p_;
    }
  }
  shape_.complete &= depth == 0;
  if (at(token + 2, '+')) {
    shape_.has_hint = true;
    separate();
    put(token, p_);
  }
  blank_ = true;
}

}  // namespace

void scan_shape(std::string_view sql, Shape& shape) {
  if (shape.normalized.capacity() > kKeepCapacity && 2 * sql.size() < kKeepCapacity) {
    std::string().swap(shape.normalized);
    std::vector<Literal>().swap(shape.literals);
  }
  shape.literals.clear();
  shape.complete = true;
  shape.has_hint = false;
  shape.single_statement = true;
  Scanner(sql, shape).run();
}

}  // namespace pgmosaic::sql
