// Where in the text that the client has sent an error is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace pgmosaic::router {

// A group's error position counts in the text it was sent. Where that is the client's text with another beginning or
// end, or the same words, the place can be told; else there is none: 0.
int position_in(std::string_view client, std::string_view sent, int position);

// The statement ends where its string ends or has a semicolon: `behind` is what stands behind it.
void name_end(Error& error, std::string_view behind);

// Of the statement at hand.
struct ClientText {
  std::string_view string;           // the simple query that it stands in, whole; empty: the extended protocol
  std::size_t at = 0;                // where in it the statement begins
  std::string_view statement, sent;  // where a group has another text of it, both

  // What the positions of its errors have to be raised by: a string may be long, so only an error counts it.
  int before() const { return characters(string.substr(0, at)); }
  int in_string(int position) const { return position > 0 ? in_original(position + before()) : position; }
  // `string` has characters that the client did not send, at these places.
  const std::vector<int>* inserted = nullptr;
  int in_original(int position) const {
    if (inserted == nullptr) return position;
    const auto ahead =
        std::count_if(inserted->begin(), inserted->end(), [position](int at_) { return at_ < position; });
    return position - static_cast<int>(ahead);
  }
  // Of an error in the text of a prepared statement: its place is in the string that had the PREPARE.
  void in_prepare(Error& error, int text_at) {
    if (error.position > 0) error.position += text_at;
    at = 0;
  }
};

}  // namespace pgmosaic::router
