#include "plan/planning.h"
#include "plan/virtual_relations.h"
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

namespace {

bool has_analyze(const PgQuery__ExplainStmt* explain) {
  bool analyze = false;
  for (const Node* node : each(explain->n_options, explain->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr || text_of(option->defname) != "analyze") continue;
    auto* value = as<PgQuery__String>(option->arg);
    std::string_view flag = value == nullptr ? "on" : text_of(value->sval);
    analyze = flag != "off" && flag != "false" && flag != "0";
    if (auto* number = as<PgQuery__Integer>(option->arg)) analyze = number->ival != 0;
  }
  return analyze;
}

// The client's text at home, where PostgreSQL explains it in its own words.
Plan at_home(const Effects& effects) {
  Plan plan;
  plan.command = "EXPLAIN";
  plan.target.kind = Target::Kind::home;
  plan.effects = effects;
  return plan;
}

// What makes a table makes it with ANALYZE: everywhere, and the home's answer is the client's.
Plan explain_making(Plan made, std::string_view sql, std::string prefix, bool analyze, const PlanContext& context) {
  std::optional<Ddl::FromQuery>& from = made.ddl->from_query;
  if (from && !from->at_home && !from->execute) {
    if (analyze)
      return unsupported("EXPLAIN ANALYZE of a CREATE TABLE ... AS whose rows come from several groups or for them",
                         "EXPLAIN ANALYZE the query in it.");
    Plan plan;
    plan.kind = PlanKind::explain;
    plan.command = "EXPLAIN";
    plan.explain_prefix = std::move(prefix);
    plan.session.emplace();
    plan.session->sql = from->query;
    Plan query = plan_statement(from->query, context);
    query.cacheable = false;
    plan.target = query.target;
    plan.inner = std::make_shared<const Plan>(std::move(query));
    return plan;
  }
  if (from && from->at_home && !analyze) {
    Plan plan = at_home({});
    if (prefix + from->home != sql) plan.rewritten_sql = prefix + from->home;
    return plan;
  }
  if (made.ddl->view_rows)
    return unsupported("EXPLAIN of a CREATE MATERIALIZED VIEW over sharded tables", "EXPLAIN the query in it.");
  made.command = made.ddl->tag = "EXPLAIN";
  made.explain_prefix = prefix;
  made.returns_rows = made.ddl->shows_rows = true;
  if (from) {
    from->sql = std::string(sql);
    from->home = prefix + from->home;
    from->explain = true;
    from->explain_only = !analyze;
    return made;
  }
  if (!analyze) return at_home({});
  made.ddl->home_instead = {std::string(sql)};
  return made;
}

}  // namespace

Plan plan_explain(std::string_view sql, const Node* root, const PlanContext& context) {
  auto* explain = as<PgQuery__ExplainStmt>(root);
  const size_t begin = explained_at(sql);
  const bool analyze = has_analyze(explain);
  std::string prefix(sql.substr(0, begin));
  if (as<PgQuery__RefreshMatViewStmt>(explain->query) != nullptr) return at_home({});
  Plan query = plan_statement(sql.substr(begin), context);
  if (query.kind == PlanKind::unsupported) return query;
  if (query.kind == PlanKind::ddl) return explain_making(std::move(query), sql, std::move(prefix), analyze, context);
  if (query.kind == PlanKind::fill)
    return unsupported("EXPLAIN of an INSERT whose values are computed first",
                       "Write the values of the distribution column and of sequences in the statement.");
  Plan plan;
  plan.kind = PlanKind::explain;
  plan.command = "EXPLAIN";
  // What each group runs: EXPLAIN with the client's options, in front of the text that the group would run.
  plan.explain_prefix = std::move(prefix);
  if (query.kind == PlanKind::session && query.session->kind == SessionCommand::Kind::execute) {
    plan.effects.writes = analyze;
    plan.session = std::move(query.session);
    return plan;
  }
  const bool cursor = query.kind == PlanKind::session;
  if (cursor) {  // DECLARE: one group explains it as it is, several the query in it
    plan.session = std::move(query.session);
    Plan inside = *plan.session->inner;
    query = std::move(inside);
  }
  if (!analyze) {
    const bool taints = query.effects.taints;
    query.effects = {};
    query.effects.taints = taints;  // planning may run functions
  }
  const bool asks = query.virtual_relations == std::vector<std::string>{std::string(kNumbers)};  // see numbers.cc
  const bool alone = query.kind == PlanKind::route &&
                     (asks || (query.virtual_relations.empty() && (cursor || query.rewritten_sql.empty())));
  if (alone && (query.target.kind == Target::Kind::home || query.target.kind == Target::Kind::any)) {
    Plan whole = at_home(query.effects);
    whole.parameter_count = query.parameter_count;
    whole.guarded = query.guarded;
    return whole;
  }
  plan.target = query.target;
  plan.effects = query.effects;
  plan.parameter_count = query.parameter_count;
  query.cacheable = false;
  plan.inner = std::make_shared<const Plan>(std::move(query));
  return plan;
}

}  // namespace pgmosaic::plan
