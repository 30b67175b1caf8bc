// Views over sharded tables. Every group has the view, over its own part of the tables: the text of a statement stays
// as it is, and the view's query is bound in its place, as if it stood there as a sub-query.
#include "plan/bind.h"

namespace pgmosaic::plan {

using namespace sql;

bool Statement::bind_view(Instance& view) {
  const catalog::Oid oid = view.table->oid;
  const auto query = context.database->view_definitions.find(oid);
  if (context.views != nullptr) (query == nullptr ? context.views->unread : context.views->bound).push_back(oid);
  if (query == nullptr || query->empty()) return false;
  auto tree = ParseTree::parse(*query);
  auto* select = tree.ok() && tree->statement_count() == 1 ? as<PgQuery__SelectStmt>(tree->statement()) : nullptr;
  if (select == nullptr) return false;
  view_trees.push_back(std::move(*tree));
  // Its constants are not in the client's text, and its names do not depend on the session's search path.
  const bool by_value = std::exchange(constants_by_value, true);
  ++inside_views_;
  view.level = bind_select(select, nullptr, nullptr);
  --inside_views_;
  constants_by_value = by_value;
  view.placement = Instance::Placement::derived;
  std::erase(sharded, view.id);
  if (view.level->outputs.size() != view.columns.size()) view.level->outputs_known = false;
  for (size_t i = 0; i < view.columns.size() && view.level->outputs_known; ++i)
    view.level->outer_columns.push_back(Var{view.id, static_cast<int>(i)});
  return true;
}

Instance& Statement::add_target(Level* level, const PgQuery__RangeVar* range) {
  Instance& target = add_table(level, range, -1);
  if (target.placement == Instance::Placement::sharded_view && !target.table->has_statement_triggers) bind_view(target);
  return target;
}

}  // namespace pgmosaic::plan
