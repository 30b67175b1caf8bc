#include "router/saga_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "exec/control.h"
#include "pg/seal.h"
#include "router/client_text.h"
#include "router/saga_work.h"
#include "router/session.h"
#include "router/worker.h"
#include "sql/parse.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

using sql::Token;
using Function = SagaCall::Function;
using Note = SessionSagas::Note;
using pool::RequestKind;

namespace {

constexpr pg::Oid kTextType = 25;
constexpr int64_t kWaitUs = 5'000;
constexpr std::size_t kRememberedSagas = 64;
constexpr const char* kByItself = "SELECT pgmosaic.saga_…() by itself, not within other statements or functions.";

std::optional<Function> function_named(std::string_view name) {
  if (name == "saga_begin") return Function::begin;
  if (name == "saga_step") return Function::step;
  if (name == "saga_compensate") return Function::compensate;
  if (name == "saga_finish") return Function::finish;
  if (name == "saga_forget") return Function::forget;
  return std::nullopt;
}

std::string name_of(const SagaCall& call) {
  switch (call.function) {
    case Function::begin: return "saga_begin";
    case Function::step: return "saga_step";
    case Function::compensate: return "saga_compensate";
    case Function::finish: return "saga_finish";
    case Function::forget: return "saga_forget";
  }
  return {};
}

// Whether these letters stand in it at all: most statements need no other look.
bool may_name(std::string_view sql) {
  static constexpr std::string_view kLetters = "saga_";
  const auto same = [](char a, char b) { return (a | 0x20) == (b | 0x20); };
  return std::search(sql.begin(), sql.end(), kLetters.begin(), kLetters.end(), same) != sql.end();
}

// "pgmosaic . saga_…" behind this token, which is then the last of them.
std::optional<Function> read_name(sql::TokenScanner& scanner, const Token& first, std::string& name) {
  const bool identifier = first.kind == Token::Kind::word || first.kind == Token::Kind::quoted;
  if (!identifier || scanner.name(first) != "pgmosaic" || !scanner.is_symbol(scanner.peek(), '.')) return std::nullopt;
  scanner.next();
  const Token token = scanner.next();
  if (token.kind != Token::Kind::word && token.kind != Token::Kind::quoted) return std::nullopt;
  name = scanner.name(token);
  return function_named(name);
}

// Arguments up to the closing parenthesis. Parameters of a compensation are of any type: the group casts them to text.
bool read_arguments(sql::TokenScanner& scanner, std::string_view sql, SagaCall& call) {
  std::size_t begin = scanner.position(), behind_name = begin;
  int depth = 0, count = 0;
  bool named = false, variadic = false, any = false;
  for (Token token = scanner.next();; token = scanner.next()) {
    if (token.kind == Token::Kind::end || token.kind == Token::Kind::broken) return false;
    if (scanner.is_symbol(token, '(') || scanner.is_symbol(token, '[')) ++depth;
    const bool closing = depth == 0 && scanner.is_symbol(token, ')');
    if (closing || (depth == 0 && scanner.is_symbol(token, ','))) {
      if (!any) return closing && count == 0;
      const std::string text(sql.substr(begin, token.begin - begin));
      const std::string value(sql.substr(behind_name, token.begin - behind_name));
      const bool cast = call.function == Function::step && count >= 3 && !named && !variadic;
      call.sql += (count == 0 ? "" : ",") + (cast ? "(" + text + ")::pg_catalog.text" : text);
      call.arguments += (count == 0 ? "" : ", ") + value;
      if (closing) return true;
      ++count;
      begin = behind_name = scanner.position();
      named = variadic = any = false;
      continue;
    }
    if (scanner.is_symbol(token, ')') || scanner.is_symbol(token, ']')) --depth;
    if (!any && scanner.is_word(token, "variadic")) {
      variadic = true;
      behind_name = scanner.position();
    }
    const bool assigns = depth == 0 && scanner.is_symbol(token, '=') && scanner.is_symbol(scanner.peek(), '>');
    if (assigns) {
      named = true;
      scanner.next();
      behind_name = scanner.position();
    }
    any = true;
  }
}

}  // namespace

