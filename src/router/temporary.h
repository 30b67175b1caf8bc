// Names of a session's temporary relations, indexes among them. They live on its pinned backend of the home and hide
// other relations of the same name there; statements that name them belong to that backend alone.
#pragma once

#include <set>
#include <string>

namespace pgmosaic::router {

struct TemporaryNames {
  std::set<std::string, std::less<>> names;
  bool known = false;  // as of the statement at hand; else the backend is asked again
};

inline constexpr const char* kAskTemporaryNames =
    "SELECT relname FROM pg_catalog.pg_class WHERE pg_catalog.pg_my_temp_schema() <> 0 AND relnamespace = "
    "pg_catalog.pg_my_temp_schema()";

}  // namespace pgmosaic::router
