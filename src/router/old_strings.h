// Statements of sessions with standard_conforming_strings = off, where a backslash in '…' is an escape. All that is
// read here is read as with it on, so '…' with a backslash becomes E'…', which means the same in both, before anything
// else is done with the text. The backends have the session's setting: what functions parse is theirs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgmosaic::router {

struct OldStrings {
  std::string text;
  std::vector<int> inserted;  // where in `text` characters were put in, counted from 1
  std::string warnings;       // as PostgreSQL gives them where escape_string_warning is on: messages, whole
};

// What stands behind a string that does not end stays as it is: PostgreSQL says so.
OldStrings with_escape_strings(std::string_view sql);

}  // namespace pgmosaic::router
