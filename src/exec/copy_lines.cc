#include "exec/copy_lines.h"

namespace pgmosaic::exec {

namespace {

constexpr std::size_t kLongestRow = 1 + 10 + 10;

void put_varint(uint8_t*& at, uint64_t value) {
  for (; value >= 0x80; value >>= 7) *at++ = static_cast<uint8_t>(value | 0x80);
  *at++ = static_cast<uint8_t>(value);
}

uint64_t take_varint(const uint8_t*& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const uint8_t byte = *at++;
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

uint64_t zigzag(int64_t value) { return static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63); }
int64_t unzigzag(uint64_t value) { return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1); }

}  // namespace

void CopyLines::add_slowly(uint64_t client_line, uint64_t lines) {
  if (static_cast<std::size_t>(end_ - at_) < kLongestRow) start_block();
  const auto distance = static_cast<int64_t>(client_line - client_line_);
  if (lines == 1 && distance > 0 && distance < 256) {
    *at_++ = static_cast<uint8_t>(distance);
    return;
  }
  const uint8_t* const row = at_;
  *at_++ = 0;
  put_varint(at_, lines);
  put_varint(at_, zigzag(distance));
  others_ += lines - static_cast<uint64_t>(at_ - row);
}

void CopyLines::start_block() {
  if (!blocks_.empty()) blocks_.back().rows.resize(static_cast<std::size_t>(at_ - blocks_.back().rows.data()));
  // What a block ends with the next one begins with.
  while (blocks_.size() > 1 && (blocks_.size() >= kMostBlocks || blocks_[1].bytes + kBytesInFlight < bytes_))
    drop_block();
  others_ = group_lines();
  Block& block = blocks_.emplace_back(Block{client_line_, others_, bytes_, std::vector<uint8_t>(kBlockBytes)});
  begin_ = at_ = block.rows.data();
  end_ = at_ + block.rows.size();
}

void CopyLines::drop_block() {
  blocks_.pop_front();
  dropped_ = true;
}

std::optional<uint64_t> CopyLines::client_line(uint64_t group_line) const {
  if (group_line > group_lines()) return std::nullopt;
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    if (block->group_line >= group_line) continue;
    uint64_t client = block->client_line, group = block->group_line;
    const uint8_t* row = block->rows.data();
    while (group < group_line) {
      uint64_t lines = 1;
      auto distance = static_cast<int64_t>(*row++);
      if (distance == 0) {
        lines = take_varint(row);
        distance = unzigzag(take_varint(row));
      }
      group += lines;
      client += static_cast<uint64_t>(distance);
    }
    return client - (group - group_line);
  }
  // A line of the header.
  const bool known = blocks_.empty() || (!dropped_ && group_line <= blocks_.front().group_line);
  return known ? std::optional(group_line) : std::nullopt;
}

}  // namespace pgmosaic::exec
