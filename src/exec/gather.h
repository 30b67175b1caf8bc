// Gather: rows of several groups become one result: concatenated in the order of groups, or merged by sort keys, then
// OFFSET and LIMIT. Memory is bounded: one row per group when merging, and what the sink holds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "exec/row_reader.h"
#include "plan/plan.h"

namespace pgmosaic::exec {

struct GatherOptions {
  std::vector<plan::SortKey> merge;
  // INSERT of several rows: the reader of each row, so that RETURNING has the order of VALUES.
  std::vector<std::size_t> order;
  uint16_t hidden_columns = 0;
  uint64_t offset = 0;
  std::optional<uint64_t> limit;
  bool describe = true;      // send RowDescription (simple protocol)
  bool copy_header = false;  // COPY TO: each group's stream begins with a header line
  bool copy_binary = false;  // COPY TO: each group's stream has a binary header and trailer
  bool first_only = false;   // reference table write: rows and tag of the first group
};

struct GatherResult {
  std::string tag;
  uint64_t rows = 0;
};

// Reads all readers to their end. On error all have been read to their end too, or their connection is broken.
net::Task<Result<GatherResult>> gather(std::vector<RowReader>& readers, const GatherOptions& options, RowSink& sink);

}  // namespace pgmosaic::exec
