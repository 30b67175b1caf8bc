#include "plan/rules/select_shape.h"

#include <algorithm>

#include "plan/types.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

std::string expression_id(const Statement& statement, const Level* level, const Node* expression) {
  return fingerprint(inner(expression), [&](const PgQuery__ColumnRef* reference) {
    Var var = statement.resolve(reference, level);
    return var.valid() ? "@" + std::to_string(var.instance) + "." + std::to_string(var.column) : std::string();
  });
}

Node* partial_column(Arena& arena, int number, Collation collation) {
  if (collation == Collation::other) return nullptr;
  Node* column = arena.column({kPartialRelation, "c" + std::to_string(number)});
  if (collation == Collation::none_or_default) return column;
  auto* collate = arena.make<PgQuery__CollateClause>();
  collate->arg = column;
  collate->n_collname = 1;
  collate->collname = arena.list({arena.string_node("C")});
  return arena.node(collate);
}

PgQuery__SelectStmt* final_select(Arena& arena) {
  auto* select = arena.make<PgQuery__SelectStmt>();
  select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  select->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
  auto* range = arena.make<PgQuery__RangeVar>();
  range->relname = arena.string(kPartialRelation);
  range->inh = true;
  range->relpersistence = arena.string("p");
  select->n_from_clause = 1;
  select->from_clause = arena.list({arena.node(range)});
  return select;
}

void set_combine(Planning& p, const Node* partial, const Node* final_statement, int columns) {
  auto* select = as<PgQuery__SelectStmt>(partial);
  for (const Node* node : each(select->n_target_list, select->target_list))
    if (auto* target = as<PgQuery__ResTarget>(node); target != nullptr && as<PgQuery__RowExpr>(target->val) != nullptr)
      return forbid_several_groups(p, "ROW(...) as a column of partial results", "Use its parts as columns.");
  auto partial_sql = deparse_statement(partial), final_sql = deparse_statement(final_statement);
  if (!partial_sql || !final_sql) return forbid_several_groups(p, "a statement that cannot be rewritten");
  const std::string from = std::string(" FROM ") + kPartialRelation;
  size_t at = final_sql->find(from);
  if (at == std::string::npos || final_sql->find(from, at + 1) != std::string::npos)
    return forbid_several_groups(p, "a statement that cannot be rewritten");
  Combine& combine = p.plan.combine.emplace();
  combine.partial_sql = *partial_sql;
  combine.final_prefix = final_sql->substr(0, at + 6);
  combine.final_suffix = final_sql->substr(at + from.size());
  combine.partial_columns = static_cast<uint16_t>(columns);
  p.plan.rewritten_literals = !p.statement.shape.literals.empty();
}

static bool read_bound(Planning& p, const Node* node, Gather::Bound& bound, bool& given) {
  if (inner(node) == nullptr) return true;
  if (auto* constant = as<PgQuery__AConst>(node)) {
    if (constant->isnull) return true;  // LIMIT ALL, LIMIT NULL
    if (constant->val_case != PG_QUERY__A__CONST__VAL_IVAL || constant->ival->ival < 0) return false;
    bound.constant = static_cast<uint64_t>(constant->ival->ival);
    p.statement.note_literal(node);
    given = true;
    return true;
  }
  auto* parameter = as<PgQuery__ParamRef>(node);
  if (parameter == nullptr) return false;
  bound.parameter = parameter->number;
  given = true;
  return true;
}

Limits read_limits(Planning& p, const PgQuery__SelectStmt* select) {
  Limits limits;
  limits.given = inner(select->limit_count) != nullptr || inner(select->limit_offset) != nullptr;
  limits.with_ties = select->limit_option == PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_WITH_TIES;
  bool count_simple = read_bound(p, select->limit_count, limits.limit, limits.has_limit);
  bool offset_simple = read_bound(p, select->limit_offset, limits.offset, limits.has_offset);
  limits.simple = count_simple && offset_simple;
  return limits;
}

