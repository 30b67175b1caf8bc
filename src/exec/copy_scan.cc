#include "exec/copy_scan.h"

#include <algorithm>

#include "base/bytes.h"

namespace pgmosaic::exec {

namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// A field of the text format without its backslash escapes.
void unescape_text(std::string_view raw, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < raw.size(); ++i) {
    char c = raw[i];
    if (c != '\\') {
      out += c;
      continue;
    }
    if (++i == raw.size()) return;
    c = raw[i];
    switch (c) {
      case 'b': out += '\b'; break;
      case 'f': out += '\f'; break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      case 'v': out += '\v'; break;
      case 'x': {
        int value = 0, digits = 0;
        for (; digits < 2 && i + 1 < raw.size() && hex_digit(raw[i + 1]) >= 0; ++digits)
          value = value * 16 + hex_digit(raw[++i]);
        out += digits == 0 ? 'x' : static_cast<char>(value);
        break;
      }
      default: {
        if (!is_octal(c)) {
          out += c;
          break;
        }
        int value = c - '0';
        for (int digits = 1; digits < 3 && i + 1 < raw.size() && is_octal(raw[i + 1]); ++digits)
          value = value * 8 + (raw[++i] - '0');
        out += static_cast<char>(value & 0xff);
      }
    }
  }
}

// A field of the CSV format without its quotes.
void unquote_csv(std::string_view raw, char quote, char escape, std::string& out) {
  out.clear();
  bool quoted = false;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    const char c = raw[i];
    if (!quoted) {
      if (c == quote) {
        quoted = true;
      } else {
        out += c;
      }
      continue;
    }
    if (c == escape && i + 1 < raw.size() && (raw[i + 1] == escape || raw[i + 1] == quote)) {
      out += raw[++i];
    } else if (c == quote) {
      quoted = false;
    } else {
      out += c;
    }
  }
}

}  // namespace

Scan LineScanner::wrong_line_end(bool carriage_return) {
  const std::string what = carriage_return ? "carriage return" : "newline";
  if (csv_) return fail("unquoted " + what + " found in data", "Use quoted CSV field to represent " + what + ".");
  return fail("literal " + what + " found in data",
              std::string("Use \"") + (carriage_return ? "\\r" : "\\n") + "\" to represent " + what + ".");
}

Scan LineScanner::close_line(std::size_t payload, std::size_t length, bool terminated) {
  if (wants_field()) close_field(payload);
  row_ = {length, payload, terminated};
  return Scan::row;
}

Scan LineScanner::finish_line(const char* begin, const char* at, const char* end, bool at_end) {
  const auto payload = static_cast<std::size_t>(at - begin);
  if (*at == '\n') {
    if (eol_ == Eol::cr || eol_ == Eol::crnl) return wrong_line_end(false);
    eol_ = Eol::nl;
    return close_line(payload, payload + 1, true);
  }
  if (eol_ == Eol::nl) return wrong_line_end(true);
  if (eol_ != Eol::cr) {
    if (at + 1 == end && !at_end) return wait(begin, at);
    if (at + 1 != end && at[1] == '\n') {
      eol_ = Eol::crnl;
      return close_line(payload, payload + 2, true);
    }
    if (eol_ == Eol::crnl) return wrong_line_end(true);
    eol_ = Eol::cr;
  }
  return close_line(payload, payload + 1, true);
}

Scan LineScanner::finish_unterminated(std::size_t payload, std::size_t length) {
  return close_line(payload, length, false);
}

LineScanner::Marker LineScanner::marker_error(const char* message) {
  fail(message);
  return Marker::error;
}

LineScanner::Marker LineScanner::end_marker(const char* at, const char* end, bool at_end) {
  constexpr const char* kCorrupt = "end-of-copy marker corrupt";
  constexpr const char* kMismatch = "end-of-copy marker does not match previous newline style";
  const char* next = at + 2;
  if (next == end && !at_end) return Marker::more;
  char c = next < end ? *next : '\0';
  if (eol_ == Eol::crnl) {
    if (c != '\r') {
      if (csv_) return Marker::no;
      return marker_error(c == '\n' ? kMismatch : kCorrupt);
    }
    ++next;
    if (next == end && !at_end) return Marker::more;
    c = next < end ? *next : '\0';
  }
  if (c != '\r' && c != '\n') return csv_ ? Marker::no : marker_error(kCorrupt);
  const bool matches = eol_ == Eol::unknown || c == (eol_ == Eol::cr ? '\r' : '\n');
  if (!matches) return marker_error(kMismatch);
  ended_ = true;
  return Marker::yes;
}

