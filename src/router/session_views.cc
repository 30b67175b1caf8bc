#include "router/session_views.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#include "router/execution.h"
#include "router/worker.h"

namespace pgmosaic::router {

using pool::RequestKind;

namespace {

constexpr const char* kOwnPortal = "pgm_cursors";
constexpr uint64_t kCustomPlans = 5;  // so often PostgreSQL plans a statement with parameters anew before it thinks

// A JSON string. Bytes stay as they are, whatever their encoding: the server reads them as the session's.
std::string quoted(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

const char* quoted(bool value) { return value ? "true" : "false"; }

std::string time_text(int64_t ago_us) {
  using std::chrono::microseconds;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t at_us = std::chrono::duration_cast<microseconds>(now).count() - ago_us;
  const std::time_t seconds = at_us / 1'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  std::string fraction = std::to_string(1'000'000 + at_us % 1'000'000);
  fraction[0] = '.';
  return std::string(text, length) + fraction + "+00";
}

bool has_user_types(const std::vector<pg::Oid>& types) {
  return std::any_of(types.begin(), types.end(), [](pg::Oid type) { return type >= pg::kFirstUserOid; });
}

// Types of the home by names that mean the same on every server.
net::Task<Result<std::string>> type_name(pool::ServerConn& home, pg::Oid type) {
  if (type < pg::kFirstUserOid) co_return std::to_string(type);
  auto rows = co_await home.query(
      "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) FROM pg_catalog.pg_type t "
      "JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = " +
      std::to_string(type));
  if (!rows.ok()) co_return std::move(rows.error());
  co_return rows->rows.empty() ? std::to_string(type) : rows->rows[0][0].value_or("");
}

// As the home infers them. A statement that has become wrong meanwhile has those that were declared.
net::Task<void> infer_types(pool::ServerConn& home, Prepared& statement) {
  home.write_parse("", statement.sql, statement.types);
  pg::write_describe(home.out(), 'S', "");
  pg::write_sync(home.out());
  for (RequestKind kind : {RequestKind::parse, RequestKind::describe, RequestKind::sync}) home.expect({kind, true});
  pool::ServerConn::Rows described;
  const Status status = co_await home.drain(&described);
  if (status.ok()) statement.resolved_types = described.parameter_types;
}

}  // namespace

net::Task<Result<std::string>> SessionViews::prepared_statements() {
  std::vector<std::pair<std::string, PreparedPtr>> statements;
  if (s_.extended_) statements.assign(s_.extended_->statements.begin(), s_.extended_->statements.end());
  const auto mode = s_.backends_.settings()->find("plan_cache_mode");
  const std::string_view forced = mode == s_.backends_.settings()->end() ? std::string_view() : mode->second;
  const int64_t now_us = s_.worker_.loop.now_us();
  pool::ServerConn* home = nullptr;  // in a transaction of its own: an error must not end the client's
  std::string rows = "[";
  Status status;
  for (const auto& [name, statement] : statements) {
    const bool parameters = statement->sql.find('$') != std::string::npos;
    const bool asks = parameters && statement->resolved_types.empty() && !needs_no_group(*statement->plan);
    if ((asks || has_user_types(statement->types) || has_user_types(statement->resolved_types)) && home == nullptr) {
      auto borrowed = co_await s_.backends_.borrow(s_.snapshot_->home);
      if (!borrowed.ok()) co_return std::move(borrowed.error());
      home = *borrowed;
    }
    if (asks) co_await infer_types(*home, *statement);
    const std::vector<pg::Oid> types = statement->resolved_types.empty() ? statement->types : statement->resolved_types;
    std::string list;
    for (pg::Oid type : types) {
      std::string text = std::to_string(type);
      if (type >= pg::kFirstUserOid) {
        auto known = co_await type_name(*home, type);
        if (!known.ok()) status = std::move(known.error());
        if (known.ok()) text = std::move(*known);
      }
      list += (list.empty() ? "" : ",") + quoted(text);
    }
    uint64_t custom = types.empty() ? 0 : std::min(statement->executions, kCustomPlans);
    if (forced.find("force_custom_plan") != std::string_view::npos) custom = statement->executions;
    if (forced.find("force_generic_plan") != std::string_view::npos) custom = 0;
    const bool from_sql = !statement->source.empty();
    rows += (rows.size() > 1 ? ",{\"name\":" : "{\"name\":") + quoted(name) +
            ",\"statement\":" + quoted(from_sql ? statement->source : statement->sql) +
            ",\"prepare_time\":" + quoted(time_text(now_us - statement->prepared_us)) + ",\"parameter_types\":[" +
            list + "],\"from_sql\":" + quoted(from_sql) +
            ",\"generic_plans\":" + std::to_string(statement->executions - custom) +
            ",\"custom_plans\":" + std::to_string(custom) + "}";
  }
  if (home != nullptr) s_.backends_.give_back();
  if (!status.ok()) co_return std::move(status.error());
  co_return rows + "]";
}

namespace {

std::string cursor_row(std::string_view name, std::string_view statement, bool hold, bool binary, bool scroll,
                       std::string_view time) {
  return "{\"name\":" + quoted(name) + ",\"statement\":" + quoted(statement) + ",\"is_holdable\":" + quoted(hold) +
         ",\"is_binary\":" + quoted(binary) + ",\"is_scrollable\":" + quoted(scroll) +
         ",\"creation_time\":" + quoted(time) + "}";
}

// Through the extended protocol: a simple query would end the implicit transaction of a batch, and its unnamed portal.
net::Task<Result<pool::ServerConn::Rows>> cursors_of(exec::Backend& backend, bool in_batch) {
  pool::ServerConn& conn = *backend.conn;
  conn.write_parse("",
                   "SELECT name, statement, is_holdable, is_binary, is_scrollable, pg_catalog.to_char(creation_time AT "
                   "TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' FROM pg_catalog.pg_cursors",
                   {});
  pg::write_bind_text(conn.out(), kOwnPortal, "", {}, 0);
  pg::write_execute(conn.out(), kOwnPortal, 0);
  pg::write_close(conn.out(), 'P', kOwnPortal);
  for (RequestKind kind : {RequestKind::parse, RequestKind::bind, RequestKind::execute, RequestKind::close})
    conn.expect({kind, true});
  if (!in_batch) {
    pg::write_sync(conn.out());
    conn.expect({RequestKind::sync, true});
  }
  backend.unnamed_statement = 0;
  pool::ServerConn::Rows rows;
  CO_TRY(co_await conn.drain(&rows));
  co_return rows;
}

}  // namespace

net::Task<Result<std::string>> SessionViews::cursors() {
  if (s_.extended_) CO_TRY(co_await s_.settle_current());
  std::string rows;
  auto add = [&rows](std::string row) { rows += (rows.empty() ? "" : ",") + std::move(row); };
  const int64_t now_us = s_.worker_.loop.now_us();
  for (const auto& [name, cursor] : s_.cursors_)
    if (cursor.group == 0)
      add(cursor_row(name, cursor.source, cursor.hold, cursor.binary, false, time_text(now_us - cursor.made_us)));
  exec::GroupId unnamed = 0;
  if (s_.extended_)
    for (const auto& [name, portal] : s_.extended_->portals) {
      if (portal.group == 0)
        add(cursor_row(name, portal.statement->sql, false, false, false, time_text(now_us - portal.made_us)));
      if (portal.group != 0 && name.empty()) unnamed = portal.group;
    }
  std::vector<exec::GroupId> groups;
  for (const auto& backend : s_.backends_.all()) {
    const bool batch = s_.extended_ && std::find(s_.extended_->batch.begin(), s_.extended_->batch.end(),
                                                 backend->group) != s_.extended_->batch.end();
    if (backend->begun || backend->pinned || batch) groups.push_back(backend->group);
  }
  for (exec::GroupId group : groups) {
    auto backend = co_await s_.backends_.get(group);
    if (!backend.ok()) co_return std::move(backend.error());
    const bool batch =
        s_.extended_ && !s_.backends_.in_transaction() &&
        std::find(s_.extended_->batch.begin(), s_.extended_->batch.end(), group) != s_.extended_->batch.end();
    auto known = co_await cursors_of(**backend, batch);
    if (!known.ok()) co_return std::move(known.error());
    for (const auto& row : known->rows) {
      const std::string name = row[0].value_or("");
      if (name == kOwnPortal || (name.empty() && unnamed != group)) continue;
      const auto found = s_.cursors_.find(name);
      const bool own = found != s_.cursors_.end() && found->second.group == group;
      add(cursor_row(name, own ? found->second.source : row[1].value_or(""), row[2] == "t", row[3] == "t",
                     row[4] == "t", row[5].value_or("")));
    }
  }
  co_return "[" + rows + "]";
}

}  // namespace pgmosaic::router
