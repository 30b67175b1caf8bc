#include "plan/draws.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "sql/functions.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::Draws;
using catalog::Oid;
using catalog::Sequences;
using catalog::TableDraws;

namespace {

constexpr std::array<std::string_view, 5> kInserting{"insert", "update", "delete", "merge", "copy"};
// SQL that nobody can read, and changes of sequences themselves.
constexpr std::array<std::string_view, 4> kAnything{"execute", "alter", "create", "restart"};
constexpr std::string_view kNumbersRows = "autoinc";  // of the extension spi, in C

template <size_t n>
bool has(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The parts of a name as it stands in a string for regclass; empty: it is none.
std::vector<std::string> name_parts(std::string_view text) {
  std::vector<std::string> parts;
  TokenScanner scanner(text);
  for (;;) {
    const Token name = scanner.next();
    if (name.kind != Token::Kind::word && name.kind != Token::Kind::quoted) return {};
    parts.push_back(scanner.name(name));
    const Token dot = scanner.next();
    if (dot.kind == Token::Kind::end) return parts;
    if (!scanner.is_symbol(dot, '.')) return {};
  }
}

// What one text says of itself: the sequences that it names, the tables that it may write, the functions it may call.
struct Text {
  Draws draws;
  std::set<Oid> tables;
  std::set<std::string> calls;
};

class Reader {
 public:
  explicit Reader(const catalog::Database& database) : database_(database) {
    for (const auto& [schema, tables] : database.schemas)
      for (const auto& [name, table] : tables) tables_.emplace(name, table->oid);
    for (const auto& [name, sequence] : database.sequences.by_name) sequences_.emplace(name.second, sequence.oid);
  }

  Text read(const FunctionText& function) const {
    Text text;
    if (function.language == "internal" || function.language == "c") {
      if (function.name == kNumbersRows) text.draws = catalog::kDrawsAnything;
      return text;
    }
    if (function.language != "sql" && function.language != "plpgsql") {
      if (!function.aggregate) text.draws = catalog::kDrawsAnything;
    } else {
      read(function.body, text);
    }
    TokenScanner names(function.calls_also);
    for (Token token = names.next(); token.kind != Token::Kind::end; token = names.next())
      text.calls.insert(names.name(token));
    return text;
  }

  void read(std::string_view body, Text& text) const {
    std::set<Oid> named;
    bool writes = false;
    TokenScanner scanner(body);
    for (Token token = scanner.next(); token.kind != Token::Kind::end; token = scanner.next()) {
      if (token.kind == Token::Kind::broken) {
        text.draws = catalog::kDrawsAnything;
        return;
      }
      if (token.kind != Token::Kind::word && token.kind != Token::Kind::quoted) continue;
      const std::string name = scanner.name(token);
      const bool keyword = token.kind == Token::Kind::word;
      if (keyword && has(kAnything, name)) text.draws = catalog::kDrawsAnything;
      writes = writes || (keyword && has(kInserting, name));
      auto [first, last] = tables_.equal_range(name);
      for (; first != last; ++first) named.insert(first->second);
      const FunctionInfo* builtin = find_builtin(name);
      if (builtin != nullptr && builtin->is(kSequence)) read_call(name, scanner, text.draws);
      if (builtin != nullptr && builtin->is(kRunsSql)) text.draws = catalog::kDrawsAnything;
      text.calls.insert(name);
    }
    if (writes) text.tables.merge(named);
  }
  // Whether a text that was read asks for currval or lastval by name.
  bool asked() const { return asked_; }

 private:
  // nextval and its kin, as `scanner` has just read the name.
  void read_call(const std::string& name, TokenScanner scanner, Draws& draws) const {
    draws.sets = draws.sets || name == "setval";
    if (name == "currval" || name == "lastval") {
      draws.reads = asked_ = true;
      return;
    }
    const Token open = scanner.next(), argument = scanner.next();
    const std::string_view text = scanner.text(argument);
    std::vector<std::string> parts;
    if (scanner.is_symbol(open, '(') && argument.kind == Token::Kind::string && text.size() > 2 && text[0] == '\'' &&
        text.find('\'', 1) == text.size() - 1)
      parts = name_parts(text.substr(1, text.size() - 2));
    const auto [first, last] = parts.empty() ? std::pair(sequences_.end(), sequences_.end())
                                             : sequences_.equal_range(parts.back());  // of any schema
    if (first == last) draws.unknown = true;
    for (auto found = first; found != last; ++found) draws.sequences.insert(found->second);
  }

  const catalog::Database& database_;
  mutable bool asked_ = false;
  std::multimap<std::string, Oid, std::less<>> tables_, sequences_;
};

// Adds up who draws until nothing new is found: functions write tables, whose triggers call functions.
class Closure {
 public:
  Closure(const DrawTexts& texts, const catalog::Database& database) : texts_(texts), reader_(database) {
    for (const FunctionText& function : texts.functions) {
      Text read = reader_.read(function);
      Text& known = functions_[function.name];
      known.draws.add(read.draws);
      known.tables.merge(read.tables);
      known.calls.merge(read.calls);
      if (function.unseen) unseen_.insert(function.name);
    }
    for (const auto& [table, definition] : texts.rules) {
      const std::size_t actions = std::min(definition.find(" DO "), definition.size());
      reader_.read(std::string_view(definition).substr(actions), rules_[table]);
    }
    for (const auto& [oid, table] : database.tables_by_oid)
      for (const catalog::Column& column : table->columns) {
        if (column.sequence != 0) result_.of_tables[oid].defaults.sequences.insert(column.sequence);
        if (column.sequence == 0 && !column.generated && !column.default_sql.empty())
          reader_.read(column.default_sql, defaults_[oid]);
      }
  }

  void run(Sequences& sequences) {
    while (step()) {
    }
    for (const std::string& name : unseen_) result_.unseen.add(functions_[name].draws);
    for (const auto& [name, text] : functions_)
      if (text.draws.any()) sequences.of_functions[name] = text.draws;
    for (const auto& [oid, draws] : result_.of_tables)
      if (draws.defaults.any() || draws.writing.any() || draws.naming.any()) sequences.of_tables[oid] = draws;
    sequences.unseen = result_.unseen;
    sequences.asked_unseen = reader_.asked() || viewed_;
  }

  // What the text does by itself and through what it calls and writes.
  Draws of(const Text& text) const {
    Draws draws = text.draws;
    for (const std::string& name : text.calls)
      if (const auto function = functions_.find(name); function != functions_.end()) draws.add(function->second.draws);
    for (Oid oid : text.tables) {
      const auto table = result_.of_tables.find(oid);
      if (table == result_.of_tables.end()) continue;
      draws.add(table->second.defaults);
      draws.add(table->second.writing);
    }
    return draws;
  }

 private:
  bool step() {
    changed_ = false;
    for (auto& [name, text] : functions_) extend(text.draws, of(text));
    for (const auto& [oid, text] : defaults_) extend(result_.of_tables[oid].defaults, of(text));
    for (const auto& [oid, text] : rules_) extend(result_.of_tables[oid].writing, of(text));
    for (const auto& [oid, name] : texts_.triggers)
      if (const auto function = functions_.find(name); function != functions_.end())
        extend(result_.of_tables[oid].writing, function->second.draws);
    for (const DrawTexts::Cascade& cascade : texts_.cascades) {
      const TableDraws reached = result_.of_tables[cascade.to];
      extend(result_.of_tables[cascade.from].writing, reached.writing);
      if (cascade.sets_default) extend(result_.of_tables[cascade.from].writing, reached.defaults);
    }
    for (const auto& [oid, name] : texts_.naming) {
      const auto function = functions_.find(name);
      if (function != functions_.end()) extend(result_.of_tables[oid].naming, function->second.draws);
      const FunctionInfo* builtin = find_builtin(name);
      if (builtin != nullptr && builtin->is(kSequence)) extend(result_.of_tables[oid].naming, catalog::kDrawsAnything);
      viewed_ = viewed_ || (builtin != nullptr && builtin->is(kSequence));
    }
    return changed_;
  }
  void extend(Draws& draws, const Draws& more) {
    const Draws before = draws;
    draws.add(more);
    changed_ = changed_ || !(before == draws);
  }

  const DrawTexts& texts_;
  const Reader reader_;
  std::map<std::string, Text, std::less<>> functions_;
  std::map<Oid, Text> rules_, defaults_;
  std::set<std::string> unseen_;
  Sequences result_;
  bool changed_ = false, viewed_ = false;
};

}  // namespace

void find_draws(const DrawTexts& texts, catalog::Database& database) {
  Closure(texts, database).run(database.sequences);
}

Draws draws_of_block(const FunctionText& block, const catalog::Database& database) {
  const Text text = Reader(database).read(block);
  Draws draws = text.draws;
  for (const std::string& name : text.calls)
    if (const auto known = database.sequences.of_functions.find(name); known != database.sequences.of_functions.end())
      draws.add(known->second);
  for (Oid oid : text.tables) {
    const auto table = database.sequences.of_tables.find(oid);
    if (table == database.sequences.of_tables.end()) continue;
    draws.add(table->second.defaults);
    draws.add(table->second.writing);
  }
  return draws;
}

const catalog::Sequence* find_sequence(std::string_view text, const std::vector<std::string>& search_path,
                                       const catalog::Database& database) {
  const auto& by_name = database.sequences.by_name;
  const std::vector<std::string> parts = name_parts(text);
  if (parts.size() == 2) {
    const auto found = by_name.find({parts[0], parts[1]});
    return found == by_name.end() ? nullptr : &found->second;
  }
  if (parts.size() != 1) return nullptr;
  for (const std::string& schema : search_path) {
    if (const auto found = by_name.find({schema, parts[0]}); found != by_name.end()) return &found->second;
    if (database.find(schema, parts[0]) != nullptr) return nullptr;
  }
  return nullptr;
}

}  // namespace pgmosaic::plan
