// ALTER TABLE … ADD COLUMN of tables with rows on several groups: what the groups run where they would compute other
// values than one PostgreSQL does.
//
// home:   ALTER TABLE t ADD COLUMN n serial, ADD COLUMN at date DEFAULT now(), ADD COLUMN r float8 DEFAULT random()
// groups: ALTER TABLE t ADD COLUMN n int NOT NULL DEFAULT '/*<mark>v0*/', ADD COLUMN at date DEFAULT '/*<mark>o0*/',
//                       ADD COLUMN r float8 DEFAULT random()
//
// The executor puts numbers of the home's sequence and the home's now() in the place of the marks, and afterwards the
// column's own default (router/new_columns.h). Copies of a reference table get the home's values row by row.
#include <set>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/planning.h"
#include "plan/types.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

namespace {

constexpr const char* kWayOut = "Add the column without default, UPDATE the rows, then SET DEFAULT.";

bool is_builtin(const PgQuery__FuncCall* call, std::string_view name) {
  return call != nullptr && last_name(call->n_funcname, call->funcname) == name &&
         (call->n_funcname == 1 || string_value(call->funcname[0]) == "pg_catalog");
}

// Two rows may get different values, or two moments of one transaction.
bool differs_by_row(const Node* expression, const catalog::Database* database) {
  bool found = false;
  walk(expression, [&](const Message* message) {
    auto* call = as<PgQuery__FuncCall>(message);
    found = found || (call != nullptr && function_traits(call, database).is_volatile) ||
            is_builtin(call, "statement_timestamp");
    return !found;
  });
  return found;
}

// The name in nextval('name') or nextval('name'::regclass), as a literal; empty: something else.
std::string drawn_sequence(const PgQuery__FuncCall* call) {
  if (!is_builtin(call, "nextval") || call->n_args != 1) return {};
  const Node* argument = call->args[0];
  while (auto* cast = as<PgQuery__TypeCast>(argument)) argument = cast->arg;
  auto* constant = as<PgQuery__AConst>(argument);
  if (constant == nullptr || constant->val_case != PG_QUERY__A__CONST__VAL_SVAL) return {};
  return std::string(text_of(constant->sval->sval));
}

// serial and its kin are integers.
std::string_view integer_of(const PgQuery__TypeName* type) {
  if (type == nullptr || type->n_names != 1) return {};
  const std::string_view name = string_value(type->names[0]);
  if (name == "serial" || name == "serial4") return "int4";
  if (name == "bigserial" || name == "serial8") return "int8";
  return name == "smallserial" || name == "serial2" ? "int2" : std::string_view();
}

// A string there is no time.
bool is_text(const PgQuery__TypeName* type) {
  if (type == nullptr || type->n_array_bounds > 0) return false;
  const catalog::Oid known = builtin_type(last_name(type->n_names, type->names));
  return known == oid::text || known == oid::varchar || known == oid::bpchar;
}

class ColumnFiller {
 public:
  ColumnFiller(Arena& arena, const catalog::Table& table, const PlanContext& context, std::string mark)
      : arena_(arena), database_(context.database), copies_(table.kind == TableKind::reference) {
    result_.mark = std::move(mark);
    result_.table = table.oid;
    result_.name = quote_identifier(table.schema) + "." + quote_identifier(table.name);
    result_.copies = copies_;
  }

  // The column as the groups shall add it; null: as it is.
  Result<PgQuery__ColumnDef*> column(const PgQuery__ColumnDef* column);
  Ddl::NewColumns& result() { return result_; }

 private:
  Result<Node*> default_of(Node* expression, const PgQuery__ColumnDef* column);
  Node* replacement(const Node* node, const std::string& column, Status& status);
  Node* mark(char kind, std::size_t number) {
    return arena_.string_constant("/*" + result_.mark + kind + std::to_string(number) + "*/");
  }
  Node* values(const std::string& column, const std::string& sequence) {
    result_.values.push_back({column, sequence});
    return mark('v', result_.values.size() - 1);
  }

