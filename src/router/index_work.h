// CREATE INDEX CONCURRENTLY and REINDEX of tables whose rows are on groups (docs/design/006).
//
// PostgreSQL has no index of a partitioned table built concurrently, so the router does what its manual tells to do by
// hand: an invalid index of the parent alone, then one of each leaf, which is attached to it. The home's index is
// INVALID until every group has finished; so it stays where the work is interrupted, and DROP INDEX or REINDEX mend it.
//
// Lifecycle: one object per statement, on its session's thread. look(); where begins_everywhere(), a schema change over
// all groups calls before() and begun(); run() does the rest outside of any transaction.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "exec/backends.h"
#include "net/task.h"
#include "plan/commands.h"
#include "router/operations.h"
#include "router/schema_step.h"

namespace pgmosaic::router {

class Worker;

// Run on a group: parts that were left of indexes that are gone.
extern const char* const kDropLeftIndexes;

// Of the session, which may change meanwhile.
struct StopFlags {
  const bool &cancelled, &timed_out, &client_gone, &closing;
};

class IndexWork final : public SchemaStep {
 public:
  IndexWork(Worker& worker, exec::Backends& backends, catalog::SnapshotPtr snapshot, const plan::Ddl::IndexWork& plan,
            StopFlags stop, uint32_t pid);

  // What the statement is about. REQUIRES: nothing else of this before it.
  net::Task<Status> look();
  bool begins_everywhere() const;
  // Around CREATE INDEX in that schema change.
  net::Task<Status> before() override;
  net::Task<Status> begun(const std::vector<exec::Backend*>& groups, std::vector<std::string>& texts) override;
  net::Task<Status> done(const std::vector<exec::Backend*>&) override { co_return Status{}; }
  // Notices for the client are added to `out`.
  net::Task<Status> run(std::string& out);
  // REINDEX in the client's transaction, in place of run(): where the home has all there is. REQUIRES: look()
  net::Task<Status> run_in_block(std::string& out);

 private:
  // Where the table's rows are.
  enum class Place : uint8_t {
    home,
    copies,     // everywhere
    one_group,  // a partition, or what was one
    leaves,     // on every group, within leaves of the cluster's
    each        // REINDEX of what every group has for itself: system tables, indexes of partitioned tables
  };
  // The index as the home has it.
  struct Index {
    catalog::Oid oid = 0;  // 0: none
    std::string schema, name;
    bool valid = false;
    bool computes = false;     // it has expressions or a predicate, with functions perhaps
    std::string unique, rest;  // CREATE <unique>INDEX name ON table<rest>
    std::string qualified() const;
  };
  // Of one group.
  struct Leaf {
    std::string name, index;                // index: its part of the index, which is attached; empty: none
    std::string part;                       // the name of such a part that is made now
    bool left = false, left_valid = false;  // there is one of that name
  };
  using GroupWork = std::function<net::Task<Status>(exec::GroupId)>;

  net::Task<Status> build(std::string& out);
  net::Task<Status> look_at_index();
  void place(catalog::Oid table);
  pool::ServerConn& conn(exec::GroupId group) { return *backends_.held(group)->conn; }
  bool has_rows(exec::GroupId group) const;
  net::Task<Result<Index>> find(std::string condition);
  std::string create_text(const Index& index, const std::string& name, const std::string& relation, bool only,
                          bool concurrently) const;

  net::Task<Status> find_made();
  net::Task<Status> create_at_home(std::string& out);
  net::Task<Status> rebuild(std::string& out);
  net::Task<Status> rebuild_table(std::string& out);
  net::Task<Status> at_home(const std::string& sql, std::string& out);
  net::Task<Status> invalidate();

  net::Task<Status> on_groups(GroupWork work);
  net::Task<void> on_group(const GroupWork& work, exec::GroupId group, net::Latch& latch, Status& result);
  net::Task<Status> hold_table();
  net::Task<void> release_table();
  net::Task<Status> make(exec::GroupId group);
  net::Task<Status> make_leaves(exec::GroupId group);
  net::Task<Status> make_leaf(exec::GroupId group, const Leaf& leaf);
  net::Task<Status> repeat(exec::GroupId group);
  net::Task<Result<std::vector<Leaf>>> leaves_of(exec::GroupId group, std::string parent, std::string table);
  net::Task<void> drop_left(exec::GroupId group);
  // With a limit for waiting, again and again; where the session sets one itself, once. `tries` 0: until it is stopped.
  net::Task<Status> gently(exec::GroupId group, std::string sql, int tries = 0);
  bool asked_to_stop() const;
  std::optional<Error> stopped() const;
  Error named(Error error, const std::string& part) const;

  Worker& worker_;
  exec::Backends& backends_;
  const catalog::SnapshotPtr snapshot_;
  const catalog::Database& database_;
  const plan::Ddl::IndexWork& plan_;
  const StopFlags stop_;
  Operation operation_;
  Place place_ = Place::each;
  catalog::Oid table_ = 0;
  std::string relation_;           // the table, qualified and quoted
  exec::GroupId group_ = 0;        // one_group
  std::set<std::string> indexes_;  // OIDs of the table's indexes before
  Index index_;
  bool rebuilds_ = false;  // parts that are there already, too
  bool done_ = false;      // IF NOT EXISTS, and there is one
  bool failed_ = false;    // a group has
  bool holds_table_ = false;
  bool waits_for_ever_ = true;  // the session sets no limit
};

}  // namespace pgmosaic::router
