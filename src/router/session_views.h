// The relations that the router knows (plan/virtual_relations.h): pgmosaic.tables and the like (router_views.cc), and
// pg_prepared_statements and pg_cursors: what a backend has of these is shared between sessions, or one part of
// several, so their rows are made here. What is told of cursors and portals of one group is that backend's own word; of
// prepared statements, and of cursors that the router keeps, it is the router's.
#pragma once

#include <string>

#include "router/session.h"

namespace pgmosaic::router {

// Rows as a JSON array, on the session's thread.
class SessionViews {
 public:
  explicit SessionViews(Session& session) : s_(session) {}
  // Of any of them, by its name.
  net::Task<Result<std::string>> rows(const std::string& relation);
  net::Task<Result<std::string>> prepared_statements();
  net::Task<Result<std::string>> cursors();

 private:
  net::Task<Result<std::string>> activity();
  net::Task<Result<std::string>> sagas();

  Session& s_;
};

}  // namespace pgmosaic::router
