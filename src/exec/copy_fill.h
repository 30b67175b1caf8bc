// CopyFiller: puts values in front of the rows of COPY … FROM STDIN, for columns that the client's stream lacks
// (plan::CopyIn::filled). Without I/O: rows wait until the caller has their values, so that as many are asked for as
// there are rows, and for many rows at once.
//
//   CopyFiller filler(spec);
//   for each CopyData of the client:   filler.feed(payload)
//   at CopyDone:                       filler.finish()
//   where enough of them wait:         filler.fill(values, out): `out` is a stream of the format with the columns in it
//
// before:  a\t1\n  b\t2\n          after:  17\ta\t1\n  18\tb\t2\n
//
// The header gets the columns' names, the end marker and the binary trailer are left out. REQUIRES: as CopySplitter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "exec/copy_scan.h"
#include "plan/plan.h"

namespace pgmosaic::exec {

class CopyFiller {
 public:
  explicit CopyFiller(const plan::CopyIn& spec);

  // 22P04 as PostgreSQL would say it, with the CONTEXT. After an error the filler takes no more; rows that stood before
  // it wait.
  Status feed(std::string_view data);
  Status finish();

  std::size_t waiting_rows() const { return rows_.size(); }
  std::size_t waiting_bytes() const { return waiting_.size(); }
  // One value for each of the filled columns, and each waiting row: values[column][row]. Integers where the format is
  // binary.
  using Values = std::vector<std::vector<std::optional<std::string>>>;
  // Appends all waiting rows to `out`.
  void fill(const Values& values, std::string& out);

  // What is wrong with the values of a waiting row.
  Error at_row(Error error, std::size_t row) const;
  // What is wrong with a stream that ends here.
  Error at_next_line(Error error) const;

 private:
  template <class Scanner>
  Status scan(Scanner& scanner, std::string_view data, bool at_end);
  template <class Scanner>
  Error refused(const Scanner& scanner, std::string_view rest) const;
  template <class Scanner>
  void take_row(Scanner& scanner, const char* row);
  void write_header();
  void write_text(std::string_view value, std::string& out) const;
  void write_csv(std::string_view value, std::string& out) const;
  void write_binary(const plan::CopyIn::Filled& column, const std::optional<std::string>& value,
                    std::string& out) const;

  using AnyScanner = std::variant<TextScanner, CsvScanner, BinaryScanner>;
  static AnyScanner make_scanner(const plan::CopyIn& spec);

  const plan::CopyIn spec_;
  AnyScanner scanner_;
  std::string pending_;  // a row that is not complete
  std::string header_, waiting_;
  struct Row {
    std::size_t end, line_end;  // in waiting_
    uint64_t line;              // in the stream
  };
  std::vector<Row> rows_;
  bool header_expected_ = false, ended_ = false;
  uint64_t line_ = 0;  // of the row before
};

}  // namespace pgmosaic::exec
