// Finds the rows of a COPY … FROM STDIN stream and the fields that hold the key, for the three formats, by the rules of
// PostgreSQL's own reader. One scanner serves one stream:
//
//   scan(begin, size, at_end) looks at the bytes of the stream from the start of a row. `row`: row() tells its extent
//   and value() the fields; call next_row() before scanning behind it. `more`: the row is not complete; call again with
//   the same bytes and some behind them, the scan resumes where it stopped. `end`: no more rows. `error`: error() says
//   why the stream is refused.
//
// Only the fields up to the last key field are cut out; behind it the scan looks for the end of the row alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/result.h"
#include "plan/plan.h"

namespace pgmosaic::exec {

inline constexpr int32_t kMaxCopyRowBytes = 0x3fffffff;  // PostgreSQL's own limit of a line or field

enum class Scan : uint8_t { row, more, end, error };

// Searches for the first of four bytes (repeat one if there are fewer), 16 bytes per step where the machine can.
class ByteFinder {
 public:
  ByteFinder(char a, char b, char c, char d) : bytes_{a, b, c, d} {
#ifdef __SSE2__
    for (int i = 0; i < 4; ++i) patterns_[i] = _mm_set1_epi8(bytes_[i]);
#endif
  }
  const char* find(const char* begin, const char* end) const {
#ifdef __SSE2__
    for (; end - begin >= 16; begin += 16) {
      const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(begin));
      const __m128i hits =
          _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(block, patterns_[0]), _mm_cmpeq_epi8(block, patterns_[1])),
                       _mm_or_si128(_mm_cmpeq_epi8(block, patterns_[2]), _mm_cmpeq_epi8(block, patterns_[3])));
      const int mask = _mm_movemask_epi8(hits);
      if (mask != 0) return begin + __builtin_ctz(static_cast<unsigned>(mask));
    }
#endif
    for (; begin < end; ++begin)
      if (*begin == bytes_[0] || *begin == bytes_[1] || *begin == bytes_[2] || *begin == bytes_[3]) return begin;
    return end;
  }

 private:
#ifdef __SSE2__
  __m128i patterns_[4];
#endif
  char bytes_[4];
};

// A field of the current row; offsets from the start of the row.
struct CopyField {
  uint32_t begin = 0, end = 0;
  bool marked = false;  // text: has backslash escapes; csv: has quotes; binary: NULL
};

class CopyScanner {
 public:
  // Extent of a row.
  struct Row {
    std::size_t length = 0;   // bytes it takes in the stream
    std::size_t payload = 0;  // without its line end
    bool terminated = true;   // false: its line end is missing (the stream or the \. marker ended it)
  };

  const Row& row() const { return row_; }
  // Fields found, at most the number asked for.
  std::size_t field_count() const { return field_count_; }
  const Error& error() const { return error_; }
  // PostgreSQL shows the line with it, or the name of the field that it was reading.
  bool error_shows_line() const { return error_shows_line_; }
  std::optional<std::size_t> error_field() const { return error_field_; }
  // The stream's end marker was seen behind this row.
  bool ended() const { return ended_; }
  // Lines within quotes that the row spans beside its first.
  uint64_t extra_lines() const { return extra_lines_; }
  void next_row() {
    field_count_ = 0;
    field_begin_ = 0;
    resume_ = 0;
    extra_lines_ = 0;
    marked_ = false;
  }

 protected:
  explicit CopyScanner(std::size_t fields) : fields_(fields) {}

  Scan fail(std::string message, std::string hint = {}) {
    error_ = make_error("22P04", std::move(message), std::move(hint));
    return Scan::error;
  }
  void close_field(std::size_t end) {
    fields_[field_count_++] = {static_cast<uint32_t>(field_begin_), static_cast<uint32_t>(end), marked_};
    marked_ = false;
  }

