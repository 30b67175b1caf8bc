// CopyLines: which line of the client's COPY stream a line of one group's part of it was, for the CONTEXT of errors.
//
//   lines.add(line, 1)      for every row that the group is given: the client's line with its end, the lines that it
//   spans lines.sent(bytes)       of rows that were added lines.client_line(n)    for "COPY t, line n" of the group
//
// A row takes a byte in blocks of a few KB:
//   1 … 255: one line, so many behind the last row's        0, varint lines, zigzag varint of the distance: any other
// Blocks that the group has long worked off are dropped: it is ahead of the client by no more than the sockets'
// buffers.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace pgmosaic::exec {

class CopyLines {
 public:
  // More than sockets, the session and PostgreSQL hold between the router and a row's place in the table.
  static constexpr uint64_t kBytesInFlight = 16 << 20;
  static constexpr std::size_t kBlockBytes = 4096, kMostBlocks = 256;

  // The group's first row stands behind a header of so many lines, the client's as well.
  void start_behind(uint64_t header_lines) { client_line_ = others_ = header_lines; }

  void add(uint64_t client_line, uint64_t lines) {
    const uint64_t distance = client_line - client_line_;
    if (at_ == end_ || lines != 1 || distance - 1 >= 255) [[unlikely]] {
      add_slowly(client_line, lines);
    } else {
      *at_++ = static_cast<uint8_t>(distance);
    }
    client_line_ = client_line;
  }
  void sent(std::size_t bytes) { bytes_ += bytes; }

  bool no_rows() const { return at_ == nullptr; }
  uint64_t group_lines() const { return others_ + static_cast<uint64_t>(at_ - begin_); }  // all that were added
  // nullopt: no longer known, or not one of them.
  std::optional<uint64_t> client_line(uint64_t group_line) const;

 private:
  // Rows of both streams end at these lines in front of it, so many bytes were sent.
  struct Block {
    uint64_t client_line, group_line, bytes;
    std::vector<uint8_t> rows;
  };
  void add_slowly(uint64_t client_line, uint64_t lines);
  void start_block();
  void drop_block();

  uint8_t *begin_ = nullptr, *at_ = nullptr, *end_ = nullptr;  // the last block, and its free place
  uint64_t client_line_ = 0, bytes_ = 0;
  uint64_t others_ = 0;  // lines beside one for each byte of the last block, modulo 2^64
  std::deque<Block> blocks_;
  bool dropped_ = false;
};

}  // namespace pgmosaic::exec
