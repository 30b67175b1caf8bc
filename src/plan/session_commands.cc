// Statements that the session itself handles: transactions, settings, prepared statements, cursors, LISTEN.
#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;
using Kind = SessionCommand::Kind;

namespace {

Plan session_plan(Kind kind, std::string command, std::string name = {}) {
  Plan plan;
  plan.kind = PlanKind::session;
  plan.returns_rows = false;
  plan.command = std::move(command);
  plan.session.emplace();
  plan.session->kind = kind;
  plan.session->name = std::move(name);
  return plan;
}

Plan plan_transaction(std::string_view sql, const PgQuery__TransactionStmt* statement) {
  auto named = [&](Kind kind, std::string command) {
    return session_plan(kind, std::move(command), std::string(text_of(statement->savepoint_name)));
  };
  auto prepared = [&](Kind kind, std::string command) {
    return session_plan(kind, std::move(command), std::string(text_of(statement->gid)));
  };
  Plan plan;
  switch (statement->kind) {
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_BEGIN: plan = session_plan(Kind::begin, "BEGIN"); break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_START:
      plan = session_plan(Kind::begin, "START TRANSACTION");
      break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT: plan = session_plan(Kind::commit, "COMMIT"); break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK: plan = session_plan(Kind::rollback, "ROLLBACK"); break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_SAVEPOINT: plan = named(Kind::savepoint, "SAVEPOINT"); break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_RELEASE: plan = named(Kind::release, "RELEASE"); break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_TO: plan = named(Kind::rollback_to, "ROLLBACK"); break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_PREPARE:
      plan = prepared(Kind::prepare_transaction, "PREPARE TRANSACTION");
      break;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT_PREPARED:
      plan = prepared(Kind::commit_prepared, "COMMIT PREPARED");
      break;
    default: plan = prepared(Kind::rollback_prepared, "ROLLBACK PREPARED"); break;
  }
  plan.session->sql = std::string(sql);
  plan.session->chain = statement->chain;
  return plan;
}

Plan plan_set(std::string_view sql, const PgQuery__VariableSetStmt* statement) {
  std::string name(text_of(statement->name));
  switch (statement->kind) {
    case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET: {
      Plan plan = session_plan(Kind::reset, "RESET", name);
      plan.session->sql = std::string(sql);
      return plan;
    }
    case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL: return session_plan(Kind::reset_all, "RESET");
    case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_MULTI: {
      if (name == "TRANSACTION SNAPSHOT")
        return unsupported("SET TRANSACTION SNAPSHOT is not supported",
                           "A snapshot of one group means nothing to others.");
      Plan plan = session_plan(
          name == "SESSION CHARACTERISTICS" ? Kind::set_session_characteristics : Kind::set_transaction, "SET", name);
      plan.session->sql = std::string(sql);
      return plan;
    }
    default: break;
  }
  Plan plan = session_plan(statement->is_local ? Kind::set_local : Kind::set, "SET", name);
  plan.session->sql = std::string(sql);
  if (statement->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_SET_DEFAULT && !statement->is_local)
    plan.session->kind = Kind::reset;
  return plan;
}

Plan plan_discard(const PgQuery__DiscardStmt* statement) {
  switch (statement->target) {
    case PG_QUERY__DISCARD_MODE__DISCARD_PLANS: return session_plan(Kind::discard_plans, "DISCARD PLANS");
    case PG_QUERY__DISCARD_MODE__DISCARD_SEQUENCES: return session_plan(Kind::discard_sequences, "DISCARD SEQUENCES");
    case PG_QUERY__DISCARD_MODE__DISCARD_TEMP: return session_plan(Kind::discard_temp, "DISCARD TEMP");
    default: return session_plan(Kind::discard_all, "DISCARD ALL");
  }
}

// The statement after AS or FOR, as the client wrote it.
std::string text_after(std::string_view sql, std::string_view keyword) {
  TokenScanner scanner(sql);
  int depth = 0;
  for (Token token = scanner.next(); token.kind != Token::Kind::end && token.kind != Token::Kind::broken;
       token = scanner.next()) {
    if (scanner.is_symbol(token, '(')) ++depth;
    if (scanner.is_symbol(token, ')')) --depth;
    if (depth == 0 && scanner.is_word(token, keyword)) return std::string(sql.substr(scanner.peek().begin));
  }
  return {};
}

Plan plan_prepare(std::string_view sql, const PgQuery__PrepareStmt* statement) {
  Plan plan = session_plan(Kind::prepare, "PREPARE", std::string(text_of(statement->name)));
  plan.session->sql = text_after(sql, "as");
  for (const Node* type : each(statement->n_argtypes, statement->argtypes)) {
    Arena arena;
    auto* typecast = arena.make<PgQuery__TypeCast>();
    auto* null = arena.make<PgQuery__AConst>();
    null->isnull = true;
    typecast->arg = arena.node(null);
    typecast->type_name = const_cast<PgQuery__TypeName*>(as<PgQuery__TypeName>(type));
    auto text = deparse_expression(arena.node(typecast));
    if (!text) return unsupported(text.error());
    size_t type_at = text->find("::");
    plan.session->arguments.push_back(type_at == std::string::npos ? *text : text->substr(type_at + 2));
  }
  return plan;
}

Plan plan_execute(const PgQuery__ExecuteStmt* statement) {
  Plan plan = session_plan(Kind::execute, "EXECUTE", std::string(text_of(statement->name)));
  for (const Node* argument : each(statement->n_params, statement->params)) {
    auto text = deparse_expression(argument);
    if (!text) return unsupported(text.error());
    plan.session->arguments.push_back(*text);
  }
  return plan;
}

constexpr int kCursorOptionScroll = 0x0002, kCursorOptionHold = 0x0020;

Plan plan_declare(std::string_view sql, const PgQuery__DeclareCursorStmt* statement, const PlanContext& context) {
  Plan plan = session_plan(Kind::declare_cursor, "DECLARE CURSOR", std::string(text_of(statement->portalname)));
  plan.session->sql = std::string(sql);
  Plan query = plan_tree(sql, statement->query, context);
  if (query.kind == PlanKind::unsupported) return query;
  if (query.kind == PlanKind::ddl) return Plan();  // SELECT INTO: PostgreSQL refuses it
  if (query.guarded)
    return unsupported("a cursor over a function that runs SQL given as text", "SELECT its rows without a cursor.");
  bool single = query.target.kind == Target::Kind::any || query.target.kind == Target::Kind::home ||
                (query.target.kind == Target::Kind::keys && query.target.keys.size() <= 1);
  if (!single && (statement->options & kCursorOptionScroll) && !query.multi_group_error)
    query.multi_group_error = make_error("0A000", "not supported over several groups: a SCROLL cursor",
                                         "Declare it without SCROLL, or pin its tables to one key.");
  query.cacheable = false;
  if (query.rewritten_sql.empty() || !query.virtual_relations.empty()) query.rewritten_sql = text_after(sql, "for");
  plan.effects = query.effects;
  plan.target = query.target;
  if (statement->options & kCursorOptionHold) plan.effects.pins = plan.effects.not_preparable = true;
  query.point.reset();  // a cursor stays where it is opened
  plan.session->inner = std::make_shared<const Plan>(std::move(query));
  return plan;
}

Plan plan_listen(std::string_view sql, Kind kind, std::string command, std::string channel) {
  Plan plan = session_plan(kind, std::move(command), std::move(channel));
  plan.session->sql = std::string(sql);
  plan.target.kind = Target::Kind::home;
  plan.effects.pins = kind == Kind::listen;
  plan.effects.not_preparable = true;
  return plan;
}

}  // namespace

