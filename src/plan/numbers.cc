// currval() and lastval(), and which numbers of sequences a statement may draw at the home (Effects::draws). A backend
// serves many sessions, so what it answers is not the session's. The home has functions of the same names that are told
// the session's numbers (control/install_home_sql.h) and give these where the backend knows none; the executor puts
// them in the marker's place (router/numbers.h).
//
// before: SELECT currval('s'), lastval()
// after:  SELECT currval('s', '/*pgmosaic:numbers*/'::pg_catalog._int8), …
//
// A statement that the home does not run is told the values themselves:
//
// before: DELETE FROM t WHERE id = currval('s')
// ask:    VALUES (pg_catalog.currval('s', '…'::pg_catalog._int8)::text)
// run:    DELETE FROM t WHERE id = '17'::pg_catalog.int8
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/draws.h"
#include "plan/function_traits.h"
#include "plan/planning.h"
#include "plan/types.h"
#include "plan/virtual_relations.h"
#include "sql/deparse.h"
#include "sql/functions.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

bool asks_for_number(const PgQuery__FuncCall* call, const PlanContext& context) {
  if (call == nullptr) return false;
  const std::string_view name = last_name(call->n_funcname, call->funcname);
  const bool asks = (name == "currval" && call->n_args == 1) || (name == "lastval" && call->n_args == 0);
  return asks && calls_builtin(call, context.database);
}

bool asks_for_numbers(const Node* root, const PlanContext& context) {
  bool found = false;
  walk(root, [&](const Message* message) {
    found = found || asks_for_number(as<PgQuery__FuncCall>(message), context);
    return !found;
  });
  return found;
}

Node* with_numbers(Arena& arena, const Node* root, const PlanContext& context) {
  const std::function<Node*(const Node*)> tell = [&](const Node* node) -> Node* {
    auto* call = as<PgQuery__FuncCall>(node);
    if (!asks_for_number(call, context)) return nullptr;
    std::vector<Node*> arguments;
    for (const Node* argument : each(call->n_args, call->args)) arguments.push_back(arena.copy(argument, tell));
    arguments.push_back(arena.cast(arena.string_constant(virtual_marker(kNumbers)), {"pg_catalog", "_int8"}));
    auto* told = arena.shallow(call);
    told->n_funcname = 2;
    told->funcname =
        arena.list({arena.string_node("pg_catalog"), arena.string_node(last_name(call->n_funcname, call->funcname))});
    told->n_args = arguments.size();
    told->args = arena.list(arguments);
    return arena.node(told);
  };
  return arena.copy(root, tell);
}

// The client's text with the argument in it: places in it stay where they are. Empty: not that simple.
std::string told_text(std::string_view sql, const Node* root, const PlanContext& context) {
  std::vector<std::size_t> calls;
  walk(root, [&](const Message* message) {
    auto* call = as<PgQuery__FuncCall>(message);
    if (asks_for_number(call, context)) calls.push_back(static_cast<std::size_t>(std::max(call->location, 0)));
    return true;
  });
  std::sort(calls.begin(), calls.end());
  std::string text;
  std::size_t copied = 0;
  for (std::size_t begin : calls) {
    if (begin < copied || begin >= sql.size()) return {};
    TokenScanner scanner(sql.substr(begin));
    int depth = 0;
    bool arguments = false;
    for (Token token = scanner.next();; token = scanner.next()) {
      if (token.kind == Token::Kind::end || token.kind == Token::Kind::broken) return {};
      if (depth == 1 && !scanner.is_symbol(token, ')')) arguments = true;
      if (scanner.is_symbol(token, '(')) ++depth;
      if (!scanner.is_symbol(token, ')') || --depth > 0) continue;
      text += sql.substr(copied, begin + token.begin - copied);
      copied = begin + token.begin;
      break;
    }
    text += (arguments ? ", '" : "'") + virtual_marker(kNumbers) + "'::pg_catalog._int8";
  }
  return text.append(sql.substr(copied));
}

// What is written down for later asks nothing now.
bool runs_at_once(const Node* root) {
  return as<PgQuery__SelectStmt>(root) != nullptr || as<PgQuery__InsertStmt>(root) != nullptr ||
         as<PgQuery__UpdateStmt>(root) != nullptr || as<PgQuery__DeleteStmt>(root) != nullptr ||
         as<PgQuery__MergeStmt>(root) != nullptr || as<PgQuery__CopyStmt>(root) != nullptr ||
         as<PgQuery__ExplainStmt>(root) != nullptr || as<PgQuery__CallStmt>(root) != nullptr ||
         as<PgQuery__CreateTableAsStmt>(root) != nullptr || as<PgQuery__DeclareCursorStmt>(root) != nullptr ||
         as<PgQuery__ExecuteStmt>(root) != nullptr;
}

