// Statements over views of sharded tables: what the views are made of, and changes of views beside them.
//
// The planner proves that the groups can answer for themselves from the query of a view (plan/bind_views.cc), but the
// groups run the view that they have by then: a statement that waits for a CREATE OR REPLACE VIEW runs the new one. So
// a session says which views its statement uses, and a schema change that commits other ones first ends the statements
// that use them, which wait for its locks; those that come meanwhile wait until the catalog is published, and are
// planned again.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "catalog/catalog.h"
#include "net/task.h"
#include "plan/planner.h"
#include "pool/server_conn.h"
#include "router/name_gate.h"

namespace pgmosaic::router {

class Session;
struct RouterContext;

class ViewUse {
 public:
  explicit ViewUse(Session& session) : s_(session) {}

  // Plans it, and reads what the views in it are made of; its views are in use from now on.
  net::Task<Result<plan::PlanPtr>> plan(std::string_view sql, const std::vector<pg::Oid>& types);
  // The views of a plan that was made before. False: the schema may have changed meanwhile, plan again.
  net::Task<Result<bool>> use(const plan::Plan& plan);
  // Whether its statement uses one of these; null: any of the database.
  static bool uses(const Session& session, const std::string& database, const std::set<catalog::Oid>* views);

 private:
  net::Task<Status> read(std::vector<catalog::Oid> views);
  net::Task<Status> wait_for_locks(const std::vector<catalog::Oid>& views);
  net::Task<Result<bool>> ask(pool::ServerConn& conn, std::string set, std::string reset,
                              const catalog::Database& database, const std::vector<catalog::Oid>& views);

  Session& s_;
};

// Views over sharded tables that are others in `after`, or gone; other views whose names stand for rows elsewhere then.
std::set<catalog::Oid> changed_views(const catalog::Database& before, const catalog::Database& after);

// Before the commit of a change of these views (null: of whichever): the gate is closed, and nobody else uses them.
// Error (55P03): statements that use them do not end.
net::Task<Result<std::shared_ptr<NamesClosed>>> close_views(net::EventLoop& loop, RouterContext& context,
                                                            std::string database, const Session* self,
                                                            const std::set<catalog::Oid>* changed,
                                                            std::shared_ptr<NamesClosed> closed);

}  // namespace pgmosaic::router
