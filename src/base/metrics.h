// Figures for operators: a latency histogram that one thread writes and others read, and the Prometheus text format
// (version 0.0.4).
//
//   MetricsText text;
//   text.begin(MetricType::counter, "pgmosaic_statements_total", "Statements run.");
//   text.value({{"group", "g1"}}, 17);
//   text.value({{"group", "g2"}}, 4);
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgmosaic {

// Counts of a LatencyHistogram at one moment; a plain value. Sums of several threads are added up with +=.
struct LatencySnapshot {
  static constexpr std::size_t kBuckets = 27;  // up to 1, 2, 4, … 2^25 µs (33.6 s), and above

  std::array<uint64_t, kBuckets> counts{};  // not cumulative
  uint64_t sum_us = 0;

  uint64_t count() const;
  LatencySnapshot& operator+=(const LatencySnapshot& other);
  // Upper bound in µs of the bucket that holds the given fraction (0.99) of all values; 0 if there are none. Values
  // above the last bound count as twice that bound.
  uint64_t quantile_us(double fraction) const;
  // REQUIRES: bucket < kBuckets - 1
  static constexpr uint64_t upper_bound_us(std::size_t bucket) { return uint64_t{1} << bucket; }

  bool operator==(const LatencySnapshot&) const = default;
};

// Written by one thread, read by any. A reader may see a value in its bucket that is not in the sum yet.
class LatencyHistogram {
 public:
  void record(uint64_t microseconds) {
    const auto bits = static_cast<std::size_t>(std::bit_width(microseconds == 0 ? 0 : microseconds - 1));
    add(counts_[bits < LatencySnapshot::kBuckets ? bits : LatencySnapshot::kBuckets - 1], 1);
    add(sum_us_, microseconds);
  }
  LatencySnapshot snapshot() const;

 private:
  // No read-modify-write instruction: there is only one writer.
  static void add(std::atomic<uint64_t>& counter, uint64_t amount) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  std::array<std::atomic<uint64_t>, LatencySnapshot::kBuckets> counts_{};
  std::atomic<uint64_t> sum_us_{0};
};

enum class MetricType : uint8_t { counter, gauge, histogram };

using MetricLabels = std::vector<std::pair<std::string_view, std::string_view>>;

class MetricsText {
 public:
  // Starts a metric; all of its values follow before the next begin(). Seconds and bytes are the units to use.
  // REQUIRES: the name matches [a-zA-Z_:][a-zA-Z0-9_:]*
  void begin(MetricType type, std::string_view name, std::string_view help);
  // REQUIRES: a counter or gauge was begun; label names match [a-zA-Z_][a-zA-Z0-9_]*
  void value(const MetricLabels& labels, uint64_t value);
  void value(const MetricLabels& labels, double value);
  // REQUIRES: a histogram was begun
  void histogram(const MetricLabels& labels, const LatencySnapshot& latencies);

  // A metric of one value.
  void counter(std::string_view name, std::string_view help, uint64_t total, const MetricLabels& labels = {});
  void gauge(std::string_view name, std::string_view help, double now, const MetricLabels& labels = {});

  const std::string& text() const { return text_; }
  std::string take() { return std::move(text_); }

 private:
  void sample(std::string_view suffix, const MetricLabels& labels, std::string_view bound, std::string_view value);

  std::string text_;
  std::string name_;
  MetricType type_ = MetricType::counter;
};

}  // namespace pgmosaic
