// PREPARE and EXECUTE as SQL statements. They share the names of the extended protocol's prepared statements.
#include "router/execution.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

// A literal whose text is its value: 42, -1, 'abc'.
bool plain_literal(const std::string& expression, std::string& value) {
  if (expression.size() >= 2 && expression.front() == '\'' && expression.back() == '\'') {
    const std::string inside = expression.substr(1, expression.size() - 2);
    if (inside.find_first_of("'\\") != std::string::npos) return false;
    value = inside;
    return true;
  }
  const std::size_t digits = !expression.empty() && expression[0] == '-' ? 1 : 0;
  if (digits == expression.size() || expression.find_first_not_of("0123456789", digits) != std::string::npos)
    return false;
  value = expression;
  return true;
}

}  // namespace

net::Task<Status> Session::run_prepare(const plan::SessionCommand& command) {
  ExtendedState& state = ext();
  if (state.statements.contains(command.name))
    co_return make_error("42P05", "prepared statement \"" + command.name + "\" already exists");
  auto statement = std::make_shared<Prepared>();
  statement->sql = command.sql;
  auto backend = co_await backends_.get(any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  if (!command.arguments.empty()) {
    std::string question = "SELECT ";
    for (std::size_t i = 0; i < command.arguments.size(); ++i)
      question +=
          (i == 0 ? "" : ", ") + pool::quote_literal(command.arguments[i]) + "::pg_catalog.regtype::pg_catalog.oid";
    auto rows = co_await conn.query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    for (const auto& oid : rows->rows[0])
      statement->types.push_back(conn.type_at_home(static_cast<pg::Oid>(std::stoul(*oid))));
  }
  CO_TRY(plan_prepared(*statement));
  name_on_groups(*statement);
  // A PostgreSQL checks it now, as PREPARE would.
  if (statement->plan->kind != plan::PlanKind::session) {
    CO_TRY_ASSIGN(std::string text, co_await text_for_group(*statement->plan, statement->sql));
    conn.write_parse("", text, statement->types);
    pg::write_describe(conn.out(), 'S', "");
    pg::write_sync(conn.out());
    for (pool::RequestKind kind : {pool::RequestKind::parse, pool::RequestKind::describe, pool::RequestKind::sync})
      conn.expect({kind, true});
    pool::ServerConn::Rows described;
    Status accepted = co_await conn.drain(&described);
    if (!accepted.ok()) {
      const std::size_t inner_at = last_query_.find(command.sql);
      if (accepted.error().position > 0 && inner_at != std::string::npos)
        accepted.error().position += static_cast<int>(inner_at);
      co_return accepted;
    }
    statement->resolved_types = described.parameter_types;
  }
  state.statements[command.name] = statement;
  put_complete("PREPARE");
  co_return Status{};
}

net::Task<Status> Session::run_execute(const plan::SessionCommand& command) {
  ExtendedState& state = ext();
  auto found = state.statements.find(command.name);
  if (found == state.statements.end())
    co_return make_error("26000", "prepared statement \"" + command.name + "\" does not exist");
  PreparedPtr statement = found->second;
  CO_TRY(co_await replan(statement));
  CO_TRY(check_owned(*statement->plan, backends_, snapshot_->home));
  if (statement->plan->kind == plan::PlanKind::session || statement->plan->kind == plan::PlanKind::ddl)
    co_return co_await run_plan(statement->sql, statement->plan);
  CO_TRY_ASSIGN(std::vector<pg::Oid> types,
                co_await parameter_types(*statement, std::max<std::size_t>(command.arguments.size(), 1)));
  if (types.size() != command.arguments.size())
    co_return make_error("42601", "wrong number of parameters for prepared statement \"" + command.name + "\"", {},
                         "Expected " + std::to_string(types.size()) + " parameters but got " +
                             std::to_string(command.arguments.size()) + ".");
  std::vector<std::optional<std::string>> values;
  std::string question;
  for (std::size_t i = 0; i < types.size(); ++i) {
    std::string value;
    if (plain_literal(command.arguments[i], value)) {
      values.emplace_back(value);
      continue;
    }
    values.emplace_back(std::nullopt);
    question +=
        (question.empty() ? "SELECT " : ", ") + ("CAST(" + command.arguments[i]) + " AS /*" + std::to_string(i) + "*/";
    auto backend = co_await backends_.get(any_group());
    if (!backend.ok()) co_return std::move(backend.error());
    const std::string ask_name =
        "SELECT pg_catalog.format_type(" + std::to_string((*backend)->conn->type_here(types[i])) + ", NULL)";
    auto name = co_await (*backend)->conn->query(ask_name);
    if (!name.ok()) co_return std::move(name.error());
    question += *name->rows[0][0] + ")";
  }
  if (!question.empty()) {
    auto backend = co_await backends_.get(any_group());
    if (!backend.ok()) co_return std::move(backend.error());
    auto rows = co_await (*backend)->conn->query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    std::size_t column = 0;
    for (std::size_t i = 0; i < types.size(); ++i) {
      std::string ignored;
      if (!plain_literal(command.arguments[i], ignored)) values[i] = rows->rows[0][column++];
    }
  }
  pg::BindMessage bind;
  for (const auto& value : values) value ? bind.values.emplace_back(*value) : bind.values.emplace_back(std::nullopt);
  Execution execution;
  execution.sql = statement->sql;
  sql::scan_shape(statement->sql, execution.shape);
  execution.bind = &bind;
  execution.types = types;
  execution.describe = true;
  execution.values = values_of(statement->sql, execution.shape, &bind, *statement->plan);
  CO_TRY_ASSIGN(execution.where, co_await locate(*statement->plan, execution));
  co_return co_await run_multi(*statement->plan, execution);
}

}  // namespace pgmosaic::router
