#include "base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace pgmosaic {

namespace {

bool is_name(std::string_view name, bool colons) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [colons](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (colons && c == ':');
  });
}

void append_escaped(std::string& out, std::string_view text, bool in_quotes) {
  for (char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || (in_quotes && c == '"')) out += '\\';
    out += c;
  }
}

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

std::string seconds(uint64_t microseconds) { return number(static_cast<double>(microseconds) / 1e6); }

}  // namespace

uint64_t LatencySnapshot::count() const {
  uint64_t total = 0;
  for (const uint64_t in_bucket : counts) total += in_bucket;
  return total;
}

LatencySnapshot& LatencySnapshot::operator+=(const LatencySnapshot& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) counts[i] += other.counts[i];
  sum_us += other.sum_us;
  return *this;
}

uint64_t LatencySnapshot::quantile_us(double fraction) const {
  const uint64_t total = count();
  if (total == 0) return 0;
  const auto rank = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(total))));
  uint64_t below = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    below += counts[i];
    if (below >= rank) return uint64_t{1} << i;
  }
  return uint64_t{1} << (kBuckets - 1);
}

LatencySnapshot LatencyHistogram::snapshot() const {
  LatencySnapshot result;
  result.sum_us = sum_us_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < LatencySnapshot::kBuckets; ++i)
    result.counts[i] = counts_[i].load(std::memory_order_relaxed);
  return result;
}

void MetricsText::begin(MetricType type, std::string_view name, std::string_view help) {
  CHECK(is_name(name, true));
  constexpr const char* kTypes[] = {"counter", "gauge", "histogram"};
  type_ = type;
  name_ = name;
  text_.append("# HELP ").append(name).append(" ");
  append_escaped(text_, help, false);
  text_.append("\n# TYPE ").append(name).append(" ").append(kTypes[static_cast<int>(type)]).append("\n");
}

void MetricsText::sample(std::string_view suffix, const MetricLabels& labels, std::string_view bound,
                         std::string_view value) {
  text_.append(name_).append(suffix);
  char separator = '{';
  auto label = [&](std::string_view name, std::string_view content) {
    CHECK(is_name(name, false));
    text_.append(1, separator).append(name).append("=\"");
    append_escaped(text_, content, true);
    text_ += '"';
    separator = ',';
  };
  for (const auto& [name, content] : labels) label(name, content);
  if (!bound.empty()) label("le", bound);
  if (separator == ',') text_ += '}';
  text_.append(" ").append(value).append("\n");
}

void MetricsText::value(const MetricLabels& labels, uint64_t value) {
  CHECK(type_ != MetricType::histogram);
  sample("", labels, "", std::to_string(value));
}

void MetricsText::value(const MetricLabels& labels, double value) {
  CHECK(type_ != MetricType::histogram);
  sample("", labels, "", number(value));
}

void MetricsText::histogram(const MetricLabels& labels, const LatencySnapshot& latencies) {
  CHECK(type_ == MetricType::histogram);
  uint64_t below = 0;
  for (std::size_t i = 0; i + 1 < LatencySnapshot::kBuckets; ++i) {
    below += latencies.counts[i];
    sample("_bucket", labels, seconds(LatencySnapshot::upper_bound_us(i)), std::to_string(below));
  }
  const std::string total = std::to_string(latencies.count());
  sample("_bucket", labels, "+Inf", total);
  sample("_sum", labels, "", seconds(latencies.sum_us));
  sample("_count", labels, "", total);
}

void MetricsText::counter(std::string_view name, std::string_view help, uint64_t total, const MetricLabels& labels) {
  begin(MetricType::counter, name, help);
  value(labels, total);
}

void MetricsText::gauge(std::string_view name, std::string_view help, double now, const MetricLabels& labels) {
  begin(MetricType::gauge, name, help);
  value(labels, now);
}

}  // namespace pgmosaic
