#include "router/shape_cache.h"

namespace pgmosaic::router {

namespace {

bool literals_match(const plan::Plan& plan, std::string_view sql, const sql::Shape& shape) {
  for (const auto& structural : plan.structural_literals) {
    if (structural.index >= shape.literals.size()) return false;
    const sql::Literal& literal = shape.literals[structural.index];
    if (sql.substr(literal.begin, literal.end - literal.begin) != structural.text) return false;
  }
  return true;
}

}  // namespace

const CachedPlan* ShapeCache::find(std::string_view sql, const sql::Shape& shape, uint32_t context) const {
  auto it = table_.find(key_of(shape, context));
  if (it == table_.end()) return nullptr;
  const Entry& entry = it->second;
  if (entry.context != context || entry.normalized != shape.normalized) return nullptr;
  for (const CachedPlan& cached : entry.variants)
    if (literals_match(*cached.plan, sql, shape)) return &cached;
  return nullptr;
}

void ShapeCache::insert(const sql::Shape& shape, uint32_t context, CachedPlan plan) {
  if (table_.size() >= kMaxEntries) table_.clear();
  Entry& entry = table_[key_of(shape, context)];
  if (entry.context != context || entry.normalized != shape.normalized) {
    entry.normalized = shape.normalized;
    entry.context = context;
    entry.variants.clear();
  }
  if (entry.variants.size() >= kMaxVariants) entry.variants.erase(entry.variants.begin());
  entry.variants.push_back(std::move(plan));
}

uint32_t ShapeCache::context_id(const std::string& description) {
  if (contexts_.size() > 10000) {
    contexts_.clear();
    clear();
  }
  static thread_local uint32_t next = 0;  // never used twice, also after clear()
  auto [it, inserted] = contexts_.try_emplace(description, 0);
  if (inserted) it->second = ++next;
  return it->second;
}

}  // namespace pgmosaic::router
