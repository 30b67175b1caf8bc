#include "pg/oid_map.h"

#include <gtest/gtest.h>

namespace pgmosaic::pg {
namespace {

using Kind = TypeForm::Kind;

// Here 20001 … are the home's 30001 …: an enum, its array, a composite, its array, a range, its multirange, a domain.
OidMap sample() {
  OidMap map;
  for (Oid i = 1; i <= 7; ++i) map.add_type(20000 + i, 30000 + i);
  map.add_form(30002, {Kind::array, 0});
  map.add_form(30003, {Kind::composite, 0});
  map.add_form(30004, {Kind::array, 0});
  map.add_form(30005, {Kind::range, 30003});
  map.add_form(30006, {Kind::multirange, 30005});
  map.add_form(30007, {Kind::domain, 30002});
  map.add_relation(20100, 30100);
  map.add_column(20100, 3, 2);
  return map;
}

std::string number(uint32_t value) {
  std::string bytes;
  append_big_endian(bytes, value);
  return bytes;
}
std::string value(const std::string& bytes) { return number(static_cast<uint32_t>(bytes.size())) + bytes; }
std::string array(Oid element, const std::vector<std::string>& values) {
  std::string bytes =
      number(1) + number(0) + number(element) + number(static_cast<uint32_t>(values.size())) + number(1);
  for (const std::string& each : values) bytes += value(each);
  return bytes;
}
std::string record(const std::vector<std::pair<Oid, std::string>>& fields) {
  std::string bytes = number(static_cast<uint32_t>(fields.size()));
  for (const auto& [type, each] : fields) bytes += number(type) + value(each);
  return bytes;
}
std::string at_home(std::string bytes, Oid type) {
  sample().to_home_value(bytes.data(), bytes.size(), type);
  return bytes;
}

TEST(OidMap, RowDescription) {
  std::vector<FieldDescription> fields(3);
  fields[0] = {.name = "a", .table = 20100, .attribute = 3, .type = 20002, .format = 1};
  fields[1] = {.name = "b", .table = 20999, .attribute = 1, .type = 25, .format = 1};
  fields[2] = {.name = "c", .table = 1259, .attribute = 1, .type = 20003};
  std::string message;
  write_row_description(message, fields);
  std::vector<Oid> binary{7};
  EXPECT_TRUE(sample().to_home_description(message.data() + kHeaderSize, message.size() - kHeaderSize, binary));
  EXPECT_EQ(binary, (std::vector<Oid>{30002, 0, 0}));
  std::vector<FieldDescription> after;
  ASSERT_TRUE(parse_row_description(std::string_view(message).substr(kHeaderSize), after));
  EXPECT_EQ(after[0].table, 30100u);
  EXPECT_EQ(after[0].attribute, 2);
  EXPECT_EQ(after[0].type, 30002u);
  EXPECT_EQ(after[1].table, 0u);
  EXPECT_EQ(after[1].attribute, 0);
  EXPECT_EQ(after[1].type, 25u);
  EXPECT_EQ(after[2].table, 1259u);
  EXPECT_EQ(after[2].type, 30003u);

  message.clear();
  write_row_description(message, {{.name = "n", .type = 23, .format = 1}, {.name = "e", .type = 20001, .format = 1}});
  EXPECT_FALSE(sample().to_home_description(message.data() + kHeaderSize, message.size() - kHeaderSize, binary));
  EXPECT_TRUE(binary.empty());
}

TEST(OidMap, Parameters) {
  std::string body = std::string("\0\2", 2) + number(20003) + number(23);
  sample().to_home_parameters(body.data(), body.size());
  EXPECT_EQ(body, std::string("\0\2", 2) + number(30003) + number(23));
  EXPECT_EQ(sample().type_here(30003), 20003u);
  EXPECT_EQ(sample().type_here(23), 23u);
}

TEST(OidMap, Values) {
  EXPECT_EQ(at_home(array(20001, {"red", "blue"}), 30002), array(30001, {"red", "blue"}));
  const std::string here = record({{23, number(20001)}, {20002, array(20001, {"red"})}});
  const std::string home = record({{23, number(20001)}, {30002, array(30001, {"red"})}});
  EXPECT_EQ(at_home(here, 30003), home);
  EXPECT_EQ(at_home(array(20003, {here, here}), 30004), array(30003, {home, home}));
  EXPECT_EQ(at_home(record({{20003, here}}), 2249), record({{30003, home}}));
  EXPECT_EQ(at_home(array(2249, {here}), 2287), array(2249, {home}));
  EXPECT_EQ(at_home(array(20001, {"red"}), 30007), array(30001, {"red"}));
  // Range bounds: both, lower only, none.
  EXPECT_EQ(at_home("\x02" + value(here) + value(here), 30005), "\x02" + value(home) + value(home));
  EXPECT_EQ(at_home("\x12" + value(here), 30005), "\x12" + value(home));
  EXPECT_EQ(at_home("\x01", 30005), "\x01");
  EXPECT_EQ(at_home(number(1) + value("\x08" + value(here)), 30006), number(1) + value("\x08" + value(home)));
  EXPECT_EQ(at_home(number(20100), 2205), number(30100));
  EXPECT_EQ(at_home(number(20002), 2206), number(30002));
}

TEST(OidMap, Rows) {
  const std::string before = array(20001, {"red"}), after = array(30001, {"red"});
  auto row = [](const std::string& text) { return std::string("\0\3", 2) + value("x") + number(~0u) + value(text); };
  std::string body = row(before);
  sample().to_home_row(body.data(), body.size(), {0, 30002, 30002});
  EXPECT_EQ(body, row(after));
}

// A value that ends too early is left as it is from there on; nothing behind it is touched.
TEST(OidMap, Overruns) {
  const std::string whole = record({{20002, array(20001, {"red", "blue"})}, {20001, "green"}});
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    std::string bytes = whole;
    std::string part = bytes.substr(0, size);
    sample().to_home_value(part.data(), part.size(), 30003);
    EXPECT_EQ(part.size(), size);
    sample().to_home_value(bytes.data(), size, 30003);
    EXPECT_EQ(bytes.substr(size), whole.substr(size));
  }
}

}  // namespace
}  // namespace pgmosaic::pg
