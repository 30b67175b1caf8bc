// A statement's text with parentheses around every operand that is an expression of its own, where the deparser would
// leave out some that matter: (a OR b) IS NULL, (x AT TIME ZONE 'UTC')::date, (ARRAY[1, 2])[1].
//
// Operands are printed by themselves and stand in the statement as columns of made-up names until the end.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sql/ast.h"

namespace pgmosaic::sql {

class Parentheses {
 public:
  using Print = std::function<Result<std::string>(const Node* statement)>;
  explicit Parentheses(Print print) : print_(std::move(print)) {}

  Result<std::string> write(const Node* statement);

 private:
  Node* copy(const Node* node);
  Node* copy_with_operands(const Node* node);
  template <class T>
  Node* with_operand(const Node* node);
  Node* operand(const Node* node);
  void operands(std::size_t count, Node**& nodes);
  std::string filled(const std::string& text) const;

  Print print_;
  Arena arena_;
  std::vector<std::string> texts_;
  Status status_;
};

}  // namespace pgmosaic::sql
