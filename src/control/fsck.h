// Whether a database is on every group as it should be: the home's schema against each group's, the metadata store's
// records against both, rows where none may be, transactions that nobody ends.
//
// The groups are not asked at one moment, and schemas change: what differs is looked at again, and only what stays is a
// difference. Changes nothing. Thread: any; one Fsck per check.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "control/cluster.h"
#include "control/schema_compare.h"

namespace pgmosaic::control {

class Fsck {
 public:
  Fsck(Cluster& cluster, meta::Store& store, net::EventLoop& loop, std::string database)
      : cluster_(cluster), store_(store), loop_(loop), database_(std::move(database)) {}

  // Errors: a group does not answer, or has a table locked for long (55P03).
  net::Task<Result<std::vector<exec::Difference>>> run();

 private:
  struct Site {
    catalog::Group group;
    std::unique_ptr<pool::ServerConn> conn;
    Look look;
  };
  net::Task<Status> connect();
  net::Task<Result<Findings>> look();
  net::Task<Status> ask_all(const std::vector<meta::ShardedTableRecord>& records);
  net::Task<Status> compare(Site& site, const Recorded& recorded, Findings& findings);
  void add_stuck(const Site& site, Findings& findings) const;

  Cluster& cluster_;
  meta::Store& store_;
  net::EventLoop& loop_;
  const std::string database_;
  std::vector<Site> sites_;  // the home first
  std::vector<catalog::Group> groups_;
};

}  // namespace pgmosaic::control
