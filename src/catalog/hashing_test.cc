#include "catalog/hashing.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <random>
#include <string>

namespace pgmosaic::catalog {
namespace {

constexpr Oid kBool = 16, kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kBpchar = 1042, kVarchar = 1043,
              kDate = 1082, kTimestamp = 1114, kTimestamptz = 1184, kNumeric = 1700, kUuid = 2950;

constexpr TextContext kUtc{.standard_timezone_utc = true};

std::optional<uint64_t> text(Oid type, std::string_view value, const TextContext& context = {}) {
  return hash_key_value(type, ValueFormat::text, value, context);
}

std::optional<uint64_t> binary(Oid type, std::string_view value) {
  return hash_key_value(type, ValueFormat::binary, value, {});
}

// Expected values: PostgreSQL 15's hash*extended(value, 8816678312871386365).
TEST(Hashing, integers) {
  EXPECT_EQ(hash_int(0), 0xc2e34bda39f0f0cdu);
  EXPECT_EQ(hash_int(-1), 0xba5fc748095606c2u);
  EXPECT_EQ(hash_int(4711), 0xc713a3efdf136930u);
  EXPECT_EQ(hash_int(std::numeric_limits<int64_t>::max()), 0x44893a0f1e949193u);
  EXPECT_EQ(hash_int(std::numeric_limits<int64_t>::min()), 0xac09237e4899f89cu);
  for (const Oid type : {kInt2, kInt4, kInt8}) {
    EXPECT_EQ(text(type, " 4711 "), hash_int(4711));
    EXPECT_EQ(binary(type, std::string_view("\0\0\x12\x67", 4)), hash_int(4711));
    EXPECT_EQ(binary(type, "\xff\xff"), hash_int(-1));
    EXPECT_EQ(binary(type, std::string_view("\0\0\0\0\0\0\x12\x67", 8)), hash_int(4711));
    EXPECT_EQ(binary(type, "abc"), std::nullopt);
  }
  EXPECT_EQ(text(kInt2, "32768"), std::nullopt);
  EXPECT_EQ(text(kInt4, "2147483648"), std::nullopt);
  EXPECT_EQ(text(kInt4, "-2147483648"), hash_int(-2147483648LL));
}

TEST(Hashing, parse_int) {
  EXPECT_EQ(parse_int("0"), 0);
  EXPECT_EQ(parse_int("+12"), 12);
  EXPECT_EQ(parse_int(" \t-12\n "), -12);
  EXPECT_EQ(parse_int("00000000000000000000000012"), 12);
  EXPECT_EQ(parse_int("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parse_int("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  for (const char* bad : {"", " ", "-", "+", "1 2", "1.0", "1e3", "0x10", "1_000", "--1", "- 1", "9223372036854775808",
                          "-9223372036854775809", "99999999999999999999999", "a"})
    EXPECT_EQ(parse_int(bad), std::nullopt) << bad;
}

TEST(Hashing, strings) {
  for (const Oid type : {kText, kVarchar, kBpchar}) {
    EXPECT_EQ(text(type, ""), 0xb0e33d0b543fbfc3u);
    EXPECT_EQ(text(type, "abc"), 0x325c02d16f43e1c2u);
    EXPECT_EQ(text(type, "exactly12byt"), 0x6ea09cac78de90dfu);
    EXPECT_EQ(binary(type, "customer-000000004711"), 0x9693b417f70da153u);
    EXPECT_EQ(text(type, std::string_view("a\0b", 3)), std::nullopt);
  }
  EXPECT_EQ(text(kBpchar, "abc   "), text(kBpchar, "abc"));
  EXPECT_EQ(text(kBpchar, "   "), text(kBpchar, ""));
  EXPECT_NE(text(kText, "abc "), text(kText, "abc"));
  EXPECT_NE(text(kBpchar, "abc\t"), text(kBpchar, "abc"));
}

TEST(Hashing, numeric) {
  EXPECT_EQ(text(kNumeric, "0"), 0x7a5b22367996dcfcu);
  EXPECT_EQ(text(kNumeric, "-0.000e5"), 0x7a5b22367996dcfcu);
  EXPECT_EQ(text(kNumeric, "1.50"), 0x11203748b4839213u);
  EXPECT_EQ(text(kNumeric, "-0001.5"), 0x11203748b4839213u);
  EXPECT_EQ(text(kNumeric, "15e-1"), 0x11203748b4839213u);
  EXPECT_EQ(text(kNumeric, "12345678.9"), 0x3fd061ab1ccf12d3u);
  EXPECT_EQ(text(kNumeric, "0.00012"), 0x2aa5ca40361a3a28u);
  EXPECT_EQ(text(kNumeric, ".12E-3"), 0x2aa5ca40361a3a28u);
  for (const char* special : {"NaN", "nan", "Infinity", "-inf", "+Infinity"})
    EXPECT_EQ(text(kNumeric, special), 0x7a5b22367996dcfdu);
  for (const char* bad : {"", ".", "-", "e5", "1e", "1e+", "1.2.3", "1 2", "0x1", "+nan", "infinit", "1e99999", "--1"})
    EXPECT_EQ(text(kNumeric, bad), std::nullopt) << bad;
  EXPECT_EQ(text(kNumeric, std::string(5000, '1')), std::nullopt);
  // 1.50: two digits, weight 0, positive, scale 2.
  EXPECT_EQ(binary(kNumeric, std::string_view("\0\2\0\0\0\0\0\2\0\1\x13\x88", 12)), 0x11203748b4839213u);
  // The same with a scale that hides a digit, and truncated.
  EXPECT_EQ(binary(kNumeric, std::string_view("\0\2\0\0\0\0\0\0\0\1\x13\x88", 12)), std::nullopt);
  EXPECT_EQ(binary(kNumeric, std::string_view("\0\2\0\0\0\0\0\2\0\1\x13", 11)), std::nullopt);
}

TEST(Hashing, uuid) {
  const auto expected = text(kUuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  ASSERT_TRUE(expected.has_value());
  for (const char* same : {"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
                           "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11"})
    EXPECT_EQ(text(kUuid, same), expected) << same;
  EXPECT_EQ(binary(kUuid, "\xa0\xee\xbc\x99\x9c\x0b\x4e\xf8\xbb\x6d\x6b\xb9\xbd\x38\x0a\x11"), expected);
  for (const char* bad :
       {"", "{}", "{a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a1",
        "a0eebc999c0b4ef8bb6d6bb9bd380a1g", "a0eebc999c0b4ef8bb6d6bb9bd380a11-", "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
        " a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a1111", "a0-eebc999c0b4ef8bb6d6bb9bd380a11"})
    EXPECT_EQ(text(kUuid, bad), std::nullopt) << bad;
  EXPECT_EQ(binary(kUuid, "short"), std::nullopt);
}

TEST(Hashing, bytea) {
  const auto expected = binary(kBytea, std::string_view("\0\xff\\a", 4));
  EXPECT_EQ(text(kBytea, R"(\x00ff5c61)"), expected);
  EXPECT_EQ(text(kBytea, R"(\x00 FF 5C61 )"), expected);
  EXPECT_EQ(text(kBytea, R"(\000\377\\a)"), expected);
  EXPECT_EQ(text(kBytea, ""), text(kBytea, R"(\x)"));
  EXPECT_EQ(text(kBytea, std::string(5000, 'a')), text(kText, std::string(5000, 'a')));
  for (const char* bad : {R"(\x0)", R"(\x0 0)", R"(\xgg)", R"(\)", R"(\1)", R"(\400)", R"(\08)", R"(a\q)"})
    EXPECT_EQ(text(kBytea, bad), std::nullopt) << bad;
}

TEST(Hashing, bool_words) {
  for (const char* word : {"t", "T", "tr", "true", "y", "YES", "on", "1", " true\n"})
    EXPECT_EQ(text(kBool, word), hash_int(1)) << word;
  for (const char* word : {"f", "fal", "FALSE", "n", "no", "of", "off", "0"})
    EXPECT_EQ(text(kBool, word), hash_int(0)) << word;
  for (const char* word : {"", " ", "o", "truex", "2", "10", "ja"}) EXPECT_EQ(text(kBool, word), std::nullopt) << word;
  EXPECT_EQ(binary(kBool, "\1"), hash_int(1));
  EXPECT_EQ(binary(kBool, std::string_view("\0", 1)), hash_int(0));
  EXPECT_EQ(binary(kBool, ""), std::nullopt);
}

TEST(Hashing, dates) {
  EXPECT_EQ(text(kDate, "2000-01-01"), hash_int(0));
  EXPECT_EQ(text(kDate, "1999-12-31"), hash_int(-1));
  EXPECT_EQ(text(kDate, "2024-02-29"), hash_int(8825));
  EXPECT_EQ(text(kDate, "0001-01-01"), hash_int(-730119));
  EXPECT_EQ(text(kDate, "5874897-12-31"), hash_int(2145031948));
  EXPECT_EQ(text(kDate, "infinity"), hash_int(std::numeric_limits<int32_t>::max()));
  EXPECT_EQ(binary(kDate, "\x80\0\0\0"), std::nullopt);
  EXPECT_EQ(binary(kDate, std::string_view("\x80\0\0\0", 4)), hash_int(std::numeric_limits<int32_t>::min()));
  for (const char* undecided :
       {"", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "2024-04-31", "0000-01-01",
        "2024-1-1", "24-01-01", "20240101", "2024-01-01 BC", "01/02/2024", "today", " 2024-01-01", "2024-01-01 10:00",
        "02024-01-01", "5874898-01-01", "2024-01-01x"})
    EXPECT_EQ(text(kDate, undecided), std::nullopt) << undecided;
}

TEST(Hashing, timestamps) {
  EXPECT_EQ(text(kTimestamp, "2000-01-01"), hash_int(0));
  EXPECT_EQ(text(kTimestamp, "2000-01-01 00:00:00.000001"), hash_int(1));
  EXPECT_EQ(text(kTimestamp, "2000-01-02T01:02:03.5"), hash_int((86400 + 3723) * 1000000LL + 500000));
  EXPECT_EQ(text(kTimestamp, "2000-01-01 01:00+05"), hash_int(3600 * 1000000LL));
  EXPECT_EQ(text(kTimestamp, "-infinity"), hash_int(std::numeric_limits<int64_t>::min()));
  EXPECT_EQ(text(kTimestamptz, "2000-01-01 01:00+01"), hash_int(0));
  EXPECT_EQ(text(kTimestamptz, "2000-01-01 01:00:00-01:30:15"), hash_int(9015 * 1000000LL));
  EXPECT_EQ(text(kTimestamptz, "2000-01-01T00:00:00Z"), hash_int(0));
  EXPECT_EQ(text(kTimestamptz, "2000-01-01 00:00:00"), std::nullopt);
  EXPECT_EQ(text(kTimestamptz, "2000-01-01 00:00:00", kUtc), hash_int(0));
  for (const Oid type : {kTimestamp, kTimestamptz})
    for (const char* undecided :
         {"", "2024-01-01 ", "2024-01-01 1:00", "2024-01-01 24:00:00", "2024-01-01 10:60", "2024-01-01 10:00:60",
          "2024-01-01 10:00:00.", "2024-01-01 10:00:00.1234567", "2024-01-01 10:00:00 +01", "2024-01-01 10:00+16",
          "2024-01-01 10:00+1", "2024-01-01 10:00 CET", "2024-01-01 10:00 BC", "294277-01-01 00:00", "now",
          "2024-01-01+01", "2024-01-01t10:00", "2024-01-01 10:00+01:"})
      EXPECT_EQ(text(type, undecided, kUtc), std::nullopt) << undecided;
  EXPECT_EQ(text(kTimestamptz, "294276-12-31 23:59:59-01", kUtc), std::nullopt);
  EXPECT_EQ(binary(kTimestamp, std::string_view("\x7f\xff\xff\xff\xff\xff\xff\xfe", 8)), std::nullopt);
}

// Buffers of exact size, so that a sanitizer sees a read behind the end.
TEST(Hashing, any_bytes) {
  std::mt19937 random(4);
  constexpr std::string_view kLikely = "0123456789-+: .TeE{}\\xaf";
  int decided = 0;
  for (int round = 0; round < 20000; ++round) {
    const size_t size = random() % 24;
    const auto bytes = std::make_unique<char[]>(size);
    for (size_t i = 0; i < size; ++i)
      bytes[i] = random() % 8 == 0 ? static_cast<char>(random()) : kLikely[random() % kLikely.size()];
    const std::string_view value(bytes.get(), size);
    for (const Oid type : {kBool, kBytea, kInt8, kText, kBpchar, kDate, kTimestamp, kTimestamptz, kNumeric, kUuid})
      for (const ValueFormat format : {ValueFormat::text, ValueFormat::binary})
        decided += hash_key_value(type, format, value, kUtc).has_value() ? 1 : 0;
  }
  EXPECT_GT(decided, 20000);
}

TEST(Hashing, only_listed_types) {
  for (const Oid type :
       {kBool, kBytea, kInt8, kInt2, kInt4, kText, kBpchar, kVarchar, kDate, kTimestamp, kTimestamptz, kNumeric, kUuid})
    EXPECT_TRUE(hashable_key_type(type));
  for (const Oid type : {Oid{0}, Oid{26}, Oid{700}, Oid{701}, Oid{1007}, Oid{2205}, Oid{3802}, Oid{16384}}) {
    EXPECT_FALSE(hashable_key_type(type));
    EXPECT_EQ(text(type, "1"), std::nullopt);
  }
}

TEST(Hashing, one_column_and_several) {
  EXPECT_EQ(combine_hash(0, 7), 7 + 0x49a0f4dd15e5a8e3u);
  const uint64_t first = combine_hash(0, hash_int(5));
  EXPECT_NE(combine_hash(first, hash_int(6)), combine_hash(combine_hash(0, hash_int(6)), hash_int(5)));
}

TEST(StoredUnchanged, lengths_and_scales) {
  const auto unchanged = [](Oid type, int32_t typmod, std::string_view value) {
    return stored_unchanged(type, typmod, ValueFormat::text, value);
  };
  EXPECT_TRUE(unchanged(kVarchar, -1, "abcdef"));
  EXPECT_TRUE(unchanged(kVarchar, 4 + 3, "abc"));
  EXPECT_FALSE(unchanged(kVarchar, 4 + 3, "abc "));
  EXPECT_TRUE(unchanged(kBpchar, 4 + 3, "abc   "));
  constexpr int32_t kNumeric10_2 = (10 << 16 | 2) + 4, kNumeric5_minus2 = (5 << 16 | (-2 & 0x7ff)) + 4;
  EXPECT_TRUE(unchanged(kNumeric, kNumeric10_2, "1.25"));
  EXPECT_TRUE(unchanged(kNumeric, kNumeric10_2, "17"));
  EXPECT_FALSE(unchanged(kNumeric, kNumeric10_2, "1.255"));
  EXPECT_FALSE(unchanged(kNumeric, kNumeric10_2, "1e-5"));
  EXPECT_FALSE(unchanged(kNumeric, kNumeric5_minus2, "1234"));
  EXPECT_TRUE(unchanged(kTimestamp, 3, "2024-01-01 10:00:00.123"));
  EXPECT_FALSE(unchanged(kTimestamp, 3, "2024-01-01 10:00:00.1239"));
  EXPECT_FALSE(unchanged(kTimestamptz, 0, "2024-01-01 10:00:00.5+02"));
  EXPECT_TRUE(unchanged(kInt4, -1, "5"));
  EXPECT_TRUE(stored_unchanged(kTimestamp, 3, ValueFormat::binary, std::string_view("\0\0\0\0\0\0\x03\xe8", 8)));
  EXPECT_FALSE(stored_unchanged(kTimestamp, 3, ValueFormat::binary, std::string_view("\0\0\0\0\0\0\x03\xe9", 8)));
  EXPECT_TRUE(
      stored_unchanged(kNumeric, kNumeric10_2, ValueFormat::binary, std::string_view("\0\1\0\0\0\0\0\2\0\1", 10)));
  EXPECT_FALSE(
      stored_unchanged(kNumeric, kNumeric10_2, ValueFormat::binary, std::string_view("\0\1\0\0\0\0\0\3\0\1", 10)));
}

}  // namespace
}  // namespace pgmosaic::catalog
