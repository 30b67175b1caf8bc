#include "exec/copy_split.h"

#include <gtest/gtest.h>

#include <map>

#include "base/bytes.h"

namespace pgmosaic::exec {
namespace {

using Format = plan::CopyIn::Format;
using catalog::GroupId;
using catalog::ValueFormat;

constexpr catalog::Oid kInt4 = 23, kInt8 = 20, kText = 25, kVarchar = 1043, kTimestamptz = 1184, kNumeric = 1700;

catalog::Colocation shards(uint32_t count, uint32_t groups) {
  catalog::Colocation colocation;
  for (uint32_t i = 0; i < count; ++i) colocation.shards.push_back({i + 1, count, i, i % groups + 1});
  return colocation;
}

plan::CopyIn spec_of(Format format, std::vector<int> fields, std::vector<catalog::Oid> types) {
  plan::CopyIn spec;
  spec.format = format;
  spec.key_typmods.assign(fields.size(), -1);
  spec.key_fields = std::move(fields);
  spec.key_types = std::move(types);
  if (format == Format::csv) {
    spec.delimiter = ',';
    spec.null_text = "";
  }
  return spec;
}

GroupId group_of(const catalog::Colocation& colocation, catalog::Oid type, std::string_view value,
                 ValueFormat format = ValueFormat::text) {
  return colocation.group_of_hash(catalog::combine_hash(0, *catalog::hash_key_value(type, format, value, {})));
}

std::string context_of(const Error& error) {
  return error.fields.empty() ? "" : error.fields.substr(1, error.fields.size() - 2);  // the field 'W' alone
}

struct Outcome {
  std::map<GroupId, std::string> data;
  std::vector<std::string> undecided;
  uint64_t rows = 0;
  std::string error, detail, sqlstate;
  bool operator==(const Outcome&) const = default;
};

Outcome outcome_of(CopySplitter& splitter, const Status& status) {
  Outcome outcome;
  for (std::size_t i = 0; i < splitter.groups().size(); ++i) outcome.data[splitter.groups()[i]] = splitter.buffer(i);
  for (const auto& row : splitter.undecided()) outcome.undecided.push_back(std::to_string(row.line) + ": " + row.row);
  outcome.rows = splitter.rows();
  if (!status) outcome = {{}, {}, 0, status.error().message, context_of(status.error()), status.error().sqlstate};
  return outcome;
}

// Feeds the stream in the given pieces.
Outcome split(const plan::CopyIn& spec, const catalog::Colocation& colocation,
              const std::vector<std::string_view>& pieces, const CopyColumns& columns = {}) {
  CopySplitter splitter(spec, colocation, {}, columns);
  for (std::string_view piece : pieces) {
    // In memory of its own, so that reading behind it is seen by the sanitizer.
    const std::vector<char> exact(piece.begin(), piece.end());
    if (Status status = splitter.feed({exact.data(), exact.size()}); !status) return outcome_of(splitter, status);
  }
  return outcome_of(splitter, splitter.finish());
}

Outcome split(const plan::CopyIn& spec, const catalog::Colocation& colocation, std::string_view stream,
              const CopyColumns& columns = {}) {
  return split(spec, colocation, std::vector<std::string_view>{stream}, columns);
}

std::string all_data(const Outcome& outcome) {
  std::string all;
  for (const auto& [group, data] : outcome.data) all += data;
  return all;
}

// One group gets everything: shows which bytes count as rows.
Outcome pass(const plan::CopyIn& spec, std::string_view stream) { return split(spec, shards(1, 1), stream); }

plan::CopyIn text_int() { return spec_of(Format::text, {0}, {kInt4}); }
plan::CopyIn csv_int() { return spec_of(Format::csv, {0}, {kInt4}); }

const CopyColumns kNames{"t", {"a", "b", "c"}};

// --- text ---

TEST(CopyText, RowsGoToTheGroupOfTheirKey) {
  const auto colocation = shards(16, 4);
  std::string stream;
  std::map<GroupId, std::string> expected = {{1, ""}, {2, ""}, {3, ""}, {4, ""}};
  for (int i = -500; i < 500; ++i) {
    const std::string row = std::to_string(i) + "\tvalue of " + std::to_string(i) + "\t\\N\n";
    stream += row;
    expected[group_of(colocation, kInt4, std::to_string(i))] += row;
  }
  const Outcome outcome = split(text_int(), colocation, stream);
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.rows, 1000u);
  EXPECT_EQ(outcome.data, expected);
}

TEST(CopyText, ShardCountsThatAreNoPowerOfTwo) {
  for (uint32_t count : {1u, 2u, 3u, 7u, 12u, 32u}) {
    const auto colocation = shards(count, 3);
    for (int i = 0; i < 100; ++i) {
      const std::string row = std::to_string(i) + "\n";
      EXPECT_EQ(split(text_int(), colocation, row).data.at(group_of(colocation, kInt4, std::to_string(i))), row);
    }
  }
}

TEST(CopyText, KeyBehindOtherFields) {
  const auto colocation = shards(16, 4);
  const auto spec = spec_of(Format::text, {2}, {kText});
  const Outcome outcome = split(spec, colocation, "1\t2\tkey one\trest\n\\N\t\t\t\n");
  EXPECT_EQ(outcome.rows, 2u);
  EXPECT_NE(outcome.data.at(group_of(colocation, kText, "key one")).find("1\t2\tkey one\trest\n"), std::string::npos);
  EXPECT_NE(outcome.data.at(group_of(colocation, kText, "")).find("\\N\t\t\t\n"), std::string::npos);
}

TEST(CopyText, EscapesInTheKey) {
  const auto colocation = shards(64, 64);
  const auto spec = spec_of(Format::text, {1}, {kText});
  const std::pair<std::string, std::string> cases[] = {{"a\\tb", "a\tb"},
                                                       {"a\\nb", "a\nb"},
                                                       {"a\\\\b", "a\\b"},
                                                       {"\\b\\f\\r\\v", "\b\f\r\v"},
                                                       {"\\x41\\x4a", "AJ"},
                                                       {"\\x4", "\x04"},
                                                       {"\\xg", "xg"},
                                                       {"\\x414", "A4"},
                                                       {"\\101\\60", "A0"},
                                                       {"\\1012", "A2"},
                                                       {"\\18",
                                                        "\x01"
                                                        "8"},
                                                       {"\\377", "\xff"},
                                                       {"a\\\nb", "a\nb"},
                                                       {"\\q\\|", "q|"},
                                                       {"\\\t", "\t"},
                                                       {"\\\\N", "\\N"},
                                                       {"x\\N", "xN"},
                                                       {"\xc3\xa4\\\xc3\xb6", "\xc3\xa4\xc3\xb6"}};
  for (const auto& [written, value] : cases) {
    const std::string row = "1\t" + written + "\tz\n";
    const Outcome outcome = split(spec, colocation, row);
    EXPECT_EQ(outcome.error, "") << written;
    EXPECT_EQ(outcome.data.at(group_of(colocation, kText, value)), row) << written;
  }
}

TEST(CopyText, NullKeysContributeNothing) {
  const auto colocation = shards(16, 16);
  EXPECT_EQ(split(text_int(), colocation, "\\N\t1\n").data.at(1), "\\N\t1\n");  // remainder 0
  auto spec = spec_of(Format::text, {0, 1}, {kInt4, kText});
  spec.null_text = "null";
  const auto one_column =
      colocation.group_of_hash(catalog::combine_hash(0, *catalog::hash_key_value(kText, ValueFormat::text, "x", {})));
  EXPECT_EQ(split(spec, colocation, "null\tx\n").data.at(one_column), "null\tx\n");
  // what is NULL is decided before escapes are
  const auto both = colocation.group_of_hash(
      catalog::combine_hash(catalog::combine_hash(0, *catalog::hash_key_value(kInt4, ValueFormat::text, "7", {})),
                            *catalog::hash_key_value(kText, ValueFormat::text, "null", {})));
  EXPECT_EQ(split(spec, colocation, "7\tn\\ull\n").rows, 1u);
  EXPECT_EQ(split(spec, colocation, "7\t\\156ull\n").data.at(both), "7\t\\156ull\n");
}

TEST(CopyText, KeyColumnsInAnotherOrderThanTheirFields) {
  const auto colocation = shards(32, 32);
  const auto spec = spec_of(Format::text, {2, 0}, {kInt8, kText});
  uint64_t hash = catalog::combine_hash(0, *catalog::hash_key_value(kInt8, ValueFormat::text, "42", {}));
  hash = catalog::combine_hash(hash, *catalog::hash_key_value(kText, ValueFormat::text, "k", {}));
  EXPECT_EQ(split(spec, colocation, "k\t1\t42\n").data.at(colocation.group_of_hash(hash)), "k\t1\t42\n");
}

TEST(CopyText, LineEnds) {
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\r\n2\tb\r\n")), "1\ta\r\n2\tb\r\n");
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\r2\tb\r")), "1\ta\r2\tb\r");
  EXPECT_EQ(pass(text_int(), "1\r").rows, 1u);
  // a last row without one gets that of the others
  EXPECT_EQ(all_data(pass(text_int(), "1\ta")), "1\ta\n");
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\r\n2\tb")), "1\ta\r\n2\tb\r\n");
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\r2\tb")), "1\ta\r2\tb\r");
  // a backslash as the last byte stands for nothing, and must not swallow the new line end
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\\")), "1\ta\n");
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\\\\")), "1\ta\\\\\n");
  EXPECT_EQ(all_data(pass(text_int(), "")), "");
}

TEST(CopyText, LineEndsOfAnotherStyle) {
  const Outcome cr = split(text_int(), shards(1, 1), "1\ta\n2\tb\rc\n", kNames);
  EXPECT_EQ(cr.error, "literal carriage return found in data");
  EXPECT_EQ(cr.sqlstate, "22P04");
  EXPECT_EQ(cr.detail, "COPY t, line 2");
  EXPECT_EQ(pass(text_int(), "1\r\n2\n").error, "literal newline found in data");
  EXPECT_EQ(pass(text_int(), "1\r2\n").error, "literal newline found in data");
  EXPECT_EQ(pass(text_int(), "1\r\n2\r3\r\n").error, "literal carriage return found in data");
  EXPECT_EQ(pass(text_int(), "1\r\n2\r").error, "literal carriage return found in data");
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\\\rb\n")), "1\ta\\\rb\n");  // escaped
}

TEST(CopyText, EndMarker) {
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\n\\.\nwhat follows\nis ignored")), "1\ta\n");
  EXPECT_EQ(all_data(pass(text_int(), "1\r\n\\.\r\n")), "1\r\n");
  EXPECT_EQ(all_data(pass(text_int(), "1\r\\.\r2\r")), "1\r");
  EXPECT_EQ(all_data(pass(text_int(), "\\.\n")), "");
  // behind data it ends that row
  EXPECT_EQ(all_data(pass(text_int(), "1\ta\n2\tb\\.\n3\tc\n")), "1\ta\n2\tb\n");
  EXPECT_EQ(pass(text_int(), "1\n\\.x\n").error, "end-of-copy marker corrupt");
  EXPECT_EQ(pass(text_int(), "1\n\\.").error, "end-of-copy marker corrupt");
  EXPECT_EQ(pass(text_int(), "1\n\\.\r").error, "end-of-copy marker does not match previous newline style");
  EXPECT_EQ(pass(text_int(), "1\r\n\\.\n").error, "end-of-copy marker does not match previous newline style");
  EXPECT_EQ(all_data(pass(text_int(), "1\t\\\\.\n2\n")), "1\t\\\\.\n2\n");  // an escaped backslash, a dot
}

TEST(CopyText, RowsWithoutTheirKeyGoToAnyGroup) {
  const auto spec = spec_of(Format::text, {2}, {kInt4});
  for (const char* row : {"4\t5\n", "\n", "4\t5"}) {
    const Outcome outcome = split(spec, shards(4, 2), row, kNames);
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.data.at(1), std::string(row) + (std::string_view(row).ends_with('\n') ? "" : "\n"));
  }
}

