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
  if (p.statement.row_locks && p.statement.sharded.size() == 1)
    p.plan.written = p.statement.instance(p.statement.sharded[0]).table->oid;
  if (!p.statement.sharded.empty()) {
    // A UNION without the distribution column gets its chance in gather_select.
    Distribution rows = p.distribution.rows_of(top);
    bool distinct_union = top->set_operation() && select->op == PG_QUERY__SET_OPERATION__SETOP_UNION && !select->all;
    if (distinct_union) rows.kind = Distribution::Kind::partitioned;
    check_several_groups(p, rows);
    forbid_physical_places(p, p.root);
    if (!p.plan.multi_group_error) gather_select(p, top);
  }
  set_cacheable(p);
  find_point_read(p, top);
}

}  // namespace pgmosaic::plan