TextScanner::TextScanner(const plan::CopyIn& spec, std::size_t fields)
    : LineScanner(fields, false),
      delimiter_(spec.delimiter),
      null_text_(spec.null_text),
      in_fields_(spec.delimiter, '\\', '\n', '\r'),
      behind_fields_('\\', '\n', '\r', '\r') {}

Scan TextScanner::scan(const char* begin, std::size_t size, bool at_end) {
  const char* const end = begin + size;
  const char* at = begin + resume_;
  for (;;) {
    at = wants_field() ? in_fields_.find(at, end) : behind_fields_.find(at, end);
    if (at == end) {
      if (!at_end) return wait(begin, at);
      return size == 0 ? Scan::end : finish_unterminated(size, size);
    }
    if (*at == '\n' || *at == '\r') return finish_line(begin, at, end, at_end);
    if (*at == delimiter_) {
      close_field(static_cast<std::size_t>(at - begin));
      ++at;
      field_begin_ = static_cast<std::size_t>(at - begin);
      continue;
    }
    if (at + 1 == end) {  // a backslash is the last byte: it stands for nothing
      if (!at_end) return wait(begin, at);
      marked_ = true;
      return finish_unterminated(size - 1, size);
    }
    if (at[1] != '.') {
      marked_ = true;
      at += 2;  // whatever is behind a backslash is data, a line end too
      continue;
    }
    switch (end_marker(at, end, at_end)) {
      case Marker::more: return wait(begin, at);
      case Marker::error:
      case Marker::no: return Scan::error;
      case Marker::yes: break;
    }
    if (at == begin) return Scan::end;
    return finish_unterminated(static_cast<std::size_t>(at - begin), size);
  }
}

std::optional<std::string_view> TextScanner::value(const char* row, std::size_t field, std::string& scratch) const {
  const CopyField& slice = fields_[field];
  const std::string_view raw(row + slice.begin, slice.end - slice.begin);
  if (raw == null_text_) return std::nullopt;
  if (!slice.marked) return raw;
  unescape_text(raw, scratch);
  return scratch;
}

CsvScanner::CsvScanner(const plan::CopyIn& spec, std::size_t fields)
    : LineScanner(fields, true),
      delimiter_(spec.delimiter),
      quote_(spec.quote),
      escape_(spec.escape),
      null_text_(spec.null_text),
      in_fields_(spec.delimiter, spec.quote, '\n', '\r'),
      behind_fields_(spec.quote, '\n', '\r', '\r'),
      in_quotes_nl_(spec.quote, spec.escape, '\n', '\n'),
      in_quotes_cr_(spec.quote, spec.escape, '\r', '\r'),
      in_header_(spec.header) {}

// From inside quotes to behind the closing one, or to `end`.
const char* CsvScanner::scan_quoted(const char* at, const char* end, bool at_end, bool& wait_for_more) {
  const ByteFinder& finder = eol_ == Eol::nl ? in_quotes_nl_ : in_quotes_cr_;
  while ((at = finder.find(at, end)) != end) {
    if (*at == escape_ && escape_ != quote_) {
      if (at + 1 == end && !at_end) {
        wait_for_more = true;
        return at;
      }
      at += at + 1 != end && (at[1] == escape_ || at[1] == quote_) ? 2 : 1;
      continue;
    }
    if (*at == quote_) {  // where it is the escape as well, a doubled one leaves the quotes and enters them again
      in_quotes_ = false;
      return at + 1;
    }
    ++extra_lines_;
    ++at;
  }
  return at;
}

Scan CsvScanner::scan(const char* begin, std::size_t size, bool at_end) {
  const char* const end = begin + size;
  if (!marker_checked_ && size > 0 && *begin == '\\') {
    if (size == 1 && !at_end) return wait(begin, begin);
    if (size > 1 && begin[1] == '.') {
      switch (end_marker(begin, end, at_end)) {
        case Marker::more: return wait(begin, begin);
        case Marker::error: return Scan::error;
        case Marker::yes: return Scan::end;
        case Marker::no: break;
      }
    }
    marker_checked_ = true;
  }
  const char* at = begin + resume_;
  for (;;) {
    if (in_quotes_) {
      bool wait_for_more = false;
      at = scan_quoted(at, end, at_end, wait_for_more);
      if (wait_for_more) return wait(begin, at);
      if (in_quotes_ && !at_end) return wait(begin, at);
      if (in_quotes_ && !in_header_) {
        error_shows_line_ = true;
        return fail("unterminated CSV quoted field");
      }
    }
    at = wants_field() ? in_fields_.find(at, end) : behind_fields_.find(at, end);
    if (at == end) {
      if (!at_end) return wait(begin, at);
      return size == 0 ? Scan::end : finish_unterminated(size, size);
    }
    if (*at == quote_) {
      in_quotes_ = marked_ = true;
      ++at;
    } else if (*at == '\n' || *at == '\r') {
      return finish_line(begin, at, end, at_end);
    } else {
      close_field(static_cast<std::size_t>(at - begin));
      ++at;
      field_begin_ = static_cast<std::size_t>(at - begin);
    }
  }
}

