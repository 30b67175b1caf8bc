// How long reads over several groups take, by shape (sql/shape.h). One that asks its groups nothing (snapshots.h) has
// to run again where a transaction over groups begins beside it; so the longer it takes, the longer there should have
// been none. Of one worker, on its thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <unordered_map>

namespace pgmosaic::router {

class ReadTimes {
 public:
  using Time = std::chrono::microseconds;

  // A moving average; of a shape that has not run yet, a long time.
  Time of(uint64_t shape) const {
    const auto found = times_.find(shape);
    return found == times_.end() ? kUnknown : found->second;
  }
  void note(uint64_t shape, Time taken) {
    if (times_.size() >= kMostShapes) times_.clear();
    const auto [known, is_new] = times_.try_emplace(shape, taken);
    if (!is_new) known->second += (taken - known->second) / 4;
  }

 private:
  static constexpr Time kUnknown = std::chrono::seconds(5);
  static constexpr std::size_t kMostShapes = 10'000;
  std::unordered_map<uint64_t, Time> times_;
};

}  // namespace pgmosaic::router