std::optional<SagaCall> parse_saga_call(std::string_view sql) {
  sql::TokenScanner scanner(sql);
  if (!scanner.is_word(scanner.next(), "select")) return std::nullopt;
  SagaCall call;
  const auto function = read_name(scanner, scanner.next(), call.column);
  if (!function || !scanner.is_symbol(scanner.next(), '(')) return std::nullopt;
  call.function = *function;
  call.sql = "SELECT pg_catalog.pgmosaic_" + call.column + "(";
  if (!read_arguments(scanner, sql, call)) return std::nullopt;
  Token token = scanner.next();
  if (scanner.is_word(token, "as")) token = scanner.next();
  if (token.kind == Token::Kind::word || token.kind == Token::Kind::quoted) {
    call.column = scanner.name(token);
    token = scanner.next();
  }
  if (scanner.is_symbol(token, ';')) token = scanner.next();
  if (token.kind != Token::Kind::end) return std::nullopt;
  call.sql += ") AS " + pool::quote_identifier(call.column);
  return call;
}

bool is_saga_call(const plan::Plan& plan) {
  return plan.virtual_relations.size() == 1 && plan.virtual_relations[0] == kSagaCall;
}

namespace {

plan::Plan refused(Error error) {
  plan::Plan plan;
  plan.kind = plan::PlanKind::unsupported;
  plan.returns_rows = false;
  plan.error = std::move(error);
  return plan;
}

bool within(std::string_view sql) {
  sql::TokenScanner scanner(sql);
  std::string name;
  for (Token token = scanner.next(); token.kind != Token::Kind::end && token.kind != Token::Kind::broken;
       token = scanner.next()) {
    const bool call = read_name(scanner, token, name).has_value();
    if (call && scanner.is_symbol(scanner.peek(), '(')) return true;
  }
  return false;
}

// Any group computes it, and nothing but the value comes of it.
bool plain(const plan::Plan& plan) {
  const plan::Effects& effects = plan.effects;
  return plan.kind == plan::PlanKind::route && plan.target.kind == plan::Target::Kind::any && !effects.writes &&
         !effects.taints && !effects.pins && !effects.sets_config && !effects.draws.any() && !plan.guarded &&
         plan.read_tables.empty() && plan.rewritten_sql.empty() && plan.virtual_relations.empty() && !plan.fill;
}

}  // namespace

void take_saga_call(std::string_view sql, const plan::PlanContext& context, plan::Plan& plan) {
  if (plan.kind == plan::PlanKind::session || !may_name(sql)) return;
  const auto call = parse_saga_call(sql);
  if (!call) {
    if (within(sql)) plan = refused(make_error("0A000", "pgmosaic.saga_…() in this statement", kByItself));
    return;
  }
  if (!call->arguments.empty()) {
    plan::Plan arguments = plan::plan_statement("SELECT " + call->arguments, context);
    const bool wrong = arguments.kind == plan::PlanKind::unsupported && arguments.error->sqlstate == "42601";
    if (!wrong && !plain(arguments)) {
      plan = refused(make_error("0A000", "this argument of pgmosaic." + name_of(*call) + "()",
                                "Give a constant or a parameter: SELECT the value before."));
      return;
    }
  }
  plan = plan::Plan();
  plan.command = "SELECT";
  plan.rewritten_sql = call->sql;
  plan.virtual_relations = {std::string(kSagaCall)};
  // With what else is in a batch; but for those that cannot be part of a transaction.
  plan.effects.writes = call->function != Function::compensate && call->function != Function::forget;
}

// What the group gave back.
struct SagaCalls::Request {
  nlohmann::json said;
  std::optional<std::string> text(const char* name) const {
    const auto found = said.find(name);
    if (found == said.end() || !found->is_string()) return std::nullopt;
    return found->get<std::string>();
  }
};

SessionSagas& SagaCalls::state() {
  if (!s_.sagas_) s_.sagas_ = std::make_unique<SessionSagas>();
  return *s_.sagas_;
}

