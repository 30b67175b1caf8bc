// What Backends needs of the control for transactions over several groups. Implemented in control/cluster.h; a seam for
// tests.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "exec/commit_gate.h"
#include "exec/two_phase.h"
#include "net/task.h"

namespace pgmosaic::exec {

struct StagedSchema;  // exec/control.h

using catalog::GroupId;

// A transaction that its client prepares, over several groups.
struct Parking {
  std::string database, name;         // as the client calls it, and the home
  std::vector<uint32_t> groups = {};  // besides the home
  std::set<catalog::Oid> moved_tables = {};
  std::shared_ptr<const StagedSchema> staged = {};  // null: it has changed no schema
};

// What all sessions of a router share for distributed commits.
struct CommitServices {
  virtual ~CommitServices() = default;
  virtual Gid next_gid() = 0;
  // Before the first row of the commit log is written; end_commit() when all groups show it, or none ever will.
  virtual CommitRow begin_commit(const Gid& gid, const std::string& database, const std::vector<uint32_t>& groups) = 0;
  virtual void end_commit(const Gid& gid) = 0;
  // A number while no transaction over groups of this database can be shown by one of them and not by another: none is
  // between its begin_commit() and end_commit(), nor was for so long. Another number, or none, when one has begun
  // since.
  virtual std::optional<uint64_t> quiet(const std::string& database, std::chrono::microseconds for_so_long = {}) = 0;
  virtual CommitGate& gate() = 0;
  // The decision on a transaction whose anchor did not answer (tombstone, DESIGN §5). Error: the anchor is unreachable;
  // recovery finishes the transaction later.
  virtual net::Task<Result<bool>> resolve(net::EventLoop& loop, const std::string& database, const Gid& gid,
                                          const std::vector<uint32_t>& participants) = 0;
  // Phase two of a committed transaction on groups whose connections broke: tries for some seconds.
  virtual net::Task<Status> finish(net::EventLoop& loop, std::string database, Gid gid,
                                   std::vector<uint32_t> groups) = 0;
  // Phase two could not be finished here; recovery shall, and end_commit().
  virtual void leave_to_recovery(const std::string& database, const Gid& gid) = 0;
  // A client's own PREPARE TRANSACTION over several groups. What is known of it is durable before the first of them
  // prepares, until end_commit().
  virtual Status begin_parking(const Gid& gid, const Parking& parking) = 0;
  // All have prepared: the client decides.
  virtual void parked(const Gid& gid) = 0;
};

// Tied to the outcome of one transaction: a schema change publishes its catalog exactly if the groups commit.
struct CommitHook {
  virtual ~CommitHook() = default;
  virtual Status before(const Gid& gid) = 0;  // make the intent durable; an error aborts the transaction
  virtual void after(const Gid& gid, bool committed) = 0;
};

}  // namespace pgmosaic::exec
