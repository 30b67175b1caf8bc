// Conditions: which columns are equal, and which constants they are compared with. A condition becomes a Fact only
// where its meaning is exactly PostgreSQL's; everything else proves nothing.
#include <algorithm>
#include <charconv>

#include "catalog/hashing.h"
#include "plan/bind.h"
#include "plan/function_traits.h"
#include "plan/types.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

constexpr size_t kMaxAlternatives = 20000;

// "=" of pg_catalog.
bool is_equals(const PgQuery__AExpr* expr) {
  if (expr->n_name == 2 && string_value(expr->name[0]) != "pg_catalog") return false;
  return last_name(expr->n_name, expr->name) == "=";
}

bool is_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// `Float` nodes are decimals and integers beyond int4.
void classify_number(std::string_view text, ConstValue& out) {
  if (text.starts_with('-')) text.remove_prefix(1);
  if (!is_digits(text)) {
    out.written = ConstValue::Written::decimal;
    return;
  }
  out.written = ConstValue::Written::integer;
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  out.too_large = error != std::errc() || end != text.data() + text.size();
}

}  // namespace

int Statement::literal_at(int location, bool& negated) const {
  negated = false;
  if (location < 0) return -1;
  auto at = static_cast<uint32_t>(location);
  auto it = std::lower_bound(shape.literals.begin(), shape.literals.end(), at,
                             [](const Literal& literal, uint32_t position) { return literal.begin < position; });
  if (it == shape.literals.end()) return -1;
  if (it->begin != at) {
    // A folded minus: the tree gives the position of the sign.
    if (at >= text.size() || text[at] != '-') return -1;
    for (uint32_t i = at + 1; i < it->begin; ++i)
      if (text[i] != ' ' && text[i] != '\t' && text[i] != '\n' && text[i] != '\r') return -1;
    if (it->kind != Literal::Kind::integer && it->kind != Literal::Kind::decimal) return -1;
    negated = true;
  }
  return static_cast<int>(it - shape.literals.begin());
}

void Statement::note_literal(const Node* node) {
  if (inner(node) == nullptr) return;
  walk(node, [&](const Message* message) {
    if (auto* constant = as<PgQuery__AConst>(message)) {
      bool negated = false;
      int index = literal_at(constant->location, negated);
      if (index >= 0) structural.insert(static_cast<uint32_t>(index));
    }
    return true;
  });
}

bool Statement::read_literal(const PgQuery__AConst* constant, ConstValue& out) const {
  using Written = ConstValue::Written;
  if (constant->isnull) {
    out.written = Written::null;
    out.source.kind = KeySource::Kind::null_value;
    return true;
  }
  std::string value;
  switch (constant->val_case) {
    case PG_QUERY__A__CONST__VAL_BOOLVAL:
      out.written = Written::truth;
      out.source.kind = KeySource::Kind::constant;
      out.source.text = constant->boolval->boolval ? "t" : "f";
      return true;
    case PG_QUERY__A__CONST__VAL_SVAL:
      out.written = Written::string;
      value = text_of(constant->sval->sval);
      break;
    case PG_QUERY__A__CONST__VAL_IVAL:
      out.written = Written::integer;
      value = std::to_string(constant->ival->ival);
      break;
    case PG_QUERY__A__CONST__VAL_FVAL:
      value = text_of(constant->fval->fval);
      classify_number(value, out);
      break;
    default: return false;
  }
  if (constants_by_value) {
    out.source.kind = KeySource::Kind::constant;
    out.source.text = value;
    return true;
  }
  bool negated = false;
  int index = literal_at(constant->location, negated);
  if (index < 0) return false;
  Literal::Kind kind = shape.literals[index].kind;
  bool is_string = kind == Literal::Kind::string || kind == Literal::Kind::escape_string;
  if (kind == Literal::Kind::other || is_string != (out.written == Written::string)) return false;
  out.source.kind = KeySource::Kind::literal;
  out.source.index = static_cast<uint32_t>(index);
  out.source.negate = negated;
  return true;
}

bool Statement::read_parameter(const PgQuery__ParamRef* parameter, ConstValue& out) const {
  if (parameter->number < 1 || parameter->number > 65535) return false;
  out.written = ConstValue::Written::parameter;
  out.source.kind = KeySource::Kind::parameter;
  out.source.index = static_cast<uint32_t>(parameter->number - 1);
  out.location = parameter->location;
  if (out.source.index < context.parameter_types.size()) {
    out.type = context.parameter_types[out.source.index];
    if (out.type == oid::unknown) out.type = 0;
  }
  out.source.value_type = out.type;
  return true;
}

