#include "plan/planning.h"

namespace pgmosaic::plan {

void gather_select(Planning& p, Level* top) {
  const auto* select = top->select;
  if (top->set_operation() || top->aggregated() || select->n_sort_clause > 0 || top->limited() ||
      select->n_distinct_clause > 0 || !top->windows.empty()) {
    forbid_several_groups(p, "this construct");
    return;
  }
  p.plan.gather.emplace();
}

}  // namespace pgmosaic::plan
