// A SELECT that can find one row at most, by its whole primary key, may read the row's leaf under its own name.
//
//   SELECT b FROM t WHERE k = 5       →  SELECT b FROM <leaf> AS t WHERE k = $1   with (int4) '5'
//   SELECT * FROM t x WHERE $1 = x.k  →  SELECT * FROM <leaf> x WHERE $1 = x.k
//
// Only what means the same under the leaf's name: plain columns out of one table without row security, which PostgreSQL
// applies to the table that a statement names, and only for users who may read leaves: owners and superusers.
#include <algorithm>

#include "plan/planning.h"
#include "plan/types.h"
#include "sql/deparse.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

// Nobody else has privileges on leaves. PostgreSQL checks them all the same: a role may have changed meanwhile.
bool may_read_leaves(const PlanContext& context, const catalog::Table& table) {
  return !table.row_security && (context.user == table.owner || context.database->superusers.contains(context.user));
}

bool is_plain(const PgQuery__SelectStmt* select) {
  return select->op == PG_QUERY__SET_OPERATION__SETOP_NONE && select->n_from_clause == 1 && select->n_target_list > 0 &&
         select->where_clause != nullptr && select->n_distinct_clause == 0 && select->n_group_clause == 0 &&
         select->having_clause == nullptr && select->n_window_clause == 0 && select->n_values_lists == 0 &&
         select->n_sort_clause == 0 && select->limit_count == nullptr && select->limit_offset == nullptr &&
         select->n_locking_clause == 0 && select->with_clause == nullptr && select->into_clause == nullptr;
}

// Columns of the table, written as column, table.column, * or table.*.
bool reads_columns(const Statement& statement, const Level* level, const PgQuery__SelectStmt* select) {
  return std::all_of(select->target_list, select->target_list + select->n_target_list, [&](const Node* node) {
    auto* target = as<PgQuery__ResTarget>(node);
    auto* column = target == nullptr ? nullptr : as<PgQuery__ColumnRef>(target->val);
    if (column == nullptr || target->n_indirection > 0 || column->n_fields > 2) return false;
    const bool star = as<PgQuery__AStar>(column->fields[column->n_fields - 1]) != nullptr;
    return star || statement.resolve(column, level).valid();
  });
}

// Values that a prepared statement takes as it would take them in the statement's text.
bool fits(const Statement& statement, const ConstValue& value, const catalog::Column& column, bool hashed) {
  using Written = ConstValue::Written;
  if (value.written == Written::parameter)
    return value.type == 0 || type_family(value.type) == type_family(column.type);
  if (value.source.kind != KeySource::Kind::literal || value.source.negate || value.type != 0) return false;
  const Literal::Kind kind = statement.shape.literals[value.source.index].kind;
  if (is_integer(column.type)) return value.written == Written::integer && kind == Literal::Kind::integer;
  if (value.written != Written::string || kind != Literal::Kind::string) return false;
  // What is no uuid fails in its hash, before a PostgreSQL sees it as a parameter.
  return column.type == oid::text || column.type == oid::varchar || (column.type == oid::uuid && hashed);
}

// The conjunction of `column = value` over exactly the primary key.
class KeyMatch {
 public:
  KeyMatch(const Statement& statement, const Level* level, const Instance& instance)
      : statement_(statement), level_(level), table_(*instance.table), wanted_(primary_key(*instance.table)) {}

  bool covers(const Node* condition) {
    return !wanted_.empty() && add(condition) && wanted_.empty() && (literals_.empty() || !parameters_);
  }
  // Literal number -> type of the column it is compared with.
  const std::vector<std::pair<uint32_t, catalog::Oid>>& literals() const { return literals_; }

