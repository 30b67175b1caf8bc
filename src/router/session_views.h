// pg_prepared_statements and pg_cursors: what a backend has of them is shared between sessions, or one part of several,
// so their rows are made here (plan/virtual_relations.h). What is told of cursors and portals of one group is that
// backend's own word; of prepared statements, and of cursors that the router keeps, it is the router's.
#pragma once

#include <string>

#include "router/session.h"

namespace pgmosaic::router {

// Rows as a JSON array, on the session's thread.
class SessionViews {
 public:
  explicit SessionViews(Session& session) : s_(session) {}
  net::Task<Result<std::string>> prepared_statements();
  net::Task<Result<std::string>> cursors();

 private:
  Session& s_;
};

}  // namespace pgmosaic::router
