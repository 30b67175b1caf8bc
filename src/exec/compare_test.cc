#include "exec/compare.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "base/bytes.h"

namespace pgmosaic::exec {
namespace {

constexpr catalog::Oid kBool = 16, kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kOid = 26,
                       kFloat4 = 700, kFloat8 = 701, kDate = 1082, kTimestamp = 1114, kTimestamptz = 1184,
                       kNumeric = 1700, kUuid = 2950;

// The values ascend strictly; every pair is compared both ways.
void expect_ascending(catalog::Oid type, bool binary, const std::vector<std::string>& values) {
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = 0; j < values.size(); ++j)
      EXPECT_TRUE(compare_values(type, binary, values[i], values[j]) == (i <=> j))
          << "type " << type << (binary ? " binary: " : ": ") << i << " " << values[i] << " and " << j << " "
          << values[j];
}

void expect_equal(catalog::Oid type, bool binary, const std::string& left, const std::string& right) {
  EXPECT_TRUE(compare_values(type, binary, left, right) == 0) << left << " and " << right;
  EXPECT_TRUE(compare_values(type, binary, right, left) == 0) << left << " and " << right;
}

template <class T>
std::string big_endian(T value) {
  std::string bytes;
  append_big_endian(bytes, value);
  return bytes;
}

TEST(Compare, IntegersAsText) {
  expect_ascending(kInt2, false, {"-32768", "-1", "0", "9", "10", "32767"});
  expect_ascending(kInt4, false, {"-2147483648", "-10", "-9", "0", "9", "10"});
  expect_ascending(kInt8, false, {"-9223372036854775808", "-1", "0", "100", "9223372036854775807"});
  expect_ascending(kOid, false, {"0", "9", "16384", "2147483648", "4294967295"});
  expect_ascending(kBool, false, {"f", "t"});
}

TEST(Compare, IntegersInBinary) {
  expect_ascending(
      kInt2, true,
      {big_endian<int16_t>(-32768), big_endian<int16_t>(-1), big_endian<int16_t>(0), big_endian<int16_t>(256)});
  expect_ascending(kInt4, true,
                   {big_endian(INT32_MIN), big_endian<int32_t>(-1), big_endian<int32_t>(0), big_endian(INT32_MAX)});
  expect_ascending(kInt8, true,
                   {big_endian(INT64_MIN), big_endian<int64_t>(-1), big_endian<int64_t>(0), big_endian(INT64_MAX)});
  expect_ascending(kOid, true,
                   {big_endian<uint32_t>(0), big_endian<uint32_t>(16384), big_endian<uint32_t>(4294967295u)});
  expect_ascending(kBool, true, {std::string(1, '\0'), std::string(1, '\1')});
}

TEST(Compare, Floats) {
  expect_ascending(kFloat8, false,
                   {"-Infinity", "-1e+300", "-1", "-1e-300", "0", "5e-324", "1", "1.0000000000000002", "9", "10",
                    "Infinity", "NaN"});
  expect_ascending(kFloat4, false, {"-Infinity", "-3.4e+38", "0", "1e-45", "1", "1.0000001", "Infinity", "NaN"});
  expect_equal(kFloat8, false, "0", "-0");
  expect_equal(kFloat8, false, "NaN", "NaN");
  std::vector<std::string> doubles, floats;
  for (double value : {-HUGE_VAL, -1e300, -1.0, 0.0, 1.0, 1e300, HUGE_VAL, std::nan("")}) {
    doubles.push_back(big_endian(std::bit_cast<uint64_t>(value)));
    if (std::abs(value) != 1e300) floats.push_back(big_endian(std::bit_cast<uint32_t>(static_cast<float>(value))));
  }
  expect_ascending(kFloat8, true, doubles);
  expect_ascending(kFloat4, true, floats);
  expect_equal(kFloat8, true, big_endian(std::bit_cast<uint64_t>(0.0)), big_endian(std::bit_cast<uint64_t>(-0.0)));
  expect_equal(kFloat8, true, big_endian(std::bit_cast<uint64_t>(-std::nan(""))),
               big_endian(std::bit_cast<uint64_t>(std::nan(""))));
}

TEST(Compare, Dates) {
  expect_ascending(kDate, false,
                   {"-infinity", "4714-11-24 BC", "0044-03-15 BC", "0044-03-16 BC", "0001-12-31 BC", "0001-01-01",
                    "0999-12-31", "1999-12-31", "2000-01-01", "2000-02-28", "2000-02-29", "2000-03-01", "9999-12-31",
                    "10000-01-01", "294277-01-01", "5874897-12-31", "infinity"});
  expect_ascending(kDate, true,
                   {big_endian(INT32_MIN), big_endian<int32_t>(-1), big_endian<int32_t>(0), big_endian<int32_t>(366),
                    big_endian(INT32_MAX)});
}

TEST(Compare, Timestamps) {
  expect_ascending(
      kTimestamp, false,
      {"-infinity", "4714-11-24 00:00:00 BC", "0044-03-15 12:00:00 BC", "0044-03-15 12:00:00.5 BC",
       "0001-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00", "2000-01-01 00:00:00.000001",
       "2000-01-01 00:00:00.05", "2000-01-01 00:00:00.1", "2000-01-01 00:00:10", "2000-01-01 09:00:00",
       "10000-01-01 00:00:00", "294276-12-31 23:59:59.999998", "294276-12-31 23:59:59.999999", "infinity"});
  expect_ascending(kTimestamp, true,
                   {big_endian(INT64_MIN), big_endian<int64_t>(-1), big_endian<int64_t>(0), big_endian(INT64_MAX)});
}

TEST(Compare, TimestampsWithZones) {
  expect_ascending(kTimestamptz, false,
                   {"-infinity", "0044-03-15 12:00:00+00 BC", "2024-03-31 02:59:59+02", "2024-03-31 00:59:59.5+00",
                    "2024-03-31 03:00:00+02", "2024-03-31 01:00:00.5+00", "2024-03-31 07:00:00+05:30",
                    "2024-03-30 22:00:00-04", "infinity"});
  expect_equal(kTimestamptz, false, "2024-01-01 00:00:00+00", "2024-01-01 05:30:00+05:30");
  expect_equal(kTimestamptz, false, "2024-01-01 00:00:00+00", "2023-12-31 20:30:00-03:30");
  expect_equal(kTimestamptz, false, "1900-01-01 00:00:00+00", "1900-01-01 00:19:32+00:19:32");
}

// numeric's wire format: number of digits, weight, sign, display scale, digits to the base of 10,000
std::string numeric(int16_t weight, uint16_t sign, std::vector<uint16_t> digits, uint16_t scale = 0) {
  std::string bytes =
      big_endian(static_cast<uint16_t>(digits.size())) + big_endian(weight) + big_endian(sign) + big_endian(scale);
  for (uint16_t digit : digits) bytes += big_endian(digit);
  return bytes;
}

TEST(Compare, Numerics) {
  expect_ascending(kNumeric, false,
                   {"-Infinity",
                    "-1000000000000000000000000000000",
                    "-10.5",
                    "-10",
                    "-9.99",
                    "-0.5",
                    "-0.05",
                    "0",
                    "0.000000000000000000001",
                    "0.05",
                    "0.5",
                    "0.51",
                    "1",
                    "9.99",
                    "10",
                    "10.000000000000000000000000000001",
                    "99999999999999999999",
                    "100000000000000000000",
                    "Infinity",
                    "NaN"});
  expect_equal(kNumeric, false, "1.50", "1.5");
  expect_equal(kNumeric, false, "0.00", "0");
  expect_equal(kNumeric, false, "100", "100.000");
  expect_equal(kNumeric, false, "NaN", "NaN");
  constexpr uint16_t kPlus = 0, kMinus = 0x4000;
  expect_ascending(
      kNumeric, true,
      {numeric(0, 0xF000, {}), numeric(2, kMinus, {1}), numeric(0, kMinus, {10, 5000}), numeric(0, kMinus, {10}),
       numeric(-1, kMinus, {500}), numeric(0, kPlus, {}), numeric(-2, kPlus, {1}), numeric(-1, kPlus, {500}),
       numeric(-1, kPlus, {5000}), numeric(0, kPlus, {9, 9900}), numeric(0, kPlus, {10}), numeric(0, kPlus, {9999}),
       numeric(1, kPlus, {1}), numeric(1, kPlus, {1, 0, 1}), numeric(1, kPlus, {10}), numeric(0, 0xD000, {}),
       numeric(0, 0xC000, {})});
  expect_equal(kNumeric, true, numeric(0, kPlus, {1, 5000}, 1), numeric(0, kPlus, {1, 5000}, 4));
  expect_equal(kNumeric, true, numeric(0, kPlus, {}, 0), numeric(0, kPlus, {}, 2));
}

TEST(Compare, Bytewise) {
  expect_ascending(kText, false, {"", "A", "a", "a ", "ab", "b", "\xc3\xa4"});
  expect_ascending(kText, true, {"", "a", "\x7f", "\x80", "\xff"});
  expect_ascending(kBytea, false, {"\\x", "\\x00", "\\x0000", "\\x01", "\\x0a", "\\x10", "\\xff"});
  expect_ascending(kUuid, false,
                   {"00000000-0000-0000-0000-000000000000", "0a000000-0000-0000-0000-000000000000",
                    "f0000000-0000-0000-0000-000000000000"});
}

TEST(Compare, DirectionsAndNulls) {
  const std::optional<std::string_view> none, one = "1", two = "2";
  auto key = [](bool descending, bool nulls_first) {
    plan::SortKey sort;
    sort.descending = descending;
    sort.nulls_first = nulls_first;
    sort.type = kInt4;
    return sort;
  };
  for (bool descending : {false, true})
    for (bool nulls_first : {false, true}) {
      const plan::SortKey sort = key(descending, nulls_first);
      EXPECT_EQ(compare_by(sort, false, one, two), descending ? 1 : -1);
      EXPECT_EQ(compare_by(sort, false, two, one), descending ? -1 : 1);
      EXPECT_EQ(compare_by(sort, false, one, one), 0);
      EXPECT_EQ(compare_by(sort, false, none, none), 0);
      EXPECT_EQ(compare_by(sort, false, none, one), nulls_first ? -1 : 1);
      EXPECT_EQ(compare_by(sort, false, one, none), nulls_first ? 1 : -1);
    }
}

}  // namespace
}  // namespace pgmosaic::exec