Plan cannot_ask() {
  return unsupported("currval() or lastval() in this statement",
                     "SELECT it in a statement of its own, and pass the number on.");
}

bool analyzes(const PgQuery__ExplainStmt* explain) {
  for (const Node* node : each(explain->n_options, explain->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option != nullptr && text_of(option->defname) == "analyze") return true;
  }
  return false;
}

// The sequence that a call names; null: not known for sure.
const catalog::Sequence* named_sequence(const PgQuery__FuncCall* call, const PlanContext& context) {
  if (call == nullptr || call->n_args == 0 || context.database == nullptr) return nullptr;
  const Node* argument = call->args[0];
  if (auto* cast = as<PgQuery__TypeCast>(argument);
      cast != nullptr && cast->type_name != nullptr &&
      last_name(cast->type_name->n_names, cast->type_name->names) == "regclass")
    argument = cast->arg;
  auto* constant = as<PgQuery__AConst>(argument);
  if (constant == nullptr || constant->val_case != PG_QUERY__A__CONST__VAL_SVAL) return nullptr;
  const std::string_view text = text_of(constant->sval->sval);
  if (context.temporary != nullptr && text.find('.') == std::string_view::npos) return nullptr;  // it may be hidden
  return find_sequence(text, context.search_path, *context.database);
}

class DrawReader {
 public:
  explicit DrawReader(const PlanContext& context) : context_(context), sequences_(context.database->sequences) {}

  catalog::Draws read(const Node* root, bool rows) {
    if (rows) draws_ = sequences_.unseen;
    walk(root, [&](const Message* message) {
      if (auto* call = as<PgQuery__FuncCall>(message)) read_call(call);
      if (rows) read_rows(message);
      return true;
    });
    return std::move(draws_);
  }
  bool by_literal() const { return by_literal_; }

 private:
  void read_call(const PgQuery__FuncCall* call) {
    const std::string_view name = last_name(call->n_funcname, call->funcname);
    if (const auto own = sequences_.of_functions.find(name); own != sequences_.of_functions.end())
      draws_.add(own->second);
    const FunctionInfo* builtin = calls_builtin(call, context_.database) ? find_builtin(name) : nullptr;
    if (builtin == nullptr) return;
    if (builtin->is(kRunsSql)) draws_.add(catalog::kDrawsAnything);
    if (!builtin->is(kSequence)) return;
    if (name == "currval" || name == "lastval") {
      draws_.reads = true;
      return;
    }
    draws_.sets = draws_.sets || name == "setval";
    const catalog::Sequence* sequence = named_sequence(call, context_);
    sequence == nullptr ? void(draws_.unknown = true) : void(draws_.sequences.insert(sequence->oid));
    by_literal_ = by_literal_ || sequence != nullptr;
  }

  void read_rows(const Message* message) {
    if (auto* range = as<PgQuery__RangeVar>(message)) add(range, &catalog::TableDraws::naming);
    if (auto* insert = as<PgQuery__InsertStmt>(message)) writes(insert->relation, true);
    if (auto* merge = as<PgQuery__MergeStmt>(message)) writes(merge->relation, true);
    if (auto* remove = as<PgQuery__DeleteStmt>(message)) writes(remove->relation, false);
    if (auto* copy = as<PgQuery__CopyStmt>(message); copy != nullptr && copy->is_from) writes(copy->relation, true);
    if (auto* truncate = as<PgQuery__TruncateStmt>(message))
      for (const Node* node : each(truncate->n_relations, truncate->relations))
        writes(as<PgQuery__RangeVar>(node), false);
    if (auto* update = as<PgQuery__UpdateStmt>(message)) {
      bool defaults = false;
      for (const Node* target : each(update->n_target_list, update->target_list))
        walk(target, [&](const Message* part) {
          defaults = defaults || as<PgQuery__SetToDefault>(part) != nullptr;
          return true;
        });
      writes(update->relation, defaults);
    }
    if (auto* column = as<PgQuery__ColumnRef>(message); column != nullptr && column->n_fields > 1) {  // t.f for f(t)
      const auto own = sequences_.of_functions.find(string_value(column->fields[column->n_fields - 1]));
      if (own != sequences_.of_functions.end()) draws_.add(own->second);
    }
    if (auto* block = as<PgQuery__DoStmt>(message))
      draws_.add(draws_of_block(text_of_block(block), *context_.database));
  }