net::Task<Status> SagaCalls::run(const plan::Plan& plan, Execution& execution) {
  const auto call = parse_saga_call(execution.sql);
  if (!call) co_return make_error("XX000", "not a call of a saga's function: " + plan.command);
  const bool ends = call->function == Function::compensate || call->function == Function::forget;
  if (ends && s_.backends_.in_transaction())
    co_return make_error("25001", "pgmosaic." + name_of(*call) + "() cannot run inside a transaction block",
                         "Each compensation is a transaction of its own.");
  CO_TRY_ASSIGN(Request request, co_await evaluate(*call, execution));
  if (request.text("user") != s_.backends_.user())
    co_return make_error("0A000", "sagas under SET SESSION AUTHORIZATION", "Log in as the role, or SET ROLE.");
  if (request.text("read_only") == "on")
    co_return make_error("25006", "cannot execute pgmosaic." + name_of(*call) + "() in a read-only transaction");
  std::string answer;
  CO_TRY(co_await perform(*call, request, answer));
  if (!execution.extended() || execution.describe) {
    pg::FieldDescription field;
    field.name = call->column;
    field.type = kTextType;
    field.type_size = -1;
    const std::vector<pg::FieldDescription> fields = {field};
    pg::write_row_description(s_.out_, fields);
  }
  const std::vector<std::optional<std::string_view>> row = {answer};
  pg::write_data_row(s_.out_, row);
  s_.put_complete("SELECT 1");
  co_return Status{};
}

namespace {

// The client's, or those of EXECUTE; the answer as text.
void write_values(std::string& out, const pg::BindMessage& bind) {
  pg::MessageWriter writer(out, 'B');
  writer.string("").string("").int16(static_cast<int16_t>(bind.values.size()));
  for (std::size_t i = 0; i < bind.values.size(); ++i) writer.int16(bind.binary(i) ? 1 : 0);
  writer.int16(static_cast<int16_t>(bind.values.size()));
  for (const auto& value : bind.values) value ? writer.value(*value) : writer.int32(-1);
  writer.int16(0);
}

}  // namespace

