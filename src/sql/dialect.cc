#include "sql/dialect.h"

#include <charconv>

#include "sql/table_options.h"
#include "sql/tokens.h"

namespace pgmosaic::sql {
namespace {

using Kind = Token::Kind;

Error misuse(std::string message, std::string hint) { return make_error("42601", std::move(message), std::move(hint)); }
Error later(std::string message) {
  return make_error(
      "0A000", std::move(message),
      "Use SHARD BY HASH (column, ...), SHARD BY RANGE or SHARD BY LIST; directory distribution comes in a "
      "later version.");
}

bool is_identifier(const Token& token) { return token.kind == Kind::word || token.kind == Kind::quoted; }

// The reader of one statement. The scanner stands behind the token that decided where to go.
class Reader {
 public:
  explicit Reader(std::string_view sql) : sql_(sql), scanner_(sql) {}

  Result<std::optional<CreateTableText>> run();

 private:
  bool skip_to_name();
  void skip_qualified_name();
  Status clause(const Token& first, bool& go_on);
  Status keys(const Token& first, std::string_view keyword);
  Status key_list();
  bool remainder_of_hash();
  Status by_bounds(const Token& method, bool ours);
  Status partition_list();
  Status partition(std::string& below);
  Result<std::string> bound_values();
  Status options();
  Status option(const Token& name);
  void keep(std::string& where, uint32_t begin) {
    where += ' ';
    where += sql_.substr(begin, scanner_.position() - begin);
  }

