// Describe: what rows a statement or portal will give.
#include "router/execution.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

using pool::RequestKind;
using Kind = plan::SessionCommand::Kind;

namespace {

// The columns of a statement that a group could run.
net::Task<Status> ask_columns(exec::Backend& backend, const std::string& sql, const std::vector<pg::Oid>& types,
                              std::vector<pg::FieldDescription>& fields) {
  pool::ServerConn& conn = *backend.conn;
  conn.write_parse("", sql, types);
  pg::write_describe(conn.out(), 'S', "");
  pg::write_sync(conn.out());
  backend.unnamed_statement = 0;
  for (RequestKind kind : {RequestKind::parse, RequestKind::describe, RequestKind::sync}) conn.expect({kind, true});
  pool::ServerConn::Rows rows;
  CO_TRY(co_await conn.drain(&rows));
  fields = std::move(rows.fields);
  co_return Status{};
}

// A portal that the router runs over several groups: its columns are those of the statement in one of them.
void describe_unbound(pool::ServerConn& conn, const Portal& portal, const std::string& wire_name) {
  pg::BindMessage bind;
  CHECK(pg::parse_bind(portal.bind_body, bind));
  pg::write_bind(conn.out(), "pgm_describe", wire_name, bind.after_names);
  conn.expect({RequestKind::bind, true});
  pg::write_describe(conn.out(), 'P', "pgm_describe");
  conn.expect({RequestKind::describe});
  pg::write_close(conn.out(), 'P', "pgm_describe");
  conn.expect({RequestKind::close, true});
}

}  // namespace

// EXECUTE and FETCH give the rows of what they name; a name that is unknown is no error yet.
net::Task<Status> Session::columns_of_command(const plan::SessionCommand& command,
                                              std::vector<pg::FieldDescription>& fields) {
  std::string sql = command.sql;
  std::vector<pg::Oid> types;
  int text_at = 0;
  exec::GroupId group = any_group();
  if (command.kind == Kind::execute) {
    const auto found = ext().statements.find(command.name);
    if (found == ext().statements.end() || needs_no_group(*found->second->plan)) co_return Status{};
    const PreparedPtr statement = found->second;
    types = statement->types;
    text_at = statement->text_at;
    CO_TRY_ASSIGN(sql, co_await text_for_group(*statement->plan, statement->sql));
  } else {
    const auto found = cursors_.find(command.name);
    if (found == cursors_.end()) co_return Status{};
    if (found->second.group == 0) {
      pg::parse_row_description(std::string_view(found->second.description).substr(pg::kHeaderSize), fields);
      co_return Status{};
    }
    group = found->second.group;
  }
  auto backend = co_await backends_.get(group);
  if (!backend.ok()) co_return std::move(backend.error());
  Status status = co_await ask_columns(**backend, sql, types, fields);
  if (!status.ok() && text_at > 0) text_.in_prepare(status.error(), text_at);
  co_return status;
}

// A portal of an INSERT that the router runs: no group has it, and none need be asked.
static bool answers_no_rows(const plan::Plan& plan, const Portal* portal) {
  return portal != nullptr && portal->group == 0 && (plan.fill || plan.insert_split) && !plan.returns_rows;
}

// What the router runs without asking a group: of a statement where `portal` is null.
net::Task<Status> Session::describe_command(const plan::Plan& plan, const Portal* portal) {
  std::vector<pg::FieldDescription> fields;
  const bool rows =
      plan.kind == plan::PlanKind::session &&
      (plan.session->kind == Kind::execute || (plan.session->kind == Kind::fetch_cursor && plan.returns_rows));
  if (rows && failed_) co_return in_failed_transaction();
  pg::BindMessage bind;
  if (portal != nullptr) CHECK(pg::parse_bind(portal->bind_body, bind));
  if (rows) CO_TRY(co_await columns_of_command(*plan.session, fields));
  if (plan.session && plan.session->kind == Kind::execute)
    for (std::size_t i = 0; i < fields.size() && !bind.result_formats.empty(); ++i)
      fields[i].format = bind.result_formats[bind.result_formats.size() == 1 ? 0 : i];
  if (portal == nullptr) pg::MessageWriter(out_, 't').int16(0);
  if (plan.kind == plan::PlanKind::explain || (plan.ddl && plan.ddl->shows_rows)) {
    put_plan_description(out_, plan.explain_prefix);
  } else if (!fields.empty()) {
    pg::write_row_description(out_, fields);
  } else {
    pg::write_empty(out_, 'n');
  }
  co_return Status{};
}

net::Task<Status> Session::on_describe(pg::MessageView message) {
  ExtendedState& state = ext();
  pg::TargetMessage target;
  if (!pg::parse_target(message.body, target)) co_return make_error("08P01", "invalid Describe message");
  const std::string name(target.name);
  const bool of_statement = target.kind == 'S';
  PreparedPtr statement;
  Portal* portal = nullptr;
  if (of_statement) {
    if (name.empty()) {
      statement = state.unnamed;
    } else if (auto found = state.statements.find(name); found != state.statements.end()) {
      statement = found->second;
    }
    if (!statement)
      co_return make_error("26000", name.empty() ? "unnamed prepared statement does not exist"
                                                 : "prepared statement \"" + name + "\" does not exist");
  } else {
    auto found = state.portals.find(name);
    if (found == state.portals.end()) co_return co_await describe_cursor(name);
    portal = &found->second;
    statement = portal->statement;
    if (portal->group != 0 && state.current != nullptr && state.current->group == portal->group) {
      pg::write_describe(state.current->conn->out(), 'P', name);
      state.current->conn->expect({RequestKind::describe});
      co_return Status{};
    }
  }
  in_.own();
  if (failed_ && !needs_no_group(*statement->plan)) co_return in_failed_transaction();
  if (needs_no_group(*statement->plan) || answers_no_rows(*statement->plan, portal)) {
    CO_TRY(co_await settle_current());
    if (state.skip_to_sync) co_return Status{};
    co_return co_await describe_command(*statement->plan, portal);
  }
  if (of_statement) CO_TRY(co_await replan(statement));
  CO_TRY_ASSIGN(std::string text, co_await text_for_group(*statement->plan, statement->sql));
  const exec::GroupId group = portal != nullptr && portal->group != 0 ? portal->group : any_group();
  auto backend = co_await use_group(group);
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  if (portal != nullptr && portal->group != 0) {
    pg::write_describe(conn.out(), 'P', name);
    conn.expect({RequestKind::describe});
    co_return Status{};
  }
  const bool owed = state.owed_parse == statement;
  std::string wire_name = statement->wire_name;
  if (text == statement->sql) {
    if (owed) state.owed_parse.reset();
    ensure_statement(**backend, statement, owed);
  } else {  // the groups know it in another form
    if (owed) {
      CO_TRY(co_await send_owed_parse(0));
    }
    conn.write_parse("", text, statement->types);
    conn.expect({RequestKind::parse, true});
    (*backend)->unnamed_statement = 0;
    wire_name.clear();
  }
  if (of_statement) {
    pg::write_describe(conn.out(), 'S', wire_name);
    conn.expect({RequestKind::describe});
    co_return Status{};
  }
  describe_unbound(conn, *portal, wire_name);
  co_return Status{};
}

}  // namespace pgmosaic::router
