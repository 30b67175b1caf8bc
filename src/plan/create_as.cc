// CREATE TABLE … AS and SELECT INTO. A local table of a query that the home can run is the home's own business, and the
// other groups get an empty table of the same columns; else the router reads the rows and puts them into a table that
// is planned like any other. See Ddl::FromQuery and router/create_as.cc.
#include <vector>

#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/dialect.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

// "SELECT 1" of " AS SELECT 1 WITH NO DATA".
std::string_view query_text(std::string_view as_query, bool no_data) {
  TokenScanner scanner(as_query);
  scanner.next();
  const std::size_t begin = scanner.peek().begin;
  std::vector<Token> tokens;
  for (Token token = scanner.next(); token.kind != Token::Kind::end && token.kind != Token::Kind::broken;
       token = scanner.next())
    tokens.push_back(token);
  const std::size_t words = no_data ? 3 : 2;
  std::size_t end = tokens.empty() ? begin : tokens.back().end;
  if (tokens.size() > words && scanner.is_word(tokens.back(), "data") &&
      scanner.is_word(tokens[tokens.size() - words], "with"))
    end = tokens[tokens.size() - words - 1].end;
  return as_query.substr(begin, end - begin);
}

// Where the rows come from.
Status plan_query(const Node* query, const PlanContext& context, Ddl::FromQuery& from, Effects& effects) {
  if (as<PgQuery__ExecuteStmt>(query) != nullptr) {
    Plan plan = *plan_session_command(from.query, query, context);
    if (plan.kind == PlanKind::unsupported) return *plan.error;
    from.execute = std::move(plan.session);
    return {};
  }
  const Plan plan = plan_statement(from.query, context);
  if (plan.kind == PlanKind::unsupported) return *plan.error;
  if (plan.guarded)
    return make_error("0A000", "CREATE TABLE ... AS from a function that runs SQL given as text",
                      "Create the table first, then insert the rows.");
  from.at_home = plan.virtual_relations.empty() &&
                 (plan.target.kind == Target::Kind::any || plan.target.kind == Target::Kind::home);
  effects = plan.effects;
  return {};
}

Plan plan_from_query(Ddl::FromQuery from, const Node* query, const PlanContext& context) {
  Effects effects;
  if (auto planned = plan_query(query, context, from, effects); !planned) return unsupported(planned.error());
  if (from.temporary && from.at_home) {
    Plan plan = temporary("SELECT");
    plan.effects.taints = effects.taints;
    return plan;
  }
  Plan plan = everywhere(from.no_data ? "CREATE TABLE AS" : "SELECT", from.home);
  plan.ddl->everywhere.clear();
  plan.effects.taints = effects.taints;
  plan.ddl->from_query = std::move(from);
  return plan;
}

}  // namespace

Plan plan_create_as(std::string_view sql, const CreateTableText& text, const PgQuery__CreateTableAsStmt* create,
                    const PlanContext& context) {
  const PgQuery__IntoClause* into = create->into;
  Ddl::FromQuery from;
  from.sql = sql;
  from.schema = text_of(into->rel->schemaname);
  from.table = text_of(into->rel->relname);
  from.create = text.create;
  from.clauses = text.clauses;
  from.no_data = into->skip_data;
  const std::string_view query = query_text(text.as_query, from.no_data);
  from.query = query;
  const std::size_t behind = text.as_query.size() - static_cast<std::size_t>(query.data() - text.as_query.data());
  from.plain = text.has_clause() ? text.plain_table() + " AS " : std::string(sql.substr(0, sql.size() - behind));
  from.home = text.has_clause() ? text.plain_sql() : std::string(sql);
  from.if_not_exists = create->if_not_exists;
  from.temporary = is_temporary(into->rel);
  if (from.temporary && text.has_clause())
    return unsupported("a temporary table cannot be sharded or a reference table",
                       "Leave out SHARD BY and table_type; it lives in the session's home group.");
  return plan_from_query(std::move(from), create->query, context);
}

// Only the home knows what columns it gets.
Plan plan_create_like(const CreateTableText& text, const PgQuery__CreateStmt* create) {
  auto* like = as<PgQuery__TableLikeClause>(create->table_elts[0]);
  if (create->n_table_elts > 1 || like == nullptr || like->options != 0 || create->n_inh_relations > 0 ||
      text.partitioned || !text.by_hash.empty())
    return unsupported("CREATE TABLE ... (LIKE ...) of a temporary table together with other clauses",
                       "Create the table LIKE it alone, then ALTER TABLE.");
  Plan plan = everywhere("CREATE TABLE", "");
  plan.ddl->everywhere.clear();
  Ddl::FromQuery& from = plan.ddl->from_query.emplace();
  from.sql = from.home = from.plain = text.plain_sql();
  from.schema = text_of(create->relation->schemaname);
  from.table = text_of(create->relation->relname);
  from.create = text.create;
  from.clauses = text.clauses;
  from.if_not_exists = create->if_not_exists;
  from.like = from.no_data = true;
  return plan;
}

std::optional<Plan> plan_select_into(std::string_view sql, const PgQuery__SelectStmt* select,
                                     const PlanContext& context) {
  // Of UNION and its kin the first arm has it.
  Arena arena;
  auto* plain = arena.shallow(select);
  auto* first = plain;
  while (first->larg != nullptr) {
    first->larg = arena.shallow(first->larg);
    first = first->larg;
  }
  const PgQuery__IntoClause* into = first->into_clause;
  if (into == nullptr) return std::nullopt;
  first->into_clause = nullptr;
  auto query = deparse_statement(arena.node(plain));
  auto* table = arena.shallow(into->rel);
  table->relpersistence = arena.string("p");  // TEMP is no part of the name
  auto name = deparse_from_item(arena.node(table));
  if (!query) return unsupported(query.error());
  if (!name) return unsupported(name.error());
  Ddl::FromQuery from;
  from.sql = from.home = sql;
  from.schema = text_of(into->rel->schemaname);
  from.table = text_of(into->rel->relname);
  from.temporary = is_temporary(into->rel);
  const bool unlogged = text_of(into->rel->relpersistence) == "u";
  from.create = std::string("CREATE ") + (from.temporary ? "TEMP " : unlogged ? "UNLOGGED " : "") + "TABLE " + *name;
  from.plain = from.create + " AS ";
  from.query = std::move(*query);
  return plan_from_query(std::move(from), arena.node(plain), context);
}

}  // namespace pgmosaic::plan
