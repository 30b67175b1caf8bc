// Schema changes that a function has made on the home (router/guard.h): the other groups and the catalog follow, in the
// same transaction.
#pragma once

#include "router/guard.h"
#include "router/session.h"

namespace pgmosaic::router {

// Of one statement, on its session's thread.
class HomeChanges {
 public:
  explicit HomeChanges(Session& session) : s_(session) {}

  // REQUIRES: a transaction, in which the home made the changes. After an error it must be rolled back.
  net::Task<Status> follow(const Guard& guard);

 private:
  net::Task<Status> follow_schema(const std::vector<HomeChange>& changes);
  net::Task<Status> follow_unnoted(const std::vector<HomeChange>& tables);
  net::Task<Result<RoleChanges>> role_changes(const Guard& guard);
  net::Task<Status> change_roles(const std::vector<std::string>& statements);
  plan::PlanPtr plan(const HomeChange& change);
  net::Task<Status> check_partition(const HomeChange& change, const plan::Ddl::NewPartition& partition);

  Session& s_;
};

}  // namespace pgmosaic::router
