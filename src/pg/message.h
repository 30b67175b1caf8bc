// PostgreSQL protocol 3.0 framing, without I/O.
//
// A message is  type(1) length(4, big-endian, counts itself) body.  Start-up messages have no type byte.
// InBuffer holds the bytes a peer sent and not yet consumed; MessageView is a slice of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace pgmosaic::pg {

constexpr std::size_t kHeaderSize = 5;
constexpr uint32_t kProtocolVersion3 = 196608;
constexpr uint32_t kSslRequest = 80877103;
constexpr uint32_t kGssEncRequest = 80877104;
constexpr uint32_t kCancelRequest = 80877102;
constexpr uint32_t kMaxStartupLength = 10000;           // PostgreSQL's own limit
constexpr uint32_t kMaxMessageLength = 0x3fffffff + 1;  // 1 GiB, PostgreSQL's own limit

// Unread bytes of one connection. They are borrowed from the loop's scratch memory until own() copies them, which the
// owner must do before it suspends; an idle connection owns nothing.
class InBuffer {
 public:
  std::string_view view() const { return window_; }
  bool empty() const { return window_.empty(); }
  void consume(std::size_t bytes) { window_.remove_prefix(bytes); }

  // Adds freshly read bytes. They stay where they are while nothing older is unread.
  void feed(std::string_view bytes) {
    if (window_.empty()) {
      window_ = bytes;
      borrowed_ = true;
    } else {
      own();
      compact();
      owned_.append(bytes);
      window_ = owned_;
    }
  }
  void own() {
    if (window_.empty()) {
      if (owned_.capacity() > 0) std::string().swap(owned_);
      borrowed_ = false;
      return;
    }
    if (!borrowed_) return;
    owned_.assign(window_);
    window_ = owned_;
    borrowed_ = false;
  }

 private:
  void compact() {
    const std::size_t offset = static_cast<std::size_t>(window_.data() - owned_.data());
    if (offset > 0) owned_.erase(0, offset);
  }
  std::string owned_;
  std::string_view window_;
  bool borrowed_ = false;
};

struct MessageView {
  char type = 0;
  std::string_view body;
  std::string_view whole;  // header and body
};

enum class FrameStatus : uint8_t { complete, incomplete, malformed };

// Looks at the first message of `bytes`. `length` is set to its whole size as soon as the header is there.
inline FrameStatus peek_message(std::string_view bytes, MessageView& message, uint32_t& whole_length) {
  whole_length = 0;
  if (bytes.size() < kHeaderSize) return FrameStatus::incomplete;
  const uint32_t length = load_big_endian<uint32_t>(bytes.data() + 1);
  if (length < 4 || length > kMaxMessageLength) return FrameStatus::malformed;
  whole_length = length + 1;
  message.type = bytes[0];
  if (bytes.size() < whole_length) return FrameStatus::incomplete;
  message.whole = bytes.substr(0, whole_length);
  message.body = message.whole.substr(kHeaderSize);
  return FrameStatus::complete;
}

// Reads fields of a body; any overrun sets `bad` and yields zeros, so a parser checks once at the end.
class FieldReader {
 public:
  explicit FieldReader(std::string_view body) : rest_(body) {}
  uint8_t int8() { return static_cast<uint8_t>(number<char>()); }
  int16_t int16() { return number<int16_t>(); }
  uint16_t uint16() { return number<uint16_t>(); }  // numbers of parameters: up to 65,535
  int32_t int32() { return number<int32_t>(); }
  int64_t int64() { return number<int64_t>(); }
  std::string_view bytes(std::size_t count) {
    if (count > rest_.size()) return fail();
    std::string_view result = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return result;
  }
  std::string_view string() {
    const std::size_t end = rest_.find('\0');
    if (end == std::string_view::npos) return fail();
    std::string_view result = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return result;
  }
  std::string_view rest() const { return rest_; }
  bool bad() const { return bad_; }
  bool done() const { return !bad_ && rest_.empty(); }

 private:
  template <class T>
  T number() {
    if (rest_.size() < sizeof(T)) {
      fail();
      return 0;
    }
    T value = load_big_endian<T>(rest_.data());
    rest_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view fail() {
    bad_ = true;
    rest_ = {};
    return {};
  }
  std::string_view rest_;
  bool bad_ = false;
};

// Appends one message to `out`; the length is filled in by the destructor.
class MessageWriter {
 public:
  MessageWriter(std::string& out, char type) : out_(out) {
    out_.push_back(type);
    start_ = out_.size();
    out_.append(4, '\0');
  }
  ~MessageWriter() { store_big_endian<uint32_t>(out_.data() + start_, static_cast<uint32_t>(out_.size() - start_)); }
  MessageWriter(const MessageWriter&) = delete;
  MessageWriter& operator=(const MessageWriter&) = delete;

  MessageWriter& byte(char value) {
    out_.push_back(value);
    return *this;
  }
  MessageWriter& int16(int16_t value) {
    append_big_endian(out_, value);
    return *this;
  }
  MessageWriter& int32(int32_t value) {
    append_big_endian(out_, value);
    return *this;
  }
  MessageWriter& string(std::string_view value) {  // with terminating zero
    out_.append(value);
    out_.push_back('\0');
    return *this;
  }
  MessageWriter& bytes(std::string_view value) {
    out_.append(value);
    return *this;
  }
  // A value with its int32 length in front.
  MessageWriter& value(std::string_view text) { return int32(static_cast<int32_t>(text.size())).bytes(text); }

 private:
  std::string& out_;
  std::size_t start_;
};

}  // namespace pgmosaic::pg
