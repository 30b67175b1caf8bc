#include "router/client_text.h"

#include <strings.h>

#include <algorithm>
#include <optional>

#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

// The byte at which a character begins; the first one is 1.
std::size_t byte_at(std::string_view text, int position) {
  std::size_t at = 0;
  while (at < text.size() && characters(text.substr(at, 1)) == 0) ++at;
  for (; position > 1 && at < text.size(); --position) do
      ++at;
    while (at < text.size() && characters(text.substr(at, 1)) == 0);
  return at;
}

// Where both texts have the same words up to the place, however they are spaced and cased.
std::optional<std::size_t> place_by_tokens(std::string_view client, std::string_view sent, std::size_t at) {
  sql::TokenScanner mine(client), theirs(sent);
  using Kind = sql::Token::Kind;
  for (;;) {
    const sql::Token a = mine.next(), b = theirs.next();
    if (a.kind != b.kind || a.kind == Kind::end || a.kind == Kind::broken) return std::nullopt;
    const std::string_view in_client = client.substr(a.begin, a.end - a.begin);
    const std::string_view in_sent = sent.substr(b.begin, b.end - b.begin);
    const bool exact = a.kind == Kind::string || in_client[0] == '"';
    if (in_client.size() != in_sent.size() || (exact && in_client != in_sent) ||
        strncasecmp(in_client.data(), in_sent.data(), in_sent.size()) != 0)
      return std::nullopt;
    if (b.begin == at) return a.begin;
  }
}

std::optional<std::size_t> place_in(std::string_view client, std::string_view sent, std::size_t at) {
  if (at < std::min(client.size(), sent.size()) && client.substr(0, at + 1) == sent.substr(0, at + 1)) return at;
  std::size_t common = 0;
  while (common < client.size() && common < sent.size() &&
         client[client.size() - 1 - common] == sent[sent.size() - 1 - common])
    ++common;
  const std::size_t from_end = sent.size() - at;
  if (from_end == 0 || from_end > common) return place_by_tokens(client, sent, at);
  return client.size() - from_end;
}

}  // namespace

int position_in(std::string_view client, std::string_view sent, int position) {
  if (position <= 0 || client == sent) return position;
  const auto place = place_in(client, sent, byte_at(sent, position));
  return place ? characters(client.substr(0, *place)) + 1 : 0;
}

void name_end(Error& error, std::string_view behind) {
  constexpr std::string_view kAtEnd = "syntax error at end of input";
  if (error.message != kAtEnd || error.position == 0) return;  // else of SQL within a function
  sql::TokenScanner scanner(behind);
  const sql::Token end = scanner.next();
  if (scanner.is_symbol(end, ';')) error.message = "syntax error at or near \";\"";
  error.position += characters(behind.substr(0, end.begin));
}

}  // namespace pgmosaic::router
