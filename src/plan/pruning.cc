// Key values that the statement proves: equality classes, and from them one table's pins.
#include <algorithm>

#include "catalog/partition_bounds.h"
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
  unite(node(fact.a),
        node(constant_name(statement_, fact.values[0], type_family(column->type)), fact.values[0].source));
}

bool EqualityClasses::is_constant(Var var) {
  int wanted = root(node(var));
  return std::any_of(constants_.begin(), constants_.end(), [&](int constant) { return root(constant) == wanted; });
}

// The pins of one table while they are gathered: partial tuples, and which key columns are proven in all of them.
class PinFinder {
 public:
  PinFinder(Statement& statement, const Instance& table, EqualityClasses& equal)
      : statement_(statement),
        table_(table),
        equal_(equal),
        keys_(table.table->key_columns),
        proven_(keys_.size()),
        tuples_{PartialTuple(keys_.size())} {}

  void add_values(const Fact& fact);
  void add_alternatives(const Fact& fact);
  bool complete() const {
    return std::all_of(proven_.begin(), proven_.end(), [](bool proven) { return proven; });
  }
  Pins result() const;

 private:
  using PartialTuple = std::vector<std::optional<KeySource>>;

  std::optional<KeySource> source_for(const ConstValue& value, size_t key) const;
  // Which key column a column is equal to, -1 for none.
  int key_of(Var var);

  Statement& statement_;
  const Instance& table_;
  EqualityClasses& equal_;
  const std::vector<int>& keys_;
  std::vector<bool> proven_;
  std::vector<PartialTuple> tuples_;
};

std::optional<KeySource> PinFinder::source_for(const ConstValue& value, size_t key) const {
  const catalog::Column& column = table_.table->columns[keys_[key]];
  catalog::Oid type = column.base_type != 0 ? column.base_type : column.type;
  if (!statement_.usable(value, type) || !statement_.parameter_type_certain(value, type)) return std::nullopt;
  if (value.written == ConstValue::Written::array_parameter && keys_.size() != 1) return std::nullopt;
  KeySource source = value.source;
  source.type = type;
  return source;
}

int PinFinder::key_of(Var var) {
  for (size_t i = 0; i < keys_.size(); ++i)
    if (equal_.same(Var{table_.id, keys_[i]}, var)) return static_cast<int>(i);
  return -1;
}

void PinFinder::add_values(const Fact& fact) {
  int key = key_of(fact.a);
  if (key < 0 || proven_[key] || tuples_.size() * fact.values.size() > kMaxTuples) return;
  std::vector<KeySource> sources;
  for (const ConstValue& value : fact.values)
    if (auto source = source_for(value, key)) sources.push_back(*source);
  if (sources.size() != fact.values.size()) return;
  std::vector<PartialTuple> extended;
  for (const PartialTuple& tuple : tuples_) {
    for (const KeySource& source : sources) {
      extended.push_back(tuple);
      extended.back()[key] = source;
    }
  }
  tuples_ = std::move(extended);
  proven_[key] = true;
}

void PinFinder::add_alternatives(const Fact& fact) {
  if (complete() || tuples_.size() * fact.alternatives.size() > kMaxTuples) return;
  std::vector<PartialTuple> choices;
  std::vector<bool> covered(keys_.size(), true);
  for (const auto& alternative : fact.alternatives) {
    PartialTuple& choice = choices.emplace_back(keys_.size());
    for (const auto& [var, value] : alternative) {
      int key = key_of(var);
      if (key >= 0 && !choice[key]) choice[key] = source_for(value, key);
    }
    for (size_t i = 0; i < keys_.size(); ++i) covered[i] = covered[i] && choice[i].has_value();
  }
  if (std::none_of(covered.begin(), covered.end(), [](bool c) { return c; })) return;
  std::vector<PartialTuple> extended;
  for (const PartialTuple& tuple : tuples_) {
    for (const PartialTuple& choice : choices) {
      extended.push_back(tuple);
      for (size_t i = 0; i < keys_.size(); ++i)
        if (covered[i] && !proven_[i]) extended.back()[i] = choice[i];
    }
  }
  tuples_ = std::move(extended);
  for (size_t i = 0; i < keys_.size(); ++i) proven_[i] = proven_[i] || covered[i];
}

Pins PinFinder::result() const {
  // A column that is compared with nothing possible makes the whole condition false.
  if (tuples_.empty()) return std::vector<KeyTuple>();
  if (!complete()) return std::nullopt;
  std::vector<KeyTuple> result;
  for (const PartialTuple& tuple : tuples_) {
    KeyTuple& key = result.emplace_back();
    for (const auto& source : tuple) key.push_back(*source);
  }
  return result;
}

void DistributionAnalysis::pin(Level* /*level*/, const Instance& table, const Facts& facts) {
  EqualityClasses equal(statement_);
  std::vector<const Fact*> values;
  for (const Fact* fact : facts) {
    if (fact->kind == Fact::Kind::never) {
      pins_[table.id] = std::vector<KeyTuple>();
      return;
    }
    equal.add(*fact);
    if (fact->kind == Fact::Kind::values) values.push_back(fact);
  }
  // Single values before lists, the shortest list first.
  std::stable_sort(values.begin(), values.end(),
                   [](const Fact* a, const Fact* b) { return a->values.size() < b->values.size(); });
  PinFinder finder(statement_, table, equal);
  for (const Fact* fact : values) finder.add_values(*fact);
  for (const Fact* fact : facts)
    if (fact->kind == Fact::Kind::alternatives) finder.add_alternatives(*fact);
  pins_[table.id] = finder.result();
  if (!pins_[table.id]) find_window(table, facts, equal);
}

// What comparisons say about the first distribution column.
void DistributionAnalysis::find_window(const Instance& table, const Facts& facts, EqualityClasses& equal) {
  const catalog::Colocation* shards = statement_.context.database->colocation(table.table->colocation);
  if (shards == nullptr || shards->bounds == nullptr || !shards->bounds->tellable() ||
      shards->bounds->method() != catalog::PartitionBounds::Method::range)
    return;
  const int key = table.table->key_columns[0];
  const catalog::Column& column = table.table->columns[static_cast<size_t>(key)];
  if (!column.bytewise_collation) return;  // compared by another collation than the partitions are
  const catalog::Oid type = column.base_type != 0 ? column.base_type : column.type;
  KeyWindow window;
  for (const Fact* fact : facts) {
    const bool value = fact->kind == Fact::Kind::values && fact->values.size() == 1;
    if ((fact->kind != Fact::Kind::bound && !value) || !equal.same(Var{table.id, key}, fact->a)) continue;
    const ConstValue& bound = fact->values[0];
    if (bound.written == ConstValue::Written::array_parameter || !statement_.usable(bound, type) ||
        !statement_.parameter_type_certain(bound, type))
      continue;
    KeyWindow::Side side{bound.source, value || fact->inclusive};
    side.value.type = type;
    if (value || fact->upper) window.upper.push_back(side);
    if (value || !fact->upper) window.lower.push_back(side);
  }
  if (!window.lower.empty() || !window.upper.empty()) windows_[table.id] = std::move(window);
}

}  // namespace pgmosaic::plan