net::Task<Result<SagaCalls::Request>> SagaCalls::evaluate(const SagaCall& call, const Execution& execution) {
  auto backend = co_await s_.backends_.get(s_.any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  pool::ServerConn::Rows rows;
  Status status;
  if (execution.bind == nullptr) {
    auto asked = co_await conn.query(call.sql);
    if (asked.ok()) rows = std::move(*asked);
    if (!asked.ok()) status = std::move(asked.error());
  } else {
    conn.write_parse("", call.sql, execution.types);
    write_values(conn.out(), *execution.bind);
    pg::write_execute(conn.out(), "", 0);
    pg::write_sync(conn.out());
    (*backend)->unnamed_statement = 0;
    for (RequestKind kind : {RequestKind::parse, RequestKind::bind, RequestKind::execute, RequestKind::sync})
      conn.expect({kind, true});
    status = co_await conn.drain(&rows);
  }
  if (!status.ok()) {
    Error error = std::move(status.error());
    error.position = position_in(execution.sql, call.sql, error.position);
    const std::string ours = "pg_catalog.pgmosaic_saga_", theirs = "pgmosaic.saga_";
    if (const auto at = error.message.find(ours); at != std::string::npos)
      error.message.replace(at, ours.size(), theirs);
    co_return error;
  }
  Request request;
  if (!rows.rows.empty() && rows.rows[0][0])
    request.said = nlohmann::json::parse(pg::from_hex(*rows.rows[0][0]).value_or(""), nullptr, false);
  if (!request.said.is_object()) co_return make_error("XX000", "a group's answer on a saga makes no sense");
  co_return request;
}

net::Task<Status> SagaCalls::perform(const SagaCall& call, Request& request, std::string& answer) {
  if (call.function == Function::begin) {
    CO_TRY_ASSIGN(answer, co_await begin(request));
    co_return Status{};
  }
  CO_TRY_ASSIGN(const SagaPtr saga, co_await find(request));
  if (call.function == Function::finish) {
    answer = "finished";
    Note note{.what = Note::What::finish, .saga = saga};
    co_return co_await add(std::move(note));
  }
  if (call.function == Function::step) {
    const auto name = request.text("step"), compensation = request.text("compensation");
    if (!name || !compensation)
      co_return make_error("22004", std::string("the ") + (name ? "compensation" : "name") + " of a step is NULL");
    const auto parameters = request.said.find("parameters");
    const bool any = parameters != request.said.end() && parameters->is_array();
    CO_TRY(co_await check_compensation(*compensation, any ? parameters->size() : 0));
    answer = *name;
    Note note{.what = Note::What::step, .saga = saga, .request = request.said.dump()};
    co_return co_await add(std::move(note));
  }
  answer = call.function == Function::forget ? "forgotten" : "compensated";
  co_return co_await end(saga, call.function == Function::forget);
}

net::Task<Status> SagaCalls::end(SagaPtr saga, bool forget) {
  Sagas& sagas = s_.worker_.context.sagas;
  const Saga::State state = sagas.state(*saga);
  if (state == Saga::State::finished) co_return make_error("55000", "saga \"" + saga->id + "\" is finished");
  if (forget && state == Saga::State::running)
    co_return make_error("55000", "saga \"" + saga->id + "\" is running",
                         "Its owner ends it by pgmosaic.saga_finish() or pgmosaic.saga_compensate().");
  s_.backends_.release_idle();  // the compensations need some
  while (!sagas.claim(*saga)) {
    co_await s_.worker_.loop.sleep(kWaitUs);
    CO_TRY(s_.interrupted());
    const SagaPtr still = sagas.find(saga->database, saga->id);
    if (still != saga) co_return Status{};  // others have ended it
  }
  if (!forget) co_return co_await end_saga(s_.worker_, saga);
  std::vector<SagaPtr> one = {saga};
  co_return co_await forget_claimed(s_.worker_, std::move(one));
}

net::Task<Result<std::string>> SagaCalls::begin(const Request& request) {
  const auto name = request.text("name");
  if (!name) co_return make_error("22004", "the name of a saga is NULL");
  const auto seconds = request.said.find("seconds");
  double timeout_s = 0;
  if (seconds != request.said.end() && seconds->is_number()) {
    timeout_s = seconds->get<double>();
    if (timeout_s <= 0 || timeout_s > 1e9)
      co_return make_error("22023", "the timeout of a saga must be positive", "NULL: it may take as long as it will.");
  }
  Worker& worker = s_.worker_;
  const std::string id = random_hex(16), user = s_.backends_.user(), database = s_.backends_.database();
  const int64_t deadline_us = timeout_s > 0 ? worker.loop.now_us() + static_cast<int64_t>(timeout_s * 1e6) : 0;
  // Known here before the home shows it: nobody takes it for an earlier router's.
  const SagaPtr saga = worker.context.sagas.begin(id, database, *name, user, deadline_us);
  std::vector<std::optional<std::string>> values = {id, name, std::nullopt, std::nullopt, std::nullopt, user};
  values[2] = s_.trusted_ ? "t" : "f";
  values[3] = s_.trusted_ ? std::string() : sealed_login(worker, user, id);
  if (timeout_s > 0) values[4] = std::to_string(timeout_s) + " s";
  auto rows = co_await ask_as_router(worker, s_.snapshot_->home, database,
                                     "INSERT INTO pg_catalog.pgmosaic_sagas (id, name, owner, trusted, keys, ends) "
                                     "SELECT $1, $2, oid, $3::boolean, $4, "
                                     "now() + $5::interval FROM pg_catalog.pg_roles WHERE rolname = $6 RETURNING 1",
                                     std::move(values));
  Status status;
  if (!rows.ok()) status = std::move(rows.error());
  if (status.ok() && rows->rows.empty()) status = make_error("42704", "role \"" + user + "\" does not exist");
  if (!status.ok()) {  // where the home did it all the same, the next look finds it
    worker.context.sagas.forget(*saga);
    worker.context.sagas.look_again = true;
    co_return std::move(status.error());
  }
  std::vector<SagaPtr>& begun = state().begun;
  if (begun.size() >= kRememberedSagas)
    std::erase_if(begun, [&](const SagaPtr& old) { return worker.context.sagas.state(*old) != Saga::State::running; });
  begun.push_back(saga);
  co_return id;
}

net::Task<Result<SagaPtr>> SagaCalls::find(const Request& request) {
  const auto id = request.text("saga");
  if (!id) co_return make_error("22004", "the identifier of a saga is NULL");
  Worker& worker = s_.worker_;
  const std::string database = s_.backends_.database(), user = s_.backends_.user();
  const SagaPtr known = worker.context.sagas.find(database, *id);
  if (known && known->user == user) co_return known;
  // Another one's, or an earlier router's.
  std::vector<std::optional<std::string>> values = {id, user};
  auto rows = co_await ask_as_router(
      worker, s_.snapshot_->home, database,
      "SELECT s.name, s.owner = me.oid OR me.rolsuper FROM pg_catalog.pgmosaic_sagas s, pg_catalog.pg_roles me "
      "WHERE s.id = $1 AND me.rolname = $2",
      std::move(values));
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty())
    co_return make_error("42704", "saga \"" + *id + "\" does not exist",
                         "pgmosaic.sagas shows those that have not ended.");
  if (rows->rows[0][1] != "t") co_return make_error("42501", "must be owner of saga \"" + *id + "\"");
  if (known) co_return known;
  worker.context.sagas.adopt(*id, database, rows->rows[0][0].value_or(""));
  const SagaPtr adopted = worker.context.sagas.find(database, *id);
  if (!adopted) co_return make_error("42704", "saga \"" + *id + "\" does not exist");
  co_return adopted;
}