TEST(CopyText, DelimiterAndHeader) {
  auto spec = spec_of(Format::text, {1}, {kInt4});
  spec.delimiter = '|';
  spec.header = true;
  const auto colocation = shards(8, 2);
  const Outcome outcome = split(spec, colocation, "a|b\nx|5\n");
  for (const auto& [group, data] : outcome.data)
    EXPECT_EQ(data, group == group_of(colocation, kInt4, "5") ? "a|b\nx|5\n" : "a|b\n");
  EXPECT_EQ(split(spec, colocation, "a|b").data.at(2), "a|b\n");
  EXPECT_EQ(all_data(split(spec, colocation, "")), "");
}

// --- csv ---

TEST(CopyCsv, Quotes) {
  const auto colocation = shards(64, 64);
  const auto spec = spec_of(Format::csv, {1}, {kText});
  const std::pair<std::string, std::string> cases[] = {
      {"\"a,b\"", "a,b"}, {"\"a\"\"b\"", "a\"b"}, {"a\"b,\"c", "ab,c"}, {"\"a\nb\r\"", "a\nb\r"},
      {"\"\"", ""},       {"\"\"\"\"", "\""},     {" x ", " x "},       {"\"a\\\"", "a\\"}};
  for (const auto& [written, value] : cases) {
    const std::string row = "1," + written + ",z\n";
    const Outcome outcome = split(spec, colocation, row);
    EXPECT_EQ(outcome.error, "") << written;
    EXPECT_EQ(outcome.data.at(group_of(colocation, kText, value)), row) << written;
  }
}

