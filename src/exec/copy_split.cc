#include "exec/copy_split.h"

#include <algorithm>

#include "catalog/partition_bounds.h"
#include "exec/keys.h"

namespace pgmosaic::exec {

namespace {

using Format = plan::CopyIn::Format;

std::size_t fields_needed(const plan::CopyIn& spec) {
  if (spec.key_fields.empty()) return 1;
  return static_cast<std::size_t>(*std::max_element(spec.key_fields.begin(), spec.key_fields.end())) + 1;
}

}  // namespace

CopySplitter::AnyScanner CopySplitter::make_scanner(const plan::CopyIn& spec, const CopyColumns& columns) {
  const std::size_t fields = fields_needed(spec);
  switch (spec.format) {
    case Format::text: return TextScanner(spec, fields);
    case Format::csv: return CsvScanner(spec, fields);
    case Format::binary: break;
  }
  return BinaryScanner(fields, columns.names.size());
}

CopySplitter::CopySplitter(const plan::CopyIn& spec, const catalog::Colocation& colocation,
                           const catalog::TextContext& text, CopyColumns columns, catalog::GroupId fallback)
    : spec_(spec),
      text_(text),
      columns_(std::move(columns)),
      format_(spec.format == Format::binary ? catalog::ValueFormat::binary : catalog::ValueFormat::text),
      groups_(groups_of(colocation)),
      fields_needed_(fields_needed(spec_)),
      scanner_(make_scanner(spec_, columns_)),
      header_expected_(spec.header || spec.format == Format::binary) {
  CHECK(spec_.key_types.size() == spec_.key_fields.size());
  const std::size_t shards = colocation.shards.size();
  CHECK(shards > 0 || fallback != 0);
  if (groups_.empty()) groups_.push_back(fallback);
  buffers_.resize(groups_.size());
  lines_.resize(groups_.size());
  bounds_ = colocation.bounds.get();
  computed_ = colocation.computed;
  const auto last = std::find(groups_.begin(), groups_.end(), fallback);
  if (last != groups_.end()) fallback_ = static_cast<std::size_t>(last - groups_.begin());
  for (const catalog::Shard& shard : colocation.shards) {
    const auto place = std::lower_bound(groups_.begin(), groups_.end(), shard.group);
    shard_groups_.push_back(static_cast<uint32_t>(place - groups_.begin()));
  }
  if (shards > 1 && (shards & (shards - 1)) == 0) shard_mask_ = shards - 1;
  for (const int32_t typmod : spec_.key_typmods) has_typmods_ |= typmod >= 0;
}

std::size_t CopySplitter::buffered_bytes() const {
  std::size_t bytes = 0;
  for (const std::string& buffer : buffers_) bytes += buffer.size();
  return bytes;
}

Status CopySplitter::feed(std::string_view data) {
  return std::visit([&](auto& scanner) { return split(scanner, data); }, scanner_);
}

Status CopySplitter::finish() {
  return std::visit([&](auto& scanner) { return split_rest(scanner); }, scanner_);
}

template <class Scanner>
Status CopySplitter::split(Scanner& scanner, std::string_view data) {
  if (ended_) return {};
  std::size_t at = 0;
  if (!pending_.empty()) TRY(split_cut_row(scanner, data, at));
  while (at < data.size() && !ended_) {
    const char* row = data.data() + at;
    switch (scanner.scan(row, data.size() - at, false)) {
      case Scan::row: break;
      case Scan::more: pending_.assign(row, data.size() - at); return {};
      case Scan::end: ended_ = true; return {};
      case Scan::error: return refused(scanner, data.substr(at));
    }
    take_row(scanner, row);
    at += scanner.row().length;
    scanner.next_row();
  }
  return {};
}

// Adds the data to the row that began in an earlier message, in pieces that grow, until it is complete.
template <class Scanner>
Status CopySplitter::split_cut_row(Scanner& scanner, std::string_view data, std::size_t& at) {
  for (std::size_t piece = 256; !pending_.empty(); piece *= 2) {
    if (at == data.size()) return {};
    piece = std::min(piece, data.size() - at);
    if (pending_.size() + piece > kMaxCopyRowBytes)
      return with_line(make_error("54000", "a row of COPY is larger than 1 GB"), {.line = line_ + 1});
    pending_.append(data.data() + at, piece);
    at += piece;
    switch (scanner.scan(pending_.data(), pending_.size(), false)) {
      case Scan::row: break;
      case Scan::more: continue;
      case Scan::end: ended_ = true; return {};
      case Scan::error: return refused(scanner, pending_);
    }
    take_row(scanner, pending_.data());
    // The row was incomplete before this piece, so what is behind its end is of this piece.
    at -= pending_.size() - scanner.row().length;
    pending_.clear();
    scanner.next_row();
  }
  return {};
}

template <class Scanner>
Status CopySplitter::split_rest(Scanner& scanner) {
  std::string_view rest = pending_;
  while (!ended_) {
    switch (scanner.scan(rest.data(), rest.size(), true)) {
      case Scan::row: break;
      case Scan::more: CHECK(false && "no more data at the end of the stream");
      case Scan::end: ended_ = true; continue;
      case Scan::error: return refused(scanner, rest);
    }
    take_row(scanner, rest.data());
    rest.remove_prefix(scanner.row().length);
    scanner.next_row();
  }
  return {};
}

template <class Scanner>
void CopySplitter::take_row(Scanner& scanner, const char* row) {
  const auto& extent = scanner.row();
  ended_ = scanner.ended();
  line_ += 1 + scanner.extra_lines();
  if (header_expected_) [[unlikely]] {
    header_expected_ = false;
    if (format_ == catalog::ValueFormat::binary) line_ = 0;
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      buffers_[i].append(row, extent.terminated ? extent.length : extent.payload);
      if (!extent.terminated) buffers_[i].append(scanner.line_end());
      lines_[i].start_behind(line_);
    }
    return;
  }
  ++rows_;
  const std::optional<std::size_t> group = scanner.field_count() < fields_needed_ ? std::optional<std::size_t>(0)
                                           : bounds_ != nullptr                   ? group_by_bounds(scanner, row)
                                           : computed_                            ? std::nullopt
                                                                                  : group_of_row(scanner, row);
  if (!group) [[unlikely]] {
    set_aside(scanner, row);
    return;
  }
  uint64_t lines = 1;
  CopyLines& log = lines_[*group];
  if constexpr (std::is_same_v<Scanner, CsvScanner>) {
    lines += scanner.extra_lines();
    if (log.no_rows() && log.group_lines() == 0) [[unlikely]]  // see lines_in_group()
      lines = 1 + static_cast<uint64_t>(std::count(row, row + extent.payload, '\r'));
  }
  log.add(line_, lines);
  std::string& buffer = buffers_[*group];
  if (extent.terminated) [[likely]] {
    buffer.append(row, extent.length);
  } else {
    buffer.append(row, extent.payload).append(scanner.line_end());
  }
}