Node* pushed_limit(Arena& arena, const PgQuery__SelectStmt* select, const Limits& limits) {
  if (!limits.has_offset) return select->limit_count;
  if (limits.limit.constant && limits.offset.constant) {
    uint64_t sum = *limits.limit.constant + *limits.offset.constant;
    if (sum <= 2147483647u) return arena.integer(static_cast<int32_t>(sum));
  }
  // Parameters of LIMIT are bigint; added to each other they would have no type of their own.
  return arena.binary("+", arena.cast(select->limit_count, {"int8"}), arena.cast(select->limit_offset, {"int8"}));
}

namespace {

// The result column that an ORDER BY item means.
int find_output(Planning& p, Level* level, const Node* node) {
  if (auto* constant = as<PgQuery__AConst>(node)) {
    if (constant->val_case != PG_QUERY__A__CONST__VAL_IVAL) return -1;
    p.statement.note_literal(node);
    return constant->ival->ival - 1;
  }
  auto* reference = as<PgQuery__ColumnRef>(node);
  if (reference != nullptr && reference->n_fields == 1) {
    std::string_view name = string_value(reference->fields[0]);
    int found = -1;
    for (size_t i = 0; i < level->outputs.size(); ++i) {
      const OutputColumn& out = level->outputs[i];
      if (out.name != name) continue;
      bool same = found >= 0 && out.var.valid() && out.var == level->outputs[found].var;
      if (found >= 0 && !same) return -2;  // ambiguous: PostgreSQL complains
      if (found < 0) found = static_cast<int>(i);
    }
    if (found >= 0) return found;
  }
  Var var = reference == nullptr ? Var() : p.statement.resolve(reference, level);
  std::string id = expression_id(p.statement, level, node);
  for (size_t i = 0; i < level->outputs.size(); ++i) {
    const OutputColumn& out = level->outputs[i];
    if (var.valid() && out.var == var) return static_cast<int>(i);
    if (!var.valid() && out.expr != nullptr && expression_id(p.statement, level, out.expr) == id)
      return static_cast<int>(i);
  }
  return -1;
}

}  // namespace

std::optional<std::vector<SortItem>> read_sort(Planning& p, Level* level) {
  std::vector<SortItem> items;
  for (const Node* node : each(level->select->n_sort_clause, level->select->sort_clause)) {
    SortItem& item = items.emplace_back();
    item.sort = as<PgQuery__SortBy>(node);
    if (!level->outputs_known || item.sort == nullptr) {
      forbid_several_groups(p, "ORDER BY over columns that the catalog does not tell");
      return std::nullopt;
    }
    item.column = find_output(p, level, item.sort->node);
    if (item.column >= static_cast<int>(level->outputs.size()) || item.column < -1) {
      forbid_several_groups(p, "ORDER BY of something that is not exactly one column of the result");
      return std::nullopt;
    }
    const Node* expression = item.sort->node;
    if (item.column >= 0) {
      const OutputColumn& out = level->outputs[item.column];
      expression = out.expr;
      if (out.var.valid() || level->set_operation() || expression == nullptr) {
        item.type = out.type;
        item.mergeable = is_mergeable(p.context, out.type) && (!is_collatable(out.type) || out.bytewise);
        // The default collation is 100; C and POSIX are fixed, too.
        item.collation = !is_collatable(out.type) && out.type != 0      ? Collation::none_or_default
                         : out.collation == 0 || out.collation == 100   ? Collation::none_or_default
                         : out.collation == 950 || out.collation == 951 ? Collation::c
                                                                        : Collation::other;
        if (level->set_operation() && (out.type == 0 || is_collatable(out.type))) item.mergeable = false;
        if (level->set_operation() && !out.bytewise && is_collatable(out.type)) item.collation = Collation::other;
        expression = nullptr;
      }
    } else {
      item.hidden = expression;
    }
    if (expression != nullptr) {
      item.type = type_of(p.statement, level, expression);
      item.collation = collation_of(p.statement, level, expression);
      item.mergeable = is_mergeable(p.context, item.type) &&
                       (!is_collatable(item.type) || ordered_by_bytes(p.statement, level, expression));
      walk(expression, [&](const Message* message) {
        if (as<PgQuery__AConst>(message) != nullptr) p.statement.huge_literal = true;  // its size may decide the type
        return true;
      });
    }
    if (item.sort->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_USING) item.mergeable = false;
  }
  return items;
}

}  // namespace pgmosaic::plan
