#include "plan/typing.h"

#include <algorithm>
#include <array>
#include <map>

#include "plan/partitions.h"
#include "plan/types.h"
#include "sql/functions.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::Oid;

namespace {

constexpr Oid kCollationDefault = 100, kCollationC = 950, kCollationPosix = 951;

int rank(Oid type) {
  switch (type) {
    case oid::int2: return 1;
    case oid::int4: return 2;
    case oid::int8: return 3;
    case oid::numeric: return 4;
    case oid::float4: return 5;
    case oid::float8: return 6;
    default: return 0;
  }
}

// COALESCE, CASE, VALUES: the common type of numbers is the one all others convert to.
Oid common_type(Oid a, Oid b) {
  if (a == oid::unknown) return b;
  if (b == oid::unknown || a == b) return a;
  if (rank(a) == 0 || rank(b) == 0) return 0;
  return rank(a) > rank(b) ? a : b;
}

Oid arithmetic_type(std::string_view op, Oid left, Oid right) {
  if (left == 0 || right == 0) return 0;
  if (left == oid::unknown) left = right;
  if (right == oid::unknown) right = left;
  bool plus_minus = op == "+" || op == "-";
  if (rank(left) > 0 && rank(right) > 0) {
    if (op == "^") return std::max(rank(left), rank(right)) == rank(oid::numeric) ? oid::numeric : oid::float8;
    if (op == "%" && std::max(rank(left), rank(right)) > 4) return 0;
    if (left == right) return left;
    // Of two kinds of floating point, or floating point and another number, float8 is the preferred type.
    if (std::max(rank(left), rank(right)) >= 5) return oid::float8;
    return rank(left) > rank(right) ? left : right;
  }
  if (left == oid::date && right == oid::date && op == "-") return oid::int4;
  if (left == oid::date && (right == oid::int4 || right == oid::int2) && plus_minus) return oid::date;
  if (left == oid::date && right == oid::interval && plus_minus) return oid::timestamp;
  bool time = left == oid::timestamp || left == oid::timestamptz;
  if (time && right == left && op == "-") return oid::interval;
  if (time && right == oid::interval && plus_minus) return left;
  if (left == oid::interval && right == oid::interval && plus_minus) return oid::interval;
  if (left == oid::interval && rank(right) > 0 && (op == "*" || op == "/")) return oid::interval;
  if (right == oid::interval && rank(left) > 0 && op == "*") return oid::interval;
  if (left == oid::money && right == oid::money && plus_minus) return oid::money;
  return 0;
}

Oid aggregate_type(std::string_view name, Oid argument) {
  if (name == "count") return oid::int8;
  if (name == "bool_and" || name == "bool_or" || name == "every") return oid::boolean;
  if (name == "sum") {
    if (argument == oid::int2 || argument == oid::int4) return oid::int8;
    if (argument == oid::int8) return oid::numeric;
    bool own = rank(argument) >= 4 || argument == oid::interval || argument == oid::money;
    return own ? argument : 0;
  }
  if (name == "avg") {
    if (rank(argument) >= 1 && rank(argument) <= 4) return oid::numeric;
    if (rank(argument) >= 5) return oid::float8;
    return argument == oid::interval ? oid::interval : 0;
  }
  if (name == "min" || name == "max") {
    if (argument == oid::varchar || argument == oid::unknown) return oid::text;
    return argument;
  }
  if (name == "bit_and" || name == "bit_or") return argument;
  return 0;
}

Oid function_type(const Statement& s, const Level* level, const PgQuery__FuncCall* call) {
  std::string_view name = last_name(call->n_funcname, call->funcname);
  if (s.context.database != nullptr && s.context.database->user_functions.contains(name)) return 0;
  Oid first = call->n_args > 0 ? type_of(s, level, call->args[0]) : 0;
  if (Oid type = aggregate_type(name, first)) return type;
  static const std::map<std::string_view, Oid> kFixed{{"length", oid::int4},
                                                      {"char_length", oid::int4},
                                                      {"character_length", oid::int4},
                                                      {"octet_length", oid::int4},
                                                      {"ascii", oid::int4},
                                                      {"strpos", oid::int4},
                                                      {"position", oid::int4},
                                                      {"cardinality", oid::int4},
                                                      {"array_length", oid::int4},
                                                      {"extract", oid::numeric},
                                                      {"date_part", oid::float8},
                                                      {"upper", oid::text},
                                                      {"lower", oid::text},
                                                      {"md5", oid::text},
                                                      {"concat", oid::text},
                                                      {"initcap", oid::text},
                                                      {"now", oid::timestamptz},
                                                      {"random", oid::float8},
                                                      {"to_char", oid::text},
                                                      {"row_number", oid::int8},
                                                      {"rank", oid::int8},
                                                      {"dense_rank", oid::int8},
                                                      {"gen_random_uuid", oid::uuid}};
  if (auto it = kFixed.find(name); it != kFixed.end()) {
    // upper and lower also take ranges.
    bool text_only = name == "upper" || name == "lower";
    return text_only && !is_collatable(first) && first != oid::unknown ? 0 : it->second;
  }
  if (name == "abs") return first;
  if (name == "date_trunc" && call->n_args == 2) {
    Oid type = type_of(s, level, call->args[1]);
    return type == oid::timestamp || type == oid::timestamptz || type == oid::interval ? type
           : type == oid::date                                                         ? oid::timestamptz
                                                                                       : 0;
  }
  for (std::string_view rounding : {"round", "ceil", "ceiling", "floor", "trunc", "sign", "sqrt", "exp", "ln"}) {
    if (name != rounding) continue;
    if (first == oid::numeric || call->n_args == 2) return rank(first) > 0 && rank(first) <= 4 ? oid::numeric : 0;
    return rank(first) > 0 ? oid::float8 : 0;
  }
  if (name == "mod" && call->n_args == 2) return arithmetic_type("%", first, type_of(s, level, call->args[1]));
  return 0;
}

Oid operator_type(const Statement& s, const Level* level, const PgQuery__AExpr* expr) {
  switch (expr->kind) {
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP: break;
    case PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF: return type_of(s, level, expr->lexpr);
    default: return oid::boolean;
  }
  std::string_view op = last_name(expr->n_name, expr->name);
  for (std::string_view comparison : {"=", "<", ">", "<=", ">=", "<>", "!=", "~", "!~", "~*", "!~*", "~~"})
    if (op == comparison) return oid::boolean;
  Oid right = type_of(s, level, expr->rexpr);
  if (expr->lexpr == nullptr)
    return op == "-" || op == "+" ? (rank(right) > 0 || right == oid::interval ? right : 0) : 0;
  Oid left = type_of(s, level, expr->lexpr);
  if (op == "||") return is_collatable(left) && (is_collatable(right) || right == oid::unknown) ? oid::text : 0;
  return arithmetic_type(op, left, right);
}

Oid constant_type(const PgQuery__AConst* constant) {
  if (constant->isnull) return oid::unknown;
  switch (constant->val_case) {
    case PG_QUERY__A__CONST__VAL_IVAL: return oid::int4;
    case PG_QUERY__A__CONST__VAL_BOOLVAL: return oid::boolean;
    case PG_QUERY__A__CONST__VAL_SVAL: return oid::unknown;
    case PG_QUERY__A__CONST__VAL_FVAL: {
      std::string_view text = text_of(constant->fval->fval);
      bool digits = text.find_first_not_of("-0123456789") == std::string_view::npos;
      return digits && text.size() <= 18 ? oid::int8 : digits ? 0 : oid::numeric;
    }
    default: return 0;
  }
}

}  // namespace