bool Statement::read_constant(const Node* node, ConstValue& out) const {
  using Written = ConstValue::Written;
  if (auto* constant = as<PgQuery__AConst>(node)) return read_literal(constant, out);
  if (auto* parameter = as<PgQuery__ParamRef>(node)) return read_parameter(parameter, out);
  auto* typecast = as<PgQuery__TypeCast>(node);
  if (typecast == nullptr) return false;
  catalog::Oid type = plain_type(typecast->type_name);
  if (type == 0 || as<PgQuery__TypeCast>(typecast->arg) != nullptr || !read_constant(typecast->arg, out)) return false;
  if (out.written == Written::null) return true;
  if (out.written == Written::parameter) {
    // A cast of a parameter with a declared type may change the value.
    if (out.type != 0 && type_family(out.type) != type_family(type)) return false;
    if (out.type == 0) out.source.value_type = type;
    out.type = type;
    out.location = -1;
    return true;
  }
  if (out.written == Written::integer && !is_integer(type) && type != oid::numeric) return false;
  if (out.written == Written::decimal && type != oid::numeric) return false;
  if (out.written == Written::truth && type != oid::boolean) return false;
  out.type = type;
  return true;
}

bool Statement::usable(const ConstValue& value, catalog::Oid base_type) const {
  using Written = ConstValue::Written;
  if (!catalog::hashable_key_type(base_type)) return false;
  if (value.written == Written::null) return true;
  if (value.type != 0) {
    catalog::Oid type = value.written == Written::array_parameter ? array_element(value.type) : value.type;
    return type_family(type) == type_family(base_type);
  }
  switch (value.written) {
    case Written::integer: return (is_integer(base_type) && !value.too_large) || base_type == oid::numeric;
    case Written::decimal: return base_type == oid::numeric;
    case Written::truth: return base_type == oid::boolean;
    default: return true;
  }
}

void Statement::count_parameters(const Node* root) {
  if (root == nullptr) return;
  walk(root, [&](const Message* message) {
    if (auto* parameter = as<PgQuery__ParamRef>(message))
      parameter_locations_[parameter->number].insert(parameter->location);
    return true;
  });
}

bool Statement::parameter_type_certain(const ConstValue& value, catalog::Oid base_type) const {
  bool is_parameter =
      value.written == ConstValue::Written::parameter || value.written == ConstValue::Written::array_parameter;
  if (!is_parameter || value.type != 0) return true;
  int number = static_cast<int>(value.source.index) + 1;
  auto seen = parameter_locations_.find(number);
  auto uses = parameter_uses_.find(number);
  if (seen == parameter_locations_.end() || seen->second.size() <= 1) return true;
  if (uses == parameter_uses_.end() || uses->second.size() != seen->second.size()) return false;
  uint32_t family = type_family(base_type) * 2 + (value.written == ConstValue::Written::array_parameter ? 1 : 0);
  return std::all_of(uses->second.begin(), uses->second.end(), [&](const auto& use) { return use.second == family; });
}

Var Statement::column_of(Level* level, const Node* node) const {
  auto* reference = as<PgQuery__ColumnRef>(node);
  return reference == nullptr ? Var() : resolve(reference, level);
}

// Notes the use of a parameter, whatever comes of it.
bool Statement::comparable(const ConstValue& value, Var var) const {
  const OutputColumn* target = column(var);
  if (target == nullptr || target->type == 0 || !usable(value, target->type)) return false;
  if (value.location >= 0)
    parameter_uses_[static_cast<int>(value.source.index) + 1][value.location] =
        type_family(target->type) * 2 + (value.written == ConstValue::Written::array_parameter ? 1 : 0);
  return true;
}

