#include "plan/view_targets.h"

namespace pgmosaic::plan {

const Instance* base_table(const Statement& s, const Instance& view) {
  const Instance* base = &view;
  while (base->placement == Instance::Placement::derived) {
    const auto& from = base->level->from;
    if (base->table != nullptr && base->table->has_statement_triggers) return nullptr;
    if (from.size() != 1 || from[0]->kind != FromNode::Kind::leaf) return nullptr;
    base = &s.instance(from[0]->instance);
  }
  return base->placement == Instance::Placement::sharded ? base : nullptr;
}

Var base_of(const Statement& s, Var column) {
  while (column.valid() && s.instance(column.instance).placement == Instance::Placement::derived) {
    const Level& query = *s.instance(column.instance).level;
    if (!query.outputs_known || static_cast<size_t>(column.column) >= query.outputs.size()) return Var();
    column = query.outputs[static_cast<size_t>(column.column)].var;
  }
  return column;
}

}  // namespace pgmosaic::plan
