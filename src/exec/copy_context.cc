#include "exec/copy_context.h"

#include <algorithm>
#include <charconv>

namespace pgmosaic::exec {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// As PostgreSQL shortens what it shows of the data: 100 bytes, not within a character.
std::string shortened(std::string_view text) {
  constexpr std::size_t kLimit = 100;
  text = text.substr(0, text.find('\0'));
  if (text.size() <= kLimit) return std::string(text);
  std::size_t end = kLimit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

// The value of the field 'W'; npos: there is none.
std::size_t context_at(std::string_view fields) {
  for (std::size_t at = 0; at < fields.size() && fields[at] != '\0'; at = fields.find('\0', at) + 1) {
    if (fields[at] == 'W') return at + 1;
    if (fields.find('\0', at) == std::string_view::npos) break;
  }
  return std::string_view::npos;
}

// The line "COPY t, …" of the context, which is the outermost of several.
std::size_t copy_at(std::string_view fields, std::string_view table) {
  const std::size_t context = context_at(fields);
  if (context == std::string_view::npos) return context;
  const std::string_view value = fields.substr(context, fields.find('\0', context) - context);
  const std::string begin = table.empty() ? "COPY " : "COPY " + std::string(table) + ", ";
  if (value.starts_with(begin)) return context;
  const std::size_t at = value.find("\n" + begin);
  return at == std::string_view::npos ? at : context + at + 1;
}

// Behind the first `count` fields of a row in text or CSV.
std::string_view behind_fields(std::string_view row, std::size_t count, const plan::CopyIn& spec) {
  const bool csv = spec.format == plan::CopyIn::Format::csv;
  bool quoted = false;
  std::size_t at = 0;
  for (; at < row.size() && count > 0; ++at) {
    if (csv && quoted && row[at] == spec.escape && spec.escape != spec.quote) {
      ++at;
    } else if (csv && row[at] == spec.quote) {
      quoted = !quoted;
    } else if (row[at] == spec.delimiter && !quoted) {
      --count;
    }
  }
  return row.substr(std::min(at, row.size()));
}

// "field 2: got "x2"" counts the router's fields.
void lower_numbers(std::string& message, std::size_t by) {
  bool quoted = false;
  for (std::size_t at = 0; at < message.size(); ++at) {
    quoted ^= message[at] == '"';
    if (quoted || !is_digit(message[at])) continue;
    std::size_t end = at, number = 0;
    for (; end < message.size() && is_digit(message[end]); ++end)
      number = number * 10 + static_cast<std::size_t>(message[end] - '0');
    if (number < by) return;
    const std::string lower = std::to_string(number - by);
    message.replace(at, end - at, lower);
    at += lower.size();
  }
}

}  // namespace

void add_copy_context(Error& error, std::string_view table, const CopyPlace& place) {
  error.fields += "WCOPY ";
  error.fields.append(table).append(", line ").append(std::to_string(place.line));
  if (!place.column.empty()) error.fields.append(", column ").append(place.column);
  if (place.text) error.fields.append(": \"").append(shortened(*place.text)).append("\"");
  error.fields += '\0';
}

std::optional<CopyLineNumber> find_copy_line(std::string_view fields, std::string_view table) {
  const std::size_t at = copy_at(fields, table);
  if (at == std::string_view::npos) return std::nullopt;
  CopyLineNumber found;
  found.clause = table.empty() ? fields.find(", ", at) : at + 5 + table.size();
  if (found.clause == std::string_view::npos) return std::nullopt;
  found.begin = found.clause;
  while (found.begin < fields.size() && !is_digit(fields[found.begin])) {
    if (fields[found.begin] == '\0' || fields[found.begin] == '\n' || fields[found.begin] == ':') return std::nullopt;
    ++found.begin;
  }
  const char* const digits = fields.data() + found.begin;
  const auto [stop, problem] = std::from_chars(digits, fields.data() + fields.size(), found.number);
  if (problem != std::errc()) return std::nullopt;
  found.end = found.begin + static_cast<std::size_t>(stop - digits);
  return found;
}

void replace_copy_line(std::string& fields, const CopyLineNumber& found, std::optional<uint64_t> line) {
  if (line) {
    fields.replace(found.begin, found.end - found.begin, std::to_string(*line));
  } else {
    fields.erase(found.clause, found.end - found.clause);
  }
}

void drop_copy_context(std::string& fields, std::string_view table) {
  const std::size_t at = copy_at(fields, table);
  if (at == std::string::npos) return;
  const std::size_t end = fields.find('\0', at);
  const bool alone = fields[at - 1] == 'W';
  fields.erase(at - 1, end - at + (alone ? 2 : 1));
}

void hide_filled(Error& error, const plan::CopyIn& spec) {
  if (spec.filled.empty() || spec.format == plan::CopyIn::Format::binary) return;
  const auto found = find_copy_line(error.fields, spec.name);
  if (!found) return;
  if (spec.header && found->number == 1 && error.sqlstate == "22P04") lower_numbers(error.message, spec.filled.size());
  const std::size_t row = found->end + 3;
  if (error.fields.compare(found->end, 3, ": \"") != 0) return;
  const std::size_t end = error.fields.find('\0', row);
  const std::string shown(
      behind_fields(std::string_view(error.fields).substr(row, end - row), spec.filled.size(), spec));
  error.fields.replace(row, end - row, shown.empty() ? "...\"" : shown);
}

// PostgreSQL writes rows in batches of 1000: what it reads until then fails first.
bool CopyFailures::before(const Rank& a, const Rank& b) {
  constexpr uint64_t kBatch = 1000;
  if (!a.line || !b.line) return a.line.has_value() && !b.line.has_value();
  if (a.of_batch == b.of_batch) return *a.line < *b.line;
  return a.of_batch ? *a.line + kBatch <= *b.line : *a.line < *b.line + kBatch;
}

void CopyFailures::add(Error error) {
  Rank rank;
  if (const auto found = find_copy_line(error.fields, table_)) {
    rank.line = found->number;
    const bool of_index = error.sqlstate == "23505" || error.sqlstate == "23P01";
    rank.of_batch = of_index && error.fields[found->end] == '\0';
  }
  if (first_ && !before(rank, rank_)) return;
  first_ = std::move(error);
  rank_ = rank;
}

}  // namespace pgmosaic::exec
