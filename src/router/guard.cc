#include "router/guard.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "plan/planner.h"
#include "pool/settings.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

const char* kHint =
    "It runs on the home, which has no rows of sharded tables, and one of the copies of reference tables: "
    "run its statements one by one.";

std::string oids_of(const catalog::Database& database, catalog::TableKind kind) {
  std::string oids;
  for (const auto& [oid, table] : database.tables_by_oid)
    if (table->kind == kind) oids += (oids.empty() ? "" : ",") + std::to_string(oid);
  return "'{" + oids + "}'::pg_catalog.oid[]";
}

// The command that a statement is, by its first words: CREATE OR REPLACE VIEW is CREATE VIEW.
bool has_tag(std::string_view statement, std::string_view tag) {
  sql::TokenScanner words(statement), wanted(tag);
  for (sql::Token word = wanted.next(); word.kind != sql::Token::Kind::end; word = wanted.next()) {
    const std::string name = wanted.name(word);
    if (name == "as" || name == "into") return true;  // CREATE TABLE AS, SELECT INTO
    sql::Token mine = words.next();
    while (mine.kind == sql::Token::Kind::word && !words.is_word(mine, name)) mine = words.next();
    if (mine.kind != sql::Token::Kind::word) return false;
  }
  return true;
}

}  // namespace

Guard::Guard(pool::ServerConn& home, const catalog::Database& database, const ByName<PreparedPtr>* statements)
    : home_(home),
      database_(database),
      statements_(statements),
      lent_(home),
      sharded_(oids_of(database, catalog::TableKind::sharded)),
      reference_(oids_of(database, catalog::TableKind::reference)) {}

// Columns: a table that is sharded; a reference table that is written; databases or tablespaces, where they are
// changed. Whether memberships, settings and comments of roles are changed; whether roles are; whether the user may
// read passwords. Other locks than those of statements over rows are of schema changes, unless TRUNCATE has left other
// files behind.
std::string Guard::touched() const {
  std::string truncated = "false";
  if (!files_.empty())
    truncated =
        "l.mode = 'AccessExclusiveLock' AND EXISTS (SELECT FROM pg_catalog.pg_class f WHERE f.oid = l.relation AND "
        "f.relfilenode <> 0 AND pg_catalog.strpos(" +
        pool::quote_literal(files_) + ", ',' || f.oid || ' ' || f.relfilenode || ',') = 0)";
  return "(SELECT pg_catalog.min(l.relation::pg_catalog.int8) FILTER (WHERE l.relation = ANY (" + sharded_ +
         ") AND (l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock') OR " + truncated +
         ") OR l.relation = ANY (" + reference_ + ") AND (l.mode = 'RowExclusiveLock' OR " + truncated +
         ") OR l.mode = 'RowExclusiveLock' AND l.relation IN (1213, 1262)), "
         "coalesce(pg_catalog.bool_or(l.mode = 'RowExclusiveLock' AND l.relation IN (1260, 1261, 2396, 2964, 3592)), "
         "false), coalesce(pg_catalog.bool_or(l.mode = 'RowExclusiveLock' AND l.relation = 1260), false), "
         "pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT') FROM pg_catalog.pg_locks l "
         "WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation') locks (touched, memberships, roles, "
         "passwords)";
}

net::Task<Status> Guard::begin(std::string_view sql) {
  const std::string question =
      "SELECT locks.*, current_user, pg_catalog.current_setting('search_path'), ',' || coalesce((SELECT "
      "pg_catalog.string_agg(oid || "
      "' ' || relfilenode, ',') FROM pg_catalog.pg_class WHERE oid = ANY (" +
      sharded_ + " || " + reference_ + ")), '') || ',', (SELECT count(*) FROM pg_catalog.pgmosaic_changes(0)) FROM " +
      touched();
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  const auto& row = rows->rows[0];
  role_ = row[4].value_or("");
  path_ = row[5].value_or("");
  files_ = row[6].value_or("");
  noted_ = row[7].value_or("0");
  if (row[1] == "t") {
    CO_TRY_ASSIGN(roles_before_, co_await read_roles(home_, row[3] == "t"));
  }
  if (!row[0]) {
    if (statements_ != nullptr) CO_TRY(co_await lent_.lend(*statements_, sql));
    co_return Status{};
  }
  co_return make_error("0A000", "SQL given as text in a transaction that has used sharded or written reference tables",
                       "Run it in a transaction of its own: what it touches cannot be told apart.");
}

net::Task<Status> Guard::end() {
  const std::string question =
      "SELECT locks.*, EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()), "
      "EXISTS (SELECT FROM pg_catalog.pgmosaic_changes(" +
      noted_ +
      ")), (SELECT pg_catalog.string_agg(c.oid::pg_catalog.text, ',') FROM pg_catalog.pg_locks l JOIN "
      "pg_catalog.pg_class c ON c.oid = l.relation WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = "
      "'relation' AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't') FROM " +
      touched();
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  const auto& row = rows->rows[0];
  touches_memberships_ = row[1] == "t";
  touches_roles_ = row[2] == "t";
  reads_passwords_ = row[3] == "t";
  leaves_objects_ = row[4] == "t";
  if (row[5] == "t") CO_TRY(co_await read_changes());
  if (row[6]) CO_TRY(co_await read_unnoted(*row[6]));
  if (!row[0]) co_return Status{};
  const auto table = database_.tables_by_oid.find(static_cast<catalog::Oid>(std::stoul(*row[0])));
  const std::string what = table == database_.tables_by_oid.end() ? "databases or tablespaces, which every server has"
                           : table->second->kind == catalog::TableKind::sharded
                               ? "sharded table \"" + table->second->name + "\""
                               : "reference table \"" + table->second->name + "\" to write it";
  co_return make_error("0A000", "SQL given as text has touched " + what, kHint);
}

