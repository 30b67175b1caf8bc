// What views are made of, as far as somebody has asked: the home's pg_get_viewdef() waits for locks on the tables that
// a view reads, so definitions are read when a statement needs them and not with the rest of the catalog.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace pgmosaic::catalog {

// Any thread. A copy begins empty: it belongs to a schema that has changed.
class ViewDefinitions {
 public:
  ViewDefinitions() = default;
  ViewDefinitions(const ViewDefinitions& /*other*/) {}
  ViewDefinitions& operator=(const ViewDefinitions&) = delete;

  // The view's query, with all names qualified; empty: it could not be read. Null: nobody has asked yet.
  std::shared_ptr<const std::string> find(uint32_t view) const {
    std::lock_guard lock(mutex_);
    auto found = queries_.find(view);
    return found == queries_.end() ? nullptr : found->second;
  }
  void put(uint32_t view, std::string query) {
    std::lock_guard lock(mutex_);
    queries_[view] = std::make_shared<const std::string>(std::move(query));
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<const std::string>> queries_;
};

}  // namespace pgmosaic::catalog
