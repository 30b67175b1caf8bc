#include "sql/tokens.h"

namespace pgmosaic::sql {
namespace {

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (static_cast<unsigned char>(c) & 0x80);
}
bool is_word_part(char c) { return is_word_start(c) || is_digit(c) || c == '$'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

// False if a comment does not end.
bool TokenScanner::skip_blanks() {
  while (position_ < sql_.size()) {
    if (is_blank(sql_[position_])) {
      ++position_;
    } else if (sql_.substr(position_, 2) == "--") {
      while (position_ < sql_.size() && sql_[position_] != '\n' && sql_[position_] != '\r') ++position_;
    } else if (sql_.substr(position_, 2) == "/*") {
      int depth = 0;
      size_t at = position_;
      do {
        if (sql_.substr(at, 2) == "/*") {
          ++depth;
          at += 2;
        } else if (sql_.substr(at, 2) == "*/") {
          --depth;
          at += 2;
        } else {
          ++at;
        }
      } while (depth > 0 && at < sql_.size());
      if (depth > 0) return false;
      position_ = at;
    } else {
      break;
    }
  }
  return true;
}

Token TokenScanner::finish(Token::Kind kind, size_t begin, size_t end) {
  position_ = end;
  return {kind, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
}

Token TokenScanner::quoted(Token::Kind kind, size_t begin, size_t open, char quote, bool escapes) {
  for (size_t at = open + 1; at < sql_.size(); ++at) {
    if (escapes && sql_[at] == '\\') {
      ++at;
    } else if (sql_[at] == quote) {
      if (at + 1 < sql_.size() && sql_[at + 1] == quote) {
        ++at;
      } else {
        return finish(kind, begin, at + 1);
      }
    }
  }
  return finish(Token::Kind::broken, begin, sql_.size());
}

Token TokenScanner::next() {
  if (!skip_blanks()) return finish(Token::Kind::broken, position_, sql_.size());
  size_t begin = position_;
  if (begin >= sql_.size()) return finish(Token::Kind::end, sql_.size(), sql_.size());
  char c = sql_[begin];
  char following = begin + 1 < sql_.size() ? sql_[begin + 1] : '\0';
  if (c == '\'') return quoted(Token::Kind::string, begin, begin, '\'', false);
  if (c == '"') return quoted(Token::Kind::quoted, begin, begin, '"', false);
  if (following == '\'' && (lower(c) == 'e' || lower(c) == 'b' || lower(c) == 'x' || lower(c) == 'n'))
    return quoted(Token::Kind::string, begin, begin + 1, '\'', lower(c) == 'e');
  if (lower(c) == 'u' && following == '&' && begin + 2 < sql_.size()) {
    if (sql_[begin + 2] == '\'') return quoted(Token::Kind::string, begin, begin + 2, '\'', false);
    if (sql_[begin + 2] == '"') return quoted(Token::Kind::quoted, begin, begin + 2, '"', false);
  }
  if (c == '$') {
    size_t at = begin + 1;
    if (is_digit(following)) {
      while (at < sql_.size() && is_digit(sql_[at])) ++at;
      return finish(Token::Kind::parameter, begin, at);
    }
    while (at < sql_.size() && is_word_part(sql_[at]) && sql_[at] != '$') ++at;
    if (at < sql_.size() && sql_[at] == '$') {
      std::string_view tag = sql_.substr(begin, at + 1 - begin);
      size_t close = sql_.find(tag, at + 1);
      if (close == std::string_view::npos) return finish(Token::Kind::broken, begin, sql_.size());
      return finish(Token::Kind::string, begin, close + tag.size());
    }
    return finish(Token::Kind::symbol, begin, begin + 1);
  }
  if (is_digit(c) || (c == '.' && is_digit(following))) {
    size_t at = begin;
    while (at < sql_.size() && (is_digit(sql_[at]) || sql_[at] == '.')) ++at;
    if (at < sql_.size() && lower(sql_[at]) == 'e') {
      size_t exponent = at + 1;
      if (exponent < sql_.size() && (sql_[exponent] == '+' || sql_[exponent] == '-')) ++exponent;
      if (exponent < sql_.size() && is_digit(sql_[exponent])) {
        while (exponent < sql_.size() && is_digit(sql_[exponent])) ++exponent;
        at = exponent;
      }
    }
    return finish(Token::Kind::number, begin, at);
  }
  if (is_word_start(c)) {
    size_t at = begin;
    while (at < sql_.size() && is_word_part(sql_[at])) ++at;
    return finish(Token::Kind::word, begin, at);
  }
  return finish(Token::Kind::symbol, begin, begin + 1);
}

bool TokenScanner::is_word(const Token& token, std::string_view keyword) const {
  if (token.kind != Token::Kind::word || token.end - token.begin != keyword.size()) return false;
  for (size_t i = 0; i < keyword.size(); ++i)
    if (lower(sql_[token.begin + i]) != keyword[i]) return false;
  return true;
}

std::string TokenScanner::name(const Token& token) const {
  std::string_view raw = text(token);
  std::string result;
  if (token.kind == Token::Kind::quoted) {
    size_t open = raw.find('"');
    for (size_t i = open + 1; i + 1 < raw.size(); ++i) {
      if (raw[i] == '"') ++i;
      result += raw[i];
    }
  } else {
    for (char c : raw) result += lower(c);
  }
  if (result.size() > 63) result.resize(63);
  return result;
}

Token skip_parentheses(TokenScanner& scanner) {
  int depth = 1;
  while (true) {
    Token token = scanner.next();
    if (token.kind == Token::Kind::end || token.kind == Token::Kind::broken) return token;
    if (scanner.is_symbol(token, '(')) ++depth;
    if (scanner.is_symbol(token, ')') && --depth == 0) return token;
  }
}

}  // namespace pgmosaic::sql