void Statement::collect_equality(Level* level, const Node* left, const Node* right, const Fact& blank,
                                 std::vector<Fact>& out) {
  auto *left_row = as<PgQuery__RowExpr>(left), *right_row = as<PgQuery__RowExpr>(right);
  if (left_row != nullptr && right_row != nullptr && left_row->n_args == right_row->n_args) {
    for (size_t i = 0; i < left_row->n_args; ++i)
      collect_equality(level, left_row->args[i], right_row->args[i], blank, out);
    return;
  }
  Var a = column_of(level, left), b = column_of(level, right);
  Fact fact = blank;
  if (a.valid() && b.valid()) {
    const OutputColumn *first = column(a), *second = column(b);
    if (first == nullptr || second == nullptr || first->type == 0) return;
    if (type_family(first->type) != type_family(second->type)) return;
    fact.kind = Fact::Kind::equal;
    fact.a = a;
    fact.b = b;
    out.push_back(std::move(fact));
    return;
  }
  if (b.valid()) {
    std::swap(left, right);
    std::swap(a, b);
  }
  ConstValue value;
  if (!a.valid() || !read_constant(right, value) || !comparable(value, a)) return;
  fact.kind = Fact::Kind::values;
  fact.a = a;
  if (value.written != ConstValue::Written::null) fact.values.push_back(std::move(value));
  out.push_back(std::move(fact));
}

void Statement::add_bound(Var column_var, const Node* node, std::string_view op, const Fact& blank,
                          std::vector<Fact>& out) {
  ConstValue value;
  if (!column_var.valid() || !read_constant(node, value) || !comparable(value, column_var)) return;
  if (value.written == ConstValue::Written::null || value.written == ConstValue::Written::array_parameter) return;
  Fact fact = blank;
  fact.kind = Fact::Kind::bound;
  fact.a = column_var;
  fact.values.push_back(std::move(value));
  fact.upper = op.starts_with('<');
  fact.inclusive = op.ends_with('=');
  out.push_back(std::move(fact));
}

// x < 1, $1 >= x
void Statement::collect_bound(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out) {
  if (expr->n_name == 2 && string_value(expr->name[0]) != "pg_catalog") return;
  const std::string_view op = last_name(expr->n_name, expr->name);
  if (op != "<" && op != "<=" && op != ">" && op != ">=") return;
  if (const Var left = column_of(level, expr->lexpr); left.valid()) return add_bound(left, expr->rexpr, op, blank, out);
  const char* turned = op == "<" ? ">" : op == "<=" ? ">=" : op == ">" ? "<" : "<=";
  add_bound(column_of(level, expr->rexpr), expr->lexpr, turned, blank, out);
}

// x BETWEEN 1 AND 2
void Statement::collect_between(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out) {
  auto* ends = as<PgQuery__List>(expr->rexpr);
  if (ends == nullptr || ends->n_items != 2) return;
  const Var column_var = column_of(level, expr->lexpr);
  add_bound(column_var, ends->items[0], ">=", blank, out);
  add_bound(column_var, ends->items[1], "<=", blank, out);
}

// x IN (1, 2, $1) and (x, y) IN ((1, 2), (3, 4))
void Statement::collect_in(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out) {
  auto* list = as<PgQuery__List>(expr->rexpr);
  if (list == nullptr || !is_equals(expr) || list->n_items > kMaxAlternatives) return;
  Fact fact = blank;
  if (auto* row = as<PgQuery__RowExpr>(expr->lexpr)) {
    fact.kind = Fact::Kind::alternatives;
    for (const Node* item : each(list->n_items, list->items)) {
      auto* values = as<PgQuery__RowExpr>(item);
      if (values == nullptr || values->n_args != row->n_args) return;
      auto& alternative = fact.alternatives.emplace_back();
      for (size_t i = 0; i < row->n_args; ++i) {
        Var var = column_of(level, row->args[i]);
        ConstValue value;
        if (var.valid() && read_constant(values->args[i], value) && comparable(value, var) &&
            value.written != ConstValue::Written::null)
          alternative.emplace_back(var, std::move(value));
      }
    }
    out.push_back(std::move(fact));
    return;
  }
  fact.kind = Fact::Kind::values;
  fact.a = column_of(level, expr->lexpr);
  if (!fact.a.valid()) return;
  for (const Node* item : each(list->n_items, list->items)) {
    ConstValue value;
    if (!read_constant(item, value) || !comparable(value, fact.a)) return;
    if (value.written != ConstValue::Written::null) fact.values.push_back(std::move(value));
  }
  out.push_back(std::move(fact));
}

