// Trees back to SQL, with libpg_query's deparser.
#pragma once

#include <string>

#include "base/result.h"
#include "sql/ast.h"

namespace pgmosaic::sql {

// 0A000 where no text would be parsed to the same tree.
Result<std::string> deparse_statement(const Node* statement);
// An expression as it may stand in a target list.
Result<std::string> deparse_expression(const Node* expression);
// A FROM item.
Result<std::string> deparse_from_item(const Node* item);

// "name" if the identifier needs quotes (upper case, keyword-like, other characters), else name.
std::string quote_identifier(std::string_view name);
std::string quote_literal(std::string_view value);

}  // namespace pgmosaic::sql
