// Key values that the statement proves: equality classes, and from them one table's pins.
#include <algorithm>

#include "plan/distribution.h"
#include "plan/types.h"

namespace pgmosaic::plan {

namespace {

constexpr size_t kMaxTuples = 20000;

// One text per constant; equal texts are equal values in columns of one family.
std::string constant_name(const Statement& statement, const ConstValue& value, uint32_t family) {
  std::string name = std::to_string(family) + ":" + std::to_string(static_cast<int>(value.source.kind)) + ":";
  switch (value.source.kind) {
    case KeySource::Kind::literal: {
      const sql::Literal& literal = statement.shape.literals[value.source.index];
      name += value.source.negate ? "-" : "";
      name += statement.text.substr(literal.begin, literal.end - literal.begin);
      break;
    }
    case KeySource::Kind::parameter: name += std::to_string(value.source.index); break;
    default: name += value.source.text; break;
  }
  return name;
}

}  // namespace

int EqualityClasses::node(Var var) {
  auto key = static_cast<uint64_t>(static_cast<uint32_t>(var.instance)) << 32 | static_cast<uint32_t>(var.column);
  auto [it, added] = vars_.try_emplace(key, static_cast<int>(parent_.size()));
  if (added) parent_.push_back(it->second);
  return it->second;
}

int EqualityClasses::node(const std::string& constant, const KeySource& source) {
  auto [it, added] = constant_nodes_.try_emplace(constant, static_cast<int>(parent_.size()), source.index);
  auto [number, first_literal] = it->second;
  if (added) {
    parent_.push_back(number);
    constants_.insert(number);
  } else if (source.kind == KeySource::Kind::literal && first_literal != source.index) {
    statement_.structural.insert(first_literal);
    statement_.structural.insert(source.index);
  }
  return number;
}

int EqualityClasses::root(int n) {
  while (parent_[n] != n) n = parent_[n] = parent_[parent_[n]];
  return n;
}

void EqualityClasses::unite(int a, int b) { parent_[root(a)] = root(b); }

void EqualityClasses::add(const Fact& fact) {
  if (fact.kind == Fact::Kind::equal) unite(node(fact.a), node(fact.b));
  if (fact.kind != Fact::Kind::values || fact.values.size() != 1) return;
  if (fact.values[0].written == ConstValue::Written::array_parameter) return;
  const OutputColumn* column = statement_.column(fact.a);
  if (column == nullptr) return;
  unite(node(fact.a), node(constant_name(statement_, fact.values[0], type_family(column->type)), fact.values[0].source));
}

bool EqualityClasses::is_constant(Var var) {
  int wanted = root(node(var));
  return std::any_of(constants_.begin(), constants_.end(), [&](int constant) { return root(constant) == wanted; });
}

void DistributionAnalysis::pin(Level* /*level*/, const Instance& table, const Facts& facts) {
  Pins& result = pins_[table.id];
  EqualityClasses equal(statement_);
  for (const Fact* fact : facts) {
    if (fact->kind == Fact::Kind::never) {
      result = std::vector<KeyTuple>();
      return;
    }
    equal.add(*fact);
  }
  const std::vector<int>& keys = table.table->key_columns;
  std::vector<std::vector<std::optional<KeySource>>> tuples{std::vector<std::optional<KeySource>>(keys.size())};

  auto source_for = [&](const ConstValue& value, size_t key) -> std::optional<KeySource> {
    const catalog::Column& column = table.table->columns[keys[key]];
    catalog::Oid type = column.base_type != 0 ? column.base_type : column.type;
    if (!statement_.usable(value, type) || !statement_.parameter_type_certain(value, type)) return std::nullopt;
    if (value.written == ConstValue::Written::array_parameter && keys.size() != 1) return std::nullopt;
    KeySource source = value.source;
    source.type = type;
    return source;
  };
  // Which key column a column is equal to, -1 for none.
  auto key_of = [&](Var var) {
    for (size_t i = 0; i < keys.size(); ++i)
      if (equal.same(Var{table.id, keys[i]}, var)) return static_cast<int>(i);
    return -1;
  };

  std::vector<bool> proven(keys.size());
  // Single values and lists, the shortest first.
  std::vector<const Fact*> lists;
  for (const Fact* fact : facts)
    if (fact->kind == Fact::Kind::values) lists.push_back(fact);
  std::stable_sort(lists.begin(), lists.end(),
                   [](const Fact* a, const Fact* b) { return a->values.size() < b->values.size(); });
  for (const Fact* fact : lists) {
    int key = key_of(fact->a);
    if (key < 0 || proven[key] || tuples.size() * fact->values.size() > kMaxTuples) continue;
    std::vector<KeySource> sources;
    for (const ConstValue& value : fact->values)
      if (auto source = source_for(value, key)) sources.push_back(*source);
    if (sources.size() != fact->values.size()) continue;
    std::vector<std::vector<std::optional<KeySource>>> extended;
    for (const auto& tuple : tuples) {
      for (const KeySource& source : sources) {
        extended.push_back(tuple);
        extended.back()[key] = source;
      }
    }
    tuples = std::move(extended);
    proven[key] = true;
  }
  for (const Fact* fact : facts) {
    if (fact->kind != Fact::Kind::alternatives || tuples.size() * fact->alternatives.size() > kMaxTuples) continue;
    if (std::all_of(proven.begin(), proven.end(), [](bool p) { return p; })) break;
    std::vector<std::vector<std::optional<KeySource>>> choices;
    std::vector<bool> covered(keys.size(), true);
    for (const auto& alternative : fact->alternatives) {
      auto& choice = choices.emplace_back(keys.size());
      for (const auto& [var, value] : alternative) {
        int key = key_of(var);
        if (key >= 0 && !choice[key]) choice[key] = source_for(value, key);
      }
      for (size_t i = 0; i < keys.size(); ++i) covered[i] = covered[i] && choice[i].has_value();
    }
    std::vector<std::vector<std::optional<KeySource>>> extended;
    for (const auto& tuple : tuples) {
      for (const auto& choice : choices) {
        extended.push_back(tuple);
        for (size_t i = 0; i < keys.size(); ++i)
          if (covered[i] && !proven[i]) extended.back()[i] = choice[i];
      }
    }
    tuples = std::move(extended);
    for (size_t i = 0; i < keys.size(); ++i) proven[i] = proven[i] || covered[i];
  }
  if (!std::all_of(proven.begin(), proven.end(), [](bool p) { return p; })) {
    // A column that is compared with nothing possible makes the whole condition false.
    if (tuples.empty()) result = std::vector<KeyTuple>();
    return;
  }
  result.emplace();
  for (const auto& tuple : tuples) {
    KeyTuple& key = result->emplace_back();
    for (const auto& source : tuple) key.push_back(*source);
  }
}

}  // namespace pgmosaic::plan