// x = ANY ($1), x = ANY ($1::int[]), x = ANY (ARRAY[1, 2])
void Statement::collect_any(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out) {
  if (!is_equals(expr)) return;
  Fact fact = blank;
  fact.kind = Fact::Kind::values;
  fact.a = column_of(level, expr->lexpr);
  const OutputColumn* target = column(fact.a);
  if (target == nullptr || target->type == oid::bpchar) return;
  const Node* array = expr->rexpr;
  catalog::Oid element = 0;
  if (auto* typecast = as<PgQuery__TypeCast>(array)) {
    bool is_array = false;
    element = plain_type(typecast->type_name, &is_array);
    if (!is_array || element == 0) return;
    array = typecast->arg;
  }
  if (auto* parameter = as<PgQuery__ParamRef>(array)) {
    ConstValue value;
    if (!read_constant(array, value)) return;
    value.written = ConstValue::Written::array_parameter;
    value.source.kind = KeySource::Kind::array_param;
    (void)parameter;
    if (element != 0) {
      if (value.type != 0 && type_family(array_element(value.type)) != type_family(element)) return;
      for (catalog::Oid candidate :
           {1000u, 1001u, 1016u, 1005u, 1007u, 1009u, 1014u, 1015u, 1182u, 1115u, 1185u, 1231u, 2951u})
        if (array_element(candidate) == element && value.type == 0) value.type = candidate;
      if (value.source.value_type == 0) value.source.value_type = value.type;
      value.location = -1;
    }
    if (!comparable(value, fact.a)) return;
    fact.values.push_back(std::move(value));
    out.push_back(std::move(fact));
    return;
  }
  auto* elements = as<PgQuery__AArrayExpr>(array);
  if (elements == nullptr || elements->n_elements > kMaxAlternatives) return;
  for (const Node* item : each(elements->n_elements, elements->elements)) {
    ConstValue value;
    if (!read_constant(item, value)) return;
    // Without a cast the array's own type decides: strings make text[].
    if (element == 0 && value.written == ConstValue::Written::string && value.type == 0 &&
        type_family(target->type) != oid::text)
      return;
    if (element == 0 && value.written == ConstValue::Written::parameter) return;
    if (element != 0 && value.type == 0) {
      if (!usable(value, element)) return;
      value.type = element;
    }
    if (!comparable(value, fact.a)) return;
    if (value.written != ConstValue::Written::null) fact.values.push_back(std::move(value));
  }
  out.push_back(std::move(fact));
}

// Each side of an OR becomes alternatives: what its own facts say about single columns.
void Statement::collect_or(Level* level, const PgQuery__BoolExpr* expr, const Fact& blank, std::vector<Fact>& out) {
  Fact fact = blank;
  fact.kind = Fact::Kind::alternatives;
  for (const Node* arm : each(expr->n_args, expr->args)) {
    std::vector<Fact> facts;
    collect_facts(level, arm, -1, -1, facts);
    std::vector<std::vector<std::pair<Var, ConstValue>>> alternatives{{}};
    for (const Fact& part : facts) {
      if (part.kind == Fact::Kind::equal || part.kind == Fact::Kind::bound) continue;
      std::vector<std::vector<std::pair<Var, ConstValue>>> extended;
      for (const auto& alternative : alternatives) {
        auto add = [&](const std::vector<std::pair<Var, ConstValue>>& more) {
          extended.push_back(alternative);
          extended.back().insert(extended.back().end(), more.begin(), more.end());
        };
        if (part.kind == Fact::Kind::values)
          for (const ConstValue& value : part.values) add({{part.a, value}});
        if (part.kind == Fact::Kind::alternatives)
          for (const auto& more : part.alternatives) add(more);
      }
      if (extended.size() > kMaxAlternatives) continue;
      alternatives = std::move(extended);
    }
    fact.alternatives.insert(fact.alternatives.end(), alternatives.begin(), alternatives.end());
    if (fact.alternatives.size() > kMaxAlternatives) return;
  }
  out.push_back(std::move(fact));
}

