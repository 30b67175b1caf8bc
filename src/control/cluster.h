// Cluster: the control's view of the whole – groups, databases, catalog – and what keeps them consistent: bootstrap of
// a database, publication of schema changes, the decision on transactions in doubt.
//
// Lifecycle: open() before the router's workers start (it installs, recovers, loads); then workers call it from their
// threads. Each call uses connections of its own, opened with the internal role.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/config.h"
#include "catalog/catalog.h"
#include "control/commit_labels.h"
#include "control/in_doubt.h"
#include "control/introspect.h"
#include "control/parked.h"
#include "exec/control.h"
#include "exec/inquiry.h"
#include "meta/store.h"

namespace pgmosaic::control {

struct GroupEndpoint {
  catalog::Group group;
  pool::Endpoint endpoint;
};

class Cluster final : public exec::ClusterControl, public exec::CommitServices {
 public:
  // Hands a new catalog to all workers; returns when each uses it.
  using Announce = std::function<net::Task<void>(net::EventLoop&, catalog::SnapshotPtr)>;

  Cluster(meta::Store& store, std::vector<GroupEndpoint> groups, pool::Credentials internal,
          std::string internal_database);

  // Checks and installs every database on every group, settles what dead routers left in doubt, loads the catalog.
  net::Task<Status> open(net::EventLoop& loop);
  catalog::SnapshotPtr snapshot() const;
  void set_announce(Announce announce) { announce_ = std::move(announce); }
  const std::string& cluster_id() const { return cluster_id_; }
  const std::string& router_name() const { return router_name_; }
  // For pg::mock_verifier(): the same for all routers, for the life of the cluster.
  const std::string& mock_secret() const { return mock_secret_; }
  const std::vector<GroupEndpoint>& groups() const { return groups_; }
  const pool::Credentials& internal() const { return internal_; }

  // Every few seconds: finishes transactions whose phase two failed, trims the commit logs.
  net::Task<void> tend(net::EventLoop& loop);

  // exec::ClusterControl
  net::Task<Result<exec::StagedPtr>> stage(Participants participants, const catalog::SnapshotPtr& base,
                                           exec::StagedSchema changes) override;
  Status intend(const exec::StagedSchema& staged, const std::string& gid) override;
  void forget(const std::string& gid) override;
  net::Task<Status> publish(net::EventLoop& loop, exec::StagedPtr staged, std::string gid) override;
  Result<catalog::Colocation> place(const catalog::Snapshot& snapshot, const catalog::Database& database,
                                    const std::vector<catalog::Oid>& key_types,
                                    const std::vector<catalog::Oid>& key_collations, uint32_t shard_count,
                                    const plan::Ddl::NewSharded& wish) override;
  Result<catalog::ColocationId> new_colocation() override;
  net::Task<Status> index_built(net::EventLoop& loop, std::string database, catalog::Oid index) override;
  net::Task<Status> check_subscription(net::EventLoop& loop, std::string database, plan::Ddl::Subscription subscription,
                                       bool ahead) override;  // subscriptions.cc
  net::Task<Status> database_created(net::EventLoop& loop, std::string database) override;
  net::Task<Status> database_dropped(net::EventLoop& loop, std::string database) override;
  // renames.cc
  Status begin_rename(const std::string& from, const std::string& to) override;
  Status forget_rename(const std::string& from) override;
  net::Task<Status> database_renamed(net::EventLoop& loop, std::string from, std::string to) override;
  Result<meta::Layouts> layouts(const std::string& database) override;
  Status set_layout(const std::string& database, const std::string& schema, const std::string& table,
                    const std::string& clauses) override;
  net::Task<Result<std::vector<exec::Difference>>> check(net::EventLoop& loop, std::string database) override;

  // exec::CommitServices
  exec::Gid next_gid() override;
  exec::CommitRow begin_commit(const exec::Gid& gid, const std::string& database,
                               const std::vector<uint32_t>& groups) override;
  void end_commit(const exec::Gid& gid) override;
  std::optional<uint64_t> quiet(const std::string& database, std::chrono::microseconds for_so_long) override;
  exec::CommitGate& gate() override { return gate_; }
  net::Task<Result<bool>> resolve(net::EventLoop& loop, const std::string& database, const exec::Gid& gid,
                                  const std::vector<uint32_t>& participants) override;
  net::Task<Status> finish(net::EventLoop& loop, std::string database, exec::Gid gid,
                           std::vector<uint32_t> groups) override;
  void leave_to_recovery(const std::string& database, const exec::Gid& gid) override;
  // parked.cc
  Status begin_parking(const exec::Gid& gid, const exec::Parking& parking) override;
  void parked(const exec::Gid& gid) override { parked_.prepared(gid); }
  std::optional<Parked> find_parked(const std::string& database, const std::string& name) override;
  net::Task<void> settle_parked(net::EventLoop& loop, std::string database, std::string name,
                                std::shared_ptr<void> held) override;
  void settle_later(const std::string& database, const std::string& gid, std::shared_ptr<void> held) override;

  net::Task<Result<std::unique_ptr<pool::ServerConn>>> connect(net::EventLoop& loop, catalog::GroupId group,
                                                               const std::string& database) override;