 private:
  static std::vector<int> primary_key(const catalog::Table& table) {
    for (const catalog::UniqueKey& key : table.unique_keys)
      if (key.primary) return key.columns;
    return {};
  }
  bool add(const Node* node) {
    if (auto* both = as<PgQuery__BoolExpr>(node))
      return both->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR &&
             std::all_of(both->args, both->args + both->n_args, [this](const Node* part) { return add(part); });
    auto* equality = as<PgQuery__AExpr>(node);
    if (equality == nullptr || equality->kind != PG_QUERY__A__EXPR__KIND__AEXPR_OP || equality->n_name != 1 ||
        last_name(equality->n_name, equality->name) != "=")
      return false;
    return add(equality->lexpr, equality->rexpr) || add(equality->rexpr, equality->lexpr);
  }
  bool add(const Node* left, const Node* right) {
    auto* reference = as<PgQuery__ColumnRef>(left);
    ConstValue value;
    if (reference == nullptr || reference->n_fields > 2 || !statement_.read_constant(right, value)) return false;
    const Var var = statement_.resolve(reference, level_);
    auto found = std::find(wanted_.begin(), wanted_.end(), var.column);
    if (!var.valid() || found == wanted_.end()) return false;
    const auto& keys = table_.key_columns;
    const catalog::Column& column = table_.columns[static_cast<size_t>(var.column)];
    const bool hashed = std::find(keys.begin(), keys.end(), var.column) != keys.end();
    if (column.type != column.base_type || !fits(statement_, value, column, hashed)) return false;
    wanted_.erase(found);
    if (value.written == ConstValue::Written::parameter) {
      parameters_ = true;
    } else {
      literals_.emplace_back(value.source.index, column.type);
    }
    return true;
  }

  const Statement& statement_;
  const Level* level_;
  const catalog::Table& table_;
  std::vector<int> wanted_;  // columns still without a value
  std::vector<std::pair<uint32_t, catalog::Oid>> literals_;
  bool parameters_ = false;
};

// Byte range of the table's name, [schema.]table; false if something stands behind it that a leaf's name cannot have.
bool find_name(const std::string& text, size_t position, size_t& end) {
  TokenScanner scanner(text, position);
  Token token = scanner.next();
  while (scanner.is_symbol(scanner.peek(), '.')) {
    scanner.next();
    token = scanner.next();
  }
  end = token.end;
  return (token.kind == Token::Kind::word || token.kind == Token::Kind::quoted) &&
         !scanner.is_symbol(scanner.peek(), '*');
}

// text[begin, end) with its literals as parameters; `number` counts them.
std::string with_parameters(const Statement& statement, size_t begin, size_t end, int& number) {
  std::string result;
  for (const Literal& literal : statement.shape.literals) {
    if (literal.begin < begin || literal.end > end) continue;
    result += statement.text.substr(begin, literal.begin - begin) + "$" + std::to_string(++number);
    begin = literal.end;
  }
  return result + statement.text.substr(begin, end - begin);
}

}  // namespace

void find_point_read(Planning& p, Level* top) {
  const Statement& s = p.statement;
  Plan& plan = p.plan;
  if (!plan.cacheable || plan.kind != PlanKind::route || plan.target.kind != Target::Kind::keys ||
      plan.target.keys.size() != 1 || plan.effects.writes || plan.effects.taints || plan.effects.pins ||
      plan.effects.sets_config || !is_plain(top->select) || s.instances.size() != 1)
    return;
  const Instance& instance = s.instances[0];
  auto* range = as<PgQuery__RangeVar>(top->select->from_clause[0]);
  if (range == nullptr || !range->inh || instance.placement != Instance::Placement::sharded ||
      instance.table->shard_prefix.empty() || !may_read_leaves(p.context, *instance.table) ||
      !reads_columns(s, top, top->select))
    return;
  KeyMatch match(s, top, instance);
  if (!match.covers(top->select->where_clause) || match.literals().size() != s.shape.literals.size()) return;
  size_t end = 0;
  const auto begin = static_cast<size_t>(range->location);
  if (!find_name(s.text, begin, end)) return;

  PointRead& point = plan.point.emplace();
  int number = 0;
  point.shard_prefix = instance.table->shard_prefix;
  point.before_leaf = with_parameters(s, 0, begin, number);
  if (range->alias == nullptr) point.after_leaf = " AS " + quote_identifier(instance.table->name);
  point.after_leaf += with_parameters(s, end, s.text.size(), number);
  point.literal_types.resize(s.shape.literals.size());
  for (const auto& [literal, type] : match.literals()) point.literal_types[literal] = type;
}

}  // namespace pgmosaic::plan
