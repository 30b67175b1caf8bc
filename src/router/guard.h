// Around a statement that runs SQL which nobody has read (plan::Plan::guarded): functions with EXECUTE, query_to_xml,
// DO blocks. The home runs it in a transaction; what it has touched is known from the locks it holds behind it, and
// what it did to the schema from notes that an event trigger of the home's takes (control/install_home_sql.h); what it
// did to roles from their catalogs (router/home_roles.h).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "net/task.h"
#include "pool/server_conn.h"
#include "router/home_roles.h"
#include "router/lent_statements.h"

namespace pgmosaic::router {

// A statement in a function that changed the schema of the home, and of no other group yet.
struct HomeChange {
  std::string tag, sql;
  std::string made;           // OID of what it made or changed; empty: it dropped something
  std::string name, columns;  // of a table made of a query, as CREATE TABLE has them
};

class Guard {
 public:
  // `home`: the session's backend, within a transaction; outlives the guard. `statements`: the session's, or null.
  Guard(pool::ServerConn& home, const catalog::Database& database, const ByName<PreparedPtr>* statements);

  // Before the statement `sql`. 0A000: the transaction holds locks already that would hide what the statement touches.
  net::Task<Status> begin(std::string_view sql);
  // Behind it, whether it succeeded or not.
  net::Task<void> take_back() { return lent_.take_back(); }
  // Behind it, where it succeeded. 0A000: it used rows that are not the home's alone: the transaction must be rolled
  // back.
  net::Task<Status> end();
  // What end() has found, in order.
  const std::vector<HomeChange>& changes() const { return changes_; }
  // Tables that it may have made without a note: EXPLAIN ANALYZE of CREATE TABLE AS fires no event trigger.
  const std::vector<HomeChange>& unnoted() const { return unnoted_; }
  // What it may have done to roles: memberships, settings and comments, or to the roles as well.
  bool touches_memberships() const { return touches_memberships_; }
  bool touches_roles() const { return touches_roles_; }
  bool reads_passwords() const { return reads_passwords_; }
  // What roles there were before, where the transaction had changed them already: nobody else can see them.
  const std::optional<RoleCatalogs>& roles_before() const { return roles_before_; }
  // Whether the backend then had temporary objects of the session.
  bool leaves_objects() const { return leaves_objects_; }

 private:
  std::string touched() const;
  net::Task<Status> read_changes();
  net::Task<Status> read_unnoted(std::string_view locked);
  net::Task<Result<std::string>> text_in(std::string_view stack);
  pool::ServerConn& home_;
  const catalog::Database& database_;
  const ByName<PreparedPtr>* statements_;
  LentStatements lent_;
  bool leaves_objects_ = false, touches_memberships_ = false, touches_roles_ = false, reads_passwords_ = false;
  std::optional<RoleCatalogs> roles_before_;
  const std::string sharded_, reference_;  // arrays of OIDs
  // Before the statement: what others groups have, too; of all tables, as TRUNCATE gives them new ones.
  std::string role_, path_, files_;
  std::string noted_;  // changes of the transaction before
  std::vector<HomeChange> changes_, unnoted_;
};

}  // namespace pgmosaic::router
