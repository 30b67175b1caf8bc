#include "base/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

namespace pgmosaic {
namespace {

TEST(Metrics, CountersAndGauges) {
  MetricsText text;
  text.begin(MetricType::counter, "pgmosaic_statements_total", "Statements run.");
  text.value({{"group", "g1"}, {"kind", "select"}}, uint64_t{17});
  text.value({{"group", "g2"}, {"kind", "select"}}, uint64_t{18446744073709551615u});
  text.gauge("pgmosaic_clients", "Clients.", 2.5);
  EXPECT_EQ(text.text(),
            "# HELP pgmosaic_statements_total Statements run.\n"
            "# TYPE pgmosaic_statements_total counter\n"
            "pgmosaic_statements_total{group=\"g1\",kind=\"select\"} 17\n"
            "pgmosaic_statements_total{group=\"g2\",kind=\"select\"} 18446744073709551615\n"
            "# HELP pgmosaic_clients Clients.\n"
            "# TYPE pgmosaic_clients gauge\n"
            "pgmosaic_clients 2.5\n");
}

TEST(Metrics, Escapes) {
  MetricsText text;
  text.counter("a:b", "back\\slash \"quoted\"\nnew line", 1, {{"label", "back\\slash \"quoted\"\nnew line"}});
  EXPECT_EQ(text.take(),
            "# HELP a:b back\\\\slash \"quoted\"\\nnew line\n"
            "# TYPE a:b counter\n"
            "a:b{label=\"back\\\\slash \\\"quoted\\\"\\nnew line\"} 1\n");
}

TEST(Metrics, UnusualNumbers) {
  MetricsText text;
  text.begin(MetricType::gauge, "g", "");
  for (double value : {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                       0.0, 1e21, -0.1})
    text.value({}, value);
  EXPECT_EQ(text.text(), "# HELP g \n# TYPE g gauge\ng NaN\ng +Inf\ng -Inf\ng 0\ng 1e+21\ng -0.1\n");
}

TEST(Metrics, NamesAreChecked) {
  MetricsText text;
  EXPECT_DEATH(text.counter("with-dash", "", 1), "is_name");
  EXPECT_DEATH(text.counter("1st", "", 1), "is_name");
  EXPECT_DEATH(text.counter("ok", "", 1, {{"no:colon", ""}}), "is_name");
}

TEST(LatencyHistogram, BucketsIncludeTheirUpperBound) {
  LatencyHistogram histogram;
  for (uint64_t us : {0, 1, 2, 3, 4, 5, 8, 9}) histogram.record(us);
  histogram.record(uint64_t{1} << 25);
  histogram.record((uint64_t{1} << 25) + 1);
  histogram.record(uint64_t{1} << 60);
  const LatencySnapshot snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.counts[0], 2u);
  EXPECT_EQ(snapshot.counts[1], 1u);
  EXPECT_EQ(snapshot.counts[2], 2u);
  EXPECT_EQ(snapshot.counts[3], 2u);
  EXPECT_EQ(snapshot.counts[4], 1u);
  EXPECT_EQ(snapshot.counts[25], 1u);
  EXPECT_EQ(snapshot.counts[26], 2u);
  EXPECT_EQ(snapshot.count(), 11u);
  EXPECT_EQ(snapshot.sum_us, 32 + 2 * (uint64_t{1} << 25) + 1 + (uint64_t{1} << 60));
}

TEST(LatencyHistogram, Quantiles) {
  LatencySnapshot none;
  EXPECT_EQ(none.quantile_us(0.5), 0u);
  LatencyHistogram histogram;
  for (int i = 0; i < 99; ++i) histogram.record(100);
  histogram.record(5000);
  const LatencySnapshot snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.quantile_us(0), 128u);
  EXPECT_EQ(snapshot.quantile_us(0.5), 128u);
  EXPECT_EQ(snapshot.quantile_us(0.99), 128u);
  EXPECT_EQ(snapshot.quantile_us(0.999), 8192u);
  EXPECT_EQ(snapshot.quantile_us(1), 8192u);
}

TEST(LatencyHistogram, TextIsCumulative) {
  LatencyHistogram one, two;
  one.record(3);
  two.record(1);
  two.record(100'000'000);
  LatencySnapshot sum = one.snapshot();
  sum += two.snapshot();
  MetricsText text;
  text.begin(MetricType::histogram, "t_seconds", "Time.");
  text.histogram({{"group", "g1"}}, sum);
  const std::string& all = text.text();
  EXPECT_TRUE(
      all.starts_with("# HELP t_seconds Time.\n# TYPE t_seconds histogram\n"
                      "t_seconds_bucket{group=\"g1\",le=\"1e-06\"} 1\n"
                      "t_seconds_bucket{group=\"g1\",le=\"2e-06\"} 1\n"
                      "t_seconds_bucket{group=\"g1\",le=\"4e-06\"} 2\n"))
      << all;
  EXPECT_TRUE(
      all.ends_with("t_seconds_bucket{group=\"g1\",le=\"33.554432\"} 2\n"
                    "t_seconds_bucket{group=\"g1\",le=\"+Inf\"} 3\n"
                    "t_seconds_sum{group=\"g1\"} 100.000004\n"
                    "t_seconds_count{group=\"g1\"} 3\n"))
      << all;
}

TEST(LatencyHistogram, OneWriterManyReaders) {
  LatencyHistogram histogram;
  constexpr uint64_t kValues = 200'000;
  std::thread writer([&histogram] {
    for (uint64_t i = 0; i < kValues; ++i) histogram.record(i % 1000);
  });
  uint64_t last = 0;
  while (last < kValues) {
    const uint64_t now = histogram.snapshot().count();
    EXPECT_GE(now, last);
    last = now;
  }
  writer.join();
  EXPECT_EQ(histogram.snapshot().sum_us, kValues / 1000 * 499'500);
}

}  // namespace
}  // namespace pgmosaic
