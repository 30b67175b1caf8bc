#include "pg/frontend.h"

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

// --- start-up ---

std::string startup(uint32_t code, std::string_view rest) {
  std::string packet;
  append_big_endian<uint32_t>(packet, static_cast<uint32_t>(8 + rest.size()));
  append_big_endian(packet, code);
  return packet.append(rest);
}

TEST(Startup, LengthIsKnownFromFourBytes) {
  EXPECT_EQ(*startup_length(""), 0u);
  EXPECT_EQ(*startup_length("\0\0\0"sv), 0u);
  EXPECT_EQ(*startup_length("\0\0\0\x08"sv), 0u);
  EXPECT_EQ(*startup_length(startup(kSslRequest, "") + "more"), 8u);
  for (auto bytes : {"\0\0\0\x07"sv, "\0\0\0\0"sv, "\0\0\x27\x11"sv, "\xff\xff\xff\xff"sv, "GET "sv}) {
    ASSERT_FALSE(startup_length(bytes).ok());
    EXPECT_EQ(startup_length(bytes).error().sqlstate, "08P01");
  }
  EXPECT_TRUE(startup_length("\0\0\x27\x10"sv).ok());
}

TEST(Startup, Parameters) {
  std::string packet;
  write_startup(packet, {{"user", "ann"}, {"database", "d b"}, {"options", ""}});
  ASSERT_EQ(*startup_length(packet), packet.size());
  const auto parsed = parse_startup(packet);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->kind, StartupPacket::Kind::startup);
  EXPECT_EQ(parsed->protocol, kProtocolVersion3);
  EXPECT_EQ(parsed->parameters,
            (std::map<std::string, std::string>{{"user", "ann"}, {"database", "d b"}, {"options", ""}}));
  EXPECT_TRUE(parse_startup(startup(kProtocolVersion3, "\0"sv))->parameters.empty());
}

TEST(Startup, OtherRequests) {
  std::string ssl, cancel;
  write_ssl_request(ssl);
  write_cancel(cancel, 0x80000001, 0xfffffffe);
  EXPECT_EQ(parse_startup(ssl)->kind, StartupPacket::Kind::ssl);
  EXPECT_EQ(parse_startup(startup(kGssEncRequest, ""))->kind, StartupPacket::Kind::gssenc);
  const auto parsed = parse_startup(cancel);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->kind, StartupPacket::Kind::cancel);
  EXPECT_EQ(parsed->cancel_pid, 0x80000001u);
  EXPECT_EQ(parsed->cancel_secret, 0xfffffffeu);
}

TEST(Startup, Malformed) {
  for (auto rest : {""sv, "user"sv, "user\0"sv, "user\0ann"sv, "user\0ann\0"sv, "user\0ann\0\0x"sv})
    EXPECT_EQ(parse_startup(startup(kProtocolVersion3, rest)).error().sqlstate, "08P01");
  EXPECT_EQ(parse_startup(startup(kCancelRequest, "\0\0\0\x01"sv)).error().sqlstate, "08P01");
  EXPECT_EQ(parse_startup(startup(2u << 16, "\0"sv)).error().sqlstate, "0A000");
  EXPECT_NE(parse_startup(startup(2u << 16, "\0"sv)).error().message.find("2.0"), std::string::npos);
}

// --- extended protocol ---

TEST(Frontend, Parse) {
  std::string bytes;
  write_parse(bytes, "name", "SELECT $1", {23, 0, 4294967295u});
  ParseMessage parsed;
  ASSERT_TRUE(parse_parse(body_of(bytes, 'P'), parsed));
  EXPECT_EQ(parsed.name, "name");
  EXPECT_EQ(parsed.sql, "SELECT $1");
  EXPECT_EQ(parsed.types, (std::vector<Oid>{23, 0, 4294967295u}));
  const std::string_view body = body_of(bytes, 'P');
  for (std::size_t size = 0; size < body.size(); ++size)
    EXPECT_FALSE(parse_parse(body.substr(0, size), parsed)) << size;
  EXPECT_FALSE(parse_parse(std::string(body) + "x", parsed));
  bytes.clear();
  write_parse(bytes, "", "", {});
  ASSERT_TRUE(parse_parse(body_of(bytes, 'P'), parsed));
  EXPECT_TRUE(parsed.types.empty());
}

