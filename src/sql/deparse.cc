#include "sql/deparse.h"

#include <pg_query.h>

#include <algorithm>

#include "sql/parentheses.h"
#include "sql/parse.h"

namespace pgmosaic::sql {

namespace {

// What libpg_query writes, which leaves out parentheses here and there.
Result<std::string> print(const Node* statement) {
  PgQuery__RawStmt raw = PG_QUERY__RAW_STMT__INIT;
  raw.stmt = const_cast<Node*>(statement);
  PgQuery__RawStmt* statements[] = {&raw};
  PgQuery__ParseResult result = PG_QUERY__PARSE_RESULT__INIT;
  result.version = PG_VERSION_NUM;
  result.n_stmts = 1;
  result.stmts = statements;
  std::string packed(pg_query__parse_result__get_packed_size(&result), '\0');
  pg_query__parse_result__pack(&result, reinterpret_cast<uint8_t*>(packed.data()));
  PgQueryProtobuf protobuf{packed.size(), packed.data()};
  PgQueryDeparseResult deparsed = pg_query_deparse_protobuf(protobuf);
  if (deparsed.error != nullptr || deparsed.query == nullptr) {
    Error error = make_error("0A000", "the statement cannot be rewritten for several groups", {},
                             deparsed.error != nullptr ? text_of(deparsed.error->message).data() : "");
    pg_query_free_deparse_result(deparsed);
    return error;
  }
  std::string sql = deparsed.query;
  pg_query_free_deparse_result(deparsed);
  return sql;
}

// Whether the text means the tree.
bool means(const std::string& sql, const Node* statement) {
  auto again = ParseTree::parse(sql);
  const auto plain = [](const PgQuery__ColumnRef*) { return std::string(); };
  return again.ok() && again->statement_count() == 1 &&
         fingerprint(inner(again->statement()), plain) == fingerprint(inner(statement), plain);
}

}  // namespace

Result<std::string> deparse_statement(const Node* statement) {
  TRY_ASSIGN(std::string sql, print(statement));
  if (means(sql, statement)) return sql;
  Parentheses parentheses(print);
  TRY_ASSIGN(sql, parentheses.write(statement));
  if (means(sql, statement)) return sql;
  return make_error("0A000", "the statement cannot be rewritten exactly for several groups",
                    "Simplify its expressions, or name parts of them in a sub-query.");
}

namespace {

Result<std::string> deparse_select(Arena& arena, PgQuery__SelectStmt* select, std::string_view prefix) {
  select->limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
  select->op = PG_QUERY__SET_OPERATION__SETOP_NONE;
  TRY_ASSIGN(std::string sql, deparse_statement(arena.node(select)));
  CHECK(sql.starts_with(prefix));
  return sql.substr(prefix.size());
}

}  // namespace

Result<std::string> deparse_expression(const Node* expression) {
  Arena arena;
  auto* select = arena.make<PgQuery__SelectStmt>();
  select->n_target_list = 1;
  select->target_list = arena.list({arena.target(const_cast<Node*>(expression), "")});
  return deparse_select(arena, select, "SELECT ");
}

Result<std::string> deparse_from_item(const Node* item) {
  Arena arena;
  auto* star = arena.make<PgQuery__ColumnRef>();
  star->n_fields = 1;
  star->fields = arena.list({arena.node(arena.make<PgQuery__AStar>())});
  auto* select = arena.make<PgQuery__SelectStmt>();
  select->n_target_list = 1;
  select->target_list = arena.list({arena.target(arena.node(star), "")});
  select->n_from_clause = 1;
  select->from_clause = arena.list({const_cast<Node*>(item)});
  return deparse_select(arena, select, "SELECT * FROM ");
}

std::string quote_identifier(std::string_view name) {
  // Unquoted only where it surely is no keyword: PostgreSQL's longer words with an underscore or digit are none of
  // its reserved ones, except the few that start with current_, session_ or local.
  bool plain = !name.empty() && (name.find_first_of("_0123456789") != std::string_view::npos) &&
               ((name[0] >= 'a' && name[0] <= 'z') || name[0] == '_') &&
               std::all_of(name.begin(), name.end(),
                           [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
  for (std::string_view reserved : {"current_", "session_", "system_"})
    if (name.starts_with(reserved)) plain = false;
  if (plain) return std::string(name);
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string quote_literal(std::string_view value) {
  std::string quoted = value.find('\\') == std::string_view::npos ? "'" : " E'";
  for (char c : value) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

}  // namespace pgmosaic::sql
