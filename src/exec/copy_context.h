// CONTEXT of errors in COPY … FROM STDIN, as PostgreSQL writes it:
//
//   COPY t, line 3        COPY t, line 3: "the line"        COPY t, line 3, column x: "abc"
//
// A group's PostgreSQL may write it in another language; what it begins with and the number are the same in all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "plan/plan.h"

namespace pgmosaic::exec {

struct CopyPlace {
  uint64_t line = 0;
  std::string_view column = {};
  std::optional<std::string_view> text = {};  // the line
};
void add_copy_context(Error& error, std::string_view table, const CopyPlace& place);

// Where a server's fields (Error::fields, or the body of a NoticeResponse) have a line's number.
struct CopyLineNumber {
  uint64_t number = 0;
  std::size_t clause = 0;          // ", line 3" begins here …
  std::size_t begin = 0, end = 0;  // … and the digits
};
std::optional<CopyLineNumber> find_copy_line(std::string_view fields, std::string_view table);
// Without the client's line the number is left out.
void replace_copy_line(std::string& fields, const CopyLineNumber& found, std::optional<uint64_t> line);
// For what is no COPY to the client.
void drop_copy_context(std::string& fields, std::string_view table);

// A group's error without the values that the router has put in front of the rows.
void hide_filled(Error& error, const plan::CopyIn& spec);

// Of the errors of one COPY the one that one PostgreSQL would have met.
class CopyFailures {
 public:
  explicit CopyFailures(std::string_view table) : table_(table) {}

  // Its line counts in the client's stream.
  void add(Error error);
  explicit operator bool() const { return first_.has_value(); }
  Error take() { return std::move(*first_); }

 private:
  struct Rank {
    std::optional<uint64_t> line;
    bool of_batch = false;  // found when rows were written to the indexes, not when the line was read
  };
  static bool before(const Rank& a, const Rank& b);

  std::string table_;
  std::optional<Error> first_;
  Rank rank_;
};

}  // namespace pgmosaic::exec