  std::vector<CopyField> fields_;
  std::size_t field_count_ = 0;
  std::size_t field_begin_ = 0;
  std::size_t resume_ = 0;  // where an incomplete scan goes on
  uint64_t extra_lines_ = 0;
  bool marked_ = false;  // of the field that is being read
  bool ended_ = false;
  Row row_;
  Error error_;
  bool error_shows_line_ = false;
  std::optional<std::size_t> error_field_;
};

// What text and CSV have in common: lines, whose style of line end the first one sets, and the \. marker.
class LineScanner : public CopyScanner {
 public:
  // What a row without line end gets, so that others can follow it.
  std::string_view line_end() const {
    return eol_ == Eol::crnl ? std::string_view("\r\n")
           : eol_ == Eol::cr ? std::string_view("\r")
                             : std::string_view("\n");
  }

 protected:
  enum class Eol : uint8_t { unknown, nl, cr, crnl };
  enum class Marker : uint8_t { yes, no, more, error };

  LineScanner(std::size_t fields, bool csv) : CopyScanner(fields), csv_(csv) {}
  // `at` points to a line feed or carriage return outside of quotes.
  Scan finish_line(const char* begin, const char* at, const char* end, bool at_end);
  Scan finish_unterminated(std::size_t payload, std::size_t length);
  // `at` points to a backslash with a dot behind it. yes: the marker; the stream is over.
  Marker end_marker(const char* at, const char* end, bool at_end);
  Scan wait(const char* begin, const char* at) {
    resume_ = static_cast<std::size_t>(at - begin);
    return Scan::more;
  }
  bool wants_field() const { return field_count_ < fields_.size(); }

  Eol eol_ = Eol::unknown;

 private:
  Scan close_line(std::size_t payload, std::size_t length, bool terminated);
  Scan wrong_line_end(bool carriage_return);
  Marker marker_error(const char* message);

  const bool csv_;
};

class TextScanner final : public LineScanner {
 public:
  TextScanner(const plan::CopyIn& spec, std::size_t fields);
  Scan scan(const char* begin, std::size_t size, bool at_end);
  // REQUIRES: field < field_count(). nullopt: NULL. The result lives in the row or in `scratch`.
  std::optional<std::string_view> value(const char* row, std::size_t field, std::string& scratch) const;

 private:
  const char delimiter_;
  const std::string null_text_;
  const ByteFinder in_fields_, behind_fields_;
};

class CsvScanner final : public LineScanner {
 public:
  CsvScanner(const plan::CopyIn& spec, std::size_t fields);
  Scan scan(const char* begin, std::size_t size, bool at_end);
  std::optional<std::string_view> value(const char* row, std::size_t field, std::string& scratch) const;
  void next_row() {
    CopyScanner::next_row();
    in_quotes_ = marker_checked_ = in_header_ = false;
  }

 private:
  const char* scan_quoted(const char* at, const char* end, bool at_end, bool& wait_for_more);

  const char delimiter_, quote_, escape_;
  const std::string null_text_;
  const ByteFinder in_fields_, behind_fields_, in_quotes_nl_, in_quotes_cr_;
  bool in_quotes_ = false, marker_checked_ = false;
  bool in_header_;  // its quotes need not end: PostgreSQL does not take the header apart
};

// The first row is the stream's header.
class BinaryScanner final : public CopyScanner {
 public:
  // `columns`: fields of a row; 0 if not known.
  BinaryScanner(std::size_t fields, std::size_t columns) : CopyScanner(fields), columns_(columns) {}
  Scan scan(const char* begin, std::size_t size, bool at_end);
  std::optional<std::string_view> value(const char* row, std::size_t field, std::string& scratch) const;
  std::string_view line_end() const { return {}; }
  void next_row() {
    CopyScanner::next_row();
    field_ = 0;
  }

 private:
  Scan scan_header(const char* begin, std::size_t size, bool at_end);
  Scan scan_count(const char* begin, std::size_t size, bool at_end);
  Scan fail_field(const char* message) {
    error_field_ = static_cast<std::size_t>(field_);
    return fail(message);
  }

  const std::size_t columns_;
  bool header_seen_ = false;
  int field_ = 0, count_ = 0;
};

}  // namespace pgmosaic::exec