TEST(CopyCsv, AnEscapeOfItsOwn) {
  const auto colocation = shards(64, 64);
  auto spec = spec_of(Format::csv, {0}, {kText});
  spec.quote = '\'';
  spec.escape = '\\';
  const std::pair<std::string, std::string> cases[] = {
      {"'a\\'b'", "a'b"}, {"'a\\\\'", "a\\"}, {"'a\\b'", "a\\b"}, {"a\\'b\\''", "a\\b'"}, {"'a''b'", "ab"}};
  for (const auto& [written, value] : cases) {
    const std::string row = written + ",z\n";
    const Outcome outcome = split(spec, colocation, row);
    EXPECT_EQ(outcome.error, "") << written;
    EXPECT_EQ(outcome.data.at(group_of(colocation, kText, value)), row) << written;
  }
}

TEST(CopyCsv, NullAndForced) {
  const auto colocation = shards(64, 64);
  const auto spec = spec_of(Format::csv, {0}, {kText});
  const GroupId null_group = 1, empty_group = group_of(colocation, kText, "");
  ASSERT_NE(null_group, empty_group);
  EXPECT_EQ(split(spec, colocation, ",1\n").data.at(null_group), ",1\n");
  EXPECT_EQ(split(spec, colocation, "\"\",1\n").data.at(empty_group), "\"\",1\n");
  auto forced = spec;
  forced.force_not_null = {true};
  EXPECT_EQ(split(forced, colocation, ",1\n").data.at(empty_group), ",1\n");
  forced = spec;
  forced.force_null = {true};
  EXPECT_EQ(split(forced, colocation, "\"\",1\n").data.at(null_group), "\"\",1\n");
}

