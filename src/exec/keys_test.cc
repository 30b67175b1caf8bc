#include "exec/keys.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/bytes.h"

namespace pgmosaic::exec {
namespace {

using catalog::GroupId;
using catalog::ValueFormat;
using plan::KeySource;
using plan::Target;

constexpr catalog::Oid kInt8 = 20, kInt4 = 23, kText = 25, kVarchar = 1043, kTimestamptz = 1184, kNumeric = 1700;

template <class T>
std::string big_endian(T value) {
  std::string bytes;
  append_big_endian(bytes, value);
  return bytes;
}

// Sixteen shards on groups 1 to 4; group 5 has none; group 3 is home.
struct Fixture : ::testing::Test {
  Fixture() {
    for (GroupId id = 1; id <= 5; ++id) snapshot.groups.push_back({id, "g" + std::to_string(id), "", 0, id == 3});
    snapshot.home = 3;
    catalog::Colocation colocation;
    colocation.id = 7;
    for (uint32_t i = 0; i < 16; ++i) colocation.shards.push_back({i + 1, 16, i, i % 4 + 1});
    database.colocations[7] = colocation;
  }
  const catalog::Colocation& colocation() const { return *database.colocation(7); }
  GroupId group_of(const std::vector<std::pair<catalog::Oid, std::string>>& key) const {
    uint64_t hash = 0;
    for (const auto& [type, value] : key)
      hash = catalog::combine_hash(hash, *catalog::hash_key_value(type, ValueFormat::text, value, {}));
    return colocation().group_of_hash(hash);
  }
  Resolution resolve_keys(std::vector<plan::KeyTuple> keys, const Values& values) const {
    return resolve(Target{Target::Kind::keys, 7, std::move(keys)}, values, snapshot, database);
  }

