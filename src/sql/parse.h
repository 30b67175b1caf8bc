// Parsing with PostgreSQL's own grammar. This and deparse.cc are the only callers of libpg_query.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sql/ast.h"

namespace pgmosaic::sql {

// Bytes of stack that a thread needs to parse, plan or print any statement that ParseTree::parse() takes: trees are
// walked recursively. Only what is used becomes memory.
inline constexpr std::size_t kPlannerStack = 512UL << 20;

// Owns a parse tree and the text it came from (locations in the tree are byte offsets into it).
class ParseTree {
 public:
  // Fails with 42601 and a position when the text is not SQL.
  static Result<ParseTree> parse(std::string_view sql);

  size_t statement_count() const { return result_->n_stmts; }
  // REQUIRES: index < statement_count()
  const Node* statement(size_t index = 0) const { return result_->stmts[index]->stmt; }
  const std::string& text() const { return *text_; }

 private:
  ParseTree() = default;
  std::unique_ptr<std::string> text_;
  std::shared_ptr<PgQuery__ParseResult> result_;
};

}  // namespace pgmosaic::sql
