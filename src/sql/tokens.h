// A statement's tokens with their byte ranges, where the tree of libpg_query does not help: our own clauses before the
// parser sees them, statement borders, and slices of rows of an INSERT. Follows PostgreSQL's lexer for token borders.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pgmosaic::sql {

struct Token {
  enum class Kind : uint8_t {
    end,
    word,    // identifier or keyword, unquoted
    quoted,  // "identifier"
    string,  // any kind of string constant, bit strings and dollar quotes included
    number,
    parameter,  // $1
    symbol,     // one of ( ) [ ] , ; : . or an operator character
    broken,     // unterminated string, comment or identifier: everything up to the end
  };
  Kind kind = Kind::end;
  uint32_t begin = 0, end = 0;
};

// Walks over `sql`; blanks and comments are left out.
class TokenScanner {
 public:
  explicit TokenScanner(std::string_view sql, size_t position = 0) : sql_(sql), position_(position) {}

  Token next();
  Token peek() const {
    TokenScanner copy = *this;
    return copy.next();
  }
  std::string_view text(const Token& token) const { return sql_.substr(token.begin, token.end - token.begin); }
  // True if the token is this keyword (given in lower case).
  bool is_word(const Token& token, std::string_view keyword) const;
  bool is_symbol(const Token& token, char c) const {
    return token.kind == Token::Kind::symbol && sql_[token.begin] == c;
  }
  // An identifier's name: folded to lower case, or unquoted.
  std::string name(const Token& token) const;
  size_t position() const { return position_; }

 private:
  bool skip_blanks();
  Token finish(Token::Kind kind, size_t begin, size_t end);
  Token quoted(Token::Kind kind, size_t begin, size_t open, char quote, bool escapes);

  std::string_view sql_;
  size_t position_;
};

// Token after the matching close of a parenthesis whose opening token was just read; kind end or broken if unbalanced.
Token skip_parentheses(TokenScanner& scanner);

}  // namespace pgmosaic::sql
