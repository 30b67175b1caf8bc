#include "plan/planning.h"

namespace pgmosaic::plan {

using namespace sql;

void plan_select(Planning& p, const PgQuery__SelectStmt* select) {
  Level* top = p.statement.bind_select(select, nullptr, nullptr);
  p.distribution.run(top);
  p.plan.command = "SELECT";
  p.plan.effects.writes = p.plan.effects.writes || p.statement.row_locks || p.statement.dml_in_cte;
  choose_target(p);
  if (p.plan.kind == PlanKind::unsupported) return;
  if (!p.statement.sharded.empty()) {
    check_several_groups(p, top->set_operation() ? p.distribution.result_of(top->arms[0]) : top->from_distribution);
    if (!p.plan.multi_group_error) gather_select(p, top);
  }
  set_cacheable(p);
}

}  // namespace pgmosaic::plan
