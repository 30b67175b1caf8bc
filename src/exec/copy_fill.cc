#include "exec/copy_fill.h"

#include <charconv>

#include "base/bytes.h"
#include "base/check.h"
#include "exec/copy_context.h"

namespace pgmosaic::exec {

using Format = plan::CopyIn::Format;

CopyFiller::AnyScanner CopyFiller::make_scanner(const plan::CopyIn& spec) {
  switch (spec.format) {
    case Format::text: return TextScanner(spec, 1);
    case Format::csv: return CsvScanner(spec, 1);
    case Format::binary: break;
  }
  return BinaryScanner(1, spec.given);
}

CopyFiller::CopyFiller(const plan::CopyIn& spec)
    : spec_(spec), scanner_(make_scanner(spec_)), header_expected_(spec.header || spec.format == Format::binary) {}

Status CopyFiller::feed(std::string_view data) {
  return std::visit([&](auto& scanner) { return scan(scanner, data, false); }, scanner_);
}

Status CopyFiller::finish() {
  return std::visit([&](auto& scanner) { return scan(scanner, {}, true); }, scanner_);
}

template <class Scanner>
Status CopyFiller::scan(Scanner& scanner, std::string_view data, bool at_end) {
  if (ended_) return {};
  if (pending_.size() + data.size() > kMaxCopyRowBytes && !pending_.empty())
    return make_error("54000", "a row of COPY is larger than 1 GB");
  const bool cut = !pending_.empty();
  if (cut) pending_.append(data);
  std::string_view rest = cut ? std::string_view(pending_) : data;
  while (!ended_ && (at_end || !rest.empty())) {
    const Scan found = scanner.scan(rest.data(), rest.size(), at_end);
    if (found == Scan::error) return refused(scanner, rest);
    CHECK(found != Scan::more || !at_end);
    if (found == Scan::end) ended_ = true;
    if (found != Scan::row) break;
    take_row(scanner, rest.data());
    rest.remove_prefix(scanner.row().length);
    scanner.next_row();
  }
  cut ? void(pending_.erase(0, pending_.size() - rest.size())) : void(pending_.assign(rest));
  return {};
}

template <class Scanner>
void CopyFiller::take_row(Scanner& scanner, const char* row) {
  const auto& extent = scanner.row();
  ended_ = scanner.ended();
  const bool header = std::exchange(header_expected_, false);
  if (header && spec_.format != Format::binary) write_header();
  std::string& out = header ? header_ : waiting_;
  out.append(row, extent.terminated ? extent.length : extent.payload);
  if (!extent.terminated) out.append(scanner.line_end());
  line_ += 1 + scanner.extra_lines();
  if (header && spec_.format == Format::binary) line_ = 0;
  const std::size_t line_end = spec_.format == Format::binary ? 0 : scanner.line_end().size();
  if (!header) rows_.push_back({waiting_.size(), waiting_.size() - line_end, line_});
}

template <class Scanner>
Error CopyFiller::refused(const Scanner& scanner, std::string_view rest) const {
  Error error = scanner.error();
  if (header_expected_ && spec_.format == Format::binary) return error;
  CopyPlace place{.line = line_ + 1 + scanner.extra_lines()};
  if (scanner.error_shows_line()) place.text = rest;
  if (const auto field = scanner.error_field(); field && spec_.filled.size() + *field < spec_.columns.size())
    place.column = spec_.columns[spec_.filled.size() + *field];
  add_copy_context(error, spec_.name, place);
  return error;
}

Error CopyFiller::at_row(Error error, std::size_t row) const {
  CHECK(row < rows_.size());
  CopyPlace place{.line = rows_[row].line};
  const std::size_t begin = row == 0 ? 0 : rows_[row - 1].end;
  if (spec_.format != Format::binary)
    place.text = std::string_view(waiting_).substr(begin, rows_[row].line_end - begin);
  add_copy_context(error, spec_.name, place);
  return error;
}

Error CopyFiller::at_next_line(Error error) const {
  if (header_expected_ && spec_.format == Format::binary) return error;
  const uint64_t extra = std::visit([](const auto& scanner) { return scanner.extra_lines(); }, scanner_);
  add_copy_context(error, spec_.name, {.line = line_ + 1 + extra});
  return error;
}

void CopyFiller::write_header() {
  for (const plan::CopyIn::Filled& column : spec_.filled) {
    spec_.format == Format::csv ? write_csv(column.name, header_) : write_text(column.name, header_);
    header_ += spec_.delimiter;
  }
}

void CopyFiller::write_text(std::string_view value, std::string& out) const {
  constexpr char kDigits[] = "0123456789abcdef";
  bool escape_first = value == spec_.null_text;  // it would be NULL
  for (const char c : value) {
    const bool escape = escape_first || c == '\\' || c == spec_.delimiter || c == '\n' || c == '\r';
    escape_first = false;
    if (!escape) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += "\\x";
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
}

void CopyFiller::write_csv(std::string_view value, std::string& out) const {
  bool plain = value != spec_.null_text && !value.empty() && value.front() != '\\';
  for (const char c : value)
    plain = plain && c != spec_.delimiter && c != spec_.quote && c != spec_.escape && c != '\n' && c != '\r';
  if (plain) {
    out += value;
    return;
  }
  out += spec_.quote;
  for (const char c : value) {
    if (c == spec_.quote || c == spec_.escape) out += spec_.escape;
    out += c;
  }
  out += spec_.quote;
}

void CopyFiller::write_binary(const plan::CopyIn::Filled& column, const std::optional<std::string>& value,
                              std::string& out) const {
  CHECK(value.has_value());  // a number
  int64_t number = 0;
  std::from_chars(value->data(), value->data() + value->size(), number);
  const int bytes = column.most == INT16_MAX ? 2 : column.most == INT32_MAX ? 4 : 8;
  append_big_endian(out, static_cast<uint32_t>(bytes));
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(static_cast<uint64_t>(number) >> (8 * i));
}

void CopyFiller::fill(const Values& values, std::string& out) {
  CHECK(values.size() == spec_.filled.size());
  out += header_;
  header_.clear();
  std::size_t begin = 0;
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    std::string_view rest = std::string_view(waiting_).substr(begin, rows_[row].end - begin);
    begin = rows_[row].end;
    if (spec_.format == Format::binary) {
      const auto count = load_big_endian<uint16_t>(rest.data());
      append_big_endian(out, static_cast<uint16_t>(count + values.size()));
      rest.remove_prefix(sizeof(uint16_t));
    }
    for (std::size_t column = 0; column < values.size(); ++column) {
      const std::optional<std::string>& value = values[column][row];
      if (spec_.format == Format::binary) {
        write_binary(spec_.filled[column], value, out);
        continue;
      }
      if (!value) {
        out += spec_.null_text;
      } else {
        spec_.format == Format::csv ? write_csv(*value, out) : write_text(*value, out);
      }
      out += spec_.delimiter;
    }
    out += rest;
  }
  waiting_.clear();
  rows_.clear();
}

}  // namespace pgmosaic::exec
