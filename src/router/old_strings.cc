#include "router/old_strings.h"

#include <algorithm>

#include "base/bytes.h"
#include "pg/backend.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

constexpr std::string_view kBlanks = " \t\f\r\n";

// The end of a string whose first quote is at `quote`, with the parts that go on behind a line's end; npos: it has
// none.
std::size_t end_of_string(std::string_view sql, std::size_t quote) {
  std::size_t at = quote + 1;
  for (;;) {
    at = sql.find_first_of("'\\", at);
    if (at == std::string_view::npos) return at;
    if (sql[at] == '\\' || (at + 1 < sql.size() && sql[at + 1] == '\'')) {
      at += 2;
      continue;
    }
    const std::size_t end = at + 1;
    bool new_line = false;
    std::size_t next = end;
    for (;;) {
      const std::size_t word = std::min(sql.find_first_not_of(kBlanks, next), sql.size());
      new_line = new_line || sql.substr(next, word - next).find_first_of("\r\n") != std::string_view::npos;
      next = word;
      if (!sql.substr(next).starts_with("--")) break;
      next = std::min(sql.find_first_of("\r\n", next), sql.size());
    }
    const bool goes_on = new_line && next < sql.size() && sql[next] == '\'';
    if (!goes_on) return end;
    at = next + 1;
  }
}

void warn(std::string& out, char escaped, int position) {
  std::string_view message = "nonstandard use of escape in a string literal";
  std::string_view hint = "Use the escape string syntax for escapes, e.g., E'\\r\\n'.";
  if (escaped == '\'') {
    message = "nonstandard use of \\' in a string literal";
    hint = "Use '' to write quotes in strings, or use the escape string syntax (E'...').";
  } else if (escaped == '\\') {
    message = "nonstandard use of \\\\ in a string literal";
    hint = "Use the escape string syntax for backslashes, e.g., E'\\\\'.";
  }
  pg::write_notice(out, "22P06", message, {}, hint, "WARNING", position);
}

}  // namespace

OldStrings with_escape_strings(std::string_view sql) {
  OldStrings result;
  std::size_t copied = 0, at = 0;
  for (;;) {
    sql::TokenScanner scanner(sql, at);
    const sql::Token token = scanner.next();
    if (token.kind == sql::Token::Kind::end) break;
    at = token.end;
    if (token.kind != sql::Token::Kind::string && token.kind != sql::Token::Kind::broken) continue;
    const bool national = (sql[token.begin] | 0x20) == 'n';  // to PostgreSQL's lexer NCHAR, and a string
    const std::size_t quote = token.begin + (national ? 1 : 0);
    if (quote >= sql.size() || sql[quote] != '\'') continue;
    const std::size_t end = end_of_string(sql, quote);
    if (end == std::string_view::npos) break;
    at = end;
    const std::size_t escape = sql.substr(0, end).find('\\', quote);
    if (escape == std::string_view::npos) continue;
    result.text += sql.substr(copied, quote - copied);
    const int position = characters(sql.substr(0, quote)) + 1;
    const std::string_view added = national ? "char E" : "E";
    for (std::size_t i = 0; i < added.size(); ++i)
      result.inserted.push_back(position + static_cast<int>(result.inserted.size()));
    result.text += added;
    result.text += sql.substr(quote, end - quote);
    warn(result.warnings, sql[escape + 1], position);
    copied = end;
  }
  result.text += sql.substr(copied);
  return result;
}

}  // namespace pgmosaic::router
