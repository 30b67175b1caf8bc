// The planner's phases, in order:
//
//   1. dialect      our clauses of CREATE TABLE come out of the text (sql/dialect)
//   2. parse        PostgreSQL's own grammar (sql/parse)
//   3. classify     session command, DDL, utility, COPY, EXPLAIN, or a query (this file)
//   4. bind         names to tables and columns, conditions to facts (bind, bind_from, predicates)
//   5. pins         which keys are proven (pruning); distribution: may every group answer for itself (distribution)
//   6. shape        how several groups' answers become one (rules/)
//
// What fails in 1 or is refused later is a plan of kind `unsupported` with the error for the client.
#include "plan/planner.h"

#include <set>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/moments.h"
#include "plan/partitions.h"
#include "plan/planning.h"
#include "plan/virtual_relations.h"
#include "sql/deparse.h"
#include "sql/dialect.h"
#include "sql/parse.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

Plan empty_statement() {
  Plan plan;
  plan.kind = PlanKind::session;
  plan.returns_rows = false;
  plan.session.emplace();
  plan.session->kind = SessionCommand::Kind::empty;
  return plan;
}

}  // namespace

std::vector<std::string_view> split_statements(std::string_view sql) {
  std::vector<std::string_view> statements;
  TokenScanner scanner(sql);
  int parentheses = 0, bodies = 0;  // BEGIN ATOMIC … END
  bool after_begin = false;
  size_t first = std::string_view::npos, last = 0;
  while (true) {
    Token token = scanner.next();
    if (token.kind == Token::Kind::broken) return {sql};
    bool end = token.kind == Token::Kind::end;
    if (end || (scanner.is_symbol(token, ';') && parentheses <= 0 && bodies == 0)) {
      if (first != std::string_view::npos) statements.push_back(sql.substr(first, last - first));
      first = std::string_view::npos;
      parentheses = 0;
      if (end) return statements;
      continue;
    }
    if (scanner.is_symbol(token, '(')) ++parentheses;
    if (scanner.is_symbol(token, ')')) --parentheses;
    if (after_begin && scanner.is_word(token, "atomic")) ++bodies;
    if (bodies > 0 && scanner.is_word(token, "case")) ++bodies;
    if (bodies > 0 && scanner.is_word(token, "end")) --bodies;
    after_begin = scanner.is_word(token, "begin");
    if (first == std::string_view::npos) first = token.begin;
    last = token.end;
  }
}

// A table with leaves is one table to its user, and partitioned underneath: ONLY would find nothing.
static bool only_of_sharded(const Node* root, const PlanContext& context) {
  bool found = false;
  walk(root, [&](const Message* message) {
    auto* range = as<PgQuery__RangeVar>(message);
    if (range == nullptr || range->inh) return true;
    const catalog::Table* table = lookup(context, range);
    found = found || (table != nullptr && has_leaves(*table));
    return true;
  });
  return found;
}

// ALTER TABLE ONLY and TRUNCATE ONLY, as pg_dump and pg_restore write them, of a sharded table: its shards follow.
// nullopt: it is something else.
static std::optional<std::string> without_only(const Node* root, const PlanContext& context) {
  auto* alter = as<PgQuery__AlterTableStmt>(root);
  if (alter == nullptr && as<PgQuery__TruncateStmt>(root) == nullptr) return std::nullopt;
  if (!only_of_sharded(root, context)) return std::nullopt;
  Arena arena;
  auto whole = [&](const PgQuery__RangeVar* range) {
    auto* copy = arena.shallow(range);
    copy->inh = 1;
    return copy;
  };
  const Node* plain = nullptr;
  if (alter != nullptr) {
    auto* copy = arena.shallow(alter);
    copy->relation = whole(alter->relation);
    plain = arena.node(copy);
  } else {
    plain = arena.copy(root, [&](const Node* node) -> Node* {
      auto* range = as<PgQuery__RangeVar>(node);
      const catalog::Table* table = range == nullptr ? nullptr : lookup(context, range);
      const bool sharded = table != nullptr && table->kind == catalog::TableKind::sharded;
      return sharded ? arena.node(whole(range)) : nullptr;
    });
  }
  auto text = deparse_statement(plain);
  return text ? std::optional<std::string>(std::move(*text)) : std::nullopt;
}

// The tableoid of a table that is sharded by hash is a shard's: no table that its user can name is equal to it.
static bool compares_tableoid(const Node* root, const PlanContext& context) {
  const bool runs = as<PgQuery__SelectStmt>(root) != nullptr || as<PgQuery__InsertStmt>(root) != nullptr ||
                    as<PgQuery__UpdateStmt>(root) != nullptr || as<PgQuery__DeleteStmt>(root) != nullptr ||
                    as<PgQuery__MergeStmt>(root) != nullptr || as<PgQuery__ViewStmt>(root) != nullptr;
  if (!runs || !names_tableoid(root)) return false;
  bool leaves = false, compares = false;
  walk(root, [&](const Message* message) {
    if (auto* range = as<PgQuery__RangeVar>(message)) {
      const catalog::Table* table = lookup(context, range);
      leaves = leaves || (table != nullptr && has_leaves(*table));
    }
    if (auto* expression = as<PgQuery__AExpr>(message))
      compares = compares || names_tableoid(expression->lexpr) || names_tableoid(expression->rexpr);
    return true;
  });
  return leaves && compares;
}