TEST(CopyCsv, LinesWithinQuotes) {
  const std::string stream = "1,\"a\nb\n\"\n2,c\n3,\"\r\n,\"\n";
  EXPECT_EQ(all_data(pass(csv_int(), stream)), stream);
  EXPECT_EQ(pass(csv_int(), stream).rows, 3u);
  const auto spec = spec_of(Format::csv, {1}, {kInt4});
  // the first line end sets the style by which lines within quotes are counted
  const Outcome outcome = split(spec, shards(2, 2), "x,1\n\"a\nb\n\",2\n3\r\n", kNames);
  EXPECT_EQ(outcome.error, "unquoted carriage return found in data");
  EXPECT_EQ(outcome.detail, "COPY t, line 5");
}

TEST(CopyCsv, Header) {
  auto spec = csv_int();
  spec.header = true;
  const auto colocation = shards(8, 2);
  const Outcome outcome = split(spec, colocation, "\"a\nx\",b\r\n7,8\r\n");
  for (const auto& [group, data] : outcome.data)
    EXPECT_EQ(data, group == group_of(colocation, kInt4, "7") ? "\"a\nx\",b\r\n7,8\r\n" : "\"a\nx\",b\r\n");
}

TEST(CopyCsv, EndMarkerStandsAlone) {
  EXPECT_EQ(all_data(pass(csv_int(), "1,a\n\\.\n2,b\n")), "1,a\n");
  EXPECT_EQ(all_data(pass(csv_int(), "1,\\.\n2,b\n")), "1,\\.\n2,b\n");
  const auto spec = spec_of(Format::csv, {0}, {kText});
  for (const char* data : {"\\.x\n", "\\.\\.\n", "\"x\n\\.\n\"\n", "\\x\n", "\\\n"})
    EXPECT_EQ(all_data(pass(spec, data)), data);
  EXPECT_EQ(pass(spec, "a\r\n\\.\n").error, "unquoted newline found in data");
  EXPECT_EQ(pass(spec, "a\n\\.\r\n").error, "end-of-copy marker does not match previous newline style");
  EXPECT_EQ(all_data(pass(spec, "a\n\\.")), "a\n\\.\n");
}

