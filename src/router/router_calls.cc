#include "router/router_calls.h"

#include <charconv>

#include "plan/virtual_relations.h"
#include "router/execution.h"
#include "router/session.h"
#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

using sql::Token;
using Function = RouterCall::Function;

constexpr pg::Oid kBoolType = 16;

// Reads "name" or "pg_catalog . name".
std::string function_name(sql::TokenScanner& scanner) {
  Token token = scanner.next();
  if (token.kind != Token::Kind::word) return {};
  std::string name = scanner.name(token);
  if (!scanner.is_symbol(scanner.peek(), '.')) return name;
  scanner.next();
  token = scanner.next();
  if (name != "pg_catalog" || token.kind != Token::Kind::word) return {};
  return scanner.name(token);
}

// The argument of a signal: one constant or parameter, perhaps cast to int.
bool read_argument(sql::TokenScanner& scanner) {
  const Token argument = scanner.next();
  using Kind = Token::Kind;
  if (argument.kind != Kind::number && argument.kind != Kind::string && argument.kind != Kind::parameter) return false;
  if (!scanner.is_symbol(scanner.peek(), ':')) return true;
  scanner.next();
  const Token second = scanner.next(), type = scanner.next();
  return scanner.is_symbol(second, ':') &&
         (scanner.is_word(type, "int") || scanner.is_word(type, "integer") || scanner.is_word(type, "int4"));
}

// The pid in a parameter or literal. false: it is none.
bool read_pid(const Execution& execution, std::optional<int64_t>& pid) {
  std::string scratch;
  std::string_view text;
  if (execution.bind != nullptr && !execution.bind->values.empty()) {
    const auto& value = execution.bind->values[0];
    if (!value) return true;  // NULL
    text = *value;
    if (execution.bind->binary(0)) {
      if (text.size() == 4) pid = load_big_endian<int32_t>(text.data());
      if (text.size() == 2) pid = load_big_endian<int16_t>(text.data());
      return pid.has_value();
    }
  } else {
    if (execution.shape.literals.empty()) return false;
    text = sql::literal_value(execution.sql, execution.shape.literals[0], scratch);
  }
  int32_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return false;
  pid = number;
  return true;
}

}  // namespace

std::optional<RouterCall> parse_router_call(std::string_view sql) {
  sql::TokenScanner scanner(sql);
  if (!scanner.is_word(scanner.next(), "select")) return std::nullopt;
  RouterCall call;
  call.column = function_name(scanner);
  if (call.column == "pg_backend_pid") {
    call.function = Function::backend_pid;
  } else if (call.column == "pg_cancel_backend") {
    call.function = Function::cancel;
  } else if (call.column == "pg_terminate_backend") {
    call.function = Function::terminate;
  } else {
    return std::nullopt;
  }
  if (!scanner.is_symbol(scanner.next(), '(')) return std::nullopt;
  if (call.function != Function::backend_pid && !read_argument(scanner)) return std::nullopt;
  if (!scanner.is_symbol(scanner.next(), ')')) return std::nullopt;
  Token token = scanner.next();
  if (scanner.is_word(token, "as")) {
    token = scanner.next();
    if (token.kind != Token::Kind::word && token.kind != Token::Kind::quoted) return std::nullopt;
    call.column = scanner.name(token);
    token = scanner.next();
  }
  if (scanner.is_symbol(token, ';')) token = scanner.next();
  if (token.kind != Token::Kind::end) return std::nullopt;
  return call;
}

void take_router_call(std::string_view sql, plan::Plan& plan) {
  if (plan.kind != plan::PlanKind::route || plan.returns_rows == false || sql.size() > 200) return;
  const std::optional<RouterCall> call = parse_router_call(sql);
  if (!call) return;
  if (call->function == Function::backend_pid) {
    plan.rewritten_sql = "SELECT '" + plan::virtual_marker(plan::kBackendPid) + "'::pg_catalog.int4 AS " +
                         pool::quote_identifier(call->column);
    plan.virtual_relations = {std::string(plan::kBackendPid)};
  } else {
    plan.virtual_relations = {std::string(kSignal)};
    plan.effects = {};
  }
}

bool is_signal(const plan::Plan& plan) {
  return plan.virtual_relations.size() == 1 && plan.virtual_relations[0] == kSignal;
}

namespace {

// May the backend's role signal a session of `owner`? PostgreSQL's rules and messages.
net::Task<Status> may_signal(pool::ServerConn& conn, const std::string& owner, bool terminate) {
  const std::string name = pool::quote_literal(owner);
  const std::string question = "SELECT coalesce((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = " + name +
                               "), false), "
                               "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), "
                               "EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = " +
                               name +
                               " AND pg_catalog.pg_has_role(current_user, oid, 'USAGE')) "
                               "OR pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE')";
  auto rows = co_await conn.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  const auto& row = rows->rows[0];
  if (row[1] == "t") co_return Status{};
  if (row[0] == "t")
    co_return make_error("42501", terminate ? "must be a superuser to terminate superuser process"
                                            : "must be a superuser to cancel superuser query");
  if (row[2] != "t")
    co_return make_error("42501", std::string("must be a member of the role whose ") +
                                      (terminate ? "process is being terminated" : "query is being canceled") +
                                      " or member of pg_signal_backend");
  co_return Status{};
}

}  // namespace

net::Task<Status> Session::run_signal(Execution& execution) {
  const RouterCall call = parse_router_call(execution.sql).value_or(RouterCall{});
  std::optional<int64_t> pid;
  if (!read_pid(execution, pid)) {
    CO_TRY(co_await check_with_postgres(execution.sql));
    co_return make_error("22P02", "invalid input syntax for type integer");
  }
  const bool terminate = call.function == Function::terminate;
  bool known = false;
  if (pid) {
    const std::vector<SessionInfo> sessions = co_await worker_.context.all_sessions(worker_.loop);
    for (const SessionInfo& session : sessions) {
      if (session.pid == 0 || session.pid != *pid) continue;
      known = true;
      auto backend = co_await backends_.get(any_group());
      if (!backend.ok()) co_return std::move(backend.error());
      CO_TRY(co_await may_signal(*(*backend)->conn, session.user, terminate));
    }
    if (known && *pid == pid_ && !terminate) co_return make_error("57014", "canceling statement due to user request");
    if (known) known = worker_.context.sessions.signal(static_cast<uint32_t>(*pid), terminate);
    if (!known)
      pg::write_notice(out_, "01000", "PID " + std::to_string(*pid) + " is not a PostgreSQL backend process", {}, {},
                       "WARNING");
  }
  const bool binary =
      execution.bind != nullptr && !execution.bind->result_formats.empty() && execution.bind->result_formats[0] == 1;
  if (!execution.extended() || execution.describe) {
    pg::FieldDescription field;
    field.name = call.column;
    field.type = kBoolType;
    field.type_size = 1;
    const std::vector<pg::FieldDescription> fields = {field};
    pg::write_row_description(out_, fields);
  }
  std::optional<std::string_view> value;
  if (pid) value = binary ? std::string_view(known ? "\1" : "\0", 1) : std::string_view(known ? "t" : "f");
  const std::vector<std::optional<std::string_view>> row = {value};
  pg::write_data_row(out_, row);
  put_complete("SELECT 1");
  co_return Status{};
}

}  // namespace pgmosaic::router
