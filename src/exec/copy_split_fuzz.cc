// Arbitrary bytes as a COPY stream: whether it comes whole or in pieces, the same rows go to the same groups, or it is
// refused with the same error.
#include <cstddef>
#include <cstdint>

#include "exec/copy_split.h"

namespace {

using namespace pgmosaic;
using Format = plan::CopyIn::Format;

struct Outcome {
  std::string result;
  uint64_t rows = 0;
  bool operator==(const Outcome&) const = default;
};

Outcome split(const plan::CopyIn& spec, std::string_view stream, std::size_t piece) {
  catalog::Colocation colocation;
  for (uint32_t i = 0; i < 4; ++i) colocation.shards.push_back({i + 1, 4, i, i % 2 + 1});
  exec::CopySplitter splitter(spec, colocation, {});
  Outcome outcome;
  for (std::size_t at = 0; at < stream.size(); at += piece) {
    const std::string part(stream.substr(at, piece));
    if (const Status status = splitter.feed(part); !status.ok())
      return {status.error().message + status.error().fields, splitter.rows()};
  }
  if (const Status status = splitter.finish(); !status.ok())
    return {status.error().message + status.error().fields, splitter.rows()};
  for (const auto& row : splitter.undecided()) outcome.result += std::to_string(row.line) + row.row;
  for (std::size_t i = 0; i < splitter.groups().size(); ++i) outcome.result += "|" + splitter.buffer(i);
  outcome.rows = splitter.rows();
  return outcome;
}

}  // namespace

// The first byte chooses format and options, the second the size of the pieces.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  plan::CopyIn spec;
  spec.format = static_cast<Format>(data[0] % 3);
  if (spec.format == Format::csv) {
    spec.delimiter = ',';
    spec.null_text = "";
    if ((data[0] & 16) != 0) spec.escape = '\\';
  }
  spec.header = (data[0] & 32) != 0 && spec.format != Format::binary;
  spec.key_fields = {(data[0] & 64) != 0 ? 1 : 0};
  spec.key_types = {(data[0] & 128) != 0 ? 23u : 25u};
  spec.key_typmods = {-1};
  std::string stream(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (spec.format == Format::binary && (data[0] & 16) != 0)
    stream.insert(0, std::string_view("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19));
  CHECK(split(spec, stream, stream.size() + 1) == split(spec, stream, data[1] % 16 + 1));
  return 0;
}