TEST(CopyCsv, Errors) {
  const Outcome outcome = split(csv_int(), shards(1, 1), "1,a\n2,\"b\nc\n", kNames);
  EXPECT_EQ(outcome.error, "unterminated CSV quoted field");
  EXPECT_EQ(outcome.sqlstate, "22P04");
  EXPECT_EQ(outcome.detail, "COPY t, line 4: \"2,\"b\nc\n\"");
  EXPECT_EQ(pass(csv_int(), "1\n2\r3\n").error, "unquoted carriage return found in data");
  EXPECT_EQ(pass(csv_int(), "1\r\n2\n").error, "unquoted newline found in data");
}

// --- binary ---

std::string binary_header(std::string_view extension = {}, uint32_t flags = 0) {
  std::string header("PGCOPY\n\377\r\n\0", 11);
  append_big_endian<uint32_t>(header, flags);
  append_big_endian<uint32_t>(header, static_cast<uint32_t>(extension.size()));
  return header.append(extension);
}

std::string binary_row(const std::vector<std::optional<std::string>>& values) {
  std::string row;
  append_big_endian<int16_t>(row, static_cast<int16_t>(values.size()));
  for (const auto& value : values) {
    append_big_endian<int32_t>(row, value ? static_cast<int32_t>(value->size()) : -1);
    if (value) row += *value;
  }
  return row;
}

std::string int4(int32_t value) {
  std::string bytes;
  append_big_endian(bytes, value);
  return bytes;
}

const std::string kTrailer("\xff\xff");

TEST(CopyBinary, HeaderToAllRowsToTheirGroups) {
  const auto colocation = shards(16, 4);
  const auto spec = spec_of(Format::binary, {1}, {kInt4});
  const std::string header = binary_header("extension", 0xffff);
  std::string stream = header;
  std::map<GroupId, std::string> expected = {{1, header}, {2, header}, {3, header}, {4, header}};
  for (int i = 0; i < 200; ++i) {
    const std::string row = binary_row({std::nullopt, int4(i), std::string(static_cast<std::size_t>(i), '\n'), ""});
    stream += row;
    expected[group_of(colocation, kInt4, int4(i), ValueFormat::binary)] += row;
  }
  const std::string null_row = binary_row({"", std::nullopt});
  stream += null_row;
  expected[1] += null_row;
  Outcome outcome = split(spec, colocation, stream + kTrailer);
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.rows, 201u);
  EXPECT_EQ(outcome.data, expected);
  EXPECT_EQ(split(spec, colocation, stream).data, expected);  // PostgreSQL does without the trailer
}

TEST(CopyBinary, Errors) {
  const auto spec = spec_of(Format::binary, {1}, {kInt4});
  const std::string header = binary_header(), row = binary_row({"x", int4(5), "y"});
  EXPECT_EQ(pass(spec, "").error, "COPY file signature not recognized");
  EXPECT_EQ(pass(spec, "PGCOPX").error, "COPY file signature not recognized");
  EXPECT_EQ(pass(spec, header.substr(0, 13)).error, "invalid COPY file header (missing flags)");
  EXPECT_EQ(pass(spec, header.substr(0, 17)).error, "invalid COPY file header (missing length)");
  EXPECT_EQ(pass(spec, binary_header("abc").substr(0, 20)).error, "invalid COPY file header (wrong length)");
  EXPECT_EQ(pass(spec, binary_header({}, 1u << 16)).error, "invalid COPY file header (WITH OIDS)");
  EXPECT_EQ(pass(spec, binary_header({}, 1u << 20)).error, "unrecognized critical flags in COPY file header");
  EXPECT_EQ(pass(spec, header + row + kTrailer + "x").error, "received copy data after EOF marker");
  EXPECT_EQ(pass(spec, header + row + row.substr(0, 9)).error, "unexpected EOF in COPY data");
  EXPECT_EQ(pass(spec, header + binary_row({"x"})).error, "row field count is 1, expected 2 or more");
  EXPECT_EQ(pass(spec, header + std::string("\0\2\xff\xff\xff\xfe", 6)).error, "invalid field size");
  const Outcome outcome = split(spec, shards(1, 1), header + row + binary_row({"x", "y"}), kNames);
  EXPECT_EQ(outcome.error, "row field count is 2, expected 3");
  EXPECT_EQ(outcome.detail, "COPY t, line 2");
}

