// Token shape of a statement: the text with its literals taken out. Two statements of one shape differ only in
// literal values (and in blanks and comments), so a plan for one serves the other.
//
// The scanner follows PostgreSQL's lexer (scan.l) for what decides token borders: quoted identifiers, strings ('…',
// E'…', U&'…', B'…', X'…'), dollar quotes, nested comments, numbers, operators, parameters. It reads each byte once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pgmosaic::sql {

struct Literal {
  enum class Kind : uint8_t { integer, decimal, string, escape_string, other };
  Kind kind = Kind::integer;
  uint32_t begin = 0, end = 0;  // byte range of the whole token in the statement, quotes included
};

// Reusable between calls (keeps its buffers): the hot path allocates nothing.
struct Shape {
  uint64_t hash = 0;
  std::string normalized;         // canonical text: literals as one byte \x01 + kind, blanks folded, comments dropped
  std::vector<Literal> literals;  // in order of appearance; includes literals inside everything, also LIMIT 5
  bool complete = true;           // false: unterminated string or comment; do not cache
  bool has_hint = false;          // starts with or contains a /*+ … */ comment (kept in `normalized`)
  bool single_statement = true;   // false: a semicolon with something behind it
};

// Scans `sql` (any encoding that is ASCII-compatible) assuming standard_conforming_strings = on.
void scan_shape(std::string_view sql, Shape& shape);

// The value of a literal: quotes removed, '' and escapes undone. `scratch` is used when the value differs from a
// slice of the text. Literal::Kind::other yields the raw token.
std::string_view literal_value(std::string_view sql, const Literal& literal, std::string& scratch);

}  // namespace pgmosaic::sql
