#include "exec/copy_context.h"

#include <gtest/gtest.h>

namespace pgmosaic::exec {
namespace {

std::string fields_with(const std::string& context) {
  return std::string("tt\0W", 4) + context + std::string("\0Fcopyfrom.c\0", 13);
}

std::string moved(const std::string& context, std::optional<uint64_t> line, std::string_view table = "t") {
  std::string fields = fields_with(context);
  if (const auto found = find_copy_line(fields, table)) replace_copy_line(fields, *found, line);
  return fields == fields_with(context) ? "as it was" : fields.substr(4, fields.find('\0', 4) - 4);
}

TEST(CopyContext, LinesAreReplaced) {
  EXPECT_EQ(moved("COPY t, line 17", 3), "COPY t, line 3");
  EXPECT_EQ(moved("COPY t, line 17, column x: \"line 17\"", 1000), "COPY t, line 1000, column x: \"line 17\"");
  EXPECT_EQ(moved("COPY t, line 17: \"a\nb\"", std::nullopt), "COPY t: \"a\nb\"");
  EXPECT_EQ(moved("PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 5: \"x\"", 9),
            "PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 9: \"x\"");
  EXPECT_EQ(moved("COPY t, Zeile 17, Spalte x: »abc«", 3), "COPY t, Zeile 3, Spalte x: »abc«");
  EXPECT_EQ(moved("COPY a, line 2, line 17", 3, "a, line 2"), "COPY a, line 2, line 3");
  for (const char* other :
       {"COPY u, line 17", "SQL statement \"COPY t, line 17\"", "COPY t", "COPY t, column 1: 5", ""})
    if (std::string_view(other) != "COPY t, column 1: 5") EXPECT_EQ(moved(other, 3), "as it was") << other;
  EXPECT_FALSE(find_copy_line(std::string("tt\0FWCOPY t, line 1\0", 20), "t"));
  EXPECT_FALSE(find_copy_line("", "t"));
}

TEST(CopyContext, IsWrittenAsPostgresDoes) {
  const auto context = [](const CopyPlace& place) {
    Error error;
    add_copy_context(error, "t", place);
    EXPECT_EQ(find_copy_line(error.fields, "t")->number, place.line);
    return error.fields.substr(1, error.fields.size() - 2);
  };
  EXPECT_EQ(context({.line = 3}), "COPY t, line 3");
  EXPECT_EQ(context({.line = 3, .column = "x"}), "COPY t, line 3, column x");
  EXPECT_EQ(context({.line = 3, .text = "4\t5"}), "COPY t, line 3: \"4\t5\"");
  const std::string wide = std::string(99, 'x') + "\xc3\xa4\xc3\xa4";
  EXPECT_EQ(context({.line = 3, .text = wide}), "COPY t, line 3: \"" + wide.substr(0, 99) + "...\"");
}

TEST(CopyContext, IsDropped) {
  std::string fields = fields_with("COPY t, line 3");
  drop_copy_context(fields, "t");
  EXPECT_EQ(fields, std::string("tt\0Fcopyfrom.c\0", 15));
  fields = fields_with("SQL function f\nCOPY t, line 3");
  drop_copy_context(fields, "t");
  EXPECT_EQ(fields, fields_with("SQL function f"));
}

TEST(CopyContext, HidesFilledValues) {
  plan::CopyIn spec;
  spec.name = "t";
  spec.filled.resize(2);
  const auto shown = [&spec](const std::string& row) {
    Error error;
    add_copy_context(error, "t", {.line = 3, .text = row});
    hide_filled(error, spec);
    return error.fields.substr(18, error.fields.size() - 19);
  };
  EXPECT_EQ(shown("17\t\\x5c\ta\tb"), "a\tb\"");
  EXPECT_EQ(shown("17\t" + std::string(200, 'x')), "...\"");
  spec.format = plan::CopyIn::Format::csv;
  spec.delimiter = ',';
  EXPECT_EQ(shown("17,\"a\"\",\n\",x,y"), "x,y\"");
  spec.escape = '\\';
  EXPECT_EQ(shown("17,\"a\\\",\",x,y"), "x,y\"");
  spec.header = true;
  Error error = make_error("22P04", "column name mismatch in header line field 3: got \"x3\", expected \"y\"");
  add_copy_context(error, "t", {.line = 1, .text = "a,b,x3"});
  hide_filled(error, spec);
  EXPECT_EQ(error.message, "column name mismatch in header line field 1: got \"x3\", expected \"y\"");
}

TEST(CopyFailures, TheFirstOfThem) {
  const auto error = [](const char* sqlstate, std::optional<uint64_t> line,
                        std::optional<std::string_view> text = "x") {
    Error made = make_error(sqlstate, sqlstate);
    if (line) add_copy_context(made, "t", {.line = *line, .text = text});
    return made;
  };
  const auto first = [](std::vector<Error> errors) {
    CopyFailures failures("t");
    EXPECT_FALSE(failures);
    for (Error& one : errors) failures.add(std::move(one));
    EXPECT_TRUE(failures);
    return failures.take().sqlstate;
  };
  EXPECT_EQ(first({error("22P02", 7), error("22003", 3), error("23502", 5)}), "22003");
  EXPECT_EQ(first({error("23503", std::nullopt), error("22003", 3)}), "22003");
  EXPECT_EQ(first({error("23503", std::nullopt), error("23514", std::nullopt)}), "23503");
  const Error twice = error("23505", 3, std::nullopt);
  EXPECT_EQ(first({twice, error("22P02", 1002)}), "22P02");
  EXPECT_EQ(first({error("22P02", 1002), twice}), "22P02");
  EXPECT_EQ(first({twice, error("22P02", 1003)}), "23505");
  EXPECT_EQ(first({error("22P02", 1003), twice}), "23505");
  EXPECT_EQ(first({error("23505", 3), error("22P02", 4)}), "23505");
}

}  // namespace
}  // namespace pgmosaic::exec
