// SQL cursors. One whose query goes to one group lives there and is PostgreSQL's own. One whose query spans groups is
// the router's: its rows are fetched at DECLARE, and FETCH moves forward through them.
#include <charconv>

#include "router/execution.h"
#include "router/session.h"
#include "router/view_use.h"
#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

using Kind = plan::SessionCommand::Kind;

namespace {

struct FetchRequest {
  bool move = false;
  std::optional<uint64_t> count;  // nullopt: all
};

// FETCH/MOVE [NEXT | n | ALL | FORWARD [n | ALL]] …; nullopt: another direction.
std::optional<FetchRequest> parse_fetch(std::string_view sql) {
  sql::TokenScanner scanner(sql);
  FetchRequest request;
  request.move = scanner.is_word(scanner.next(), "move");
  request.count = 1;
  if (scanner.is_word(scanner.peek(), "next")) return request;
  if (scanner.is_word(scanner.peek(), "forward")) scanner.next();
  const sql::Token token = scanner.peek();
  if (scanner.is_word(token, "all")) {
    request.count.reset();
    return request;
  }
  for (const char* word : {"prior", "first", "last", "absolute", "relative", "backward"})
    if (scanner.is_word(token, word)) return std::nullopt;
  uint64_t count = 0;
  const char* end = sql.data() + token.end;
  const auto [stop, problem] = std::from_chars(sql.data() + token.begin, end, count);
  if (problem == std::errc() && stop == end) request.count = count;
  return scanner.is_symbol(token, '-') ? std::nullopt : std::optional<FetchRequest>(request);
}

// DECLARE name … OPTION … CURSOR, without NO.
bool declares(std::string_view sql, const char* option) {
  sql::TokenScanner scanner(sql);
  scanner.next();
  scanner.next();
  bool no = false;
  for (sql::Token token = scanner.next(); token.kind == sql::Token::Kind::word; token = scanner.next()) {
    if (scanner.is_word(token, "cursor")) return false;
    if (scanner.is_word(token, option)) return !no;
    no = scanner.is_word(token, "no");
  }
  return false;
}

}  // namespace

net::Task<Status> Session::run_cursor(const plan::SessionCommand& command, std::string_view sql) {
  switch (command.kind) {
    case Kind::declare_cursor: co_return co_await declare_cursor(command, sql);
    case Kind::close_all_cursors:
      cursors_.clear();
      CO_TRY(co_await on_participants(sql, false));
      // Those WITH HOLD, on backends that the session keeps.
      for (std::size_t i = 0; !backends_.in_transaction() && i < backends_.all().size(); ++i) {
        auto closed = co_await backends_.all()[i]->conn->query("CLOSE ALL");
        if (!closed.ok()) co_return std::move(closed.error());
      }
      put_complete("CLOSE CURSOR ALL");
      co_return Status{};
    default: break;
  }
  auto found = cursors_.find(command.name);
  if (found != cursors_.end() && found->second.group == 0) {
    if (command.kind != Kind::close_cursor) co_return co_await fetch_router_cursor(found->second, sql);
    cursors_.erase(found);
    put_complete("CLOSE CURSOR");
    co_return Status{};
  }
  exec::GroupId group = snapshot_->home;  // which says that there is no such cursor
  if (found != cursors_.end()) {
    group = found->second.group;
    if (command.kind == Kind::close_cursor) cursors_.erase(found);
  } else if (extended_) {
    // A portal of the extended protocol is a cursor, too.
    auto portal = extended_->portals.find(command.name);
    if (portal != extended_->portals.end() && portal->second.group != 0) group = portal->second.group;
    if (portal != extended_->portals.end() && portal->second.group == 0 && command.kind == Kind::fetch_cursor) {
      if (!portal->second.done)
        co_return make_error("0A000", "FETCH from a portal over several groups that was not executed yet",
                             "Use Execute with a number of rows, or DECLARE a cursor.");
      SqlCursor cursor;
      cursor.rows = std::move(portal->second.rows);
      Status status = co_await fetch_router_cursor(cursor, sql);
      if (auto again = extended_->portals.find(command.name); again != extended_->portals.end())
        again->second.rows = std::move(cursor.rows);
      co_return status;
    }
  }
  co_return co_await cursor_on_group(group, sql, {});
}

net::Task<Status> Session::cursor_on_group(exec::GroupId group, std::string_view sql, const plan::Effects& effects) {
  CO_TRY(backends_.may_reach(std::span(&group, 1)));
  auto backend = co_await backends_.get(group);
  if (!backend.ok()) co_return std::move(backend.error());
  note_effects(**backend, effects);
  pg::write_query((*backend)->conn->out(), sql);
  (*backend)->conn->expect({pool::RequestKind::query});
  co_await relay(**backend, Until::ready, false);
  co_return Status{};
}

