// Two independent questions about a bound statement:
//
//   pins          Which groups can hold rows that matter? Per sharded table, the values its key must have. If all of
//                 them lie in one group, the statement goes there untouched, whatever it computes.
//   distribution  May every group answer for its own rows, so that the answers put together are the answer? Joins of
//                 sharded tables must be on their keys; sub-queries must stay within the key of the outer row; outer
//                 joins must not keep rows that every group has.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "plan/bind.h"

namespace pgmosaic::plan {

// Columns and constants that are equal.
class EqualityClasses {
 public:
  // Literals whose being equal made two columns equal become structural ones of the statement.
  EqualityClasses(Statement& statement) : statement_(statement) {}
  void add(const Fact& fact);
  bool same(Var a, Var b) { return a == b || root(node(a)) == root(node(b)); }
  int class_of(Var var) { return root(node(var)); }
  // True if the column is equal to one constant.
  bool is_constant(Var var);

 private:
  int node(Var var);
  int node(const std::string& constant, const KeySource& source);
  int root(int n);
  void unite(int a, int b);

  Statement& statement_;
  std::vector<int> parent_;
  std::set<int> constants_;
  std::unordered_map<uint64_t, int> vars_;
  std::unordered_map<std::string, std::pair<int, uint32_t>> constant_nodes_;  // with the first literal's number
};

// The key values of one sharded table: nullopt if not proven.
using Pins = std::optional<std::vector<KeyTuple>>;

class DistributionAnalysis {
 public:
  explicit DistributionAnalysis(Statement& statement) : statement_(statement) {}

  // Analyses `top` and everything below it; fills Level::from_distribution and pins().
  void run(Level* top) { analyse(top, {}); }

  const std::map<int, Pins>& pins() const { return pins_; }
  // Of tables sharded by ranges that are not pinned.
  const std::map<int, KeyWindow>& windows() const { return windows_; }
  // The rows of a query as another query sees them, or bad with the reason.
  Distribution result_of(Level* level);
  // The rows that the outermost query makes before it sorts and cuts them.
  Distribution rows_of(Level* top) { return top->set_operation() ? of_arms(top, true) : top->from_distribution; }
  // True if the expressions' columns determine the group: rows with equal values are all on one group.
  bool covers_key(Level* level, const Distribution& distribution, const std::vector<Var>& vars);
  // The result column that is key column i for certain, -1 if none.
  std::vector<std::vector<std::pair<int, bool>>> key_outputs(Level* level);
  // Result columns that GROUP BY items stand for (positions, names, expressions) as plain columns.
  std::vector<Var> group_vars(Level* level);
  std::vector<Var> distinct_vars(Level* level);
  bool windows_within_key(Level* level);
  EqualityClasses& classes(Level* level) { return classes_.at(level); }

 private:
  using Facts = std::vector<const Fact*>;

  void analyse(Level* level, Facts inherited);
  Facts facts_for(const Level* level, const Facts& inherited, int region, int region2) const;
  void pin(Level* level, const Instance& table, const Facts& facts);
  void find_window(const Instance& table, const Facts& facts, EqualityClasses& equal);
  Distribution of_node(Level* level, const FromNode& node, const Facts& inherited);
  Distribution of_instance(Level* level, const Instance& instance, const Facts& inherited);
  Distribution join(FromNode::Kind kind, Distribution left, Distribution right, EqualityClasses& equal);
  Distribution add_right(Level* level, FromNode::Kind kind, Distribution left, const FromNode& right,
                         EqualityClasses& equal, const Facts& inherited);
  void check_sublinks(Level* level, const Facts& inherited);
  bool within_outer(Level* inner_level, const Distribution& outer);
  void link_outputs(Level* level, Facts& facts);
  bool transparent(Level* level, size_t output);
  Distribution of_arms(Level* level, bool outermost = false);
  std::optional<std::string> not_shareable(Level* level);
  bool strict(const Level* level, const KeyVar& key);

  Statement& statement_;
  std::map<int, Pins> pins_;
  std::map<int, KeyWindow> windows_;
  std::map<Level*, EqualityClasses> classes_;
  std::deque<Fact> made_;
};

}  // namespace pgmosaic::plan