  void writes(const PgQuery__RangeVar* range, bool defaults) {
    if (range == nullptr) return;
    if (lookup(context_, range) == nullptr) draws_.unknown = true;  // a temporary table
    add(range, &catalog::TableDraws::writing);
    if (defaults) add(range, &catalog::TableDraws::defaults);
  }

  void add(const PgQuery__RangeVar* range, catalog::Draws catalog::TableDraws::*which) {
    const catalog::Table* table = lookup(context_, range);
    const auto found = table == nullptr ? sequences_.of_tables.end() : sequences_.of_tables.find(table->oid);
    if (found != sequences_.of_tables.end()) draws_.add(found->second.*which);
  }

  const PlanContext& context_;
  const catalog::Sequences& sequences_;
  catalog::Draws draws_;
  bool by_literal_ = false;
};

// Of a statement for other groups: what the home is asked first.
class AskFirst {
 public:
  AskFirst(const Node* root, const PlanContext& context) : root_(root), context_(context) {}

  Plan plan() {
    fill_.mark = "pgmosaic:fill:";
    Node* plain = copy([this](std::size_t) { return arena_.cast(null(), {"pg_catalog", "int8"}); });
    if (too_hard_) return cannot_ask();
    auto shape = deparse_statement(plain);
    if (!shape) return unsupported(shape.error());
    Plan plan = plan_statement(*shape, context_);
    if (plan.kind == PlanKind::unsupported) return plan;
    const bool runs = plan.kind == PlanKind::route || plan.kind == PlanKind::insert_split;
    if (!runs || plan.guarded) return cannot_ask();
    fill_.question.clear();
    auto statement = deparse_statement(copy([this](std::size_t number) {
      return arena_.cast(arena_.string_constant("/*" + fill_.mark + "0:" + std::to_string(number) + "*/"),
                         {"pg_catalog", "int8"});
    }));
    if (!statement) return unsupported(statement.error());
    fill_.statement = std::move(*statement);
    fill_.question = "VALUES (" + fill_.question + ")";
    fill_.expressions = true;
    plan.kind = PlanKind::fill;
    plan.fill = std::move(fill_);
    plan.effects.draws.reads = true;
    plan.rewritten_sql.clear();
    plan.cacheable = false;
    return plan;
  }

 private:
  Node* null() {
    auto* constant = arena_.make<PgQuery__AConst>();
    constant->isnull = 1;
    return arena_.node(constant);
  }

  // The statement with values of `made` in the place of the calls, which go into the question.
  Node* copy(const std::function<Node*(std::size_t)>& made) {
    std::size_t number = 0;
    const std::function<Node*(const Node*)> replace = [&](const Node* node) -> Node* {
      if (auto* target = as<PgQuery__ResTarget>(node); target != nullptr && text_of(target->name).empty()) {
        auto* asked = target->val == nullptr ? nullptr : as<PgQuery__FuncCall>(target->val);
        if (!asks_for_number(asked, context_)) return nullptr;
        auto* named = arena_.shallow(target);  // the column is called like the function
        named->name = arena_.string(last_name(asked->n_funcname, asked->funcname));
        named->val = replace(target->val);
        return arena_.node(named);
      }
      auto* call = as<PgQuery__FuncCall>(node);
      if (!asks_for_number(call, context_)) return nullptr;
      walk(node, [&](const Message* message) {
        too_hard_ = too_hard_ || as<PgQuery__ParamRef>(message) != nullptr ||
                    as<PgQuery__ColumnRef>(message) != nullptr || as<PgQuery__SubLink>(message) != nullptr;
        return true;
      });
      auto text = deparse_expression(with_numbers(arena_, node, context_));
      too_hard_ = too_hard_ || !text.ok();
      if (text.ok()) fill_.question += (number == 0 ? "(" : ", (") + *text + ")::pg_catalog.text";
      fill_.columns = number + 1;
      return made(number++);
    };
    return arena_.copy(root_, replace);
  }

  const Node* root_;
  const PlanContext& context_;
  Arena arena_;
  Fill fill_;
  bool too_hard_ = false;
};

}  // namespace