template <class Scanner>
std::optional<std::string_view> CopySplitter::key_value(const Scanner& scanner, const char* row, std::size_t key) {
  auto value = scanner.value(row, static_cast<std::size_t>(spec_.key_fields[key]), scratch_);
  if (!value && key < spec_.force_not_null.size() && spec_.force_not_null[key]) return spec_.null_text;
  if (value && key < spec_.force_null.size() && spec_.force_null[key] && *value == spec_.null_text) return std::nullopt;
  return value;
}

template <class Scanner>
std::optional<std::size_t> CopySplitter::group_of_row(const Scanner& scanner, const char* row) {
  uint64_t row_hash = 0;
  for (std::size_t key = 0; key < spec_.key_fields.size(); ++key) {
    const auto value = key_value(scanner, row, key);
    if (!value) continue;
    const catalog::Oid type = spec_.key_types[key];
    const auto hash = catalog::hash_key_value(type, format_, *value, text_);
    if (!hash) return std::nullopt;
    if (has_typmods_ && !catalog::stored_unchanged(type, spec_.key_typmods[key], format_, *value)) return std::nullopt;
    row_hash = catalog::combine_hash(row_hash, *hash);
  }
  return index_of_hash(row_hash);
}

template <class Scanner>
std::optional<std::size_t> CopySplitter::group_by_bounds(const Scanner& scanner, const char* row) {
  if (!bounds_->tellable()) return std::nullopt;
  catalog::PartitionBounds::Row place(*bounds_);
  for (std::size_t key = 0; key < spec_.key_fields.size(); ++key) {
    const auto value = key_value(scanner, row, key);
    if (!value) {
      place.add_null();
    } else if (!catalog::stored_unchanged(spec_.key_types[key], spec_.key_typmods[key], format_, *value) ||
               !place.add(format_, *value, text_)) {
      return std::nullopt;
    }
  }
  const uint32_t shard = place.find();
  return shard < shard_groups_.size() ? shard_groups_[shard] : fallback_;
}