net::Task<Status> Guard::read_changes() {
  const std::string question =
      "SELECT tag, stack, made, name, columns, role, path FROM pg_catalog.pgmosaic_changes(" + noted_ + ")";
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  std::vector<std::string> texts;
  for (const auto& row : rows->rows) {
    CO_TRY_ASSIGN(std::string text, co_await text_in(*row[1]));
    texts.push_back(std::move(text));
  }
  std::map<std::string, std::size_t> next;  // of texts with several statements: which comes next
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto& row = rows->rows[i];
    const std::string& tag = *row[0];
    const std::vector<std::string_view> statements = plan::split_statements(texts[i]);
    if (statements.empty())
      co_return make_error("0A000", tag + " in a function, procedure or block is not supported here",
                           "Its text is not known to the other servers: run it as a statement of its own.");
    // What a statement drops besides what it does, as CREATE EXTENSION may.
    const bool whole = statements.size() > 1 || has_tag(statements[0], tag);
    if (!whole && std::find(texts.begin() + static_cast<std::ptrdiff_t>(i) + 1, texts.end(), texts[i]) != texts.end())
      continue;
    if (row[5] != role_ || row[6] != path_)
      co_return make_error("0A000", tag + " in a function with a search_path or a role of its own is not supported",
                           "The other servers would have to do the same: run it as a statement of its own.");
    std::size_t& at = next[texts[i]];
    for (std::size_t tries = 0; tries + 1 < statements.size() && !has_tag(statements[at], tag); ++tries)
      at = (at + 1) % statements.size();
    changes_.push_back(
        {tag, std::string(statements[at]), row[2].value_or(""), row[3].value_or(""), row[4].value_or("")});
    at = (at + 1) % statements.size();
  }
  co_return Status{};
}

// `locked`: OIDs of tables that nobody else may use until the end of the transaction, as those are that it has made.
net::Task<Status> Guard::read_unnoted(std::string_view locked) {
  std::string oids;
  while (!locked.empty()) {
    const std::string oid(locked.substr(0, locked.find(',')));
    locked.remove_prefix(std::min(oid.size() + 1, locked.size()));
    const auto noted = [&oid](const HomeChange& change) { return change.made == oid; };
    if (database_.tables_by_oid.contains(static_cast<catalog::Oid>(std::stoul(oid))) ||
        std::any_of(changes_.begin(), changes_.end(), noted))
      continue;
    oids += (oids.empty() ? "" : ",") + oid;
  }
  if (oids.empty()) co_return Status{};
  const std::string question =
      "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), t.columns, c.relkind = 'r' AND "
      "pg_catalog.pg_get_userbyid(c.relowner) = " +
      pool::quote_literal(role_) +
      " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL "
      "pg_catalog.pgmosaic_columns(c.oid) t WHERE n.nspname <> 'pg_catalog' AND c.oid IN (" +
      oids + ")";
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  for (const auto& row : rows->rows) {
    const std::string name = row[1].value_or("");
    const std::string sql = row[3] == "t" ? "CREATE TABLE " + name + " (" + row[2].value_or("") + ")" : std::string();
    unnoted_.push_back({"EXPLAIN ANALYZE", sql, row[0].value_or(""), name, row[2].value_or("")});
  }
  co_return Status{};
}

// The text in which the statement stands, or that of a function in SQL; empty: it is not known.
net::Task<Result<std::string>> Guard::text_in(std::string_view stack) {
  constexpr std::string_view kStatement = "SQL statement \"", kFunction = "SQL function \"";
  if (stack.starts_with(kStatement)) {
    stack.remove_prefix(kStatement.size());
    std::size_t end = stack.size() - 1;
    for (const std::string_view next : {"\"\nPL/pgSQL function ", "\"\nSQL statement ", "\"\nSQL function "})
      end = std::min(end, stack.find(next));
    co_return std::string(stack.substr(0, end));
  }
  const std::size_t quote = stack.find("\" statement ");
  if (!stack.starts_with(kFunction) || quote == std::string_view::npos) co_return std::string();
  const std::string name(stack.substr(kFunction.size(), quote - kFunction.size()));
  const std::string question =
      "SELECT p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE l.lanname = "
      "'sql' AND p.proname = " +
      pool::quote_literal(name);
  auto rows = co_await home_.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.size() != 1) co_return std::string();
  const std::string body = rows->rows[0][0].value_or("");
  const auto number = std::strtoul(std::string(stack.substr(quote + 12, 5)).c_str(), nullptr, 10);
  const auto statements = plan::split_statements(body);
  if (number == 0 || number > statements.size()) co_return std::string();
  co_return std::string(statements[number - 1]);
}

}  // namespace pgmosaic::router
