#include "sql/parentheses.h"

#include <charconv>

namespace pgmosaic::sql {

namespace {

constexpr std::string_view kMark = "\"pgmosaic operand ";

bool written_as_syntax(const Node* node) {
  auto* call = as<PgQuery__FuncCall>(node);
  return call != nullptr && call->funcformat == PG_QUERY__COERCION_FORM__COERCE_SQL_SYNTAX;
}

// What has operands, or is none without parentheses.
bool compound(const Node* node) {
  return as<PgQuery__BoolExpr>(node) != nullptr || as<PgQuery__AExpr>(node) != nullptr ||
         as<PgQuery__NullTest>(node) != nullptr || as<PgQuery__BooleanTest>(node) != nullptr ||
         as<PgQuery__TypeCast>(node) != nullptr || as<PgQuery__CollateClause>(node) != nullptr ||
         as<PgQuery__AIndirection>(node) != nullptr || as<PgQuery__CaseExpr>(node) != nullptr ||
         as<PgQuery__AArrayExpr>(node) != nullptr || as<PgQuery__CoalesceExpr>(node) != nullptr ||
         as<PgQuery__MinMaxExpr>(node) != nullptr || as<PgQuery__SubLink>(node) != nullptr || written_as_syntax(node);
}

}  // namespace

Result<std::string> Parentheses::write(const Node* statement) {
  const Node* marked = copy(statement);
  TRY_ASSIGN(const std::string text, print_(marked));
  TRY(std::move(status_));
  return filled(text);
}

Node* Parentheses::copy(const Node* node) {
  return arena_.copy(node, [this](const Node* below) { return copy_with_operands(below); });
}

void Parentheses::operands(std::size_t count, Node**& nodes) {
  std::vector<Node*> made;
  for (std::size_t i = 0; i < count; ++i) made.push_back(operand(nodes[i]));
  nodes = arena_.list(made);
}

// A node of this kind, which has one operand. Null: it is of another.
template <class T>
Node* Parentheses::with_operand(const Node* node) {
  auto* expression = as<T>(node);
  if (expression == nullptr) return nullptr;
  auto* made = arena_.shallow(expression);
  made->arg = operand(made->arg);
  return arena_.node(made);
}

// Null: not of these; what is below is copied as any other.
Node* Parentheses::copy_with_operands(const Node* node) {
  if (auto* expression = as<PgQuery__BoolExpr>(node)) {
    auto* made = arena_.shallow(expression);
    operands(made->n_args, made->args);
    return arena_.node(made);
  }
  if (auto* expression = as<PgQuery__AExpr>(node)) {
    auto* made = arena_.shallow(expression);
    made->lexpr = operand(made->lexpr);
    made->rexpr = operand(made->rexpr);
    return arena_.node(made);
  }
  for (Node* made : {with_operand<PgQuery__NullTest>(node), with_operand<PgQuery__BooleanTest>(node),
                     with_operand<PgQuery__TypeCast>(node), with_operand<PgQuery__CollateClause>(node)})
    if (made != nullptr) return made;
  if (auto* indirection = as<PgQuery__AIndirection>(node)) {
    auto* made = arena_.shallow(indirection);
    made->arg = operand(made->arg);
    std::vector<Node*> parts;
    for (std::size_t i = 0; i < made->n_indirection; ++i) parts.push_back(copy(made->indirection[i]));
    made->indirection = arena_.list(parts);
    return arena_.node(made);
  }
  if (auto* link = as<PgQuery__SubLink>(node); link != nullptr && inner(link->testexpr) != nullptr) {
    auto* made = arena_.shallow(link);
    made->testexpr = operand(made->testexpr);
    made->subselect = copy(made->subselect);
    return arena_.node(made);
  }
  if (!written_as_syntax(node)) return nullptr;
  auto* made = arena_.shallow(as<PgQuery__FuncCall>(node));
  operands(made->n_args, made->args);
  return arena_.node(made);
}

// The lists of IN and BETWEEN have operands, too.
Node* Parentheses::operand(const Node* node) {
  if (inner(node) == nullptr) return const_cast<Node*>(node);
  if (auto* list = as<PgQuery__List>(node)) {
    auto* made = arena_.shallow(list);
    operands(made->n_items, made->items);
    return arena_.node(made);
  }
  if (!compound(node)) return copy(node);
  auto* select = arena_.make<PgQuery__SelectStmt>();
  select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  select->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
  select->n_target_list = 1;
  select->target_list = arena_.list({arena_.target(copy(node), "")});
  auto text = print_(arena_.node(select));
  if (!text.ok()) {
    if (status_.ok()) status_ = std::move(text.error());
    return copy(node);
  }
  texts_.push_back("(" + text->substr(std::string_view("SELECT ").size()) + ")");
  const std::string name(kMark.substr(1));
  return arena_.column({name + std::to_string(texts_.size() - 1)});
}

std::string Parentheses::filled(const std::string& text) const {
  std::string result;
  std::size_t at = 0;
  while (true) {
    const std::size_t mark = text.find(kMark, at);
    if (mark == std::string::npos) return result + text.substr(at);
    result += text.substr(at, mark - at);
    const char* digits = text.data() + mark + kMark.size();
    std::size_t number = texts_.size();
    const char* end = std::from_chars(digits, text.data() + text.size(), number).ptr;
    at = static_cast<std::size_t>(end - text.data()) + 1;
    if (number < texts_.size()) result += filled(texts_[number]);
  }
}

}  // namespace pgmosaic::sql
