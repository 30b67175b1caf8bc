// CopySplitter: splits the stream of COPY … FROM STDIN over the groups by the rows' keys, in text, CSV and binary
// format, without I/O.
//
//   CopySplitter splitter(spec, colocation, text_context, columns);
//   for each CopyData of the client:   splitter.feed(payload)
//   at CopyDone:                       splitter.finish()
//   after each of them:                settle undecided(), then send and clear the buffers that are large enough
//                                      (at the end: all of them), then CopyDone to every group
//
// Rows may be cut anywhere between messages; a buffer holds whole rows only, in the order of the stream. The header of
// CSV or text (HEADER) and of binary goes to every group, also to those that get no row. The end marker \. and the
// binary trailer go to none: the end of the data is CopyDone, so that rows can be placed at any time before it.
// Rows with an unusual key wait in undecided() for a PostgreSQL to hash them. Rows that end before their key go to any
// group, which refuses them.
//
// REQUIRES: the client's encoding keeps ASCII bytes for ASCII characters, and values in text have the bytes of the
// server's encoding (client_encoding equals it).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "catalog/hashing.h"
#include "exec/copy_context.h"
#include "exec/copy_lines.h"
#include "exec/copy_scan.h"
#include "plan/plan.h"

namespace pgmosaic::exec {

// What CopyIn does not say. All of it may be missing: names are for messages.
struct CopyColumns {
  std::string table;
  std::vector<std::string> names;  // columns of a row of the stream, in order; empty: not known
};

class CopySplitter {
 public:
  // A row whose key cannot be hashed here as PostgreSQL would.
  struct Undecided {
    std::string row;                               // ready to be sent
    std::vector<std::optional<std::string>> keys;  // in the format of the stream; nullopt: NULL
    uint64_t line = 0;                             // in the stream, from 1: its last, where it has several
    uint64_t lines = 1;
    std::size_t offset = 0;    // in front of them the first buffer has the rows before,
    uint64_t group_lines = 0;  // of so many lines together with what it held before
  };

  // `fallback`: the group of rows that no partition takes, which will say so. It and the colocation's are groups().
  // REQUIRES: `colocation` outlives the splitter; it has shards, or there is a fallback.
  CopySplitter(const plan::CopyIn& spec, const catalog::Colocation& colocation, const catalog::TextContext& text,
               CopyColumns columns = {}, catalog::GroupId fallback = 0);

  // Payload of one CopyData message. 22P04 as PostgreSQL would say it, with the CONTEXT. After an error the splitter
  // takes no more; rows that stood before it are in the buffers, or undecided.
  Status feed(std::string_view data);
  // The client sent CopyDone: a last row without line end counts.
  Status finish();

  const std::vector<catalog::GroupId>& groups() const { return groups_; }  // ascending
  // Rows for groups()[index]: the payload of a CopyData message. The caller clears it.
  std::string& buffer(std::size_t index) { return buffers_[index]; }
  // Before it is sent.
  void note_sent(std::size_t index) { lines_[index].sent(buffers_[index].size()); }
  // Of all buffers; for flow control.
  std::size_t buffered_bytes() const;

  // The caller places and clears them.
  std::vector<Undecided>& undecided() { return undecided_; }
  // `group`: one of groups().
  void place(const Undecided& row, catalog::GroupId group);
  // No group takes the row, whose key is no value of its type: the first group will say so. The others need no place.
  void refuse(const Undecided& row);

  // Of line n of what groups()[index] was sent; nullopt: no longer known.
  std::optional<uint64_t> client_line(std::size_t index, uint64_t group_line) const;
  // What is wrong with a stream that ends here, in the line that is being read.
  Error at_next_line(Error error) const { return with_line(std::move(error), {.line = next_line()}); }
  // What is wrong with a row that is undecided.
  Error at_row(Error error, const Undecided& row) const { return with_line(std::move(error), {.line = row.line}); }

  uint64_t rows() const { return rows_; }  // so far, undecided ones too

 private:
  using AnyScanner = std::variant<TextScanner, CsvScanner, BinaryScanner>;
  static AnyScanner make_scanner(const plan::CopyIn& spec, const CopyColumns& columns);

  template <class Scanner>
  Status split(Scanner& scanner, std::string_view data);
  template <class Scanner>
  Status split_cut_row(Scanner& scanner, std::string_view data, std::size_t& at);
  template <class Scanner>
  Status split_rest(Scanner& scanner);
  template <class Scanner>
  void take_row(Scanner& scanner, const char* row);
  template <class Scanner>
  std::optional<std::string_view> key_value(const Scanner& scanner, const char* row, std::size_t key);
  // Index into groups_; nullopt: undecided.
  template <class Scanner>
  std::optional<std::size_t> group_of_row(const Scanner& scanner, const char* row);
  template <class Scanner>
  std::optional<std::size_t> group_by_bounds(const Scanner& scanner, const char* row);
  template <class Scanner>
  void set_aside(const Scanner& scanner, const char* row);

  std::size_t index_of_hash(uint64_t hash) const {
    return shard_groups_[shard_mask_ != 0 ? hash & shard_mask_ : hash % shard_groups_.size()];
  }
  uint64_t lines_in_group(const Undecided& row, uint64_t group_lines) const;
  template <class Scanner>
  Error refused(const Scanner& scanner, std::string_view rest) const;
  uint64_t next_line() const;
  Error with_line(Error error, const CopyPlace& place) const;

  const plan::CopyIn spec_;
  const catalog::TextContext text_;
  const CopyColumns columns_;
  const catalog::ValueFormat format_;
  bool has_typmods_ = false;

  std::vector<catalog::GroupId> groups_;
  std::vector<uint32_t> shard_groups_;  // of each shard: index into groups_
  const catalog::PartitionBounds* bounds_ = nullptr;
  bool computed_ = false;     // no row's shard can be told here
  std::size_t fallback_ = 0;  // index into groups_
  uint64_t shard_mask_ = 0;   // number of shards - 1 where that is a power of two above 1
  std::vector<std::string> buffers_;
  std::vector<CopyLines> lines_;  // of each buffer and what it held before
  std::vector<Undecided> undecided_;
  std::optional<Undecided> refused_;

  const std::size_t fields_needed_;
  AnyScanner scanner_;
  std::string pending_;  // a row that is not complete
  std::string scratch_;
  bool header_expected_ = false;
  bool ended_ = false;  // the end marker was seen: the rest of the stream is ignored
  uint64_t line_ = 0;   // of the row before; extra lines within quotes included
  uint64_t rows_ = 0;
};

}  // namespace pgmosaic::exec
