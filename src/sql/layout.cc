#include "sql/layout.h"

#include "sql/tokens.h"

namespace pgmosaic::sql {

namespace {

using Kind = Token::Kind;

constexpr const char* kBareTable = "CREATE TABLE t ()";

Error misuse(std::string message) {
  return make_error(
      "42601", std::move(message),
      "Write CREATE LAYOUT FOR table SHARD BY HASH (column, ...) WITH (...), DROP LAYOUT FOR table, or DROP "
      "LAYOUT ALL.");
}

bool is_identifier(const Token& token) { return token.kind == Kind::word || token.kind == Kind::quoted; }

// schema.table
bool read_name(TokenScanner& scanner, TableName& name) {
  const Token schema = scanner.next(), dot = scanner.next(), table = scanner.next();
  if (!is_identifier(schema) || !scanner.is_symbol(dot, '.') || !is_identifier(table)) return false;
  name = {scanner.name(schema), scanner.name(table)};
  return true;
}

bool at_end(TokenScanner& scanner) {
  Token token = scanner.next();
  if (scanner.is_symbol(token, ';')) token = scanner.next();
  return token.kind == Kind::end;
}

}  // namespace

bool is_layout_command(std::string_view sql) {
  TokenScanner scanner(sql);
  const Token verb = scanner.next();
  const Token object = scanner.next();
  return (scanner.is_word(verb, "create") || scanner.is_word(verb, "drop")) && scanner.is_word(object, "layout");
}

Result<LayoutCommand> read_layout_command(std::string_view sql) {
  TokenScanner scanner(sql);
  LayoutCommand command;
  command.drop = scanner.is_word(scanner.next(), "drop");
  scanner.next();
  const Token word = scanner.next();
  command.all = command.drop && scanner.is_word(word, "all");
  if (command.all && at_end(scanner)) return command;
  if (!scanner.is_word(word, "for") || !read_name(scanner, command.name)) return misuse("syntax error in LAYOUT");
  if (command.drop && at_end(scanner)) return command;
  if (command.drop) return misuse("syntax error in DROP LAYOUT");
  const std::size_t begin = scanner.peek().begin;
  std::size_t end = begin;
  for (Token token = scanner.next(); token.kind != Kind::end && !scanner.is_symbol(token, ';');
       token = scanner.next()) {
    if (token.kind == Kind::broken) return misuse("syntax error in CREATE LAYOUT");
    end = token.end;
  }
  command.clauses = std::string(sql.substr(begin, end - begin));
  TRY_ASSIGN(const CreateTableText text, read_layout_clauses(command.clauses));
  if (!text.has_clause() || text.head != kBareTable || !text.storage.empty() || !text.method.empty() ||
      !text.tail.empty() || !text.as_query.empty())
    return misuse("a layout is SHARD BY with shard_count and colocate_with, or a table_type");
  return command;
}

Result<CreateTableText> read_layout_clauses(const std::string& clauses) {
  TRY_ASSIGN(auto text, read_create_table(kBareTable + (" " + clauses)));
  if (!text) return misuse("syntax error in the clauses of a layout");
  return std::move(*text);
}

std::optional<TableName> created_table(std::string_view sql) {
  if (!is_create_table(sql)) return std::nullopt;
  TokenScanner scanner(sql);
  for (Token token = scanner.next(); !scanner.is_word(token, "table"); token = scanner.next())
    if (scanner.is_word(token, "temp") || scanner.is_word(token, "temporary")) return std::nullopt;
  if (scanner.is_word(scanner.peek(), "if"))
    for (int i = 0; i < 3; ++i) scanner.next();
  TableName name;
  if (!read_name(scanner, name) || name.schema == "pg_temp") return std::nullopt;
  return name;
}

std::string add_clauses(std::string_view create_table, const std::string& clauses) {
  TokenScanner scanner(create_table), wanted(clauses);
  // SHARD BY HASH (a) PARTITION BY RANGE (b): in this order.
  const bool spreads = wanted.is_word(wanted.next(), "shard");
  std::size_t end = 0, behind = create_table.size();
  int depth = 0;
  for (Token token = scanner.next(); token.kind != Kind::end; token = scanner.next()) {
    if (scanner.is_symbol(token, ';')) continue;
    if (scanner.is_symbol(token, '(')) ++depth;
    if (scanner.is_symbol(token, ')')) --depth;
    if (spreads && depth == 0 && scanner.is_word(token, "partition")) {
      behind = token.begin;
      break;
    }
    end = token.end;
    if (token.kind == Kind::broken) break;
  }
  const std::string_view rest = behind < create_table.size() ? create_table.substr(behind) : std::string_view();
  return std::string(create_table.substr(0, end)) + " " + clauses + (rest.empty() ? "" : " ") + std::string(rest);
}

}  // namespace pgmosaic::sql