Oid type_of(const Statement& s, const Level* level, const Node* node) {
  if (auto* reference = as<PgQuery__ColumnRef>(node)) {
    auto* column = s.column(s.resolve(reference, level));
    return column == nullptr ? 0 : column->type;
  }
  if (auto* constant = as<PgQuery__AConst>(node)) return constant_type(constant);
  if (auto* parameter = as<PgQuery__ParamRef>(node)) {
    auto index = static_cast<size_t>(parameter->number) - 1;
    return index < s.context.parameter_types.size() ? s.context.parameter_types[index] : 0;
  }
  if (auto* typecast = as<PgQuery__TypeCast>(node)) {
    auto* type = typecast->type_name;
    if (type->n_array_bounds > 0 || type->setof || type->pct_type) return 0;
    bool builtin = type->n_names == 1 || string_value(type->names[0]) == "pg_catalog";
    return builtin ? builtin_type(last_name(type->n_names, type->names)) : 0;
  }
  if (auto* expr = as<PgQuery__AExpr>(node)) return operator_type(s, level, expr);
  if (auto* call = as<PgQuery__FuncCall>(node)) return function_type(s, level, call);
  if (auto* collate = as<PgQuery__CollateClause>(node)) return type_of(s, level, collate->arg);
  if (as<PgQuery__BoolExpr>(node) || as<PgQuery__NullTest>(node) || as<PgQuery__BooleanTest>(node)) return oid::boolean;
  if (auto* coalesce = as<PgQuery__CoalesceExpr>(node)) {
    Oid type = oid::unknown;
    for (const Node* part : each(coalesce->n_args, coalesce->args)) type = common_type(type, type_of(s, level, part));
    return type;
  }
  if (auto* minmax = as<PgQuery__MinMaxExpr>(node)) {
    Oid type = oid::unknown;
    for (const Node* part : each(minmax->n_args, minmax->args)) type = common_type(type, type_of(s, level, part));
    return type;
  }
  if (auto* choice = as<PgQuery__CaseExpr>(node)) {
    Oid type = choice->defresult == nullptr ? Oid(oid::unknown) : type_of(s, level, choice->defresult);
    for (const Node* part : each(choice->n_args, choice->args))
      if (auto* when = as<PgQuery__CaseWhen>(part)) type = common_type(type, type_of(s, level, when->result));
    return type;
  }
  if (auto* value = as<PgQuery__SQLValueFunction>(node)) {
    switch (value->op) {
      case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE: return oid::date;
      case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP:
      case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP_N: return oid::timestamptz;
      case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP:
      case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N: return oid::timestamp;
      default: return 0;
    }
  }
  return 0;
}

