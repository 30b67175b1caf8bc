// What a schema change leaves to do once its statements ran on every group: leaves, the places of partitions, and what
// the catalog has to know about new tables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "exec/backends.h"
#include "exec/control.h"
#include "plan/commands.h"

namespace pgmosaic::router {

// schema.name, quoted; name alone where the schema is empty.
std::string qualified_name(const std::string& schema, const std::string& name);

// At most 40 bytes of a name, cut at a character's border.
std::string short_name(const std::string& name);
// Of the names of a table's leaves.
std::string leaf_prefix(const std::string& table, catalog::Oid oid);

// Runs one text on several groups at once. `notices`: those of the first are added to it, `tag`: its last command tag;
// either may be null. The error names its group where that is not the first.
net::Task<Status> run_on_groups(const std::vector<exec::Backend*>& backends, const std::vector<std::string>& texts,
                                std::string* notices, std::string* tag = nullptr);

// Values in text keep every digit and character, and row security hides none, in the transaction that is open. Returns
// what brings the settings back.
net::Task<Result<std::string>> write_exactly(pool::ServerConn& conn);

// Of one schema change, on its session's thread. REQUIRES: `backends` holds one of every group.
class NewTables {
 public:
  NewTables(exec::ClusterControl& control, exec::Backends& backends, const catalog::Snapshot& snapshot,
            const catalog::Database& database, exec::StagedSchema& changes)
      : control_(control), backends_(backends), snapshot_(snapshot), database_(database), changes_(changes) {}

  // Before the statements of `ddl` run, and after they ran on every group.
  net::Task<Status> before(const plan::Ddl& ddl);
  net::Task<Status> after(const plan::Ddl& ddl);
  // When the home has run one of the statements, and the other groups have not. range_keys.cc
  net::Task<Status> check_range_keys(const plan::Ddl& ddl);

 private:
  net::Task<Status> refuse_partitioned(const std::string& index);
  net::Task<Status> refuse_default(const std::string& table);
  net::Task<Result<bool>> exists(const plan::Ddl::NewSharded& wish);
  net::Task<Status> sharded(const plan::Ddl::NewSharded& wish);
  // A reference table is recorded; a local one is what the catalog takes for granted.
  net::Task<Status> other(const plan::Ddl::NewTable& created);
  net::Task<Status> partition(const plan::Ddl::NewPartition& made);
  // The first partition of the user's own: the leaves go, and the table is by its partitions.
  net::Task<Status> replace_leaves(const plan::Ddl::ReplacedLeaves& replaced);
  // A local table to be attached: it and its rows go to the group where it will be.
  net::Task<Status> adopt(const plan::Ddl::NewPartition& table);

  struct Parent {
    catalog::ColocationId colocation = 0;
    std::vector<std::string> keys;
    bool by_partition = false;
  };
  net::Task<Status> by_partition(const plan::Ddl::NewSharded& wish);
  net::Task<Status> read_key(const plan::Ddl::NewSharded& wish, meta::ShardedTableRecord& record,
                             std::vector<catalog::Oid>& types, std::string& schema);
  net::Task<Status> read_expression_key(const plan::Ddl::NewSharded& wish, meta::ShardedTableRecord& record,
                                        std::vector<catalog::Oid>& types, std::string& schema);
  Result<catalog::Colocation> colocation_for(const plan::Ddl::NewSharded& wish, const std::vector<catalog::Oid>& types,
                                             const std::string& schema);
  net::Task<Status> lock_empty(const std::string& name, const std::string& title);
  // The name with the schema where a table without one was made, which is never a temporary one.
  net::Task<Result<std::string>> name_of(const std::string& schema, const std::string& table);
  net::Task<Status> check_adoption(const std::string& name);
  net::Task<Status> gather_partitions(const std::string& name);
  net::Task<Result<catalog::Oid>> oid_at_home(const std::string& name);
  net::Task<Status> create_leaves(const catalog::Colocation& colocation, const std::string& parent,
                                  const std::string& prefix, const plan::Ddl::NewSharded& wish);
  net::Task<Result<Parent>> find_parent(catalog::Oid oid);
  net::Task<Status> spread(const plan::Ddl::NewPartition& made, catalog::Oid oid, const Parent& parent, bool divided);
  net::Task<Status> refuse_elsewhere(const std::string& name, exec::GroupId group);
  net::Task<Status> move_from_home(const std::string& name, exec::GroupId group);
  exec::GroupId choose_group(const Parent& parent);
  bool is_by_partition(catalog::Oid oid) const;
  exec::GroupId group_of(catalog::Oid partition) const;
  net::Task<Result<exec::GroupId>> group_of_counterpart(catalog::Oid partition, catalog::Oid parent);
  void record(catalog::Oid oid, exec::GroupId group);

  exec::ClusterControl& control_;
  exec::Backends& backends_;
  const catalog::Snapshot& snapshot_;
  const catalog::Database& database_;
  exec::StagedSchema& changes_;
  std::map<catalog::ColocationId, std::vector<exec::GroupId>> placed_;  // by this change
  bool existed_ = false;  // IF NOT EXISTS, and there is a table of this name
};

}  // namespace pgmosaic::router
