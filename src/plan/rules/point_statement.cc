// A SELECT, UPDATE or DELETE that can find one row at most, by its whole primary key, may name the row's leaf.
//
//   SELECT b FROM t WHERE k = 5            →  SELECT b FROM <leaf> AS t WHERE k = $1   with (int4) '5'
//   SELECT * FROM t x WHERE $1 = x.k       →  SELECT * FROM <leaf> x WHERE $1 = x.k
//   UPDATE t SET b = b - 1.5 WHERE k = 5   →  UPDATE <leaf> AS t SET b = b - $1 WHERE k = $2   with (numeric) '1.5', …
//
// Only what means the same under the leaf's name: columns of one table without row security, which PostgreSQL
// applies to the table that a statement names, and only for users who may read leaves: owners and superusers. Writes
// only without triggers: those of statements are the table's, and those of rows could send the row to another leaf.
// Identity is the table's, too.
#include <algorithm>
#include <cctype>

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
bool reads_columns(const Statement& statement, const Level* level, size_t count, Node* const* targets) {
  return std::all_of(targets, targets + count, [&](const Node* node) {
    auto* target = as<PgQuery__ResTarget>(node);
    auto* column = target == nullptr ? nullptr : as<PgQuery__ColumnRef>(target->val);
    if (column == nullptr || target->n_indirection > 0 || column->n_fields > 2) return false;
    const bool star = as<PgQuery__AStar>(column->fields[column->n_fields - 1]) != nullptr;
    return star || statement.resolve(column, level).valid();
  });
}

using LiteralTypes = std::vector<std::pair<uint32_t, catalog::Oid>>;  // by number

bool is_number(catalog::Oid type) {
  return is_integer(type) || type == oid::numeric || type == oid::float4 || type == oid::float8;
}

// What SET may compute: numbers out of columns, literals and parameters, and single values. It must not matter when or
// under which settings a plan of it is made, nor in whose session; so no functions, no casts, nothing that PostgreSQL
// would compute ahead, and nothing whose types do not fit, which is an error that tells a place in the text.
//
// Literals are parameters of the types that PostgreSQL gives them: int4, or numeric with a point. A string has none by
// itself, and is one only where it is all that a column of text gets.
class SetValues {
 public:
  SetValues(const Statement& statement, const Level* level, const catalog::Table& table)
      : statement_(statement), level_(level), table_(table) {}

  bool read(const Node* assignment) {
    auto* target = as<PgQuery__ResTarget>(assignment);
    const int index = target == nullptr ? -1 : table_.column_index(text_of(target->name));
    if (index < 0 || target->n_indirection > 0) return false;
    const catalog::Column& column = table_.columns[static_cast<size_t>(index)];
    if (column.identity != catalog::Column::Identity::none || column.generated || column.type != column.base_type)
      return false;
    if (is_number(column.type) && computes(target->val)) return true;
    return gives(target->val, column);
  }
  const LiteralTypes& literals() const { return literals_; }

 private:
  bool gives(const Node* value, const catalog::Column& target) {
    if (auto* constant = as<PgQuery__AConst>(value)) {
      if (constant->isnull) return true;
      if (constant->val_case == PG_QUERY__A__CONST__VAL_BOOLVAL) return target.type == oid::boolean;
      return constant->val_case == PG_QUERY__A__CONST__VAL_SVAL &&
             (target.type == oid::text || target.type == oid::varchar) &&
             add_literal(constant, Literal::Kind::string, target.type);
    }
    const catalog::Column* source = column_of(value);
    return source != nullptr ? source->type == target.type : is_parameter(value, type_family(target.type));
  }
  // a + 1, a * b - $1: PostgreSQL computes none of it before it has the row.
  bool computes(const Node* value) {
    auto* expression = as<PgQuery__AExpr>(value);
    if (expression == nullptr) return is_literal_number(value);
    if (expression->kind != PG_QUERY__A__EXPR__KIND__AEXPR_OP || expression->n_name != 1) return false;
    const std::string_view name = last_name(expression->n_name, expression->name);
    if (name != "+" && name != "-" && name != "*" && name != "/") return false;
    const bool left = of_row(expression->lexpr), right = of_row(expression->rexpr);
    return (left || right) && (left || is_operand(expression->lexpr)) && (right || is_operand(expression->rexpr));
  }
  bool of_row(const Node* value) {
    const catalog::Column* column = column_of(value);
    if (column != nullptr) return column->type == column->base_type && is_number(column->type);
    return as<PgQuery__AExpr>(value) != nullptr && computes(value);
  }
  bool is_operand(const Node* value) {
    if (is_literal_number(value)) return true;
    ConstValue parameter;
    return as<PgQuery__ParamRef>(value) != nullptr && statement_.read_constant(value, parameter) &&
           (parameter.type == 0 || is_number(parameter.type));
  }
  bool is_parameter(const Node* value, uint32_t family) const {
    ConstValue parameter;
    return as<PgQuery__ParamRef>(value) != nullptr && statement_.read_constant(value, parameter) &&
           (parameter.type == 0 || type_family(parameter.type) == family);
  }
  const catalog::Column* column_of(const Node* value) const {
    auto* reference = as<PgQuery__ColumnRef>(value);
    if (reference == nullptr || reference->n_fields > 2) return nullptr;
    const Var var = statement_.resolve(reference, level_);
    return var.valid() ? &table_.columns[static_cast<size_t>(var.column)] : nullptr;
  }
  bool is_literal_number(const Node* value) {
    auto* constant = as<PgQuery__AConst>(value);
    if (constant == nullptr || constant->isnull) return false;
    return add_literal(constant, Literal::Kind::integer, oid::int4) ||
           add_literal(constant, Literal::Kind::decimal, oid::numeric);
  }
  bool add_literal(const PgQuery__AConst* constant, Literal::Kind kind, catalog::Oid type) {
    bool negated = false;
    const int literal = statement_.literal_at(constant->location, negated);
    if (literal < 0 || statement_.shape.literals[static_cast<size_t>(literal)].kind != kind) return false;
    literals_.emplace_back(static_cast<uint32_t>(literal), type);
    return true;
  }