void Statement::collect_facts(Level* level, const Node* condition, int region, int region2, std::vector<Fact>& out) {
  Fact blank;
  blank.regions[0] = region;
  blank.regions[1] = region2;
  if (auto* expr = as<PgQuery__BoolExpr>(condition)) {
    if (expr->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR)
      for (const Node* part : each(expr->n_args, expr->args)) collect_facts(level, part, region, region2, out);
    if (expr->boolop == PG_QUERY__BOOL_EXPR_TYPE__OR_EXPR) collect_or(level, expr, blank, out);
    return;
  }
  if (auto* expr = as<PgQuery__AExpr>(condition)) {
    if (expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP && expr->lexpr != nullptr && is_equals(expr))
      collect_equality(level, expr->lexpr, expr->rexpr, blank, out);
    if (expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP && expr->lexpr != nullptr)
      collect_bound(level, expr, blank, out);
    if (expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN) collect_between(level, expr, blank, out);
    if (expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_IN) collect_in(level, expr, blank, out);
    if (expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_OP_ANY) collect_any(level, expr, blank, out);
    return;
  }
  ConstValue value;
  if (read_constant(condition, value) && value.written == ConstValue::Written::truth && value.source.text == "f") {
    blank.kind = Fact::Kind::never;
    out.push_back(std::move(blank));
  }
}

void Statement::bind_where(Level* level, const Node* where) {
  if (where != nullptr) {
    collect_facts(level, where, -1, -1, level->facts);
    bind_expression(level, where, true);
  }
  discharge(level);
}

// A column of a nullable side that WHERE compares for equality is not NULL: the rows without a partner are gone.
void Statement::discharge(Level* level) {
  auto mark = [&](Var var) {
    const auto& here = level->instances;
    if (!var.valid() || std::find(here.begin(), here.end(), var.instance) == here.end()) return;
    for (int region = instances[var.instance].region; region >= 0; region = level->regions[region].parent)
      level->regions[region].discharged = true;
  };
  for (const Fact& fact : level->facts) {
    if (fact.regions[0] >= 0 || fact.regions[1] >= 0) continue;
    if (fact.kind == Fact::Kind::equal || fact.kind == Fact::Kind::values) mark(fact.a);
    if (fact.kind == Fact::Kind::equal) mark(fact.b);
  }
}

void Statement::bind_expression(Level* level, const Node* expression, bool positive) {
  if (inner(expression) == nullptr) return;
  if (auto* expr = as<PgQuery__BoolExpr>(expression)) {
    bool keep = positive && expr->boolop != PG_QUERY__BOOL_EXPR_TYPE__NOT_EXPR;
    for (const Node* part : each(expr->n_args, expr->args)) bind_expression(level, part, keep);
    return;
  }
  if (auto* link = as<PgQuery__SubLink>(expression)) {
    bind_sublink(level, link, positive);
    return;
  }
  walk(expression, [&](const Message* message) {
    if (auto* link = as<PgQuery__SubLink>(message)) {
      bind_sublink(level, link, false);
      return false;
    }
    if (auto* call = as<PgQuery__FuncCall>(message)) {
      FunctionTraits traits = function_traits(call, context.database);
      if (call->over != nullptr) {
        level->windows.push_back(call);
      } else if (traits.aggregate || call->agg_star || call->agg_distinct || call->agg_filter != nullptr ||
                 call->agg_within_group || call->n_agg_order > 0) {
        level->aggregates.push_back(call);
        if (!traits.combinable) level->order_sensitive = true;
      }
      if (traits.is_volatile) level->order_sensitive = true;
    }
    return true;
  });
}

void Statement::bind_sublink(Level* level, const PgQuery__SubLink* link, bool positive) {
  SubLinkUse use;
  use.link = link;
  use.positive = positive;
  if (link->testexpr != nullptr) {
    bind_expression(level, link->testexpr);
    bool plain_in = link->sub_link_type == PG_QUERY__SUB_LINK_TYPE__ANY_SUBLINK &&
                    (link->n_oper_name == 0 || last_name(link->n_oper_name, link->oper_name) == "=");
    if (plain_in) {
      if (auto* row = as<PgQuery__RowExpr>(link->testexpr)) {
        for (const Node* part : each(row->n_args, row->args)) use.tested.push_back(column_of(level, part));
      } else {
        use.tested.push_back(column_of(level, link->testexpr));
      }
    }
  }
  auto* select = as<PgQuery__SelectStmt>(link->subselect);
  if (select == nullptr) {
    too_complex = true;
    return;
  }
  use.level = bind_select(select, level, level->ctes);
  level->sublinks.push_back(std::move(use));
}

}  // namespace pgmosaic::plan