// The system column of a table, which has no collation, as its text has the default one. It names leaves where there
// are some.
static bool is_tableoid(const Statement& s, const Level* level, const PgQuery__ColumnRef* reference) {
  return string_value(reference->fields[reference->n_fields - 1]) == "tableoid" && !level->instances.empty() &&
         std::all_of(level->instances.begin(), level->instances.end(), [&](int id) {
           const catalog::Table* table = s.instances[static_cast<size_t>(id)].table;
           return table != nullptr && !has_leaves(*table);
         });
}

Collation collation_of(const Statement& s, const Level* level, const Node* node) {
  if (auto* collate = as<PgQuery__CollateClause>(node)) {
    std::string_view name = last_name(collate->n_collname, collate->collname);
    return name == "C" || name == "POSIX" ? Collation::c
           : name == "default"            ? Collation::none_or_default
                                          : Collation::other;
  }
  Collation result = Collation::none_or_default;
  bool plain = as<PgQuery__ColumnRef>(node) != nullptr;
  walk(node, [&](const Message* message) {
    if (as<PgQuery__CollateClause>(message) != nullptr) result = Collation::other;
    if (as<PgQuery__SubLink>(message) != nullptr) result = Collation::other;
    auto* reference = as<PgQuery__ColumnRef>(message);
    if (reference == nullptr) return true;
    auto* column = s.column(s.resolve(reference, level));
    if (column == nullptr && !plain && is_tableoid(s, level, reference)) return true;
    if (column == nullptr) {
      result = Collation::other;
    } else if (column->collation == kCollationC || column->collation == kCollationPosix) {
      result = plain ? Collation::c : Collation::other;
    } else if (column->collation != 0 && column->collation != kCollationDefault) {
      result = Collation::other;
    } else if (column->type == 0) {
      result = Collation::other;
    }
    return true;
  });
  // Numbers, times and so on have none, whatever they are made of.
  if (result == Collation::other) {
    Oid type = type_of(s, level, node);
    if (type != 0 && type != oid::unknown && !is_collatable(type)) return Collation::none_or_default;
  }
  return result;
}

bool ordered_by_bytes(const Statement& s, const Level* level, const Node* node) {
  if (auto* reference = as<PgQuery__ColumnRef>(node)) {
    auto* column = s.column(s.resolve(reference, level));
    return column != nullptr && column->bytewise;
  }
  Collation collation = collation_of(s, level, node);
  return collation == Collation::c || (collation == Collation::none_or_default && s.context.bytewise_default_collation);
}

bool is_mergeable(const PlanContext& context, Oid type) {
  static constexpr std::array<Oid, 7> kAlways{oid::boolean, oid::int2,    oid::int4, oid::int8,
                                              oid::oid,     oid::numeric, oid::uuid};
  static constexpr std::array<Oid, 8> kAsWritten{oid::float4,      oid::float8, oid::date, oid::timestamp,
                                                 oid::timestamptz, oid::bytea,  oid::text, oid::varchar};
  if (std::find(kAlways.begin(), kAlways.end(), type) != kAlways.end()) return true;
  return context.comparable_output && std::find(kAsWritten.begin(), kAsWritten.end(), type) != kAsWritten.end();
}

}  // namespace pgmosaic::plan