  std::string sign_note(catalog::GroupId group, std::string_view note) const override;

 private:
  Result<Records> read_records(const std::string& database, const catalog::Database* published,
                               std::vector<meta::ShardedTableRecord>& committed);
  void install_database(std::shared_ptr<const catalog::Database> database, uint64_t looked);
  Result<bool> compare_kinds(const catalog::Database& changed, const std::string& name) const;
  net::Task<Status> install(net::EventLoop& loop, const std::string& database);
  net::Task<Status> install_secret(pool::ServerConn& conn, catalog::GroupId group);
  // The decision on a transaction, of its anchor.
  net::Task<Result<std::optional<bool>>> ask(net::EventLoop& loop, const std::string& database, exec::Inquiry inquiry);
  net::Task<RecoveryLook> recover(net::EventLoop& loop);
  net::Task<Status> recover_group(net::EventLoop& loop, const GroupEndpoint& group,
                                  const std::vector<std::string>& databases, RecoveryLook& look);
  net::Task<Status> recover_prepared(net::EventLoop& loop, const GroupEndpoint& group, std::string database,
                                     exec::Gid gid);
  // Of the transactions `only`; empty: all.
  net::Task<Status> recover_intents(net::EventLoop& loop, const Gids& only, int& settled);
  struct SchemaChange {
    std::string database;
    std::shared_ptr<void> held;
  };
  net::Task<void> look(net::EventLoop& loop, const std::map<std::string, SchemaChange>& changes);
  net::Task<Status> tell_groups(net::EventLoop& loop, std::string database, exec::Gid gid, std::vector<uint32_t> groups,
                                bool commit, int64_t patience_us);
  // parked.cc
  net::Task<Result<bool>> settle_one(net::EventLoop& loop, ParkedTransaction transaction, int64_t patience_us);
  net::Task<Result<bool>> settle_claimed(net::EventLoop& loop, const ParkedTransaction& transaction,
                                         int64_t patience_us);
  net::Task<Status> publish_parked(net::EventLoop& loop, const ParkedTransaction& transaction);
  net::Task<Status> recover_parked(net::EventLoop& loop);
  net::Task<void> sweep_parked(net::EventLoop& loop);
  net::Task<void> tend_parked(net::EventLoop& loop, InDoubt::Round round);
  // trim.cc
  net::Task<void> trim(net::EventLoop& loop);
  net::Task<bool> trim_database(net::EventLoop& loop, const std::string& database, uint64_t epoch,
                                const CommitLabels::Closed& closed);
  net::Task<Status> forget_commits(net::EventLoop& loop, const std::string& database);
  net::Task<Status> finish_renames(net::EventLoop& loop);
  Status move_records(const std::string& from, const std::string& to);
  net::Task<void> take_away(net::EventLoop& loop, const std::string& database);  // from the catalog
  net::Task<Result<std::vector<std::string>>> list_databases(net::EventLoop& loop);
  net::Task<Status> make_shards_databases(net::EventLoop& loop, const std::vector<std::string>& databases);
  // `staged`: the change that has just been committed.
  net::Task<Status> reload(net::EventLoop& loop, const std::string& database, exec::StagedPtr staged = nullptr);
  Status forget_dropped(const std::vector<meta::ShardedTableRecord>& records, const catalog::Database& loaded,
                        const catalog::Database* before, const exec::StagedSchema* staged);
  net::Task<Status> add_oid_maps(net::EventLoop& loop, catalog::Database& loaded,
                                 std::vector<const catalog::Database*> like);
  Status apply(const std::vector<meta::ShardedTableRecord>& tables, const std::vector<catalog::Colocation>& colocations,
               const std::string& database, const std::string& gid);
  Status load_identity();
  net::Task<Status> check_membership(net::EventLoop& loop, const std::vector<std::string>& databases);
  Status load_mock_secret();
  Error group_error(catalog::GroupId group, Error error) const;

  meta::Store& store_;
  std::vector<GroupEndpoint> groups_;
  pool::Credentials internal_;
  std::string internal_database_;
  catalog::GroupId home_ = 0;
  std::string cluster_id_, router_name_, mock_secret_;
  // Of this start: what was signed before it is worth nothing.
  const std::string commit_secret_;
  Announce announce_;
  mutable std::mutex mutex_;  // snapshot_, pending_, unsettled_
  catalog::SnapshotPtr snapshot_;
  std::map<std::string, std::vector<catalog::Colocation>> pending_;  // placed, not yet durable, by database
  CommitLabels labels_;
  std::set<std::string> untrimmed_;  // databases whose commit logs wait for a group; of the tending thread
  exec::CommitGate gate_;
  InDoubt in_doubt_;
  std::map<std::string, SchemaChange> unsettled_;  // by gid
  ParkedTransactions parked_;
  // Looks at schemas and their changes by number, in the order in which they begin. A look knows all changes before it.
  uint64_t last_number_ = 0;
  std::map<std::string, uint64_t> changed_;    // by database: the last change
  std::map<std::string, uint64_t> published_;  // … and up to where the published catalog knows them
};

}  // namespace pgmosaic::control
