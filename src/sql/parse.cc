#include "sql/parse.h"

#include <pg_query.h>

namespace pgmosaic::sql {

Result<ParseTree> ParseTree::parse(std::string_view sql) {
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
