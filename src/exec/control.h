// What the executor needs from the cluster's control: schema changes. Implemented in control/cluster.h; a seam for
// tests.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "catalog/catalog.h"
#include "exec/backends.h"
#include "meta/codec.h"
#include "net/task.h"
#include "plan/plan.h"

namespace pgmosaic::exec {

// The schema as an open transaction has changed it, and what must become durable if it commits.
struct StagedSchema {
  catalog::SnapshotPtr snapshot;
  std::string database;
  std::vector<meta::ShardedTableRecord> tables;
  std::vector<catalog::Colocation> colocations;
  std::shared_ptr<const catalog::Database> published;  // when the schema was last looked at
  bool makes_names = false;                            // tables under names that are new to the published catalog
  uint64_t looked = 0;                                 // its number among looks and changes, of the control
};
using StagedPtr = std::shared_ptr<const StagedSchema>;

// Something that is not on a group as it should be; see control/fsck.h.
struct Difference {
  std::string database, group, object, text;
};

class ClusterControl {
 public:
  virtual ~ClusterControl() = default;

  // A connection of the internal role, beside all pools.
  virtual net::Task<Result<std::unique_ptr<pool::ServerConn>>> connect(net::EventLoop& loop, catalog::GroupId group,
                                                                       const std::string& database) = 0;

  // What shows a group that this router, of this start, wrote the note: pgmosaic_saga_note().
  virtual std::string sign_note(catalog::GroupId group, std::string_view note) const = 0;

  // Reads the home's schema, and the other groups' OIDs, through `participants`, which see the uncommitted changes of
  // their transaction, and merges it with `changes` (the transaction's own records so far). Thread: the session's.
  using Participants = std::vector<std::pair<catalog::GroupId, pool::ServerConn*>>;
  virtual net::Task<Result<StagedPtr>> stage(Participants participants, const catalog::SnapshotPtr& base,
                                             StagedSchema changes) = 0;
  // Before the commit: what was staged is durable under `gid`'s decision.
  virtual Status intend(const StagedSchema& staged, const std::string& gid) = 0;
  virtual void forget(const std::string& gid) = 0;
  // After the commit: records applied, all workers know the new catalog when it returns.
  virtual net::Task<Status> publish(net::EventLoop& loop, StagedPtr staged, std::string gid) = 0;
  // Nobody knows yet whether `gid` committed, or it did and could not be published: recovery does it. `held` is let go
  // when the catalog tells what came of it. Any thread.
  virtual void settle_later(const std::string& database, const std::string& gid, std::shared_ptr<void> held) = 0;

  // A client is about to decide on what it has prepared over several groups: what there is to know of it. nullopt: the
  // home has it alone, or there is none.
  struct Parked {
    bool changes_schema = false, makes_names = false;
    std::set<catalog::Oid> moved_tables = {};
  };
  virtual std::optional<Parked> find_parked(const std::string& database, const std::string& name) = 0;
  // The home was told, and may not have answered. The other groups do what it did, and what changed is published; what
  // cannot be done now is done later, and `held` let go then.
  virtual net::Task<void> settle_parked(net::EventLoop& loop, std::string database, std::string name,
                                        std::shared_ptr<void> held) = 0;

  // Where the shards of a new table go: an existing colocation that fits, or a new one (not yet durable).
  virtual Result<catalog::Colocation> place(const catalog::Snapshot& snapshot, const catalog::Database& database,
                                            const std::vector<catalog::Oid>& key_types,
                                            const std::vector<catalog::Oid>& key_collations, uint32_t shard_count,
                                            const plan::Ddl::NewSharded& wish) = 0;

  // The number of a colocation that `place` does not make.
  virtual Result<catalog::ColocationId> new_colocation() = 0;

  // An index is complete on every group: the home's becomes valid, and the catalog is published.
  virtual net::Task<Status> index_built(net::EventLoop& loop, std::string database, catalog::Oid index) = 0;

  // Whether the subscription applies rows to local tables alone. `ahead`: what the statement, which has not run yet,
  // would bring is looked at, too, as far as the publisher tells.
  virtual net::Task<Status> check_subscription(net::EventLoop& loop, std::string database,
                                               plan::Ddl::Subscription subscription, bool ahead) = 0;

  // A database was created or dropped on every group: install our schema there, publish.
  virtual net::Task<Status> database_created(net::EventLoop& loop, std::string database) = 0;
  virtual net::Task<Status> database_dropped(net::EventLoop& loop, std::string database) = 0;
  // Before the first group renames a database: what is interrupted from here on the next start of a router finishes.
  virtual Status begin_rename(const std::string& from, const std::string& to) = 0;
  virtual Status forget_rename(const std::string& from) = 0;  // it was taken back
  // All groups have renamed it.
  virtual net::Task<Status> database_renamed(net::EventLoop& loop, std::string from, std::string to) = 0;

  // Clauses of tables that are yet to be created (sql/layout.h). Durable at once, not part of a transaction.
  virtual Result<meta::Layouts> layouts(const std::string& database) = 0;
  // `clauses` empty: the table's are forgotten; `table` empty, too: all of the database.
  virtual Status set_layout(const std::string& database, const std::string& schema, const std::string& table,
                            const std::string& clauses) = 0;

  // Compares the groups with each other and with the metadata store.
  virtual net::Task<Result<std::vector<Difference>>> check(net::EventLoop& loop, std::string database) = 0;
};

}  // namespace pgmosaic::exec
