#include "plan/naming.h"

namespace pgmosaic::plan {
namespace {

using namespace sql;

// Like PostgreSQL, how good the name is decides whether a cast's type or an enclosing CASE may replace it.
enum Strength { none = 0, weak = 1, strong = 2 };

Strength name_of(const Node* node, std::string& name);

Strength name_of_sublink(const PgQuery__SubLink* link, std::string& name) {
  switch (link->sub_link_type) {
    case PG_QUERY__SUB_LINK_TYPE__EXISTS_SUBLINK: name = "exists"; return strong;
    case PG_QUERY__SUB_LINK_TYPE__ARRAY_SUBLINK: name = "array"; return strong;
    case PG_QUERY__SUB_LINK_TYPE__EXPR_SUBLINK: {
      auto* select = as<PgQuery__SelectStmt>(link->subselect);
      while (select != nullptr && select->larg != nullptr) select = select->larg;
      if (select == nullptr) return none;
      if (select->n_values_lists > 0) {
        name = "column1";
        return strong;
      }
      auto* target = select->n_target_list > 0 ? as<PgQuery__ResTarget>(select->target_list[0]) : nullptr;
      if (target == nullptr) return none;
      name = text_of(target->name).empty() ? result_column_name(target->val) : target->name;
      return strong;
    }
    default: return none;
  }
}

std::string_view name_of_value_function(const PgQuery__SQLValueFunction* function) {
  switch (function->op) {
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE: return "current_date";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIME_N: return "current_time";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP_N: return "current_timestamp";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME_N: return "localtime";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP:
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N: return "localtimestamp";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_ROLE: return "current_role";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_USER: return "current_user";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_USER: return "user";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_SESSION_USER: return "session_user";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_CATALOG: return "current_catalog";
    case PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_SCHEMA: return "current_schema";
    default: return "";
  }
}

std::string_view name_of_xml(const PgQuery__XmlExpr* xml) {
  switch (xml->op) {
    case PG_QUERY__XML_EXPR_OP__IS_XMLCONCAT: return "xmlconcat";
    case PG_QUERY__XML_EXPR_OP__IS_XMLELEMENT: return "xmlelement";
    case PG_QUERY__XML_EXPR_OP__IS_XMLFOREST: return "xmlforest";
    case PG_QUERY__XML_EXPR_OP__IS_XMLPARSE: return "xmlparse";
    case PG_QUERY__XML_EXPR_OP__IS_XMLPI: return "xmlpi";
    case PG_QUERY__XML_EXPR_OP__IS_XMLROOT: return "xmlroot";
    case PG_QUERY__XML_EXPR_OP__IS_XMLSERIALIZE: return "xmlserialize";
    default: return "";
  }
}

// The last name in a list of field selections and subscripts.
Strength last_field(size_t count, Node* const* fields, std::string& name) {
  for (size_t i = count; i-- > 0;) {
    std::string_view field = string_value(fields[i]);
    if (field.empty()) continue;
    name = field;
    return strong;
  }
  return none;
}

Strength fixed(std::string_view value, std::string& name) {
  if (value.empty()) return none;
  name = value;
  return strong;
}

Strength name_of(const Node* node, std::string& name) {
  if (auto* column = as<PgQuery__ColumnRef>(node)) return last_field(column->n_fields, column->fields, name);
  if (auto* indirection = as<PgQuery__AIndirection>(node)) {
    Strength strength = last_field(indirection->n_indirection, indirection->indirection, name);
    return strength == none ? name_of(indirection->arg, name) : strength;
  }
  if (auto* call = as<PgQuery__FuncCall>(node)) return fixed(last_name(call->n_funcname, call->funcname), name);
  if (auto* expr = as<PgQuery__AExpr>(node))
    return expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF ? fixed("nullif", name) : none;
  if (auto* typecast = as<PgQuery__TypeCast>(node)) {
    Strength strength = name_of(typecast->arg, name);
    if (strength > weak || typecast->type_name == nullptr) return strength;
    name = last_name(typecast->type_name->n_names, typecast->type_name->names);
    return weak;
  }
  if (auto* collate = as<PgQuery__CollateClause>(node)) return name_of(collate->arg, name);
  if (as<PgQuery__GroupingFunc>(node) != nullptr) return fixed("grouping", name);
  if (auto* link = as<PgQuery__SubLink>(node)) return name_of_sublink(link, name);
  if (auto* expr = as<PgQuery__CaseExpr>(node)) {
    Strength strength = name_of(expr->defresult, name);
    if (strength > weak) return strength;
    name = "case";
    return weak;
  }
  if (as<PgQuery__AArrayExpr>(node) != nullptr) return fixed("array", name);
  if (as<PgQuery__RowExpr>(node) != nullptr) return fixed("row", name);
  if (as<PgQuery__CoalesceExpr>(node) != nullptr) return fixed("coalesce", name);
  if (auto* minmax = as<PgQuery__MinMaxExpr>(node))
    return fixed(minmax->op == PG_QUERY__MIN_MAX_OP__IS_LEAST ? "least" : "greatest", name);
  if (auto* function = as<PgQuery__SQLValueFunction>(node)) return fixed(name_of_value_function(function), name);
  if (auto* xml = as<PgQuery__XmlExpr>(node)) return fixed(name_of_xml(xml), name);
  if (as<PgQuery__XmlSerialize>(node) != nullptr) return fixed("xmlserialize", name);
  return none;
}

}  // namespace

std::string result_column_name(const Node* expression) {
  std::string name;
  return name_of(expression, name) == none ? "?column?" : name;
}

}  // namespace pgmosaic::plan
