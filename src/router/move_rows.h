// Runs an UPDATE of distribution columns whose rows may leave their group (plan/row_moves.h, docs/design/007).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "exec/gather.h"
#include "plan/row_moves.h"
#include "router/execution.h"
#include "router/move_log.h"
#include "router/plan_settings.h"

namespace pgmosaic::router {

// What ends a statement between two of the router's own.
struct StopSigns {
  const bool &cancelled, &timed_out, &closing;
  Status check() const;  // 57014, 57P01
};

// Of one execution, inside a transaction. Its groups are those that may have rows of the statement; others join when a
// row comes to them.
class RowMover {
 public:
  RowMover(exec::Backends& backends, const catalog::Snapshot& snapshot, const catalog::Database& database,
           const plan::Plan& plan, const Execution& execution, const PlanSettings& settings, MoveLog& log,
           StopSigns stop)
      : backends_(backends),
        snapshot_(snapshot),
        database_(database),
        table_(*database.tables_by_oid.at(plan.key_change->table)),
        colocation_(*database.colocation(table_.colocation)),
        plan_(plan),
        change_(*plan.key_change),
        execution_(execution),
        settings_(settings),
        log_(log),
        stop_(stop) {}

  // `sources`: backends of the statement's groups. `update`: the statement. Returns how many rows it has changed.
  net::Task<Result<uint64_t>> run(const std::vector<exec::Backend*>& sources, const std::string& update,
                                  exec::RowSink& sink);
  bool moved_any() const { return moved_ > 0; }
  // It has failed, and may succeed if it runs again.
  bool missed() const { return missed_; }

 private:
  net::Task<Status> prepare();
  std::string question() const;
  void read_obstacle(const std::vector<std::optional<std::string>>& facts);
  void read_partitions(const std::vector<std::vector<std::optional<std::string>>>& rows);
  std::string shard_of_row(exec::GroupId group) const;
  std::string leaf_of(const std::vector<std::string>& key, const std::string& remainders) const;
  std::string other_leaf() const;
  std::string taking(exec::GroupId group) const;
  net::Task<Status> lock();
  net::Task<Status> take();
  net::Task<Result<uint64_t>> update_rest(const std::string& update, exec::RowSink& sink);
  net::Task<Result<uint64_t>> move(const std::string& update, exec::RowSink& sink);
  net::Task<Status> put_all(exec::RowSink& sink);
  net::Task<Status> read_part(exec::RowReader& reader);
  net::Task<Status> put_rows(exec::RowSink& sink);
  net::Task<Status> close_portals();
  exec::Request request(std::string_view sql) const;

  exec::Backends& backends_;
  const catalog::Snapshot& snapshot_;
  const catalog::Database& database_;
  const catalog::Table& table_;
  const catalog::Colocation& colocation_;
  const plan::Plan& plan_;
  const plan::KeyChange& change_;
  const Execution& execution_;
  const PlanSettings& settings_;
  MoveLog& log_;
  const StopSigns stop_;

  std::vector<exec::Backend*> sources_;
  std::optional<Error> obstacle_;  // why rows cannot move
  bool has_triggers_ = false;
  std::vector<std::string> key_types_;            // with their modifiers
  std::string hash_table_, hash_key_;             // by hash: the table, on every group, and its key
  std::map<uint32_t, std::string> conditions_;    // by partition: shard → what holds for its rows
  std::string exact_, restore_;                   // SETs around what is read
  std::vector<exec::RowReader> readers_;          // of rows that leave
  std::map<exec::GroupId, std::string> arrived_;  // rows of VALUES, not inserted yet
  std::size_t part_bytes_ = 0, part_rows_ = 0;
  uint64_t moved_ = 0;
  bool missed_ = false;
};

// Rows moved beside the statement, which may have missed them. In a transaction of its own it is tried again.
Error moved_beside();
inline constexpr int kAttempts = 10;
// Waits a little for commits that move rows of the table.
net::Task<void> moves_settled(net::EventLoop& loop, MoveLog& log, MoveLog::Key table);
// Waits a little for statements that such a commit gives way to.
net::Task<void> may_commit_moves(net::EventLoop& loop, MoveLog& log, std::string database,
                                 std::set<catalog::Oid> tables);
// Whether the error says that a row for which the statement waited is in another leaf of the same group now.
bool moved_between_leaves(const Error& error);
// Whether the error says that a row belongs to another group.
bool left_its_group(const Error& error, const catalog::Database& database);
// The statement needs none of this: it changes no key, or the rows stay in the one group that has them.
bool keeps_group(const plan::Plan& plan, const Execution& execution, const catalog::Database& database);

}  // namespace pgmosaic::router
