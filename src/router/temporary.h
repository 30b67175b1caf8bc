// Names of a session's temporary relations, indexes among them. They live on its pinned backend of the home and hide
// other relations of the same name there; statements that name them belong to that backend alone.
#pragma once

#include <set>
#include <string>
#include <vector>

namespace pgmosaic::router {

struct TemporaryNames {
  std::set<std::string, std::less<>> names;  // those that a name without a schema finds
  bool any = false;                          // there are temporary relations, if only as pg_temp.name
  bool known = false;                        // as of the statement at hand; else the backend is asked again
  std::vector<std::string> path;             // known for this search_path
};

// Rows of (name, true where a name without a schema finds it). A search_path that puts pg_temp behind other schemas
// lets their relations hide the temporary ones.
std::string ask_temporary_names(const std::vector<std::string>& search_path);

}  // namespace pgmosaic::router