const catalog::Sequence* drawn_from(const Node* expression, const PlanContext& context) {
  auto* call = as<PgQuery__FuncCall>(expression);
  if (call == nullptr || call->n_args != 1 || last_name(call->n_funcname, call->funcname) != "nextval" ||
      call->agg_filter != nullptr || call->over != nullptr || call->agg_star || call->func_variadic ||
      !calls_builtin(call, context.database))
    return nullptr;
  return named_sequence(call, context);
}

std::optional<Plan> plan_asking(std::string_view sql, const Node* root, const PlanContext& context) {
  if (context.database == nullptr || !runs_at_once(root) || !asks_for_numbers(root, context)) return std::nullopt;
  if (auto* explain = as<PgQuery__ExplainStmt>(root)) {
    if (!analyzes(explain)) return std::nullopt;
    return cannot_ask();
  }
  auto* select = as<PgQuery__SelectStmt>(root);
  const bool makes = as<PgQuery__CreateTableAsStmt>(root) != nullptr ||
                     (select != nullptr && select->into_clause != nullptr) ||
                     as<PgQuery__DeclareCursorStmt>(root) != nullptr || as<PgQuery__ExecuteStmt>(root) != nullptr;
  if (makes) return cannot_ask();
  Arena arena;
  auto text = Result<std::string>(told_text(sql, root, context));
  if (text->empty()) text = deparse_statement(with_numbers(arena, root, context));
  if (!text) return unsupported(text.error());
  Plan plan = plan_statement(*text, context);
  if (plan.kind == PlanKind::fill) return plan;
  const bool at_home = plan.target.kind == Target::Kind::home || plan.target.kind == Target::Kind::any;
  const bool runs = plan.kind == PlanKind::route || plan.kind == PlanKind::copy_out;
  if (plan.kind == PlanKind::unsupported || !runs || !at_home) {
    const bool writes = as<PgQuery__CopyStmt>(root) != nullptr || as<PgQuery__CallStmt>(root) != nullptr;
    return writes ? cannot_ask() : AskFirst(root, context).plan();
  }
  if (plan.rewritten_sql.empty()) plan.rewritten_sql = std::move(*text);
  plan.virtual_relations.emplace_back(kNumbers);
  plan.cacheable = false;
  return plan;
}

std::string asking_expression(const std::string& expression, const PlanContext& context) {
  if (expression.find("currval") == std::string::npos && expression.find("lastval") == std::string::npos)
    return expression;
  auto tree = ParseTree::parse("SELECT " + expression);
  if (!tree || !asks_for_numbers(tree->statement(), context)) return expression;
  auto* select = as<PgQuery__SelectStmt>(tree->statement());
  auto* target = select == nullptr ? nullptr : as<PgQuery__ResTarget>(select->target_list[0]);
  Arena arena;
  auto text = target == nullptr ? Result<std::string>(expression)
                                : deparse_expression(with_numbers(arena, target->val, context));
  return text.ok() ? *text : expression;
}

catalog::Draws draws_of(const Node* root, const PlanContext& context) {
  return context.database == nullptr ? catalog::Draws() : DrawReader(context).read(root, true);
}

void note_draws(Plan& plan, const Node* root, const PlanContext& context) {
  if (context.database == nullptr || plan.kind == PlanKind::unsupported) return;
  const bool at_home = plan.target.kind == Target::Kind::home || plan.target.kind == Target::Kind::any;
  if (plan.fill) {
    plan.effects.draws.add(plan.fill->draws_unseen);
  } else if (auto* explain = as<PgQuery__ExplainStmt>(root); explain != nullptr && !analyzes(explain)) {
    return;
  } else if (plan.kind == PlanKind::ddl) {
    // Rows that a schema change computes: nobody has looked at where their numbers come from.
    const bool fills = as<PgQuery__AlterTableStmt>(root) != nullptr ||
                       as<PgQuery__CreateTableAsStmt>(root) != nullptr || as<PgQuery__SelectStmt>(root) != nullptr ||
                       as<PgQuery__DoStmt>(root) != nullptr;
    const catalog::Draws named = fills ? draws_of(root, context) : catalog::Draws();
    plan.effects.draws.unknown = named.draws();
  } else if (at_home) {
    DrawReader reader(context);
    plan.effects.draws = reader.read(root, true);
    if (reader.by_literal()) plan.cacheable = false;  // another literal is another sequence
  }
  // Functions ask the backend, so it has to be the session's own before it draws.
  const bool draws = plan.effects.draws.draws() || (plan.fill && !plan.fill->draws.empty());
  if (draws && context.database->sequences.asked_unseen) plan.effects.pins = true;
}

}  // namespace pgmosaic::plan