  catalog::Snapshot snapshot;
  catalog::Database database;
};

KeySource constant(catalog::Oid type, std::string text, int32_t typmod = -1) {
  KeySource source;
  source.kind = KeySource::Kind::constant;
  source.type = type;
  source.typmod = typmod;
  source.text = std::move(text);
  return source;
}

KeySource parameter(catalog::Oid type, uint32_t index, KeySource::Kind kind = KeySource::Kind::parameter) {
  KeySource source;
  source.kind = kind;
  source.type = type;
  source.index = index;
  return source;
}

pg::BindMessage bind_of(std::vector<std::optional<std::string_view>> values, std::vector<int16_t> formats = {}) {
  pg::BindMessage bind;
  bind.values = std::move(values);
  bind.formats = std::move(formats);
  return bind;
}

const std::vector<GroupId> kAll = {1, 2, 3, 4};

TEST_F(Fixture, Targets) {
  const Values none;
  EXPECT_EQ(resolve(Target{Target::Kind::any, 0, {}}, none, snapshot, database).one, 3u);
  EXPECT_EQ(resolve(Target{Target::Kind::home, 0, {}}, none, snapshot, database).one, 3u);
  const Resolution all = resolve(Target{Target::Kind::all, 7, {}}, none, snapshot, database);
  EXPECT_FALSE(all.single());
  EXPECT_EQ(all.groups, kAll);
  EXPECT_EQ(resolve(Target{Target::Kind::everywhere, 0, {}}, none, snapshot, database).groups,
            (std::vector<GroupId>{1, 2, 3, 4, 5}));
  EXPECT_EQ(groups_of(colocation()), kAll);
}

TEST_F(Fixture, AllOnOneGroupIsOneGroup) {
  for (catalog::Shard& shard : database.colocations[7].shards) shard.group = 2;
  EXPECT_EQ(resolve(Target{Target::Kind::all, 7, {}}, {}, snapshot, database).one, 2u);
  EXPECT_EQ(resolve_keys({{constant(kInt4, "not a number")}}, {}).one, 2u);
}

TEST_F(Fixture, Constants) {
  for (int i = -20; i < 20; ++i) {
    const std::string text = std::to_string(i);
    const Resolution result = resolve_keys({{constant(kInt4, text)}}, {});
    EXPECT_FALSE(result.undecided);
    EXPECT_EQ(result.one, group_of({{kInt4, text}}));
  }
}

TEST_F(Fixture, CompositeKeys) {
  const Resolution result = resolve_keys({{constant(kInt8, "5"), constant(kText, "x")}}, {});
  EXPECT_EQ(result.one, group_of({{kInt8, "5"}, {kText, "x"}}));
}

TEST_F(Fixture, Literals) {
  const std::string sql = "SELECT * FROM t WHERE a = -42 AND b = 'it''s' AND c = E'\\x41'";
  sql::Shape shape;
  sql::scan_shape(sql, shape);
  ASSERT_EQ(shape.literals.size(), 3u);
  Values values;
  values.sql = sql;
  values.shape = &shape;
  KeySource number, string, escaped;
  number.type = kInt4;
  number.negate = true;
  string.type = escaped.type = kText;
  string.index = 1;
  escaped.index = 2;
  EXPECT_EQ(resolve_keys({{number}}, values).one, group_of({{kInt4, "-42"}}));
  EXPECT_EQ(resolve_keys({{string}}, values).one, group_of({{kText, "it's"}}));
  EXPECT_EQ(resolve_keys({{escaped}}, values).one, group_of({{kText, "A"}}));
  std::string text;
  EXPECT_TRUE(text_value(number, values, text));
  EXPECT_EQ(text, "-42");
  EXPECT_TRUE(text_value(string, values, text));
  EXPECT_EQ(text, "it's");
  number.index = 3;
  EXPECT_TRUE(resolve_keys({{number}}, values).undecided);
  EXPECT_TRUE(resolve_keys({{number}}, {}).undecided);
}

TEST_F(Fixture, Parameters) {
  const std::string four = big_endian<int32_t>(-7), eight = big_endian<int64_t>(-7), two = big_endian<int16_t>(-7);
  const GroupId expected = group_of({{kInt8, "-7"}});
  Values values;
  auto bind = bind_of({"-7", four, eight, two, std::nullopt}, {0, 1, 1, 1, 0});
  values.bind = &bind;
  for (uint32_t index = 0; index < 4; ++index) {
    EXPECT_EQ(resolve_keys({{parameter(kInt8, index)}}, values).one, expected) << index;
    EXPECT_EQ(resolve_keys({{parameter(kInt4, index)}}, values).one, expected) << index;
  }
  EXPECT_TRUE(resolve_keys({{parameter(kInt8, 5)}}, values).undecided);
  std::string text;
  EXPECT_TRUE(text_value(parameter(kInt8, 0), values, text));
  EXPECT_EQ(text, "-7");
  EXPECT_FALSE(text_value(parameter(kInt8, 1), values, text));
}

TEST_F(Fixture, Nulls) {
  auto bind = bind_of({std::nullopt, "x"});
  Values values;
  values.bind = &bind;
  KeySource written;
  written.kind = KeySource::Kind::null_value;
  for (const KeySource& null : {parameter(kInt4, 0), written}) {
    // k = NULL finds nothing: any one group answers
    values.null_is_value = false;
    EXPECT_TRUE(resolve_keys({{null}}, values).single());
    EXPECT_FALSE(resolve_keys({{null}}, values).undecided);
    EXPECT_EQ(resolve_keys({{null}, {constant(kInt4, "5")}}, values).one, group_of({{kInt4, "5"}}));
    // INSERT: a NULL contributes nothing to the hash
    values.null_is_value = true;
    EXPECT_EQ(resolve_keys({{null}}, values).one, 1u);
    EXPECT_EQ(resolve_keys({{null, parameter(kText, 1)}}, values).one, group_of({{kText, "x"}}));
  }
}

TEST_F(Fixture, SeveralKeys) {
  std::vector<plan::KeyTuple> keys;
  std::vector<GroupId> expected;
  for (int i = 0; i < 3; ++i) {
    keys.push_back({constant(kInt4, std::to_string(i))});
    expected.push_back(group_of({{kInt4, std::to_string(i)}}));
  }
  std::sort(expected.begin(), expected.end());
  expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
  ASSERT_GT(expected.size(), 1u);
  EXPECT_EQ(resolve_keys(keys, {}).groups, expected);
  keys.assign(5, {constant(kInt4, "1")});
  EXPECT_EQ(resolve_keys(keys, {}).one, group_of({{kInt4, "1"}}));
  EXPECT_TRUE(resolve_keys({}, {}).single());  // a contradiction
  const Resolution one_unknown = resolve_keys({{constant(kInt4, "1")}, {constant(kInt4, "x")}}, {});
  EXPECT_TRUE(one_unknown.undecided);
  EXPECT_EQ(one_unknown.groups, kAll);
}

TEST_F(Fixture, UndecidedMeansAllGroups) {
  for (const auto& source :
       {constant(kInt4, "1.0"), constant(kInt4, "3000000000"), constant(kTimestamptz, "yesterday")}) {
    const Resolution result = resolve_keys({{source}}, {});
    EXPECT_TRUE(result.undecided);
    EXPECT_EQ(result.groups, kAll);
  }
}

TEST_F(Fixture, TypeModifiersThatChangeTheValue) {
  constexpr int32_t kNumeric10_2 = (10 << 16 | 2) + 4, kNumeric5_minus2 = (5 << 16 | (-2 & 0x7ff)) + 4,
                    kVarchar3 = 3 + 4;
  EXPECT_EQ(resolve_keys({{constant(kNumeric, "1.25", kNumeric10_2)}}, {}).one, group_of({{kNumeric, "1.25"}}));
  EXPECT_TRUE(resolve_keys({{constant(kNumeric, "1.255", kNumeric10_2)}}, {}).undecided);
  EXPECT_TRUE(resolve_keys({{constant(kNumeric, "123", kNumeric5_minus2)}}, {}).undecided);
  EXPECT_TRUE(resolve_keys({{constant(kVarchar, "abc", kVarchar3)}}, {}).single());
  EXPECT_TRUE(resolve_keys({{constant(kVarchar, "abc ", kVarchar3)}}, {}).undecided);
  // binary: 1.255 has two digits to the base of 10,000 and three decimal places
  const std::string binary = big_endian<uint16_t>(2) + big_endian<uint16_t>(0) + big_endian<uint16_t>(0) +
                             big_endian<uint16_t>(3) + big_endian<uint16_t>(1) + big_endian<uint16_t>(2550);
  auto bind = bind_of({binary}, {1});
  Values values;
  values.bind = &bind;
  KeySource source = parameter(kNumeric, 0);
  EXPECT_EQ(resolve_keys({{source}}, values).one, group_of({{kNumeric, "1.255"}}));
  source.typmod = kNumeric10_2;
  EXPECT_TRUE(resolve_keys({{source}}, values).undecided);
}

// --- array parameters ---

struct ArrayParameters : Fixture {
  Resolution of_text(catalog::Oid type, std::string_view array) {
    auto bind = bind_of({array});
    Values values;
    values.bind = &bind;
    return resolve_keys({{parameter(type, 0, KeySource::Kind::array_param)}}, values);
  }
  std::vector<GroupId> groups_of_values(catalog::Oid type, const std::vector<std::string>& values) const {
    std::vector<GroupId> groups;
    for (const std::string& value : values) groups.push_back(group_of({{type, value}}));
    std::sort(groups.begin(), groups.end());
    groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
    return groups;
  }
  static std::vector<GroupId> list(const Resolution& resolution) {
    return resolution.single() ? std::vector<GroupId>{resolution.one} : resolution.groups;
  }
};

TEST_F(ArrayParameters, Text) {
  EXPECT_EQ(list(of_text(kInt4, "{1,2,3}")), groups_of_values(kInt4, {"1", "2", "3"}));
  EXPECT_EQ(list(of_text(kInt4, "{5,NULL,null}")), groups_of_values(kInt4, {"5"}));
  EXPECT_EQ(list(of_text(kText, "{a,\"b c\",\"d\\\"e\\\\\",\"NULL\",\"\"}")),
            groups_of_values(kText, {"a", "b c", "d\"e\\", "NULL", ""}));
  EXPECT_EQ(list(of_text(kText, "{\"a,b\"}")), groups_of_values(kText, {"a,b"}));
  for (const char* empty : {"{}", "{NULL}"}) {
    EXPECT_TRUE(of_text(kInt4, empty).single());
    EXPECT_FALSE(of_text(kInt4, empty).undecided);
  }
}

TEST_F(ArrayParameters, WhatIsNotUnderstoodGoesToAllGroups) {
  for (const char* array :
       {"", "{", "1,2", "{{1},{2}}", "[0:1]={1,2}", "{1,}", "{,1}", "{1,x}", "{\"1}", "{\"1\"2}", "{1} ", "{1.5}"}) {
    const Resolution result = of_text(kInt4, array);
    EXPECT_TRUE(result.undecided) << array;
    EXPECT_EQ(result.groups, kAll) << array;
  }
  // PostgreSQL drops blanks around an element
  for (const char* array : {"{ a}", "{a }", "{\ta}", "{a\n}", "{\"a\" }", "{a\\b}", "{a,\rb}"})
    EXPECT_TRUE(of_text(kText, array).undecided) << array;
}

TEST_F(ArrayParameters, Binary) {
  auto array_of = [](catalog::Oid element, const std::vector<std::optional<std::string>>& values,
                     int32_t dimensions = 1) {
    std::string bytes = big_endian(dimensions) + big_endian<int32_t>(1) + big_endian(element);
    if (dimensions == 0) return bytes;
    bytes += big_endian(static_cast<int32_t>(values.size())) + big_endian<int32_t>(1);
    for (const auto& value : values)
      bytes += big_endian(value ? static_cast<int32_t>(value->size()) : -1) + value.value_or("");
    return bytes;
  };
  auto resolve_array = [this](catalog::Oid type, const std::string& bytes) {
    auto bind = bind_of({bytes}, {1});
    Values values;
    values.bind = &bind;
    return resolve_keys({{parameter(type, 0, KeySource::Kind::array_param)}}, values);
  };
  const std::string ints = array_of(kInt4, {big_endian<int32_t>(1), std::nullopt, big_endian<int32_t>(2)});
  EXPECT_EQ(list(resolve_array(kInt4, ints)), groups_of_values(kInt4, {"1", "2"}));
  // another width than the column's
  EXPECT_EQ(list(resolve_array(kInt4, array_of(kInt8, {big_endian<int64_t>(-5)}))), groups_of_values(kInt4, {"-5"}));
  EXPECT_EQ(list(resolve_array(kText, array_of(kText, {"a", ""}))), groups_of_values(kText, {"a", ""}));
  EXPECT_TRUE(resolve_array(kInt4, array_of(kInt4, {}, 0)).single());
  for (std::size_t size = 0; size < ints.size(); ++size)
    EXPECT_TRUE(resolve_array(kInt4, ints.substr(0, size)).undecided) << size;
  EXPECT_TRUE(resolve_array(kInt4, ints + "x").undecided);
  EXPECT_TRUE(resolve_array(kInt4, array_of(kInt4, {"abc"})).undecided);
}

TEST_F(ArrayParameters, NullFindsNothing) {
  auto bind = bind_of({std::nullopt});
  Values values;
  values.bind = &bind;
  const Resolution result = resolve_keys({{parameter(kInt4, 0, KeySource::Kind::array_param)}}, values);
  EXPECT_TRUE(result.single());
  EXPECT_FALSE(result.undecided);
}

}  // namespace
}  // namespace pgmosaic::exec