namespace {

bool may_compensate(const sql::Node* statement) {
  return sql::as<PgQuery__SelectStmt>(statement) != nullptr || sql::as<PgQuery__InsertStmt>(statement) != nullptr ||
         sql::as<PgQuery__UpdateStmt>(statement) != nullptr || sql::as<PgQuery__DeleteStmt>(statement) != nullptr ||
         sql::as<PgQuery__MergeStmt>(statement) != nullptr || sql::as<PgQuery__CallStmt>(statement) != nullptr ||
         sql::as<PgQuery__DoStmt>(statement) != nullptr;
}

// PostgreSQL's way to tell of text that is not the statement's own.
Error in_compensation(Error error, const std::string& sql) {
  if (error.position > 0) {
    const std::string at = std::to_string(error.position);
    error.fields += "p" + at + std::string(1, '\0') + "q" + sql + std::string(1, '\0');
    error.position = 0;
  }
  if (error.detail.empty()) error.detail = "The compensation would fail with this.";
  return error;
}

}  // namespace

// What cannot run is told when the step is done, not when it has to be taken back.
net::Task<Status> SagaCalls::check_compensation(const std::string& sql, std::size_t parameters) {
  auto tree = sql::ParseTree::parse(sql);
  if (tree.ok() && tree->statement_count() == 1 && !may_compensate(tree->statement()))
    co_return make_error("0A000", "a compensation of this kind",
                         "It is one SELECT, INSERT, UPDATE, DELETE, MERGE, CALL or DO.");
  if (tree.ok() && tree->statement_count() == 0) co_return make_error("42601", "a compensation is empty");
  auto backend = co_await s_.backends_.get(s_.any_group());
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  if (sql.find(std::string("pgmosaic.")) == std::string::npos) {
    conn.write_parse("", sql, {});
    pg::write_describe(conn.out(), 'S', "");
    pg::write_sync(conn.out());
    (*backend)->unnamed_statement = 0;
    for (RequestKind kind : {RequestKind::parse, RequestKind::describe, RequestKind::sync}) conn.expect({kind, true});
    pool::ServerConn::Rows rows;
    Status status = co_await conn.drain(&rows);
    if (!status.ok()) co_return in_compensation(std::move(status.error()), sql);
    if (rows.parameter_types.size() != parameters)
      co_return make_error("42P18", "the compensation has " + std::to_string(rows.parameter_types.size()) +
                                        " parameters, and " + std::to_string(parameters) + " are given");
  }
  sql::scan_shape(sql, s_.worker_.shape);
  const std::vector<pg::Oid> no_types;
  CO_TRY_ASSIGN(const CachedPlan cached, co_await s_.plan_of(sql, no_types, true));
  const plan::Plan& plan = *cached.plan;
  if (plan.kind == plan::PlanKind::unsupported) co_return in_compensation(Error(*plan.error), sql);
  if (plan.target.kind == plan::Target::Kind::all && plan.multi_group_error)
    co_return in_compensation(Error(*plan.multi_group_error), sql);
  co_return Status{};
}