  std::string_view sql_;
  TokenScanner scanner_;
  CreateTableText result_;
};

bool Reader::skip_to_name() {
  if (!scanner_.is_word(scanner_.next(), "create")) return false;
  Token token = scanner_.next();
  if (scanner_.is_word(token, "global") || scanner_.is_word(token, "local")) token = scanner_.next();
  if (scanner_.is_word(token, "temp") || scanner_.is_word(token, "temporary") || scanner_.is_word(token, "unlogged"))
    token = scanner_.next();
  return scanner_.is_word(token, "table");
}

void Reader::skip_qualified_name() {
  if (scanner_.is_word(scanner_.peek(), "if"))
    for (int i = 0; i < 3; ++i) scanner_.next();
  scanner_.next();
  while (scanner_.is_symbol(scanner_.peek(), '.')) {
    scanner_.next();
    scanner_.next();
  }
}

Result<std::optional<CreateTableText>> Reader::run() {
  std::optional<CreateTableText> none;
  if (!skip_to_name()) return none;
  skip_qualified_name();
  const std::size_t behind_name = scanner_.position();
  if (scanner_.is_word(scanner_.peek(), "of")) {
    scanner_.next();
    skip_qualified_name();
  }
  Token token = scanner_.peek();
  if (scanner_.is_symbol(token, '(')) {
    scanner_.next();
    if (skip_parentheses(scanner_).kind != Kind::symbol) return none;
  } else if (token.kind != Kind::word || scanner_.is_word(token, "partition")) {
    return none;
  }
  const std::size_t behind_columns = scanner_.position();
  result_.create = std::string(sql_.substr(0, behind_name));
  result_.head = std::string(sql_.substr(0, behind_columns));
  result_.clauses = std::string(sql_.substr(behind_columns));
  bool go_on = true;
  while (go_on) {
    const std::size_t behind_clauses = scanner_.position();
    Token first = scanner_.peek();
    if (first.kind == Kind::end) break;
    if (scanner_.is_word(first, "as")) {
      if (result_.shard_by_bounds)
        return make_error("0A000", "CREATE TABLE ... AS cannot make a table by ranges or lists",
                          "Create the table first, then INSERT ... SELECT into it.");
      result_.clauses = std::string(sql_.substr(behind_columns, behind_clauses - behind_columns));
      result_.as_query = " " + std::string(sql_.substr(first.begin));
      break;
    }
    TRY(clause(first, go_on));
  }
  return std::optional<CreateTableText>(std::move(result_));
}

// One clause behind the list of columns; what is none of the known ones is kept, so that the parser complains.
Status Reader::clause(const Token& first, bool& go_on) {
  scanner_.next();
  if (scanner_.is_word(first, "shard")) return keys(first, "SHARD BY");
  if (scanner_.is_word(first, "partition")) return keys(first, "PARTITION BY");
  if (scanner_.is_word(first, "inherits")) {
    scanner_.next();
    skip_parentheses(scanner_);
    keep(result_.head, first.begin);
    return {};
  }
  if (scanner_.is_word(first, "with") && scanner_.is_symbol(scanner_.peek(), '(')) {
    scanner_.next();
    return options();
  }
  if (scanner_.is_word(first, "using") || scanner_.is_word(first, "tablespace") || scanner_.is_word(first, "without")) {
    scanner_.next();
    keep(scanner_.is_word(first, "using") ? result_.method : result_.tail, first.begin);
    return {};
  }
  if (scanner_.is_word(first, "on")) {
    scanner_.next();
    Token action = scanner_.next();
    if (!scanner_.is_word(action, "drop")) scanner_.next();
    keep(result_.tail, first.begin);
    return {};
  }
  result_.tail += ' ';
  result_.tail += sql_.substr(first.begin);
  go_on = false;
  return {};
}

Status Reader::keys(const Token& first, std::string_view keyword) {
  bool ours = keyword == "SHARD BY";
  if (!scanner_.is_word(scanner_.next(), "by"))
    return misuse("syntax error at or near \"" + std::string(scanner_.text(first)) + "\"",
                  "The clause is " + std::string(keyword) + " HASH (column, ...).");
  Token method = scanner_.next();
  const bool bounds = scanner_.is_word(method, "range") || scanner_.is_word(method, "list");
  // SHARD BY HASH (a) PARTITION BY RANGE (b): each partition is spread by the hash.
  if (result_.partitioned || (result_.keyed() && (ours || !bounds)))
    return misuse("a table cannot be distributed twice",
                  "SHARD BY HASH (column) PARTITION BY RANGE (column) is the one way to have both.");
  if (bounds) return by_bounds(method, ours);
  if (scanner_.is_word(method, "hash") && scanner_.is_symbol(scanner_.peek(), '(')) {
    scanner_.next();
    if (ours) return key_list();
    TokenScanner behind = scanner_;
    if (skip_parentheses(behind).kind != Kind::symbol)
      return misuse("unbalanced parentheses in PARTITION BY", "Close them.");
    if (Status read = key_list(); !read.ok()) result_.by_hash_error = read.error();
    scanner_ = behind;
    result_.by_hash = " ";
    result_.by_hash += sql_.substr(first.begin, behind.position() - first.begin);
    return {};
  }
  if (ours && scanner_.is_symbol(method, '(')) return key_list();
  for (std::string_view other : {"directory", "geo"})
    if (scanner_.is_word(method, other))
      return later(std::string(keyword) + " " + std::string(scanner_.text(method)) + " is not supported yet");
  if (!ours && is_identifier(method)) return by_bounds(method, ours);  // PostgreSQL says that it knows none
  return misuse("unknown distribution method in " + std::string(keyword),
                "The clause is " + std::string(keyword) + " HASH (column, ...).");
}

// PARTITION BY RANGE (…) for PostgreSQL, and what is listed behind it for us.
Status Reader::by_bounds(const Token& method, bool ours) {
  const Token open = scanner_.next();
  if (!scanner_.is_symbol(open, '(') || skip_parentheses(scanner_).kind != Kind::symbol)
    return misuse("a distribution key is a list of columns in parentheses", "Write SHARD BY RANGE (column, ...).");
  result_.head += " PARTITION BY " + std::string(scanner_.text(method)) + " ";
  result_.head += sql_.substr(open.begin, scanner_.position() - open.begin);
  result_.partitioned = true;
  result_.shard_by_bounds = ours;
  if (!scanner_.is_symbol(scanner_.peek(), '(')) return {};
  scanner_.next();
  return partition_list();
}

Status Reader::partition_list() {
  std::string below = "MINVALUE";  // where VALUES LESS THAN begins
  while (true) {
    TRY(partition(below));
    Token after = scanner_.next();
    if (scanner_.is_symbol(after, ')')) return {};
    if (!scanner_.is_symbol(after, ','))
      return misuse("syntax error in the list of partitions", "Separate the partitions with commas.");
  }
}

// SHARD 'name' VALUES FROM a TO b, PARTITION name VALUES LESS THAN (a), … VALUES IN (…), … DEFAULT
Status Reader::partition(std::string& below) {
  const char* hint = "Write SHARD 'name' VALUES FROM a TO b, or PARTITION name VALUES LESS THAN (a).";
  Token word = scanner_.next();
  if (!scanner_.is_word(word, "shard") && !scanner_.is_word(word, "partition"))
    return misuse("syntax error in the list of partitions", hint);
  Token name = scanner_.next();
  CreateTableText::Partition partition;
  const std::string_view written = scanner_.text(name);
  if (is_identifier(name)) {
    partition.name = scanner_.name(name);
  } else if (name.kind == Kind::string && written.size() > 2 && written[0] == '\'') {
    partition.name = written.substr(1, written.size() - 2);
  } else {
    return misuse("a partition needs a name", hint);
  }
  Token how = scanner_.next();
  if (scanner_.is_word(how, "default")) {
    partition.bound = "DEFAULT";
    result_.partitions.push_back(std::move(partition));
    return {};
  }
  if (!scanner_.is_word(how, "values")) return misuse("a partition needs its values", hint);
  how = scanner_.next();
  if (scanner_.is_word(how, "in")) {
    TRY_ASSIGN(const std::string values, bound_values());
    partition.bound = "FOR VALUES IN (" + values + ")";
  } else if (scanner_.is_word(how, "less") && scanner_.is_word(scanner_.next(), "than")) {
    TRY_ASSIGN(std::string values, bound_values());
    partition.bound = "FOR VALUES FROM (" + below + ") TO (" + values + ")";
    below = std::move(values);
  } else if (scanner_.is_word(how, "from")) {
    TRY_ASSIGN(const std::string from, bound_values());
    if (!scanner_.is_word(scanner_.next(), "to")) return misuse("the values of a range have two ends", hint);
    TRY_ASSIGN(const std::string to, bound_values());
    partition.bound = "FOR VALUES FROM (" + (from == "UNBOUNDED" ? "MINVALUE" : from) + ") TO (" +
                      (to == "UNBOUNDED" ? "MAXVALUE" : to) + ")";
  } else {
    return misuse("a partition needs its values", hint);
  }
  result_.partitions.push_back(std::move(partition));
  return {};
}

// A list in parentheses, or one value up to what may follow it; UNBOUNDED in upper case.
Result<std::string> Reader::bound_values() {
  Token first = scanner_.peek();
  if (scanner_.is_symbol(first, '(')) {
    scanner_.next();
    const std::size_t begin = first.end;
    if (skip_parentheses(scanner_).kind != Kind::symbol)
      return misuse("unbalanced parentheses in the list of partitions", "Close them.");
    return std::string(sql_.substr(begin, scanner_.position() - 1 - begin));
  }
  if (scanner_.is_word(first, "unbounded")) {
    scanner_.next();
    return std::string("UNBOUNDED");
  }
  std::size_t end = first.begin;
  while (true) {
    Token token = scanner_.peek();
    if (token.kind == Kind::end || token.kind == Kind::broken || scanner_.is_symbol(token, ',') ||
        scanner_.is_symbol(token, ')') || scanner_.is_word(token, "to"))
      break;
    scanner_.next();
    if (scanner_.is_symbol(token, '(')) skip_parentheses(scanner_);
    end = scanner_.position();
  }
  if (end == first.begin) return misuse("a value is missing in the list of partitions", "Write a value.");
  return std::string(sql_.substr(first.begin, end - first.begin));
}

// Columns, or the text of the whole list. The opening parenthesis was read.
Status Reader::key_list() {
  const std::size_t begin = scanner_.position();
  if (scanner_.is_word(scanner_.peek(), "hash")) {
    TokenScanner before = scanner_;
    if (remainder_of_hash()) return {};
    scanner_ = before;
  }
  bool expression = false;
  std::vector<std::string> columns;
  while (true) {
    Token column = scanner_.next();
    Token after = scanner_.peek();
    const bool ends = scanner_.is_symbol(after, ',') || scanner_.is_symbol(after, ')');
    if (is_identifier(column) && ends) {
      columns.push_back(scanner_.name(column));
    } else {
      if (is_identifier(column) && (is_identifier(after) || scanner_.is_word(after, "collate")))
        return later("COLLATE and operator classes in a distribution key are not supported yet");
      if (scanner_.is_symbol(column, ')') || scanner_.is_symbol(column, ','))
        return misuse("a distribution key is a list of columns", "Write SHARD BY HASH (column, ...).");
      expression = true;
      if (scanner_.is_symbol(column, '(')) skip_parentheses(scanner_);
      for (after = scanner_.peek(); !scanner_.is_symbol(after, ',') && !scanner_.is_symbol(after, ')');
           after = scanner_.peek()) {
        if (after.kind == Kind::end || after.kind == Kind::broken)
          return misuse("a distribution key is a list of columns", "Write SHARD BY HASH (column, ...).");
        scanner_.next();
        if (scanner_.is_symbol(after, '(')) skip_parentheses(scanner_);
      }
    }
    scanner_.next();
    if (scanner_.is_symbol(after, ')')) break;
  }
  if (expression) {
    result_.key_expressions = std::string(sql_.substr(begin, scanner_.position() - 1 - begin));
  } else {
    result_.key_columns = std::move(columns);
  }
  return {};
}

// HASH(a, b) % 64)
bool Reader::remainder_of_hash() {
  scanner_.next();
  if (!scanner_.is_symbol(scanner_.next(), '(')) return false;
  std::vector<std::string> columns;
  for (;;) {
    const Token column = scanner_.next();
    if (!is_identifier(column)) return false;
    columns.push_back(scanner_.name(column));
    const Token after = scanner_.next();
    if (scanner_.is_symbol(after, ')')) break;
    if (!scanner_.is_symbol(after, ',')) return false;
  }
  if (!scanner_.is_symbol(scanner_.next(), '%')) return false;
  const std::string_view number = scanner_.text(scanner_.next());
  uint32_t count = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), count);
  if (error != std::errc() || end != number.data() + number.size() || count < 1 || count > 1024) return false;
  if (!scanner_.is_symbol(scanner_.next(), ')')) return false;
  result_.key_columns = std::move(columns);
  result_.shard_count = count;
  return true;
}

