#include "pg/message.h"

#include <gtest/gtest.h>

namespace pgmosaic::pg {
namespace {

using namespace std::literals;

std::string message(char type, std::string_view body) {
  std::string bytes;
  MessageWriter(bytes, type).bytes(body);
  return bytes;
}

TEST(Message, WriterFillsInTheLength) {
  std::string out = "before";
  MessageWriter(out, 'X').byte('a').int16(-2).int32(66051).string("st").bytes("by").value("val");
  EXPECT_EQ(out,
            "beforeX\0\0\0\x17"
            "a\xff\xfe\0\x01\x02\x03st\0by\0\0\0\x03val"s);
  MessageWriter(out, 'S');
  EXPECT_TRUE(out.ends_with("S\0\0\0\x04"s));
}

TEST(Message, PeekFindsTheFirstMessage) {
  const std::string bytes = message('Q', "SELECT 1\0"sv) + message('S', "");
  MessageView view;
  uint32_t length = 99;
  for (std::size_t size = 0; size < kHeaderSize; ++size) {
    EXPECT_EQ(peek_message(std::string_view(bytes).substr(0, size), view, length), FrameStatus::incomplete);
    EXPECT_EQ(length, 0u);
  }
  for (std::size_t size = kHeaderSize; size < 14; ++size) {
    EXPECT_EQ(peek_message(std::string_view(bytes).substr(0, size), view, length), FrameStatus::incomplete);
    EXPECT_EQ(length, 14u);  // known as soon as the header is there
    EXPECT_EQ(view.type, 'Q');
  }
  ASSERT_EQ(peek_message(bytes, view, length), FrameStatus::complete);
  EXPECT_EQ(view.body, "SELECT 1\0"sv);
  EXPECT_EQ(view.whole, bytes.substr(0, 14));
  ASSERT_EQ(peek_message(std::string_view(bytes).substr(14), view, length), FrameStatus::complete);
  EXPECT_EQ(view.type, 'S');
  EXPECT_EQ(view.body, "");
}

TEST(Message, ImpossibleLengths) {
  MessageView view;
  uint32_t length = 0;
  for (const auto& bytes : {"Q\0\0\0\x03"s, "Q\0\0\0\0"s, "Q\xff\xff\xff\xff"s, "Q\x40\0\0\x01"s})
    EXPECT_EQ(peek_message(bytes, view, length), FrameStatus::malformed);
  EXPECT_EQ(peek_message("Q\x40\0\0\0"s, view, length), FrameStatus::incomplete);
  EXPECT_EQ(length, kMaxMessageLength + 1);
}

TEST(Message, ReaderReadsFields) {
  const std::string body = "\x80\xff\xfe\xff\xfe\xff\xff\xff\xfd\0\0\0\0\0\0\x01\0text\0rest"s;
  FieldReader reader(body);
  EXPECT_EQ(reader.int8(), 0x80);
  EXPECT_EQ(reader.int16(), -2);
  EXPECT_EQ(reader.uint16(), 0xfffe);
  EXPECT_EQ(reader.int32(), -3);
  EXPECT_EQ(reader.int64(), 256);
  EXPECT_EQ(reader.string(), "text");
  EXPECT_FALSE(reader.done());
  EXPECT_EQ(reader.rest(), "rest");
  EXPECT_EQ(reader.bytes(4), "rest");
  EXPECT_TRUE(reader.done());
}

TEST(Message, ReaderStaysBadBehindAnOverrun) {
  FieldReader reader("\0\0\0"sv);
  EXPECT_EQ(reader.int32(), 0);
  EXPECT_TRUE(reader.bad());
  EXPECT_FALSE(reader.done());
  EXPECT_EQ(reader.int8(), 0);
  EXPECT_EQ(reader.string(), "");
  EXPECT_TRUE(reader.bad());
  FieldReader unterminated("abc");
  EXPECT_EQ(unterminated.string(), "");
  EXPECT_TRUE(unterminated.bad());
  FieldReader short_bytes("abc");
  EXPECT_EQ(short_bytes.bytes(static_cast<std::size_t>(-1)), "");
  EXPECT_TRUE(short_bytes.bad());
}

// --- InBuffer ---

TEST(InBuffer, BorrowsUntilItMustOwn) {
  InBuffer in;
  std::string scratch = "abcdef";
  in.feed(scratch);
  EXPECT_EQ(in.view().data(), scratch.data());
  in.consume(2);
  in.own();
  EXPECT_NE(in.view().data(), scratch.data() + 2);
  scratch = "XXXXXX";
  EXPECT_EQ(in.view(), "cdef");
  in.own();
  EXPECT_EQ(in.view(), "cdef");
}

TEST(InBuffer, KeepsWhatIsUnreadInFrontOfNewBytes) {
  InBuffer in;
  std::string scratch = "abc";
  in.feed(scratch);
  in.consume(1);
  in.feed("def");  // still borrowed
  scratch = "XXX";
  EXPECT_EQ(in.view(), "bcdef");
  in.consume(4);
  in.feed("gh");
  EXPECT_EQ(in.view(), "fgh");
  in.consume(3);
  EXPECT_TRUE(in.empty());
  in.own();
  in.feed(scratch);
  EXPECT_EQ(in.view().data(), scratch.data());
}

TEST(InBuffer, AnySplitGivesTheSameBytes) {
  std::string stream;
  for (int i = 0; i < 40; ++i)
    stream += message('D', std::string(static_cast<std::size_t>(i * 7 % 50), static_cast<char>(i)));
  for (std::size_t piece = 1; piece < 60; ++piece) {
    InBuffer in;
    std::string scratch, out;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      scratch.assign(stream, at, piece);
      in.feed(scratch);
      MessageView view;
      uint32_t length = 0;
      while (peek_message(in.view(), view, length) == FrameStatus::complete) {
        out += view.whole;
        in.consume(length);
      }
      if (at % 3 == 0) in.own();
      in.own();
      scratch.assign(piece, '?');
    }
    EXPECT_TRUE(out == stream) << piece;
    EXPECT_TRUE(in.empty());
  }
}

}  // namespace
}  // namespace pgmosaic::pg