// --- undecided rows ---

TEST(CopySplit, UnusualKeysAreSetAside) {
  const auto colocation = shards(8, 8);
  auto spec = spec_of(Format::text, {0, 1}, {kTimestamptz, kText});
  CopySplitter splitter(spec, colocation, {});
  ASSERT_TRUE(splitter.feed("2024-01-01 00:00:00+00\ta\nyester").ok());
  ASSERT_TRUE(splitter.feed("day\tk\\tey\trest\nnow\t\\N").ok());
  ASSERT_TRUE(splitter.finish().ok());
  ASSERT_EQ(splitter.undecided().size(), 2u);
  EXPECT_EQ(splitter.rows(), 3u);
  const CopySplitter::Undecided& row = splitter.undecided()[0];
  EXPECT_EQ(row.row, "yesterday\tk\\tey\trest\n");
  EXPECT_EQ(row.line, 2u);
  EXPECT_EQ(row.keys, (std::vector<std::optional<std::string>>{"yesterday", "k\tey"}));
  EXPECT_EQ(splitter.undecided()[1].row, "now\t\\N\n");
  EXPECT_EQ(splitter.undecided()[1].keys[1], std::nullopt);
  for (size_t index = 0; index < 8; ++index) {
    splitter.place(row, splitter.groups()[index]);
    EXPECT_TRUE(splitter.buffer(index).ends_with(row.row));
  }
}

TEST(CopySplit, ValuesThatTheColumnRoundsAreSetAside) {
  auto spec = spec_of(Format::text, {0}, {kNumeric});
  spec.key_typmods = {(10 << 16 | 2) + 4};  // numeric(10,2)
  const Outcome numeric = split(spec, shards(4, 4), "1.25\n1.255\n");
  EXPECT_EQ(numeric.undecided, std::vector<std::string>{"2: 1.255\n"});
  spec = spec_of(Format::csv, {0}, {kVarchar});
  spec.key_typmods = {3 + 4};
  EXPECT_EQ(split(spec, shards(4, 4), "abc\nabcd\n").undecided, std::vector<std::string>{"2: abcd\n"});
}

TEST(CopySplit, ValuesThatPostgresRefusesAreSetAside) {
  EXPECT_EQ(pass(text_int(), "1\nx\n3000000000\n").undecided, (std::vector<std::string>{"2: x\n", "3: 3000000000\n"}));
  const auto spec = spec_of(Format::binary, {0}, {kInt4});
  EXPECT_EQ(pass(spec, binary_header() + binary_row({"abc"})).undecided.size(), 1u);
}

// --- cuts between messages ---

struct Stream {
  const char* name;
  plan::CopyIn spec;
  std::string bytes;
};

