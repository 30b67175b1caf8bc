#include "router/prepared_sql.h"

#include <algorithm>

#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

// A literal whose text is a value of its parameter's type, for sure: 42, 'abc'.
bool plain_literal(const std::string& expression, pg::Oid type, std::string& value) {
  constexpr pg::Oid kInt8 = 20, kInt4 = 23, kText = 25, kFloat8 = 701, kVarchar = 1043, kNumeric = 1700;
  constexpr std::size_t kSafeDigits = 9;
  if (expression.size() >= 2 && expression.front() == '\'' && expression.back() == '\'') {
    value = expression.substr(1, expression.size() - 2);
    return value.find_first_of("'\\") == std::string::npos && (type == kText || type == kVarchar);
  }
  value = expression;
  return !value.empty() && value.size() <= kSafeDigits && value.find_first_not_of("0123456789") == std::string::npos &&
         (type == kInt4 || type == kInt8 || type == kNumeric || type == kFloat8);
}

uint64_t hash_of(const std::vector<pg::FieldDescription>& fields) {
  std::string text;
  for (const pg::FieldDescription& field : fields)
    text += field.name + '\0' + std::to_string(field.type) + ',' + std::to_string(field.typmod) + ';';
  return std::hash<std::string>()(text);
}

// Of columns the catalog does not know.
bool may_read(const Prepared& statement, const TemporaryNames& temporary) {
  return std::any_of(temporary.names.begin(), temporary.names.end(),
                     [&statement](const std::string& name) { return statement.sql.find(name) != std::string::npos; });
}

}  // namespace

Error PreparedSql::in_prepare(Error error, const Prepared& statement) {
  s_.text_.in_prepare(error, statement.text_at);
  return error;
}