  Arena& arena_;
  const catalog::Database* database_;
  const bool copies_;
  Ddl::NewColumns result_;
};

// What takes the node's place; null: it stays, and its parts are looked at.
Node* ColumnFiller::replacement(const Node* node, const std::string& column, Status& status) {
  auto* call = as<PgQuery__FuncCall>(node);
  if (call == nullptr && as<PgQuery__SQLValueFunction>(node) == nullptr) return nullptr;
  if (!differs_by_row(node, database_)) {
    if (immutable_expression(node, database_)) return nullptr;
    auto text = deparse_expression(node);
    if (!text) status = std::move(text.error());
    result_.once.push_back(text ? *text : std::string());
    return mark('o', result_.once.size() - 1);
  }
  if (const std::string sequence = drawn_sequence(call); !sequence.empty()) return values(column, sequence);
  const FunctionTraits traits = function_traits(call, database_);
  const bool of_home = traits.home || traits.home_only || traits.user_defined;
  if (traits.is_volatile && of_home && status.ok())
    status = refused("ADD COLUMN with a default that calls " +
                         std::string(last_name(call->n_funcname, call->funcname)) + "(), which the groups cannot",
                     kWayOut);
  return nullptr;
}

// A function of which only running it tells what it does: rows of sharded tables may matter.
bool tells_nothing(const Node* expression, const catalog::Database* database) {
  bool found = false;
  walk(expression, [&](const Message* message) {
    auto* call = as<PgQuery__FuncCall>(message);
    found = found || (call != nullptr && function_traits(call, database).unknown);
    return !found;
  });
  return found;
}

Result<Node*> ColumnFiller::default_of(Node* expression, const PgQuery__ColumnDef* definition) {
  const std::string column(text_of(definition->colname));
  if (is_text(definition->type_name) && as<PgQuery__AConst>(expression) != nullptr) return expression;
  if (names_a_moment(expression))
    return refused("ADD COLUMN with a default that names a moment ('now')", "Write now(), or a constant.");
  if (tells_nothing(expression, database_))
    return refused("ADD COLUMN with a default that runs SQL given as text", kWayOut);
  if (copies_ && differs_by_row(expression, database_)) return values(column, "");
  Status status;
  Node* copy = arena_.copy(expression, [&](const Node* node) { return replacement(node, column, status); });
  if (!status.ok()) return std::move(status.error());
  return copy;
}

Result<PgQuery__ColumnDef*> ColumnFiller::column(const PgQuery__ColumnDef* column) {
  const std::string name(text_of(column->colname));
  const std::size_t values_before = result_.values.size(), once_before = result_.once.size();
  const bool numbers = makes_sequence(column);
  std::vector<Node*> constraints;
  auto* copy = arena_.shallow(column);
  bool not_null = false;
  for (Node* node : each(column->n_constraints, column->constraints)) {
    auto* constraint = as<PgQuery__Constraint>(node);
    const auto type = constraint == nullptr ? PG_QUERY__CONSTR_TYPE__CONSTR_TYPE_UNDEFINED : constraint->contype;
    not_null = not_null || type == PG_QUERY__CONSTR_TYPE__CONSTR_NOTNULL;
    if (type == PG_QUERY__CONSTR_TYPE__CONSTR_IDENTITY) continue;
    if (type != PG_QUERY__CONSTR_TYPE__CONSTR_DEFAULT) {
      constraints.push_back(node);
      continue;
    }
    auto* filled = arena_.shallow(constraint);
    TRY_ASSIGN(filled->raw_expr, default_of(constraint->raw_expr, column));
    constraints.push_back(arena_.node(filled));
  }
  auto add = [&](PgQuery__ConstrType type, Node* expression) {
    auto* constraint = arena_.make<PgQuery__Constraint>();
    constraint->contype = type;
    constraint->raw_expr = expression;
    constraints.push_back(arena_.node(constraint));
  };
  if (numbers) {
    if (!not_null) add(PG_QUERY__CONSTR_TYPE__CONSTR_NOTNULL, nullptr);
    add(PG_QUERY__CONSTR_TYPE__CONSTR_DEFAULT, values(name, ""));
  }
  if (const std::string_view type = integer_of(column->type_name); !type.empty()) {
    copy->type_name = arena_.shallow(column->type_name);
    copy->type_name->n_names = 2;
    copy->type_name->names = arena_.list({arena_.string_node("pg_catalog"), arena_.string_node(type)});
  }
  if (result_.values.size() == values_before && result_.once.size() == once_before) return nullptr;
  result_.columns.push_back({name, numbers});
  copy->n_constraints = constraints.size();
  copy->constraints = arena_.list(constraints);
  return copy;
}

// Commands about a column that the same statement adds. PostgreSQL does not find it yet when it looks at SET NOT NULL
// of a partitioned table, so the groups add it with NOT NULL; identity columns of the home are none on the groups yet,
// and get what the home has in the end.
class OfNewColumns {
 public:
  OfNewColumns(Arena& arena, const PgQuery__AlterTableStmt* alter) : arena_(arena) {
    for (const Node* node : each(alter->n_cmds, alter->cmds)) {
      auto* command = as<PgQuery__AlterTableCmd>(node);
      auto* column = command == nullptr ? nullptr : as<PgQuery__ColumnDef>(command->def);
      if (command == nullptr) continue;
      const std::string_view name = text_of(command->name);
      if (command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_SetNotNull) not_null_.insert(name);
      if (command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_DropNotNull) nullable_.insert(name);
      if (command->subtype != PG_QUERY__ALTER_TABLE_TYPE__AT_AddColumn || column == nullptr || command->missing_ok)
        continue;
      added_.insert(text_of(column->colname));
      for (const Node* part : each(column->n_constraints, column->constraints))
        if (auto* constraint = as<PgQuery__Constraint>(part);
            constraint != nullptr && constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_IDENTITY)
          identities_.insert(text_of(column->colname));
    }
  }
  bool takes(const PgQuery__AlterTableCmd* command) {
    if (command == nullptr) return false;
    const std::string_view name = text_of(command->name);
    const bool identity = command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_SetIdentity && identities_.contains(name);
    const bool not_null = command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_SetNotNull && becomes_not_null(name);
    changed_ = changed_ || identity || not_null;
    return identity || not_null;
  }
  const PgQuery__ColumnDef* with_not_null(const PgQuery__AlterTableCmd* command, const PgQuery__ColumnDef* column) {
    if (command->missing_ok || !becomes_not_null(text_of(column->colname))) return column;
    auto* copy = arena_.shallow(column);
    std::vector<Node*> constraints(column->constraints, column->constraints + column->n_constraints);
    auto* constraint = arena_.make<PgQuery__Constraint>();
    constraint->contype = PG_QUERY__CONSTR_TYPE__CONSTR_NOTNULL;
    constraints.push_back(arena_.node(constraint));
    copy->n_constraints = constraints.size();
    copy->constraints = arena_.list(constraints);
    return copy;
  }
  bool changed() const { return changed_; }