std::optional<Plan> plan_session_command(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto* statement = as<PgQuery__TransactionStmt>(root)) return plan_transaction(sql, statement);
  if (auto* statement = as<PgQuery__VariableSetStmt>(root)) return plan_set(sql, statement);
  if (auto* statement = as<PgQuery__DiscardStmt>(root)) return plan_discard(statement);
  if (auto* statement = as<PgQuery__PrepareStmt>(root)) return plan_prepare(sql, statement);
  if (auto* statement = as<PgQuery__ExecuteStmt>(root)) return plan_execute(statement);
  if (auto* statement = as<PgQuery__DeallocateStmt>(root)) {
    std::string name(text_of(statement->name));
    return name.empty() ? session_plan(Kind::deallocate_all, "DEALLOCATE ALL")
                        : session_plan(Kind::deallocate, "DEALLOCATE", name);
  }
  if (auto* statement = as<PgQuery__ListenStmt>(root))
    return plan_listen(sql, Kind::listen, "LISTEN", std::string(text_of(statement->conditionname)));
  if (auto* statement = as<PgQuery__UnlistenStmt>(root)) {
    std::string name(text_of(statement->conditionname));
    return plan_listen(sql, name.empty() ? Kind::unlisten_all : Kind::unlisten, "UNLISTEN", name);
  }
  if (auto* statement = as<PgQuery__DeclareCursorStmt>(root)) return plan_declare(sql, statement, context);
  if (auto* statement = as<PgQuery__FetchStmt>(root)) {
    Plan plan = session_plan(Kind::fetch_cursor, statement->ismove ? "MOVE" : "FETCH",
                             std::string(text_of(statement->portalname)));
    plan.session->sql = std::string(sql);
    plan.returns_rows = !statement->ismove;
    return plan;
  }
  if (auto* statement = as<PgQuery__ClosePortalStmt>(root)) {
    std::string name(text_of(statement->portalname));
    Plan plan = session_plan(name.empty() ? Kind::close_all_cursors : Kind::close_cursor,
                             name.empty() ? "CLOSE CURSOR ALL" : "CLOSE CURSOR", name);
    plan.session->sql = std::string(sql);
    return plan;
  }
  if (as<PgQuery__ConstraintsSetStmt>(root) != nullptr) {
    Plan plan = session_plan(Kind::set_constraints, "SET CONSTRAINTS");
    plan.session->sql = std::string(sql);
    return plan;
  }
  return std::nullopt;
}

}  // namespace pgmosaic::plan