std::vector<Stream> streams() {
  auto csv_backslash = spec_of(Format::csv, {1}, {kText});
  csv_backslash.escape = '\\';
  auto csv_header = spec_of(Format::csv, {0, 2}, {kInt4, kText});
  csv_header.header = true;
  auto text_header = spec_of(Format::text, {1}, {kText});
  text_header.header = true;
  const auto text_key = spec_of(Format::text, {1}, {kText});
  const auto csv_key = spec_of(Format::csv, {1}, {kText});
  return {
      {"text", text_key, "1\tabc\tx\n2\ta\\tb\\\nc\\\\\ty\n\\N\t\\N\t\n3\t\\x4\\101\n4\tlast"},
      {"text with marker", text_key, "1\ta\n2\tb\n\\.\n3\tc\n"},
      {"text with marker behind data", text_key, "1\ta\n2\tb\\.\n3\tc\n"},
      {"text crlf", text_header, "h\tk\r\n1\ta\r\n2\tb\\\\\r\n\\.\r\nx"},
      {"text cr", text_key, "1\ta\r2\tb\r3\tc"},
      {"text, wrong style", text_key, "1\ta\r\n2\tb\r\n3\tc\rd"},
      {"text, corrupt marker", text_key, "1\ta\n\\.\\."},
      {"text, backslash last", text_key, "1\ta\n2\tb\\"},
      {"csv", csv_key, "1,abc,x\n2,\"a\nb\"\"c\",\"\"\n,,\"q\r\n\"\n\\.,d\n4,last"},
      {"csv with header", csv_header, "\"a\nb\",c,d\r\n1,2,\"x,y\"\r\n2,\"\",\r\n\\.\r\n3"},
      {"csv with escape", csv_backslash, "1,\"a\\\"b\\\\\",\"\\x\"\n2,\"\\\\\\\"\",y\n"},
      {"csv, unterminated", csv_key, "1,a\n2,\"b\n\"\"c\n"},
      {"csv cr", csv_key, "1,\"a\rb\"\r2,b\r\\.\r3,x\r"},
      {"csv, marker in the wrong style", csv_key, "1,a\n\\.\r"},
      {"binary", spec_of(Format::binary, {1}, {kInt4}),
       binary_header("ext") + binary_row({"abc", int4(7), std::nullopt}) + binary_row({std::nullopt, int4(-1), ""}) +
           binary_row({"", std::nullopt, "defg"}) + kTrailer},
      {"binary, cut off", spec_of(Format::binary, {1}, {kInt4}),
       binary_header() + binary_row({"abc", int4(7)}) + std::string(1, '\0')},
      {"binary, too long", spec_of(Format::binary, {0}, {kText}),
       binary_header() + binary_row({"abc"}) + kTrailer + "x"},
  };
}

TEST(CopySplit, EveryCutGivesTheSame) {
  const auto colocation = shards(6, 3);
  for (const Stream& stream : streams()) {
    const std::string_view bytes = stream.bytes;
    const CopyColumns columns{"t", {}};
    const Outcome whole = split(stream.spec, colocation, bytes, columns);
    EXPECT_TRUE(whole.rows > 0 || !whole.error.empty()) << stream.name;
    for (std::size_t first = 0; first <= bytes.size(); ++first)
      for (std::size_t second = first; second <= bytes.size(); ++second) {
        const Outcome cut =
            split(stream.spec, colocation,
                  {bytes.substr(0, first), bytes.substr(first, second - first), bytes.substr(second)}, columns);
        ASSERT_EQ(cut, whole) << stream.name << " cut at " << first << " and " << second;
      }
    for (std::size_t size = 1; size < 5; ++size) {
      std::vector<std::string_view> pieces;
      for (std::size_t at = 0; at < bytes.size(); at += size) pieces.push_back(bytes.substr(at, size));
      EXPECT_EQ(split(stream.spec, colocation, pieces, columns), whole) << stream.name << " in pieces of " << size;
    }
  }
}

TEST(CopySplit, RowsLongerThanMessages) {
  const auto colocation = shards(4, 4);
  const auto spec = spec_of(Format::csv, {1}, {kInt4});
  std::string stream;
  for (int i = 0; i < 20; ++i)
    stream += "\"" + std::string(static_cast<std::size_t>(i) * 977, 'x') + "\n\"," + std::to_string(i) + "\n";
  const Outcome whole = split(spec, colocation, stream);
  for (std::size_t size : {1u, 255u, 256u, 257u, 1000u, 4096u}) {
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < stream.size(); at += size)
      pieces.push_back(std::string_view(stream).substr(at, size));
    EXPECT_EQ(split(spec, colocation, pieces), whole) << size;
  }
  EXPECT_EQ(whole.rows, 20u);
}

// What is in a group's buffer, line by line, stands at these lines of the stream.
std::vector<uint64_t> client_lines(CopySplitter& splitter, GroupId group) {
  const auto& groups = splitter.groups();
  const auto index = static_cast<std::size_t>(std::find(groups.begin(), groups.end(), group) - groups.begin());
  const std::string& data = splitter.buffer(index);
  std::vector<uint64_t> lines;
  for (uint64_t i = 1; i <= static_cast<uint64_t>(std::count(data.begin(), data.end(), '\n')); ++i)
    lines.push_back(splitter.client_line(index, i).value_or(0));
  return lines;
}

