#include "pg/backend.h"

#include <gtest/gtest.h>

namespace pgmosaic::pg {
namespace {

using namespace std::literals;

std::string_view body_of(const std::string& bytes, char type) {
  MessageView view;
  uint32_t length = 0;
  EXPECT_EQ(peek_message(bytes, view, length), FrameStatus::complete);
  EXPECT_EQ(length, bytes.size());
  EXPECT_EQ(view.type, type);
  return view.body;
}

TEST(Backend, RowDescription) {
  const std::vector<FieldDescription> fields = {{"a", 16384, 1, 23, 4, -1, 0}, {"", 4294967295u, -7, 1043, -1, 14, 1}};
  std::string bytes;
  write_row_description(bytes, fields);
  const std::string_view body = body_of(bytes, 'T');
  std::vector<FieldDescription> parsed;
  ASSERT_TRUE(parse_row_description(body, parsed));
  ASSERT_EQ(parsed.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(parsed[i].name, fields[i].name);
    EXPECT_EQ(parsed[i].table, fields[i].table);
    EXPECT_EQ(parsed[i].attribute, fields[i].attribute);
    EXPECT_EQ(parsed[i].type, fields[i].type);
    EXPECT_EQ(parsed[i].type_size, fields[i].type_size);
    EXPECT_EQ(parsed[i].typmod, fields[i].typmod);
    EXPECT_EQ(parsed[i].format, fields[i].format);
  }
  for (std::size_t size = 0; size < body.size(); ++size)
    EXPECT_FALSE(parse_row_description(body.substr(0, size), parsed)) << size;
  EXPECT_FALSE(parse_row_description(std::string(body) + "x", parsed));
  bytes.clear();
  write_text_row_description(bytes, {"plan"});
  ASSERT_TRUE(parse_row_description(body_of(bytes, 'T'), parsed));
  EXPECT_EQ(parsed[0].type, 25u);
  EXPECT_EQ(parsed[0].type_size, -1);
}

TEST(Backend, DataRow) {
  const std::vector<std::optional<std::string_view>> values = {"one", std::nullopt, "", "\0\xff"sv};
  std::string bytes;
  write_data_row(bytes, values);
  const std::string_view body = body_of(bytes, 'D');
  std::vector<std::optional<std::string_view>> parsed = {"old"};
  ASSERT_TRUE(parse_data_row(body, parsed));
  EXPECT_EQ(parsed, values);
  for (std::size_t size = 0; size < body.size(); ++size)
    EXPECT_FALSE(parse_data_row(body.substr(0, size), parsed)) << size;
  EXPECT_FALSE(parse_data_row("\0\x01\x7f\xff\xff\xff"sv, parsed));
  EXPECT_FALSE(parse_data_row("\xff\xff"sv, parsed));
  bytes.clear();
  write_text_row(bytes, {"a", ""});
  ASSERT_TRUE(parse_data_row(body_of(bytes, 'D'), parsed));
  EXPECT_EQ(parsed, (std::vector<std::optional<std::string_view>>{"a", ""}));
}

TEST(Backend, ParameterDescription) {
  std::vector<Oid> types;
  ASSERT_TRUE(parse_parameter_description("\0\x02\0\0\0\x17\xff\xff\xff\xff"sv, types));
  EXPECT_EQ(types, (std::vector<Oid>{23, 4294967295u}));
  EXPECT_FALSE(parse_parameter_description("\0\x02\0\0\0\x17"sv, types));
  EXPECT_FALSE(parse_parameter_description("\0\0x"sv, types));
  std::string many("\xff\xff");
  many.append(65535 * 4, '\0');
  ASSERT_TRUE(parse_parameter_description(many, types));
  EXPECT_EQ(types.size(), 65535u);
}

TEST(Backend, Errors) {
  Error error = make_error("23505", "duplicate key", "a hint", "a detail");
  error.position = 17;
  std::string bytes;
  write_error(bytes, error, "FATAL");
  EXPECT_EQ(body_of(bytes, 'E'), "SFATAL\0VFATAL\0C23505\0Mduplicate key\0Da detail\0Ha hint\0P17\0\0"sv);
  const Error parsed = parse_error(body_of(bytes, 'E'));
  EXPECT_EQ(parsed.sqlstate, "23505");
  EXPECT_EQ(parsed.message, "duplicate key");
  EXPECT_EQ(parsed.detail, "a detail");
  EXPECT_EQ(parsed.hint, "a hint");
  EXPECT_EQ(parsed.position, 17);
  bytes.clear();
  write_notice(bytes, "00000", "hello");
  EXPECT_EQ(body_of(bytes, 'N'), "SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"sv);
  // fields nobody asked for, and broken bodies
  EXPECT_EQ(parse_error("Wcontext\0M text\0Z?\0\0"sv).message, " text");
  EXPECT_EQ(parse_error("").message, "");
  EXPECT_EQ(parse_error("Mno end").message, "");
  EXPECT_EQ(parse_error("Pnot a number\0\0"sv).position, 0);
}

TEST(Backend, TagRows) {
  EXPECT_EQ(tag_rows("INSERT 0 5"), 5u);
  EXPECT_EQ(tag_rows("SELECT 3"), 3u);
  EXPECT_EQ(tag_rows("COPY 18446744073709551615"), UINT64_MAX);
  for (const char* tag :
       {"", "BEGIN", "CREATE TABLE", "INSERT 0 ", "SELECT -1", "SELECT 1x", "COPY 18446744073709551616"})
    EXPECT_EQ(tag_rows(tag), std::nullopt) << tag;
}

TEST(Backend, PlainMessages) {
  std::string bytes;
  write_ready(bytes, 'T');
  write_command_complete(bytes, "SELECT 1");
  write_parameter_status(bytes, "TimeZone", "UTC");
  write_empty(bytes, '1');
  EXPECT_EQ(bytes,
            "Z\0\0\0\x05TC\0\0\0\x0dSELECT 1\0S\0\0\0\x11TimeZone\0UTC\0"
            "1\0\0\0\x04"s);
}

}  // namespace
}  // namespace pgmosaic::pg
