#include "plan/function_body.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "sql/functions.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::UserFunction;
using Touches = UserFunction::Touches;

namespace {

// Commands that leave something in the session, or run what cannot be read here.
constexpr std::array<std::string_view, 21> kUnclean{
    "set",   "reset", "discard", "listen", "unlisten", "notify", "load",      "prepare", "deallocate", "create", "drop",
    "alter", "temp",  "lock",    "copy",   "do",       "call",   "temporary", "declare", "grant",      "revoke"};
// Commands that change the schema, or roles, and the word behind them where the first one is a name as well.
constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kOfSchema{{{"alter", ""},
                                                                                   {"drop", ""},
                                                                                   {"create", ""},
                                                                                   {"grant", ""},
                                                                                   {"revoke", ""},
                                                                                   {"comment", "on"},
                                                                                   {"security", "label"},
                                                                                   {"reassign", "owned"},
                                                                                   {"refresh", "materialized"},
                                                                                   {"import", "foreign"}}};
constexpr std::array<std::string_view, 5> kWriting{"insert", "update", "delete", "merge", "truncate"};
// No statement reaches a table without one of these: in a body that has none, names of tables are variables' and
// others'.
constexpr std::array<std::string_view, 18> kReaching{"from",    "join",  "into",    "table",   "update", "insert",
                                                     "delete",  "merge", "using",   "only",    "copy",   "truncate",
                                                     "analyze", "lock",  "analyse", "cluster", "vacuum", "reindex"};
// Functions of extensions that run SQL given as text.
constexpr std::array<std::string_view, 7> kRunText{"crosstab",  "crosstab2",   "crosstab3", "crosstab4",
                                                   "connectby", "xpath_table", "crosstabn"};

template <size_t n>
bool has(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void raise(UserFunction& function, Touches touches, std::string_view what) {
  if (touches <= function.touches) return;
  function.touches = touches;
  function.what = what;
}

Touches touches_of(const catalog::Table& table, const catalog::Database& database, int depth = 0) {
  switch (table.kind) {
    case catalog::TableKind::sharded: return Touches::shards;
    case catalog::TableKind::reference: return Touches::reference;
    case catalog::TableKind::local: return Touches::home;
    case catalog::TableKind::view: break;
  }
  Touches most = Touches::home;  // what else it reads is a catalog of the home's
  for (const auto& [schema, name] : table.depends_on) {
    const catalog::Table* read = database.find(schema, name);
    if (read != nullptr && depth < 8) most = std::max(most, touches_of(*read, database, depth + 1));
  }
  return most;
}

bool reaches_tables(std::string_view body) {
  TokenScanner scanner(body);
  for (Token token = scanner.next(); token.kind != Token::Kind::end; token = scanner.next())
    if (token.kind == Token::Kind::broken || (token.kind == Token::Kind::word && has(kReaching, scanner.name(token))))
      return true;
  return false;
}

// Tables by their bare names: which schema is meant depends on who calls.
using Tables = std::multimap<std::string, const catalog::Table*, std::less<>>;

class BodyReader {
 public:
  explicit BodyReader(const catalog::Database& database) : database_(database) {
    for (const auto& [schema, tables] : database.schemas)
      for (const auto& [name, table] : tables) tables_.emplace(name, table.get());
  }

  // `calls`: names of functions that may be the user's.
  UserFunction read(const FunctionText& text, std::set<std::string>& calls) const {
    UserFunction function;
    function.volatility = text.volatility;
    function.aggregate = text.aggregate;
    if (text.language == "internal" || text.language == "c") {
      if (has(kRunText, text.name) || text.name.starts_with("dblink"))
        raise(function, Touches::unknown, "SQL given as text");
      return function;
    }
    if (text.aggregate) return function;
    if (text.language != "sql" && text.language != "plpgsql") {
      raise(function, Touches::unknown, "what it runs in " + text.language);
      function.clean = false;
      return function;
    }
    const bool reaches = reaches_tables(text.body);
    bool in_update = false;  // before its SET
    TokenScanner scanner(text.body);
    for (Token token = scanner.next(); token.kind != Token::Kind::end; token = scanner.next()) {
      if (token.kind == Token::Kind::broken) raise(function, Touches::shards, "what could not be read");
      if (token.kind == Token::Kind::broken) return function;
      if (token.kind != Token::Kind::word && token.kind != Token::Kind::quoted) continue;
      const std::string name = scanner.name(token);
      const bool keyword = token.kind == Token::Kind::word;
      if (keyword && name == "create" &&
          (scanner.is_word(scanner.peek(), "temp") || scanner.is_word(scanner.peek(), "temporary"))) {
        function.clean = false;
        continue;
      }
      if (keyword && name == "update") in_update = true;
      if (keyword && name == "set" && std::exchange(in_update, false)) continue;
      for (const auto& [command, next] : kOfSchema)
        if (keyword && name == command && (next.empty() || scanner.is_word(scanner.peek(), next)))
          raise(function, Touches::unknown, "the schema (" + name + ")");
      read_name(name, keyword, text.language == "plpgsql", function, calls);
      if (reaches) read_table(name, function);
    }
    if (function.writes && function.copies) raise(function, Touches::shards, "a reference table, and write");
    return function;
  }

 private:
  void read_name(const std::string& name, bool keyword, bool plpgsql, UserFunction& function,
                 std::set<std::string>& calls) const {
    if (keyword && plpgsql && name == "execute") raise(function, Touches::unknown, "SQL given as text (EXECUTE)");
    if (keyword && (name == "commit" || name == "rollback")) function.commits = true;
    if (keyword && has(kWriting, name)) function.writes = true;
    // A block of plpgsql declares its variables.
    if (keyword && has(kUnclean, name) && !(plpgsql && name == "declare")) function.clean = false;
    if (keyword && (name == "temp" || name == "temporary" || name == "listen")) function.pins = true;
    if (keyword && name == "notify") raise(function, Touches::home, "NOTIFY");
    if (keyword && name == "notify") function.notifies = true;
    if (const FunctionInfo* info = find_builtin(name)) {
      if (info->is(kSequence) || info->is(kLargeObject) || info->is(kNotPreparable) || info->is(kSessionAdvisoryLock))
        raise(function, Touches::home, name + "()");
      if (info->is(kRunsSql)) raise(function, Touches::unknown, name + "()");
      if (info->is(kSetConfig) || info->is(kSessionAdvisoryLock)) function.clean = false;
      if (info->is(kSequence)) function.writes = true;
      function.pins = function.pins || info->is(kSessionAdvisoryLock);
      function.notifies = function.notifies || info->is(kNotPreparable) || info->is(kSessionAdvisoryLock);
      function.differs = function.differs || info->volatility == Volatility::volatile_ || info->is(kDiffersPerGroup);
      if (name == "current_database") raise(function, Touches::home, name + "()");
    }
    calls.insert(name);
  }

  void read_table(const std::string& name, UserFunction& function) const {
    auto [first, last] = tables_.equal_range(name);
    for (; first != last; ++first) {
      const Touches touches = touches_of(*first->second, database_);
      function.copies = function.copies || touches == Touches::reference;
      function.notifies = function.notifies || first->second->not_preparable;
      raise(function, touches, "table \"" + first->second->name + "\"");
    }
  }

  const catalog::Database& database_;
  Tables tables_;
};

void add(UserFunction& to, const UserFunction& other) {
  raise(to, other.touches, other.what);
  to.clean = to.clean && other.clean;
  to.writes = to.writes || other.writes;
  to.copies = to.copies || other.copies;
  to.pins = to.pins || other.pins;
  to.notifies = to.notifies || other.notifies;
  to.differs = to.differs || other.differs;
  to.commits = to.commits || other.commits;
  if (to.writes && to.copies) raise(to, Touches::shards, "a reference table, and write");
}

}  // namespace

std::map<std::string, UserFunction, std::less<>> read_functions(const std::vector<FunctionText>& functions,
                                                                const catalog::Database& database) {
  const BodyReader reader(database);
  std::map<std::string, UserFunction, std::less<>> result;
  std::map<std::string, std::set<std::string>> calls;
  for (const FunctionText& text : functions) {
    UserFunction read = reader.read(text, calls[text.name]);
    read.used = text.used;
    TokenScanner names(text.calls_also);
    for (Token token = names.next(); token.kind != Token::Kind::end; token = names.next())
      calls[text.name].insert(names.name(token));
    auto [known, added] = result.emplace(text.name, read);
    if (added) continue;
    add(known->second, read);
    known->second.used = known->second.used || read.used;
    known->second.aggregate = known->second.aggregate || read.aggregate;
    // i < s < v
    known->second.volatility = std::max(known->second.volatility, read.volatility);
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (auto& [name, function] : result)
      for (const std::string& callee : calls[name]) {
        const auto called = result.find(callee);
        if (called == result.end() || callee == name) continue;
        const UserFunction before = function;
        add(function, called->second);
        changed = changed || before.touches != function.touches || before.clean != function.clean ||
                  before.writes != function.writes;
      }
  }
  return result;
}

std::string rows_in_block(const std::string& block, const catalog::Database& database) {
  constexpr std::array<std::string_view, 9> kOfRows{"from",  "join",     "into", "update", "only",
                                                    "using", "truncate", "copy", ","};
  std::set<std::string, std::less<>> tables;
  for (const auto& [schema, names] : database.schemas)
    for (const auto& [name, table] : names) tables.insert(name);
  TokenScanner scanner(block);
  std::string before;  // the word before, or the one before schema.
  for (Token token = scanner.next(); token.kind != Token::Kind::end; token = scanner.next()) {
    if (token.kind == Token::Kind::broken) return "what could not be read";
    const bool word = token.kind == Token::Kind::word;
    if (!word && token.kind != Token::Kind::quoted) {
      if (!scanner.is_symbol(token, '.')) before = scanner.text(token);
      continue;
    }
    const std::string name = scanner.name(token);
    if (word && (name == "database" || name == "tablespace") &&
        (before == "create" || before == "alter" || before == "drop"))
      return "databases or tablespaces, which servers share";
    if (word && (name == "execute" || name == "call")) return "SQL given as text (EXECUTE)";
    if (const auto called = database.user_functions.find(name);
        called != database.user_functions.end() && called->second.touches != Touches::nothing)
      return called->second.what;
    if (tables.contains(name) && has(kOfRows, before)) return "table \"" + name + "\"";
    if (const FunctionInfo* info = find_builtin(name); info != nullptr && info->is(kRunsSql)) return name + "()";
    if (!scanner.is_symbol(scanner.peek(), '.')) before = name;
  }
  return {};
}

std::vector<Error> misplaced_functions(const catalog::Database& database,
                                       const std::vector<std::pair<catalog::Oid, std::string>>& triggers) {
  std::vector<Error> found;
  const char* hint = "Drop what uses the function first: triggers, views, policies, operators, defaults.";
  for (const auto& [name, function] : database.user_functions)
    if (function.used && function.touches >= Touches::unknown)
      found.push_back(make_error("0A000",
                                 "the function " + name + "(), which other objects use, would touch " + function.what,
                                 hint, "The server that runs it has a part of the rows only."));
  for (const auto& [oid, name] : triggers) {
    const auto table = database.tables_by_oid.find(oid);
    const auto function = database.user_functions.find(name);
    if (oid == 0 && function != database.user_functions.end() && function->second.touches == Touches::shards)
      found.push_back(make_error("0A000",
                                 "the function " + name + "() of an event trigger would touch " + function->second.what,
                                 hint, "The home runs it, which has no rows of sharded tables."));
    if (table == database.tables_by_oid.end() || function == database.user_functions.end()) continue;
    const bool spread =
        table->second->kind == catalog::TableKind::sharded || table->second->kind == catalog::TableKind::reference;
    const bool touches_others = spread ? function->second.touches > Touches::reference || function->second.writes
                                       : function->second.touches == Touches::shards;
    if (touches_others)
      found.push_back(make_error("0A000",
                                 "the function " + name + "() of a trigger on \"" + table->second->name +
                                     "\" would touch " + function->second.what,
                                 hint, "The trigger runs on the group that has the row."));
  }
  return found;
}

UserFunction read_function(const FunctionText& function, const catalog::Database& database) {
  std::set<std::string> calls;
  UserFunction result = BodyReader(database).read(function, calls);
  for (const std::string& callee : calls)
    if (const auto called = database.user_functions.find(callee); called != database.user_functions.end())
      add(result, called->second);
  return result;
}

}  // namespace pgmosaic::plan
