#include "sql/parse.h"

#include <pg_query.h>

#include <vector>

#include "sql/tokens.h"

namespace pgmosaic::sql {

namespace {

// How deep a tree may be: each level is a frame of every function that walks over it, on stacks of kPlannerStack bytes.
// PostgreSQL's own limit, by default, is lower for most expressions.
constexpr int kMaxDepth = 10000;

bool begins_anew(const TokenScanner& scanner, const Token& token) {
  for (const char* word : {"and", "or", "when", "then", "else"})
    if (scanner.is_word(token, word)) return true;
  return scanner.is_symbol(token, ',') || scanner.is_symbol(token, ';');
}

// An upper bound of the tree's depth: tokens that can nest since the last comma, AND, OR, … of each open parenthesis.
// What nests across these (set operations, joins, CASE) counts from the beginning.
bool too_deep(std::string_view sql) {
  TokenScanner scanner(sql);
  struct Parenthesis {
    int tokens = 0, cases = 0;  // cases: whose END has not come yet
  };
  std::vector<Parenthesis> open(1);
  int total = 0, nesting = 0;
  for (Token token = scanner.next(); token.kind != Token::Kind::end && token.kind != Token::Kind::broken;
       token = scanner.next()) {
    if (scanner.is_symbol(token, '(') || scanner.is_symbol(token, '[')) {
      open.emplace_back();
      ++total;
    } else if (scanner.is_symbol(token, ')') || scanner.is_symbol(token, ']')) {
      if (open.size() == 1) continue;
      total -= open.back().tokens + 1;
      nesting -= 2 * open.back().cases;
      open.pop_back();
    } else if (begins_anew(scanner, token)) {
      total -= open.back().tokens;
      open.back().tokens = 0;
    } else if (token.kind == Token::Kind::symbol || token.kind == Token::Kind::word) {
      ++open.back().tokens;
      ++total;
      for (const char* word : {"union", "except", "intersect", "join", "case"})
        if (scanner.is_word(token, word)) nesting += 2;
      if (scanner.is_word(token, "case")) ++open.back().cases;
      if (scanner.is_word(token, "end") && open.back().cases > 0) {  // END can also be a label
        --open.back().cases;
        nesting -= 2;
      }
    }
    if (total + nesting > kMaxDepth) return true;
  }
  return false;
}

}  // namespace

Result<ParseTree> ParseTree::parse(std::string_view sql) {
  if (too_deep(sql))
    return make_error("54001", "stack depth limit exceeded", "Split the statement: its expressions nest too deeply.");
  ParseTree tree;
  tree.text_ = std::make_unique<std::string>(sql);
  PgQueryProtobufParseResult parsed = pg_query_parse_protobuf(tree.text_->c_str());
  if (parsed.error != nullptr) {
    Error error = make_error("42601", parsed.error->message == nullptr ? "syntax error" : parsed.error->message);
    error.position = parsed.error->cursorpos;
    pg_query_free_protobuf_parse_result(parsed);
    return error;
  }
  PgQuery__ParseResult* result = pg_query__parse_result__unpack(
      nullptr, parsed.parse_tree.len, reinterpret_cast<const uint8_t*>(parsed.parse_tree.data));
  pg_query_free_protobuf_parse_result(parsed);
  // protobuf-c gives up on trees it finds too deep; PostgreSQL's own limit is the better judge of such a statement.
  if (result == nullptr) return make_error("54001", "statement too complex to plan");
  tree.result_ = std::shared_ptr<PgQuery__ParseResult>(
      result, [](PgQuery__ParseResult* owned) { pg_query__parse_result__free_unpacked(owned, nullptr); });
  return tree;
}

}  // namespace pgmosaic::sql