Status Reader::options() {
  while (true) {
    Token name = scanner_.next();
    if (!is_identifier(name)) return misuse("syntax error in WITH (...)", "Write WITH (name = value, ...).");
    TRY(option(name));
    Token after = scanner_.next();
    if (scanner_.is_symbol(after, ')')) return {};
    if (!scanner_.is_symbol(after, ',')) return misuse("syntax error in WITH (...)", "Write WITH (name = value, ...).");
  }
}

Status Reader::option(const Token& name) {
  std::string key = scanner_.name(name);
  if (!is_table_option(key)) {
    if (!scanner_.is_symbol(scanner_.peek(), '.')) TRY(check_parameter_name(key));
    while (true) {
      Token peeked = scanner_.peek();
      if (scanner_.is_symbol(peeked, ',') || scanner_.is_symbol(peeked, ')') || peeked.kind == Kind::end ||
          peeked.kind == Kind::broken)
        break;
      scanner_.next();
    }
    if (!result_.storage.empty()) result_.storage += ", ";
    result_.storage += sql_.substr(name.begin, scanner_.position() - name.begin);
    return {};
  }
  if (!scanner_.is_symbol(scanner_.next(), '=')) return misuse(key + " needs a value", "Write " + key + " = value.");
  Token token = scanner_.next();
  std::string value(scanner_.text(token));
  if (token.kind == Kind::string && value.size() >= 2 && value[0] == '\'') {
    value = value.substr(1, value.size() - 2);
  } else if (is_identifier(token)) {
    value = scanner_.name(token);
    if (scanner_.is_symbol(scanner_.peek(), '.')) {
      scanner_.next();
      value += "." + scanner_.name(scanner_.next());
    }
  }
  if (key == "shard_count") {
    uint32_t count = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
    if (error != std::errc() || end != value.data() + value.size() || count < 1 || count > 1024)
      return make_error("22023", "invalid shard_count: " + value, "It is a number from 1 to 1024.");
    if (result_.shard_count) return misuse("shard_count is given twice", "Give it once.");
    result_.shard_count = count;
  } else if (key == "table_type") {
    if (value != "reference" && value != "local" && value != "sharded")
      return make_error("22023", "invalid table_type: " + value, "It is 'reference', 'local' or 'sharded'.");
    if (result_.table_type) return misuse("table_type is given twice", "Give it once.");
    result_.table_type = value;
  } else {
    if (result_.colocate_with) return misuse("colocate_with is given twice", "Give it once.");
    result_.colocate_with = value;
  }
  return {};
}

}  // namespace

bool is_create_table(std::string_view sql) {
  TokenScanner scanner(sql);
  if (!scanner.is_word(scanner.next(), "create")) return false;
  for (int i = 0; i < 3; ++i) {
    Token token = scanner.next();
    if (scanner.is_word(token, "table")) return true;
    bool modifier = false;
    for (std::string_view word : {"global", "local", "temp", "temporary", "unlogged"})
      modifier = modifier || scanner.is_word(token, word);
    if (!modifier) return false;
  }
  return false;
}

Result<std::optional<CreateTableText>> read_create_table(std::string_view sql) { return Reader(sql).run(); }

}  // namespace pgmosaic::sql
