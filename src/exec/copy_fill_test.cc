#include "exec/copy_fill.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace pgmosaic::exec {
namespace {

using Format = plan::CopyIn::Format;

plan::CopyIn spec_of(Format format, std::size_t given, std::vector<plan::CopyIn::Filled> filled) {
  plan::CopyIn spec;
  spec.format = format;
  spec.given = given;
  spec.filled = std::move(filled);
  if (format == Format::csv) {
    spec.delimiter = ',';
    spec.null_text = "";
  }
  return spec;
}

const plan::CopyIn::Filled kNumber{.name = "id", .sequence = 1, .most = INT32_MAX};

// The rows' numbers count from 1 in each column; asked for behind each piece of that size.
std::string filled(const plan::CopyIn& spec, std::string_view stream, std::size_t piece = SIZE_MAX) {
  CopyFiller filler(spec);
  std::string out;
  int next = 1;
  auto fill = [&] {
    CopyFiller::Values values(spec.filled.size());
    for (std::size_t i = 0; i < filler.waiting_rows(); ++i, ++next)
      for (auto& column : values) column.emplace_back(std::to_string(next));
    filler.fill(values, out);
  };
  while (!stream.empty()) {
    const std::string_view part = stream.substr(0, piece);
    stream.remove_prefix(part.size());
    if (const Status fed = filler.feed(part); !fed) return fed.error().sqlstate + " " + fed.error().message;
    fill();
  }
  if (const Status ended = filler.finish(); !ended) return ended.error().sqlstate + " " + ended.error().message;
  fill();
  return out;
}

TEST(CopyFill, ValuesStandInFrontOfRowsHoweverTheyAreCut) {
  const plan::CopyIn spec = spec_of(Format::text, 2, {kNumber});
  for (std::size_t piece : {1u, 2u, 3u, 7u, 100u}) {
    EXPECT_EQ(filled(spec, "a\tb\nc\\\nd\t\\N\nlast\t1", piece), "1\ta\tb\n2\tc\\\nd\t\\N\n3\tlast\t1\n") << piece;
    EXPECT_EQ(filled(spec, "a\tb\r\nc\td\r\n", piece), "1\ta\tb\r\n2\tc\td\r\n") << piece;
    EXPECT_EQ(filled(spec, "a\tb\n\\.\n", piece), "1\ta\tb\n") << piece;
  }
  EXPECT_EQ(filled(spec, ""), "");
  EXPECT_EQ(filled(spec, "a\tb\nc\r\n").substr(0, 5), "22P04");
}

TEST(CopyFill, CsvKeepsLinesWithinQuotesTogether) {
  plan::CopyIn spec = spec_of(Format::csv, 2, {kNumber, kNumber});
  spec.header = true;
  for (std::size_t piece : {1u, 4u, 100u})
    EXPECT_EQ(filled(spec, "v,w\n\"a\nb\",1\n,2\n", piece), "id,id,v,w\n1,1,\"a\nb\",1\n2,2,,2\n") << piece;
}

TEST(CopyFill, WhatWouldBeReadAsSomethingElseIsEscaped) {
  plan::CopyIn text = spec_of(Format::text, 1, {kNumber});
  text.null_text = "1";
  EXPECT_EQ(filled(text, "a\nb\n"), "\\x31\ta\n2\tb\n");
  plan::CopyIn csv = spec_of(Format::csv, 1, {kNumber});
  csv.null_text = "1";
  csv.quote = csv.escape = '2';
  EXPECT_EQ(filled(csv, "a\nb\n"), "212,a\n2222,b\n");
  text = spec_of(Format::text, 1, {{.name = "a\tb", .expression = "x"}});
  text.header = true;
  EXPECT_EQ(filled(text, "v\nx\n"), "a\\x09b\tv\n1\tx\n");
}

TEST(CopyFill, BinaryNumbersHaveTheColumnsWidth) {
  const std::string head("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
  const std::string row("\0\1\0\0\0\1x", 7), trailer("\377\377", 2);
  std::string expected = head;
  for (char number : {1, 2}) {
    expected += std::string("\0\4\0\0\0\2\0", 7) + number + std::string("\0\0\0\4\0\0\0", 7) + number;
    expected += std::string("\0\0\0\10\0\0\0\0\0\0\0", 11) + number + std::string("\0\0\0\1x", 5);
  }
  const plan::CopyIn spec = spec_of(Format::binary, 1,
                                    {{.name = "a", .sequence = 1, .most = INT16_MAX},
                                     {.name = "b", .sequence = 1, .most = INT32_MAX},
                                     {.name = "c", .sequence = 1, .most = INT64_MAX}});
  for (std::size_t piece : {1u, 5u, 100u})
    EXPECT_EQ(filled(spec, head + row + row + trailer, piece), expected) << piece;
  EXPECT_EQ(filled(spec, head + std::string("\0\2\0\0\0\1x\0\0\0\1x", 12)), "22P04 row field count is 2, expected 1");
}

}  // namespace
}  // namespace pgmosaic::exec
