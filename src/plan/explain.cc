#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;

// Begin of the statement that EXPLAIN explains: behind the options.
static size_t explained_at(std::string_view sql) {
  TokenScanner scanner(sql);
  scanner.next();
  if (scanner.is_symbol(scanner.peek(), '(')) {
    // EXPLAIN (SELECT …) has no options: its parenthesis belongs to the query.
    TokenScanner ahead = scanner;
    ahead.next();
    Token first = ahead.next();
    for (std::string_view word : {"select", "with", "values", "table"})
      if (ahead.is_word(first, word)) return scanner.peek().begin;
    if (ahead.is_symbol(first, '(')) return scanner.peek().begin;
    scanner.next();
    skip_parentheses(scanner);
    return scanner.peek().begin;
  }
  while (scanner.is_word(scanner.peek(), "analyze") || scanner.is_word(scanner.peek(), "analyse") ||
         scanner.is_word(scanner.peek(), "verbose"))
    scanner.next();
  return scanner.peek().begin;
}

Plan plan_explain(std::string_view sql, const Node* root, const PlanContext& context) {
  auto* explain = as<PgQuery__ExplainStmt>(root);
  size_t begin = explained_at(sql);
  Plan query;
  if (as<PgQuery__SelectStmt>(explain->query) || as<PgQuery__InsertStmt>(explain->query) ||
      as<PgQuery__UpdateStmt>(explain->query) || as<PgQuery__DeleteStmt>(explain->query) ||
      as<PgQuery__MergeStmt>(explain->query)) {
    query = plan_statement(sql.substr(begin), context);
  } else if (auto* execute = as<PgQuery__ExecuteStmt>(explain->query)) {
    (void)execute;
    query = plan_statement(sql.substr(begin), context);
  } else {
    return unsupported("EXPLAIN of " + construct_name(explain->query), "EXPLAIN the query in it.");
  }
  if (query.kind == PlanKind::unsupported) return query;
  if (query.kind == PlanKind::fill)
    return unsupported("EXPLAIN of an INSERT whose values are computed first",
                       "Write the values of the distribution column and of sequences in the statement.");
  Plan plan;
  // What the home runs by itself PostgreSQL explains, in its own words.
  const bool alone = query.kind == PlanKind::route && query.virtual_relations.empty() && query.rewritten_sql.empty();
  if (alone && (query.target.kind == Target::Kind::home || query.target.kind == Target::Kind::any)) {
    plan.command = "EXPLAIN";
    plan.target.kind = Target::Kind::home;
    plan.effects = query.effects;
    plan.guarded = query.guarded;
    plan.parameter_count = query.parameter_count;
    return plan;
  }
  plan.kind = PlanKind::explain;
  plan.command = "EXPLAIN";
  plan.target = query.target;
  plan.effects = query.effects;
  plan.parameter_count = query.parameter_count;
  // What each group runs: EXPLAIN with the client's options, in front of the text that the group would run.
  plan.explain_prefix = std::string(sql.substr(0, begin));
  bool analyze = false;
  for (const Node* node : each(explain->n_options, explain->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr || text_of(option->defname) != "analyze") continue;
    auto* value = as<PgQuery__String>(option->arg);
    std::string_view flag = value == nullptr ? "on" : text_of(value->sval);
    analyze = flag != "off" && flag != "false" && flag != "0";
    if (auto* number = as<PgQuery__Integer>(option->arg)) analyze = number->ival != 0;
  }
  if (!analyze) plan.effects.writes = false;
  query.cacheable = false;
  plan.inner = std::make_shared<const Plan>(std::move(query));
  return plan;
}

}  // namespace pgmosaic::plan
