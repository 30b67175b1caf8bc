// What a statement says about columns: equal to each other, equal to constants.
#pragma once

#include <compare>
#include <cstdint>
#include <utility>
#include <vector>

#include "plan/plan.h"

namespace pgmosaic::plan {

// A column of one use of a table (Instance).
struct Var {
  int instance = -1;
  int column = -1;
  bool valid() const { return instance >= 0; }
  auto operator<=>(const Var&) const = default;
};

// A constant or parameter that stands opposite a column. `type` is what it was cast to or declared as; 0: what
// PostgreSQL infers from the column.
struct ConstValue {
  enum class Written : uint8_t { integer, decimal, string, truth, null, parameter, array_parameter };
  Written written = Written::string;
  KeySource source;
  catalog::Oid type = 0;
  bool too_large = false;  // an integer that no int8 holds
  int location = -1;       // of the parameter reference
};

// A condition that is true of every row that matters. `regions` are the nullable sides of outer joins that must have
// a real row for it to hold (-1: none).
struct Fact {
  enum class Kind : uint8_t {
    equal,         // a = b
    values,        // a is one of values (none: never true)
    alternatives,  // one of the alternatives holds, each a conjunction of column = value
    bound,         // a is less or greater than the one value
    never,         // false
  };
  Kind kind = Kind::equal;
  Var a, b;
  std::vector<ConstValue> values;
  bool upper = false, inclusive = false;  // bound: a < value (upper), a <= value, a > value, a >= value
  std::vector<std::vector<std::pair<Var, ConstValue>>> alternatives;
  int regions[2] = {-1, -1};
};

}  // namespace pgmosaic::plan