TEST(CopySplit, LinesOfTheClient) {
  const auto colocation = shards(16, 4);
  const GroupId seven = group_of(colocation, kInt4, "7");
  auto spec = spec_of(Format::csv, {0}, {kInt4});
  spec.header = true;
  CopySplitter splitter(spec, colocation, {}, kNames, 0);
  ASSERT_TRUE(splitter.feed("a,b\n7,x\n7,\"y\nz\n\"\n").ok());
  std::string others;
  for (int i = 0; i < 400; ++i)
    if (const std::string key = std::to_string(i); group_of(colocation, kInt4, key) != seven) others += key + ",o\n";
  ASSERT_TRUE(splitter.feed(others).ok());
  ASSERT_TRUE(splitter.feed("7,last\n").ok());
  const auto count = static_cast<uint64_t>(std::count(others.begin(), others.end(), '\n'));
  EXPECT_EQ(client_lines(splitter, seven), (std::vector<uint64_t>{1, 2, 3, 4, 5, 6 + count}));
  const Error cut = splitter.at_next_line(make_error("57014", "given up"));
  EXPECT_EQ(context_of(cut), "COPY t, line " + std::to_string(7 + count));
}

// PostgreSQL counts carriage returns in quotes as long as it knows no line end, which each group learns by itself.
TEST(CopySplit, LinesWithinTheFirstRowOfAGroup) {
  const auto colocation = shards(16, 4);
  CopySplitter splitter(spec_of(Format::csv, {0}, {kInt4}), colocation, {}, kNames, 0);
  int other = 1;
  while (group_of(colocation, kInt4, std::to_string(other)) == group_of(colocation, kInt4, "0")) ++other;
  const std::string key = std::to_string(other);
  ASSERT_TRUE(splitter.feed("0,x\n" + key + ",\"a\nb\r\n\"\n" + key + ",c\n").ok());
  const GroupId group = group_of(colocation, kInt4, key);
  const auto index = static_cast<std::size_t>(std::find(splitter.groups().begin(), splitter.groups().end(), group) -
                                              splitter.groups().begin());
  EXPECT_EQ(splitter.client_line(index, 2), 4u);  // its first row: lines 2 to 4 of the client, two of its own
  EXPECT_EQ(splitter.client_line(index, 3), 5u);
}

TEST(CopySplit, LinesOfTheFirstRowBehindOthers) {
  CopySplitter splitter(spec_of(Format::csv, {0}, {kInt4}), shards(1, 1), {}, kNames, 0);
  ASSERT_TRUE(splitter.feed("x,\"a\nb\n\"\n1,b\n").ok());
  ASSERT_EQ(splitter.undecided().size(), 1u);
  splitter.place(splitter.undecided()[0], 1);
  EXPECT_EQ(splitter.client_line(0, 1), 2u);
  EXPECT_EQ(splitter.client_line(0, 4), 1u);  // PostgreSQL has the first row in line 1, the group in 2 to 4
}

TEST(CopySplit, RefusedRowsStandWhereTheyStood) {
  CopySplitter splitter(text_int(), shards(1, 1), {}, kNames);
  ASSERT_TRUE(splitter.feed("1\n2\n").ok());
  splitter.buffer(0).clear();
  ASSERT_TRUE(splitter.feed("3\nx\n4\ny\n5\n").ok());
  ASSERT_EQ(splitter.undecided().size(), 2u);
  splitter.refuse(splitter.undecided()[0]);
  splitter.refuse(splitter.undecided()[1]);
  splitter.undecided().clear();
  EXPECT_EQ(splitter.buffer(0), "3\nx\n4\n5\n");
  EXPECT_EQ(splitter.client_line(0, 3), 3u);
  EXPECT_EQ(splitter.client_line(0, 4), 4u);
}

TEST(CopySplit, BuffersAreCountedAndCanBeTaken) {
  CopySplitter splitter(text_int(), shards(1, 1), {});
  ASSERT_TRUE(splitter.feed("1\n2\n3").ok());
  EXPECT_EQ(splitter.buffered_bytes(), 4u);
  EXPECT_EQ(splitter.buffer(0), "1\n2\n");
  splitter.buffer(0).clear();
  ASSERT_TRUE(splitter.feed("4\n").ok());
  EXPECT_EQ(splitter.buffer(0), "34\n");
}

}  // namespace
}  // namespace pgmosaic::exec
