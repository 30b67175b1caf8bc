// Plans by token shape. The key is the normalized text and a context number that stands for everything else a plan
// depends on (database, epoch, search path, user, settings of the planner); see Session::refresh_context.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "plan/plan.h"
#include "sql/shape.h"

namespace pgmosaic::router {

// The prepared statements of a point statement (plan::PointStatement) on this worker's backends, by index of the shard:
// the number in their names, 0 where none was made yet.
struct LeafStatements {
  std::vector<uint32_t> numbers;
  bool failed = false;  // one of them, for what its leaf is: by the table's name until the next epoch's plan
};

struct CachedPlan {
  plan::PlanPtr plan;
  std::shared_ptr<LeafStatements> leaves;  // null: no point statement
  explicit CachedPlan(plan::PlanPtr made)
      : plan(std::move(made)), leaves(plan->point ? std::make_shared<LeafStatements>() : nullptr) {}
};

class ShapeCache {
 public:
  // The plan for a statement of this shape, or null. The literals that shaped the plan must be equal.
  const CachedPlan* find(std::string_view sql, const sql::Shape& shape, uint32_t context) const;
  void insert(const sql::Shape& shape, uint32_t context, CachedPlan plan);
  void clear() { table_.clear(); }
  std::size_t size() const { return table_.size(); }

  // One number per distinct description of a context.
  uint32_t context_id(const std::string& description);

 private:
  static constexpr std::size_t kMaxEntries = 20000;  // then the cache starts anew
  static constexpr std::size_t kMaxVariants = 16;    // plans of one shape that differ in structural literals
  struct Entry {
    std::string normalized;
    uint32_t context;
    std::vector<CachedPlan> variants;
  };
  static uint64_t key_of(const sql::Shape& shape, uint32_t context) {
    return shape.hash ^ (context * 0x9E3779B97F4A7C15ull);
  }
  std::unordered_map<uint64_t, Entry> table_;
  std::map<std::string, uint32_t> contexts_;
};

}  // namespace pgmosaic::router