  const Statement& statement_;
  const Level* level_;
  const catalog::Table& table_;
  LiteralTypes literals_;
};

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

  bool covers(const Node* condition) { return !wanted_.empty() && add(condition) && wanted_.empty(); }
  // With the types of the columns that they are compared with.
  const LiteralTypes& literals() const { return literals_; }

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
    if (value.written != ConstValue::Written::parameter) literals_.emplace_back(value.source.index, column.type);
    return true;
  }

  const Statement& statement_;
  const Level* level_;
  const catalog::Table& table_;
  std::vector<int> wanted_;  // columns still without a value
  LiteralTypes literals_;
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
    const char next = begin < end ? statement.text[begin] : ' ';
    if (std::isalnum(static_cast<unsigned char>(next)) || next == '_' || next == '$' || next < 0) result += ' ';
  }
  return result + statement.text.substr(begin, end - begin);
}

// What all of them have in common: one table, of which the whole primary key is given. `literals`: beside the key's.
void find_point(Planning& p, const Level* level, const PgQuery__RangeVar* range, const Node* condition,
                LiteralTypes literals) {
  const Statement& s = p.statement;
  Plan& plan = p.plan;
  const Effects& effects = plan.effects;
  if (!plan.cacheable || plan.kind != PlanKind::route || plan.target.kind != Target::Kind::keys ||
      plan.target.keys.size() != 1 || effects.taints || effects.pins || effects.sets_config || effects.not_preparable ||
      effects.draws.any() || plan.guarded || s.instances.size() != 1)
    return;
  const Instance& instance = s.instances[0];
  if (range == nullptr || !range->inh || instance.placement != Instance::Placement::sharded ||
      instance.table->shard_prefix.empty() || !may_read_leaves(p.context, *instance.table))
    return;
  KeyMatch match(s, level, instance);
  if (!match.covers(condition)) return;
  literals.insert(literals.end(), match.literals().begin(), match.literals().end());
  if (literals.size() != s.shape.literals.size() || (!literals.empty() && plan.parameter_count > 0)) return;
  size_t end = 0;
  const auto begin = static_cast<size_t>(range->location);
  if (!find_name(s.text, begin, end)) return;

  PointStatement& point = plan.point.emplace();
  int number = 0;
  point.shard_prefix = instance.table->shard_prefix;
  point.before_leaf = with_parameters(s, 0, begin, number);
  if (range->alias == nullptr) point.after_leaf = " AS " + quote_identifier(instance.table->name);
  point.after_leaf += with_parameters(s, end, s.text.size(), number);
  point.literal_types.resize(s.shape.literals.size());
  for (const auto& [literal, type] : literals) point.literal_types[literal] = type;
}

bool may_write_leaves(const Statement& statement) {
  return statement.instances.size() == 1 && statement.instances[0].table != nullptr &&
         !statement.instances[0].table->has_triggers;
}

}  // namespace

void find_point_read(Planning& p, const Level* top) {
  const PgQuery__SelectStmt* select = top->select;
  if (p.plan.effects.writes || !is_plain(select) ||
      !reads_columns(p.statement, top, select->n_target_list, select->target_list))
    return;
  find_point(p, top, as<PgQuery__RangeVar>(select->from_clause[0]), select->where_clause, {});
}

void find_point_write(Planning& p, const Level* level, const PgQuery__UpdateStmt* update) {
  if (update->with_clause != nullptr || update->n_from_clause > 0 || update->where_clause == nullptr ||
      !may_write_leaves(p.statement) ||
      !reads_columns(p.statement, level, update->n_returning_list, update->returning_list))
    return;
  SetValues values(p.statement, level, *p.statement.instances[0].table);
  for (size_t i = 0; i < update->n_target_list; ++i)
    if (!values.read(update->target_list[i])) return;
  find_point(p, level, update->relation, update->where_clause, values.literals());
}

void find_point_write(Planning& p, const Level* level, const PgQuery__DeleteStmt* remove) {
  if (remove->with_clause != nullptr || remove->n_using_clause > 0 || remove->where_clause == nullptr ||
      !may_write_leaves(p.statement) ||
      !reads_columns(p.statement, level, remove->n_returning_list, remove->returning_list))
    return;
  find_point(p, level, remove->relation, remove->where_clause, {});
}

}  // namespace pgmosaic::plan
