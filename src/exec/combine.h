// Combine: partial rows of several groups, then one final SQL over them, run by a PostgreSQL.
#pragma once

#include "exec/gather.h"

namespace pgmosaic::exec {

// Partial rows as text, kept column by column in the form of array literals ("{…}"), ready to be parameters.
class PartialRows {
 public:
  explicit PartialRows(std::size_t columns) : columns_(columns) {}
  void add(const std::vector<std::optional<std::string_view>>& values);
  std::size_t bytes() const { return bytes_; }
  // One array literal per column. Leaves this empty.
  std::vector<std::optional<std::string>> take();

 private:
  std::vector<std::string> columns_;
  std::size_t bytes_ = 0;
};

inline constexpr std::size_t kMaxPartialBytes = 256u << 20;  // more: 54000, with a hint

// Values that a session's settings write in a form from which they cannot be read back exactly.
struct OutputLoss {
  bool floats = false;  // extra_float_digits <= 0 rounds
  bool zones = false;   // a DateStyle other than ISO abbreviates time zones
};

// Reads the partial rows of all readers, then runs the final statement on the first reader's backend and passes its
// rows to the sink. `request` carries the client's parameters for the final statement.
net::Task<Result<GatherResult>> combine(std::vector<RowReader>& readers, const plan::Combine& combine, Request request,
                                        bool describe, OutputLoss loss, RowSink& sink);

// SQL that yields partial rows from array parameters $first…: (SELECT u1::type AS c1, … FROM unnest(…) …) AS alias.
// `types` are SQL type names.
std::string partial_relation(const std::vector<std::string>& types, int first);

}  // namespace pgmosaic::exec