TEST(Frontend, Bind) {
  std::string bytes;
  write_bind_text(bytes, "portal", "statement", {"one", std::nullopt, ""}, 1);
  BindMessage bind;
  ASSERT_TRUE(parse_bind(body_of(bytes, 'B'), bind));
  EXPECT_EQ(bind.portal, "portal");
  EXPECT_EQ(bind.statement, "statement");
  ASSERT_EQ(bind.values.size(), 3u);
  EXPECT_EQ(bind.values[0], "one");
  EXPECT_EQ(bind.values[1], std::nullopt);
  EXPECT_EQ(bind.values[2], "");
  EXPECT_EQ(bind.result_formats, std::vector<int16_t>{1});
  EXPECT_FALSE(bind.binary(2));
  const std::string_view body = body_of(bytes, 'B');
  for (std::size_t size = 0; size < body.size(); ++size) {
    BindMessage part;
    EXPECT_FALSE(parse_bind(body.substr(0, size), part)) << size;
  }
  // forwarded under other names
  std::string forwarded;
  write_bind(forwarded, "", "other", bind.after_names);
  BindMessage again;
  ASSERT_TRUE(parse_bind(body_of(forwarded, 'B'), again));
  EXPECT_EQ(again.statement, "other");
  EXPECT_EQ(again.values, bind.values);
}

TEST(Frontend, BindFormats) {
  const std::string values =
      "\0\x02\0\0\0\x01"
      "a\0\0\0\x01"
      "b\0\0"s;
  BindMessage bind;
  ASSERT_TRUE(parse_bind("\0\0\0\x01\0\x01"s + values, bind));  // one format for all
  EXPECT_TRUE(bind.binary(0) && bind.binary(1));
  ASSERT_TRUE(parse_bind("\0\0\0\x02\0\0\0\x01"s + values, bind));
  EXPECT_TRUE(!bind.binary(0) && bind.binary(1));
  EXPECT_FALSE(parse_bind("\0\0\0\x03\0\0\0\x01\0\0"s + values, bind));   // three formats, two values
  EXPECT_FALSE(parse_bind("\0\0\0\x01\0\x02"s + values, bind));           // no such format
  EXPECT_FALSE(parse_bind("\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"s, bind));  // length -2
  EXPECT_FALSE(parse_bind("\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"s, bind));
}

TEST(Frontend, AsManyParametersAsTheProtocolAllows) {
  const std::vector<Oid> types(65535, 23);
  std::string bytes;
  write_parse(bytes, "", "", types);
  ParseMessage parsed;
  ASSERT_TRUE(parse_parse(body_of(bytes, 'P'), parsed));
  EXPECT_EQ(parsed.types.size(), 65535u);
  bytes.clear();
  write_bind_text(bytes, "", "", std::vector<std::optional<std::string>>(65535, "7"), 0);
  BindMessage bind;
  ASSERT_TRUE(parse_bind(body_of(bytes, 'B'), bind));
  EXPECT_EQ(bind.values.size(), 65535u);
  EXPECT_EQ(bind.values.back(), "7");
}

TEST(Frontend, TargetsAndExecute) {
  std::string bytes;
  TargetMessage target;
  write_describe(bytes, 'S', "s");
  ASSERT_TRUE(parse_target(body_of(bytes, 'D'), target));
  EXPECT_EQ(target.kind, 'S');
  EXPECT_EQ(target.name, "s");
  bytes.clear();
  write_close(bytes, 'P', "");
  ASSERT_TRUE(parse_target(body_of(bytes, 'C'), target));
  EXPECT_EQ(target.kind, 'P');
  for (auto body : {""sv, "S"sv, "Sname"sv, "X\0"sv, "S\0x"sv}) EXPECT_FALSE(parse_target(body, target));
  bytes.clear();
  write_execute(bytes, "p", 1000);
  ExecuteMessage execute;
  ASSERT_TRUE(parse_execute(body_of(bytes, 'E'), execute));
  EXPECT_EQ(execute.portal, "p");
  EXPECT_EQ(execute.max_rows, 1000);
  EXPECT_FALSE(parse_execute("p\0\0\0\0"sv, execute));
  EXPECT_FALSE(parse_execute("p\0\0\0\0\0\0"sv, execute));
}

TEST(Frontend, PlainMessages) {
  std::string bytes;
  write_query(bytes, "SELECT 1");
  write_sync(bytes);
  write_flush(bytes);
  write_copy_data(bytes, "a\n");
  write_copy_done(bytes);
  write_copy_fail(bytes, "no");
  write_password(bytes, "p\0"sv);
  EXPECT_EQ(bytes,
            "Q\0\0\0\x0dSELECT 1\0S\0\0\0\x04H\0\0\0\x04"
            "d\0\0\0\x06"
            "a\nc\0\0\0\x04"
            "f\0\0\0\x07no\0p\0\0\0\x06p\0"s);
}

}  // namespace
}  // namespace pgmosaic::pg