Plan plan_tree(std::string_view sql, const Node* root, const PlanContext& context) {
  if (compares_tableoid(root, context))
    return unsupported("an expression over the tableoid of a table that is sharded by hash",
                       "It is a shard's there: name the table in its place, or leave the condition out.");
  if (as<PgQuery__AlterTableStmt>(root) == nullptr && only_of_sharded(root, context))
    return unsupported("ONLY with a sharded table is not supported", "Leave ONLY out: it has no child tables.");
  if (auto error = touching_shards(root, context.database)) return unsupported(std::move(*error));
  if (auto plan = plan_session_command(sql, root, context)) return std::move(*plan);
  if (auto plan = plan_temporary(root, context)) return std::move(*plan);
  if (auto plan = plan_ddl(sql, root, context)) return std::move(*plan);
  if (auto plan = plan_utility(sql, root, context)) return std::move(*plan);
  if (as<PgQuery__CopyStmt>(root) != nullptr) return plan_copy(sql, root, context);
  if (as<PgQuery__ExplainStmt>(root) != nullptr) return plan_explain(sql, root, context);
  if (auto plan = plan_virtual_relations(sql, root, context)) return std::move(*plan);
  if (auto plan = plan_fill(sql, root, context, false)) return std::move(*plan);

  Planning p(sql, context, root);
  scan_functions(p, p.root);
  if (auto* select = as<PgQuery__SelectStmt>(root)) {
    plan_select(p, select);
  } else if (auto* insert = as<PgQuery__InsertStmt>(root)) {
    plan_insert(p, insert);
    if (p.pulled_columns > 0) return plan_pull(sql, insert, context, p.pulled_columns);
    if (p.key_expression)
      if (auto plan = plan_fill(sql, root, context, true)) return std::move(*plan);
  } else if (auto* update = as<PgQuery__UpdateStmt>(root)) {
    plan_update(p, update);
  } else if (auto* remove = as<PgQuery__DeleteStmt>(root)) {
    plan_delete(p, remove);
  } else if (auto* merge = as<PgQuery__MergeStmt>(root)) {
    plan_merge(p, merge);
  } else {
    return unsupported(construct_name(root) + " is not supported yet", "It comes in a later version.");
  }
  // Its rows may fire triggers, and theirs others.
  if (p.plan.effects.writes && p.plan.target.kind == Target::Kind::home && context.database != nullptr &&
      !context.database->guarded_tables.empty())
    p.plan.guarded = true;
  if (p.plan.returns_rows) p.plan.result_signature = result_signature(p);
  return std::move(p.plan);
}

// Relations that are in no schema as far as we know; those of PostgreSQL itself do not count.
static bool names_unknown(const Node* root, const PlanContext& context) {
  std::set<std::string_view> common;
  bool found = false;
  walk(root, [&](const Message* message) {
    if (auto* cte = as<PgQuery__CommonTableExpr>(message)) common.insert(text_of(cte->ctename));
    return true;
  });
  walk(root, [&](const Message* message) {
    auto* range = as<PgQuery__RangeVar>(message);
    if (range == nullptr) return !found;
    const std::string_view schema = text_of(range->schemaname), name = text_of(range->relname);
    const bool own = schema.empty()
                         ? name.starts_with("pg_") || common.contains(name) ||
                               (context.temporary != nullptr && context.temporary->contains(name))
                         : schema.starts_with("pg_") || schema == "information_schema" || schema == kVirtualSchema;
    found = found || (!own && lookup(context, range) == nullptr);
    return !found;
  });
  return found;
}

Plan plan_statement(std::string_view sql, const PlanContext& context) {
  if (is_create_table(sql)) return plan_create_table(sql, context);
  auto tree = ParseTree::parse(sql);
  // The executor shows such a statement to a PostgreSQL, so that the error is PostgreSQL's own.
  if (!tree) return unsupported(tree.error());
  if (tree->statement_count() == 0) return empty_statement();
  if (tree->statement_count() > 1)
    return unsupported("several statements where one is expected", "Send them one by one.");
  if (auto text = without_only(tree->statement(), context)) {
    Plan plan = plan_statement(*text, context);
    if (plan.kind == PlanKind::route && plan.rewritten_sql.empty()) plan.rewritten_sql = std::move(*text);
    return plan;
  }
  if (auto plan = plan_asking(sql, tree->statement(), context)) {
    note_moments(*plan, tree->statement(), context);
    return std::move(*plan);
  }
  Plan plan = plan_tree(sql, tree->statement(), context);
  refuse_session_views(plan, tree->statement());
  note_draws(plan, tree->statement(), context);
  note_moments(plan, tree->statement(), context);
  if (plan.kind != PlanKind::ddl && plan.kind != PlanKind::session && plan.kind != PlanKind::unsupported)
    plan.unknown_names = names_unknown(tree->statement(), context);
  return plan;
}

}  // namespace pgmosaic::plan
