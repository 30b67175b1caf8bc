// Where a statement goes: the groups of its key values, and the rows of a multi-row INSERT by group.
#include "router/ask_shard.h"
#include "router/execution.h"
#include "router/session.h"

namespace pgmosaic::router {

net::Task<Result<exec::Resolution>> Session::locate(const plan::Plan& plan, Execution& execution) {
  exec::Resolution where = exec::resolve(plan.target, execution.values, *snapshot_, *database_);
  if (!where.undecided || plan.command != "INSERT") co_return where;
  // An INSERT must know its shard.
  const catalog::Colocation& colocation = *database_->colocation(plan.target.colocation);
  ShardQuestions questions(backends_, *snapshot_, *database_, staged_ != nullptr);
  std::vector<exec::GroupId> groups;
  for (const plan::KeyTuple& tuple : plan.target.keys) {
    CO_TRY_ASSIGN(const exec::GroupId group, co_await questions.group_of_row(colocation, tuple, execution.values));
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  std::sort(groups.begin(), groups.end());
  exec::Resolution decided;
  groups.size() == 1 ? void(decided.one = groups[0]) : void(decided.groups = std::move(groups));
  co_return decided;
}

// Groups the rows of a multi-row INSERT by the group that owns them; one statement per group.
net::Task<Status> Session::split_insert(const plan::Plan& plan, Execution& execution, std::vector<Split>& parts,
                                        std::vector<std::size_t>& order) {
  const plan::InsertSplit& insert = *plan.insert_split;
  const catalog::Colocation& colocation = *database_->colocation(insert.colocation);
  ShardQuestions questions(backends_, *snapshot_, *database_, staged_ != nullptr);
  std::map<exec::GroupId, std::string> by_group;
  std::vector<exec::GroupId> groups;  // of each row
  for (const auto& row : insert.rows) {
    bool is_null = false;
    exec::GroupId group;
    if (const auto shard = exec::shard_of(row.key, execution.values, colocation, is_null)) {
      group = exec::group_of(colocation, *shard, *snapshot_);
    } else {
      CO_TRY_ASSIGN(group, co_await questions.group_of_row(colocation, row.key, execution.values));
    }
    groups.push_back(group);
    std::string& text = by_group[group];
    text += text.empty() ? insert.prefix : std::string(", ");
    text += execution.sql.substr(row.begin, row.end - row.begin);
  }
  for (auto& [group, text] : by_group) parts.push_back({group, text + " " + insert.suffix});
  for (exec::GroupId group : groups)
    order.push_back(static_cast<std::size_t>(std::distance(by_group.begin(), by_group.find(group))));
  co_return Status{};
}

}  // namespace pgmosaic::router
