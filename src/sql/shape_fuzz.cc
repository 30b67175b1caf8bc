// Arbitrary bytes as a statement: scanners stay within it, agree with themselves, and end.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "sql/dialect.h"
#include "sql/shape.h"
#include "sql/tokens.h"

using namespace pgmosaic::sql;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view sql(reinterpret_cast<const char*>(data), size);
  Shape shape;
  scan_shape(sql, shape);
  uint32_t last_end = 0;
  std::string scratch;
  for (const Literal& literal : shape.literals) {
    CHECK(literal.begin >= last_end && literal.begin < literal.end && literal.end <= size);
    last_end = literal.end;
    literal_value(sql, literal, scratch);
  }
  // What is scanned twice is the same, with buffers in use as well.
  const std::string normalized = shape.normalized;
  const uint64_t hash = shape.hash;
  scan_shape(sql, shape);
  CHECK(shape.normalized == normalized && shape.hash == hash);

  TokenScanner scanner(sql);
  uint32_t position = 0;
  for (;;) {
    const Token token = scanner.next();
    if (token.kind == Token::Kind::end) break;
    CHECK(token.begin >= position && token.end > token.begin && token.end <= size);
    position = token.end;
    if (token.kind == Token::Kind::quoted || token.kind == Token::Kind::word) scanner.name(token);
    if (token.kind == Token::Kind::broken) break;
  }
  is_create_table(sql);
  return 0;
}