std::optional<std::string_view> CsvScanner::value(const char* row, std::size_t field, std::string& scratch) const {
  const CopyField& slice = fields_[field];
  const std::string_view raw(row + slice.begin, slice.end - slice.begin);
  if (!slice.marked) return raw == null_text_ ? std::nullopt : std::optional(raw);
  unquote_csv(raw, quote_, escape_, scratch);
  return scratch;
}

// signature(11) flags(int32) length of the extension(int32) extension
Scan BinaryScanner::scan_header(const char* begin, std::size_t size, bool at_end) {
  static constexpr std::string_view kSignature("PGCOPY\n\377\r\n\0", 11);
  const std::size_t compared = std::min(size, kSignature.size());
  if (kSignature.substr(0, compared) != std::string_view(begin, compared) || (at_end && compared < kSignature.size()))
    return fail("COPY file signature not recognized");
  if (size < 15) return at_end ? fail("invalid COPY file header (missing flags)") : Scan::more;
  const auto flags = load_big_endian<uint32_t>(begin + 11);
  if ((flags & 1u << 16) != 0) return fail("invalid COPY file header (WITH OIDS)");
  if (flags >> 16 != 0) return fail("unrecognized critical flags in COPY file header");
  if (size < 19) return at_end ? fail("invalid COPY file header (missing length)") : Scan::more;
  const auto extension = load_big_endian<int32_t>(begin + 15);
  if (extension < 0) return fail("invalid COPY file header (missing length)");
  const std::size_t length = 19 + static_cast<std::size_t>(extension);
  if (size < length) return at_end ? fail("invalid COPY file header (wrong length)") : Scan::more;
  header_seen_ = true;
  row_ = {length, length, true};
  return Scan::row;
}

Scan BinaryScanner::scan_count(const char* begin, std::size_t size, bool at_end) {
  if (size < 2) return at_end ? Scan::end : Scan::more;  // PostgreSQL does without the trailer, too
  count_ = load_big_endian<int16_t>(begin);
  if (count_ == -1) {
    if (size > 2) return fail("received copy data after EOF marker");
    if (!at_end) return Scan::more;
    ended_ = true;
    return Scan::end;
  }
  const bool wrong = columns_ != 0 ? count_ != static_cast<int>(columns_) : count_ < static_cast<int>(fields_.size());
  if (wrong)
    return fail("row field count is " + std::to_string(count_) + ", expected " +
                (columns_ != 0 ? std::to_string(columns_) : std::to_string(fields_.size()) + " or more"));
  resume_ = 2;
  return Scan::row;
}

Scan BinaryScanner::scan(const char* begin, std::size_t size, bool at_end) {
  if (!header_seen_) return scan_header(begin, size, at_end);
  if (resume_ == 0) {
    const Scan counted = scan_count(begin, size, at_end);
    if (counted != Scan::row) return counted;
  }
  for (; field_ < count_; ++field_) {
    if (size < resume_ + 4) return at_end ? fail_field("unexpected EOF in COPY data") : Scan::more;
    const auto length = load_big_endian<int32_t>(begin + resume_);
    if (length < -1) return fail_field("invalid field size");
    if (length >= kMaxCopyRowBytes) {
      error_field_ = static_cast<std::size_t>(field_);
      error_ = make_error("54000", "out of memory", "No field can be larger than 1 GB.");
      return Scan::error;
    }
    const std::size_t value_length = length < 0 ? 0 : static_cast<std::size_t>(length);
    if (size < resume_ + 4 + value_length) return at_end ? fail_field("unexpected EOF in COPY data") : Scan::more;
    field_begin_ = resume_ + 4;
    resume_ = field_begin_ + value_length;
    marked_ = length < 0;
    if (field_count_ < fields_.size()) close_field(resume_);
  }
  row_ = {resume_, resume_, true};
  return Scan::row;
}

std::optional<std::string_view> BinaryScanner::value(const char* row, std::size_t field, std::string&) const {
  const CopyField& slice = fields_[field];
  if (slice.marked) return std::nullopt;
  return std::string_view(row + slice.begin, slice.end - slice.begin);
}

}  // namespace pgmosaic::exec