net::Task<Status> SagaCalls::add(Note note) {
  Sagas& sagas = s_.worker_.context.sagas;
  if (s_.backends_.in_transaction()) {
    for (const Note& other : state().notes)
      if (other.saga == note.saga && other.what == Note::What::finish)
        co_return make_error("55000", "saga \"" + note.saga->id + "\" is finished");
    CO_TRY(sagas.enter(*note.saga));  // else the transaction would be in vain
    sagas.leave(*note.saga);
    note.moment = s_.backends_.next_moment();
    state().notes.push_back(std::move(note));
    co_return Status{};
  }
  CO_TRY(sagas.enter(*note.saga));
  Status written = co_await write(note, s_.snapshot_->home, nullptr);
  if (written.ok() && note.what == Note::What::finish) sagas.finish(*note.saga);
  sagas.leave(*note.saga);
  co_return written;
}

// `conn`: of the transaction; null: in one of its own.
net::Task<Status> SagaCalls::write(const Note& note, uint32_t group, pool::ServerConn* conn) {
  nlohmann::json said = nlohmann::json::object();
  if (note.what == Note::What::step) {
    said = nlohmann::json::parse(note.request);
    said["n"] = s_.worker_.context.sagas.next_step(*note.saga);
  }
  if (note.what == Note::What::undo) said["n"] = note.n;
  said["what"] = note.what == Note::What::step ? "step" : note.what == Note::What::finish ? "finish" : "undo";
  said["saga"] = note.saga->id;
  const std::string text = pg::to_hex(said.dump());
  const std::string sql = "SELECT pg_catalog.pgmosaic_saga_note('" + text + "', '" +
                          s_.worker_.context.control->sign_note(group, text) + "')";
  if (conn == nullptr) {
    std::vector<std::optional<std::string>> none;
    auto done = co_await ask_as_router(s_.worker_, group, s_.backends_.database(), sql, std::move(none));
    if (!done.ok()) co_return std::move(done.error());
    co_return Status{};
  }
  auto done = co_await conn->query(sql);
  if (!done.ok()) co_return std::move(done.error());
  co_return Status{};
}

void SagaCalls::undo(const SagaPtr& saga, uint32_t group, int n) {
  state().notes.push_back({.what = Note::What::undo, .saga = saga, .group = group, .n = n});
}

bool SagaCalls::pending() const { return s_.sagas_ && !s_.sagas_->notes.empty(); }

net::Task<Status> SagaCalls::before_commit() {
  if (!pending()) co_return Status{};
  SessionSagas& mine = *s_.sagas_;
  for (const Note& note : mine.notes) {
    const bool known = std::find(mine.entered.begin(), mine.entered.end(), note.saga) != mine.entered.end();
    if (known || note.what == Note::What::undo) continue;
    CO_TRY(s_.worker_.context.sagas.enter(*note.saga));
    mine.entered.push_back(note.saga);
  }
  uint32_t anywhere = s_.any_group();
  for (auto& backend : s_.backends_.all())
    if (backend->begun && backend->wrote) {
      anywhere = backend->group;
      break;
    }
  for (std::size_t i = 0; i < mine.notes.size(); ++i) {
    const Note note = mine.notes[i];
    const uint32_t group = note.group != 0 ? note.group : anywhere;
    auto backend = co_await s_.backends_.get(group);
    if (!backend.ok()) co_return std::move(backend.error());
    (*backend)->wrote = true;
    CO_TRY(co_await write(note, group, (*backend)->conn.get()));
  }
  co_return Status{};
}

void SagaCalls::after_transaction(bool committed) {
  if (!s_.sagas_) return;
  Sagas& sagas = s_.worker_.context.sagas;
  for (const Note& note : s_.sagas_->notes)
    if (committed && note.what == Note::What::finish) sagas.finish(*note.saga);
  for (const SagaPtr& saga : s_.sagas_->entered) sagas.leave(*saga);
  s_.sagas_->notes.clear();
  s_.sagas_->entered.clear();
}

void SagaCalls::rolled_back_to(uint64_t moment) {
  if (s_.sagas_) std::erase_if(s_.sagas_->notes, [moment](const Note& note) { return note.moment > moment; });
}

void SagaCalls::session_ended() {
  if (!s_.sagas_) return;
  after_transaction(false);
  for (const SagaPtr& saga : s_.sagas_->begun) s_.worker_.context.sagas.abandon(*saga);
}

}  // namespace pgmosaic::router