net::Task<Status> PreparedSql::prepare(const plan::SessionCommand& command, std::string_view sql) {
  ExtendedState& state = s_.ext();
  if (state.statements.contains(command.name))
    co_return make_error("42P05", "prepared statement \"" + command.name + "\" already exists");
  auto statement = std::make_shared<Prepared>();
  statement->sql = command.sql;
  statement->source = s_.text_.string.empty() ? sql : s_.text_.string;
  statement->prepared_us = s_.active_since_us_;
  statement->old_strings = s_.plan_settings_->old_strings;
  if (sql.ends_with(command.sql))
    statement->text_at = s_.text_.before() + characters(sql.substr(0, sql.size() - command.sql.size()));
  auto backend = co_await s_.backends_.get(s_.any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  if (!command.arguments.empty()) {
    std::string question = "SELECT ";
    for (std::size_t i = 0; i < command.arguments.size(); ++i)
      question +=
          (i == 0 ? "" : ", ") + pool::quote_literal(command.arguments[i]) + "::pg_catalog.regtype::pg_catalog.oid";
    auto rows = co_await conn.query(question);
    if (!rows.ok()) {
      rows.error().position = 0;
      for (const std::string& type : command.arguments)
        if (rows.error().message.find('"' + type + '"') != std::string::npos && sql.find(type) != sql.npos)
          rows.error().position = characters(sql.substr(0, sql.find(type))) + 1;
      co_return std::move(rows.error());
    }
    for (const auto& oid : rows->rows[0])
      statement->types.push_back(conn.type_at_home(static_cast<pg::Oid>(std::stoul(*oid))));
  }
  CO_TRY(co_await s_.plan_prepared(*statement));
  s_.name_on_groups(*statement);
  // A PostgreSQL checks it now, as PREPARE would.
  if (statement->plan->kind != plan::PlanKind::session) {
    CO_TRY_ASSIGN(std::string text, co_await s_.text_for_group(*statement->plan, statement->sql));
    conn.write_parse("", text, statement->types);
    pg::write_describe(conn.out(), 'S', "");
    pg::write_sync(conn.out());
    for (pool::RequestKind kind : {pool::RequestKind::parse, pool::RequestKind::describe, pool::RequestKind::sync})
      conn.expect({kind, true});
    pool::ServerConn::Rows described;
    Status accepted = co_await conn.drain(&described);
    if (!accepted.ok()) {
      co_return in_prepare(std::move(accepted.error()), *statement);
    }
    statement->resolved_types = described.parameter_types;
    statement->columns = hash_of(described.fields);
  }
  state.statements[command.name] = statement;
  s_.put_complete("PREPARE");
  co_return Status{};
}

// The values of EXECUTE's arguments. PostgreSQL itself computes and coerces them: it executes a statement with the same
// parameters that gives them back.
net::Task<Status> PreparedSql::argument_values(const plan::SessionCommand& command, std::string_view sql,
                                               const std::vector<pg::Oid>& types,
                                               std::vector<std::optional<std::string>>& values) {
  bool plain = true;
  std::string echo = "SELECT ";
  for (std::size_t i = 0; i < types.size(); ++i) {
    std::string value;
    plain = plain && plain_literal(command.arguments[i], types[i], value);
    values.emplace_back(std::move(value));
    echo += (i == 0 ? "$" : ", $") + std::to_string(i + 1);
  }
  if (plain) co_return Status{};
  const bool calls = std::any_of(command.arguments.begin(), command.arguments.end(),
                                 [](const std::string& argument) { return argument.find('(') != std::string::npos; });
  const exec::GroupId group = calls ? s_.snapshot_->home : s_.any_group();
  auto backend = co_await s_.backends_.get(group);
  if (!backend.ok()) co_return std::move(backend.error());
  (*backend)->wrote = (*backend)->wrote || calls;
  pool::ServerConn& conn = *(*backend)->conn;
  const uint32_t number = s_.worker_.statement_id(echo, types, 0);
  const std::string wire_name = "pgm_" + std::to_string(number);
  if (!conn.has_statement(number)) {
    s_.prepare_on(conn, number, wire_name, echo, types, true);
    pg::write_sync(conn.out());
    conn.expect({pool::RequestKind::sync, true});
  }
  sql::TokenScanner scanner(sql);
  scanner.next();
  const sql::Token name = scanner.next();
  const std::string call = std::string(sql.substr(0, name.begin)) + wire_name + std::string(sql.substr(name.end));
  auto rows = co_await conn.query(call);
  if (!rows.ok()) {
    const int longer = static_cast<int>(wire_name.size()) - characters(sql.substr(name.begin, name.end - name.begin));
    if (rows.error().position > characters(sql.substr(0, name.begin)) + 1) rows.error().position -= longer;
    co_return std::move(rows.error());
  }
  s_.out_ += rows->notices;
  values = std::move(rows->rows[0]);
  co_return Status{};
}

net::Task<Status> PreparedSql::ready_on(exec::Backend& backend, uint32_t number, std::string_view name,
                                        std::string_view sql, const std::vector<pg::Oid>& types) {
  pool::ServerConn& conn = *backend.conn;
  if (conn.has_statement(number)) co_return Status{};
  s_.prepare_on(conn, number, name, sql, types, true);
  pg::write_sync(conn.out());
  conn.expect({pool::RequestKind::sync, true});
  co_return co_await conn.drain();
}

net::Task<Result<PreparedPtr>> PreparedSql::named(const plan::SessionCommand& command) {
  ExtendedState& state = s_.ext();
  auto found = state.statements.find(command.name);
  if (found == state.statements.end())
    co_return make_error("26000", "prepared statement \"" + command.name + "\" does not exist");
  PreparedPtr statement = found->second;
  CO_TRY(co_await s_.replan(statement));
  co_return statement;
}

net::Task<Result<std::vector<pg::Oid>>> PreparedSql::types(const plan::SessionCommand& command, Prepared& statement) {
  const std::size_t given = command.arguments.size();
  std::vector<pg::Oid> types;
  if (statement.sql.find('$') != std::string::npos) {
    auto asked = co_await s_.parameter_types(statement, std::max<std::size_t>(given, 1));
    if (!asked.ok()) co_return in_prepare(std::move(asked.error()), statement);
    types = std::move(*asked);
  }
  if (types.size() != given)
    co_return make_error(
        "42601", "wrong number of parameters for prepared statement \"" + command.name + "\"", {},
        "Expected " + std::to_string(types.size()) + " parameters but got " + std::to_string(given) + ".");
  co_return types;
}

net::Task<Status> PreparedSql::bind(const plan::SessionCommand& command, std::string_view sql, Prepared& statement,
                                    Execution& execution, pg::BindMessage& bind) {
  CO_TRY_ASSIGN(execution.types, co_await this->types(command, statement));
  CO_TRY(co_await argument_values(command, sql, execution.types, execution.arguments));
  ++statement.executions;
  for (const auto& value : execution.arguments)
    value ? bind.values.emplace_back(*value) : bind.values.emplace_back(std::nullopt);
  execution.sql = statement.sql;
  sql::scan_shape(statement.sql, execution.shape);
  execution.bind = &bind;
  execution.values = s_.values_of(statement.sql, execution.shape, &bind, *statement.plan);
  CO_TRY_ASSIGN(execution.where, co_await s_.locate(*statement.plan, execution));
  co_return Status{};
}

net::Task<Status> PreparedSql::execute(const plan::SessionCommand& command, std::string_view sql) {
  ExtendedState& state = s_.ext();
  CO_TRY_ASSIGN(const PreparedPtr statement, co_await named(command));
  const plan::Plan& plan = *statement->plan;
  if (plan.kind == plan::PlanKind::session || plan.kind == plan::PlanKind::ddl)
    co_return co_await s_.run_plan(statement->sql, statement->plan);
  if (statement->columns != 0 && may_read(*statement, s_.temporary_)) {
    std::vector<pg::FieldDescription> fields;
    CO_TRY(co_await s_.columns_of_command(command, fields));
    if (hash_of(fields) != statement->columns) co_return make_error("0A000", kOtherColumns);
  }
  pg::BindMessage bind;
  Execution execution;
  CO_TRY(co_await this->bind(command, sql, *statement, execution, bind));
  if (state.command_bind != nullptr) bind.result_formats = state.command_bind->result_formats;
  execution.describe = state.command_bind == nullptr;
  // PostgreSQL plans a named statement for all values once it pays, and shows that plan to EXPLAIN EXECUTE.
  if (execution.where.single() && runs_on_groups(plan) && !statement->wire_name.empty()) {
    auto backend = co_await s_.backends_.get(execution.where.one);
    if (!backend.ok()) co_return std::move(backend.error());
    Status ready = co_await ready_on(**backend, statement->id, statement->wire_name, statement->sql, execution.types);
    if (!ready.ok()) co_return in_prepare(std::move(ready.error()), *statement);
    execution.prepared_name = statement->wire_name;
  }
  const plan::PlanPtr kept = statement->plan;
  Status status = co_await s_.run_multi(*kept, execution);
  if (!status.ok()) co_return in_prepare(std::move(status.error()), *statement);
  co_return status;
}

}  // namespace pgmosaic::router