void CopySplitter::place(const Undecided& row, catalog::GroupId group) {
  const auto place = std::lower_bound(groups_.begin(), groups_.end(), group);
  CHECK(place != groups_.end() && *place == group);
  const auto index = static_cast<std::size_t>(place - groups_.begin());
  buffers_[index].append(row.row);
  lines_[index].add(row.line, lines_in_group(row, lines_[index].group_lines()));
}

// Where it stood in the stream: what comes behind it does not matter any more.
void CopySplitter::refuse(const Undecided& row) {
  if (refused_) return;
  const bool in_order = bounds_ != nullptr ? !bounds_->tellable() : computed_;
  if (in_order) return place(row, groups_.front());
  buffers_.front().insert(row.offset, row.row);
  refused_ = row;
  refused_->lines = lines_in_group(row, row.group_lines);
}

// PostgreSQL counts the lines within quotes by the line ends that it has seen: carriage returns if there were none.
uint64_t CopySplitter::lines_in_group(const Undecided& row, uint64_t group_lines) const {
  const bool first = row.line == row.lines;
  if (spec_.format != Format::csv || first == (group_lines == 0)) return row.lines;
  std::string_view payload = row.row;
  const bool newlines = payload.ends_with('\n') && !payload.ends_with("\r\n");
  payload.remove_suffix(payload.ends_with("\r\n") ? 2 : 1);
  const char counted = newlines && group_lines > 0 ? '\n' : '\r';
  return 1 + static_cast<uint64_t>(std::count(payload.begin(), payload.end(), counted));
}

template <class Scanner>
void CopySplitter::set_aside(const Scanner& scanner, const char* row) {
  const auto& extent = scanner.row();
  Undecided& aside = undecided_.emplace_back();
  aside.line = line_;
  aside.lines = 1 + scanner.extra_lines();
  aside.offset = buffers_.front().size();
  aside.group_lines = lines_.front().group_lines();
  aside.row.assign(row, extent.terminated ? extent.length : extent.payload);
  if (!extent.terminated) aside.row.append(scanner.line_end());
  for (std::size_t key = 0; key < spec_.key_fields.size(); ++key) {
    const auto value = key_value(scanner, row, key);
    aside.keys.push_back(value ? std::optional<std::string>(*value) : std::nullopt);
  }
}

std::optional<uint64_t> CopySplitter::client_line(std::size_t index, uint64_t group_line) const {
  if (index == 0 && refused_ && group_line > refused_->group_lines)
    return std::min(refused_->line, refused_->line - refused_->lines + group_line - refused_->group_lines);
  return group_line > lines_[index].group_lines() ? next_line() : lines_[index].client_line(group_line);
}

uint64_t CopySplitter::next_line() const {
  return line_ + 1 + std::visit([](const auto& scanner) { return scanner.extra_lines(); }, scanner_);
}

template <class Scanner>
Error CopySplitter::refused(const Scanner& scanner, std::string_view rest) const {
  CopyPlace place{.line = next_line()};
  if (scanner.error_shows_line()) place.text = rest;
  if (const auto field = scanner.error_field(); field && *field < columns_.names.size())
    place.column = columns_.names[*field];
  return with_line(scanner.error(), place);
}

// PostgreSQL reads the binary header before it counts lines.
Error CopySplitter::with_line(Error error, const CopyPlace& place) const {
  if (!header_expected_ || format_ != catalog::ValueFormat::binary) add_copy_context(error, columns_.table, place);
  return error;
}

}  // namespace pgmosaic::exec