net::Task<Status> Session::declare_cursor(const plan::SessionCommand& command, std::string_view sql) {
  const plan::PlanPtr inner = command.inner;
  if (inner->kind == plan::PlanKind::unsupported) co_return Error(*inner->error);
  Execution execution;
  execution.sql = sql;
  sql::scan_shape(execution.sql, execution.shape);
  execution.values = values_of(execution.sql, execution.shape, nullptr, *inner);
  CO_TRY_ASSIGN(execution.where, co_await locate(*inner, execution));
  const std::string source(text_.string.empty() ? sql : text_.string);
  const auto same = cursors_.find(command.name);
  if (execution.where.single() && inner->virtual_relations.empty()) {
    if (same != cursors_.end() && same->second.group != execution.where.one)
      co_return make_error("42P03", "cursor \"" + command.name + "\" already exists");
    plan::Effects effects = inner->effects;
    effects.pins = effects.pins || command_effects_.pins;
    effects.not_preparable = effects.not_preparable || command_effects_.not_preparable;
    Status status = co_await cursor_on_group(execution.where.one, sql, effects);
    if (status.ok() && !statement_failed_) {
      SqlCursor& cursor = cursors_[command.name];
      cursor = {};
      cursor.group = execution.where.one;
      cursor.source = source;
      cursor.moment = backends_.next_moment();
      cursor.hold = command_effects_.pins;
      cursor.committed = cursor.hold && !backends_.in_transaction();
    }
    co_return status;
  }
  const bool hold = command_effects_.pins;
  if (!hold && (!backends_.in_transaction() || implicit_))
    co_return make_error("25P01", "DECLARE CURSOR can only be used in transaction blocks");
  if (declares(sql, "scroll"))
    co_return make_error("0A000", "a SCROLL cursor of rows that the router keeps is not supported",
                         "Leave out SCROLL and fetch forward, or restrict the query to one key.");
  if (cursors_.contains(command.name)) co_return make_error("42P03", "cursor \"" + command.name + "\" already exists");
  const std::string query = inner->rewritten_sql;
  const std::vector<pg::Oid> no_types;
  CO_TRY_ASSIGN(const plan::PlanPtr plan, co_await ViewUse(*this).plan(query, no_types));
  Execution own;
  own.sql = query;
  sql::scan_shape(query, own.shape);
  own.values = values_of(query, own.shape, nullptr, *plan);
  CO_TRY_ASSIGN(own.where, co_await locate(*plan, own));
  std::string before = std::exchange(out_, {});
  buffering_ = true;
  const bool hold_complete = std::exchange(hold_complete_, false);
  Status status = co_await run_multi(*plan, own);
  hold_complete_ = hold_complete;
  buffering_ = false;
  std::string result = std::exchange(out_, std::move(before));
  if (!status.ok()) co_return status;
  SqlCursor cursor;
  cursor.source = source;
  cursor.made_us = active_since_us_;
  cursor.moment = backends_.next_moment();
  cursor.binary = declares(sql, "binary");
  for (std::size_t offset = 0; offset < result.size();) {
    const std::size_t length = load_big_endian<uint32_t>(result.data() + offset + 1) + 1;
    if (result[offset] == 'T') cursor.description.assign(result, offset, length);
    if (result[offset] == 'D') cursor.rows.append(result, offset, length);
    offset += length;
  }
  cursor.hold = hold;
  cursor.committed = hold && !backends_.in_transaction();
  cursors_[command.name] = std::move(cursor);
  put_complete("DECLARE CURSOR");
  co_return Status{};
}

net::Task<Status> Session::fetch_router_cursor(SqlCursor& cursor, std::string_view sql) {
  const auto request = parse_fetch(sql);
  if (!request)
    co_return make_error("0A000", "a cursor over several groups moves forward only",
                         "Use FETCH NEXT, FETCH n, FETCH ALL or FETCH FORWARD.");
  uint64_t count = 0;
  std::size_t offset = 0;
  while (offset < cursor.rows.size() && (!request->count || count < *request->count)) {
    offset += load_big_endian<uint32_t>(cursor.rows.data() + offset + 1) + 1;
    ++count;
  }
  if (!request->move) {
    if (!extended_ || extended_->command_bind == nullptr) out_ += cursor.description;
    out_.append(cursor.rows, 0, offset);
  }
  cursor.rows.erase(0, offset);
  put_complete((request->move ? "MOVE " : "FETCH ") + std::to_string(count));
  co_return Status{};
}

// Describe of a portal that is an SQL cursor.
net::Task<Status> Session::describe_cursor(const std::string& name) {
  auto found = cursors_.find(name);
  if (found == cursors_.end()) co_return make_error("34000", "portal \"" + name + "\" does not exist");
  if (found->second.group == 0) {
    CO_TRY(co_await settle_current());
    out_ += found->second.description;
    co_return Status{};
  }
  auto backend = co_await use_group(found->second.group);
  if (!backend.ok()) co_return std::move(backend.error());
  pg::write_describe((*backend)->conn->out(), 'P', name);
  (*backend)->conn->expect({pool::RequestKind::describe});
  co_return Status{};
}

}  // namespace pgmosaic::router