 private:
  bool becomes_not_null(std::string_view name) const {
    return added_.contains(name) && not_null_.contains(name) && !nullable_.contains(name);
  }
  Arena& arena_;
  std::set<std::string_view> added_, identities_, not_null_, nullable_;
  bool changed_ = false;
};

}  // namespace

Result<const PgQuery__AlterTableStmt*> fill_new_columns(std::string_view sql, const catalog::Table* table,
                                                        const PgQuery__AlterTableStmt* alter,
                                                        const PlanContext& context, Arena& arena, Ddl& ddl) {
  if (table == nullptr || (table->kind != TableKind::sharded && table->kind != TableKind::reference)) return alter;
  std::string mark = "pgmosaic:new:";
  while (sql.find(mark) != std::string_view::npos) mark += ':';
  ColumnFiller filler(arena, *table, context, std::move(mark));
  std::vector<Node*> commands;
  OfNewColumns of_new(arena, alter);
  for (Node* node : each(alter->n_cmds, alter->cmds)) {
    auto* command = as<PgQuery__AlterTableCmd>(node);
    auto* column = command == nullptr || command->subtype != PG_QUERY__ALTER_TABLE_TYPE__AT_AddColumn
                       ? nullptr
                       : as<PgQuery__ColumnDef>(command->def);
    commands.push_back(node);
    if (of_new.takes(command)) commands.pop_back();
    if (column == nullptr) continue;
    const PgQuery__ColumnDef* whole = of_new.with_not_null(command, column);
    TRY_ASSIGN(const PgQuery__ColumnDef* filled, filler.column(whole));
    if (filled == nullptr) filled = whole;
    if (filled == column) continue;
    auto* copy = arena.shallow(command);
    copy->def = arena.node(const_cast<PgQuery__ColumnDef*>(filled));
    commands.back() = arena.node(copy);
  }
  if (filler.result().columns.empty() && !of_new.changed()) return alter;
  if (table->kind == TableKind::reference && table->partitioned && !filler.result().values.empty())
    return refused("ADD COLUMN of a partitioned reference table with values that differ by row", kWayOut);
  if (!filler.result().columns.empty()) ddl.new_columns = std::move(filler.result());
  auto* copy = arena.shallow(alter);
  copy->n_cmds = commands.size();
  copy->cmds = arena.list(commands);
  return copy;
}

}  // namespace pgmosaic::plan
