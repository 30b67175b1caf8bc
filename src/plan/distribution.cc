#include "plan/distribution.h"

#include <algorithm>

namespace pgmosaic::plan {

using namespace sql;
using Kind = Distribution::Kind;

namespace {

Distribution bad(std::string reason, std::string hint = {}) {
  Distribution result;
  result.kind = Kind::bad;
  result.reason = std::move(reason);
  result.hint = std::move(hint);
  return result;
}

const char* kJoinHint =
    "Join sharded tables on their distribution columns, pin them to one key, or make one a reference table.";
const char* kSubqueryHint =
    "Tie the sub-query to the outer row with an equality of the distribution columns, pin all tables to one key, or "
    "run it first, as a statement of its own.";

bool grouping_sets(const Level* level) {
  for (const Node* node : each(level->select->n_group_clause, level->select->group_clause))
    if (as<PgQuery__GroupingSet>(node) != nullptr) return true;
  return false;
}

bool distinct_on(const Level* level) {
  const auto* select = level->select;
  return select != nullptr && select->n_distinct_clause > 0 && inner(select->distinct_clause[0]) != nullptr;
}

}  // namespace

DistributionAnalysis::Facts DistributionAnalysis::facts_for(const Level* level, const Facts& inherited, int region,
                                                            int region2) const {
  auto implied = [&](int needed) {
    if (needed < 0 || level->regions[needed].discharged) return true;
    for (int start : {region, region2})
      for (int r = start; r >= 0; r = level->regions[r].parent)
        if (r == needed) return true;
    return false;
  };
  Facts facts = inherited;
  for (const Fact& fact : level->facts)
    if (implied(fact.regions[0]) && implied(fact.regions[1])) facts.push_back(&fact);
  return facts;
}

void DistributionAnalysis::analyse(Level* level, Facts inherited) {
  link_outputs(level, inherited);
  EqualityClasses& equal = classes_.emplace(level, EqualityClasses(statement_)).first->second;
  for (const Fact* fact : facts_for(level, inherited, -1, -1)) equal.add(*fact);
  for (Level* arm : level->arms) {
    if (!level->limited()) arm->outer_columns = level->outer_columns;
    analyse(arm, inherited);
  }
  for (int id : level->instances) {
    const Instance& instance = statement_.instance(id);
    if (instance.placement == Instance::Placement::derived)
      analyse(instance.level, facts_for(level, inherited, instance.region, -1));
    if (instance.placement == Instance::Placement::sharded)
      pin(level, instance, facts_for(level, inherited, instance.region, -1));
    if (instance.placement == Instance::Placement::sharded_view) pins_[id] = std::nullopt;
  }
  Distribution& result = level->from_distribution;
  for (const auto& item : level->from)
    result = add_right(level, FromNode::Kind::inner, std::move(result), *item, equal, inherited);
  check_sublinks(level, inherited);
}

// A condition on a derived table's column is one on the column it passes through, unless what the query does in
// between depends on rows that the condition removes.
bool DistributionAnalysis::transparent(Level* level, size_t output) {
  if (level->set_operation() || level->limited() || level->writes || level->recursive || !level->windows.empty() ||
      distinct_on(level) || !level->outputs_known || output >= level->outputs.size())
    return false;
  Var var = level->outputs[output].var;
  if (!var.valid()) return false;
  if (!level->aggregated()) return true;
  std::vector<Var> grouped = group_vars(level);
  return std::find(grouped.begin(), grouped.end(), var) != grouped.end();
}

void DistributionAnalysis::link_outputs(Level* level, Facts& facts) {
  for (size_t i = 0; i < level->outer_columns.size(); ++i) {
    if (!level->outer_columns[i].valid() || !transparent(level, i)) continue;
    const OutputColumn *outer = statement_.column(level->outer_columns[i]),
                       *source = statement_.column(level->outputs[i].var);
    if (outer == nullptr || source == nullptr || outer->type != source->type || outer->type == 0) continue;
    Fact& fact = made_.emplace_back();
    fact.a = level->outer_columns[i];
    fact.b = level->outputs[i].var;
    facts.push_back(&fact);
  }
}

Distribution DistributionAnalysis::of_instance(Level* /*level*/, const Instance& instance, const Facts& /*inherited*/) {
  using Placement = Instance::Placement;
  Distribution result;
  switch (instance.placement) {
    case Placement::reference:
    case Placement::free: return result;
    case Placement::home:
      return bad("table \"" + instance.display + "\" lives on one group and is used together with sharded tables",
                 "Make it a reference table: CREATE TABLE ... WITH (table_type = 'reference').");
    case Placement::sharded_view:
      return bad("the view \"" + instance.display + "\" reads sharded tables of several groups",
                 "Query the tables under the view, with the distribution column.");
    case Placement::sharded:
      result.kind = Kind::partitioned;
      result.colocation = instance.table->colocation;
      for (int column : instance.table->key_columns) result.keys.push_back({KeyVar{Var{instance.id, column}, true}});
      return result;
    case Placement::derived: break;
  }
  result = result_of(instance.level);
  for (auto& key : result.keys)
    for (KeyVar& var : key) var.var.instance = instance.id;
  return result;
}

Distribution DistributionAnalysis::of_node(Level* level, const FromNode& node, const Facts& inherited) {
  if (node.kind == FromNode::Kind::leaf) return of_instance(level, statement_.instance(node.instance), inherited);
  EqualityClasses equal(statement_);
  int region = node.nullable_right >= 0 ? node.nullable_right : node.region;
  for (const Fact* fact : facts_for(level, inherited, region, node.nullable_left)) equal.add(*fact);
  return add_right(level, node.kind, of_node(level, *node.left, inherited), *node.right, equal, inherited);
}

Distribution DistributionAnalysis::add_right(Level* level, FromNode::Kind kind, Distribution left,
                                             const FromNode& right, EqualityClasses& equal, const Facts& inherited) {
  // LATERAL (SELECT … WHERE x.key = left.key …) is complete for each row of the left side.
  if (right.kind == FromNode::Kind::leaf && kind != FromNode::Kind::full && left.kind == Kind::partitioned) {
    const Instance& instance = statement_.instance(right.instance);
    if (instance.lateral && within_outer(instance.level, left)) return left;
  }
  return join(kind, std::move(left), of_node(level, right, inherited), equal);
}

Distribution DistributionAnalysis::join(FromNode::Kind kind, Distribution left, Distribution right,
                                        EqualityClasses& equal) {
  if (left.kind == Kind::bad) return left;
  if (right.kind == Kind::bad) return right;
  if (right.kind == Kind::replicated && (left.kind == Kind::replicated || kind != FromNode::Kind::full)) return left;
  if (left.kind == Kind::replicated && kind == FromNode::Kind::inner) return right;
  if (left.kind == Kind::replicated || right.kind == Kind::replicated)
    return bad(
        "an outer join or MERGE that keeps rows which every group has (reference table, function, VALUES)",
        "Pin the sharded table to one key (AND key = value), or turn the join around so that it is the outer side.");
  bool together = left.colocation != 0 && left.colocation == right.colocation && left.keys.size() == right.keys.size();
  for (size_t i = 0; together && i < left.keys.size(); ++i) {
    together = std::any_of(left.keys[i].begin(), left.keys[i].end(), [&](const KeyVar& a) {
      return std::any_of(right.keys[i].begin(), right.keys[i].end(),
                         [&](const KeyVar& b) { return equal.same(a.var, b.var); });
    });
  }
  if (!together) return bad("a join of sharded tables that is not on their distribution columns", kJoinHint);
  for (size_t i = 0; i < left.keys.size(); ++i)
    left.keys[i].insert(left.keys[i].end(), right.keys[i].begin(), right.keys[i].end());
  return left;
}

// All rows that the query reads for one outer row are on that row's group.
bool DistributionAnalysis::within_outer(Level* level, const Distribution& outer) {
  if (level->set_operation())
    return !level->recursive &&
           std::all_of(level->arms.begin(), level->arms.end(), [&](Level* arm) { return within_outer(arm, outer); });
  const Distribution& own = level->from_distribution;
  if (own.kind == Kind::bad || level->writes || level->recursive) return false;
  if (own.kind == Kind::replicated) return result_of(level).kind == Kind::replicated;
  if (outer.kind != Kind::partitioned || own.colocation == 0 || own.colocation != outer.colocation ||
      own.keys.size() != outer.keys.size())
    return false;
  EqualityClasses& equal = classes_.at(level);
  for (size_t i = 0; i < own.keys.size(); ++i) {
    bool tied = std::any_of(own.keys[i].begin(), own.keys[i].end(), [&](const KeyVar& a) {
      return std::any_of(outer.keys[i].begin(), outer.keys[i].end(),
                         [&](const KeyVar& b) { return equal.same(a.var, b.var); });
    });
    if (!tied) return false;
  }
  return true;
}

void DistributionAnalysis::check_sublinks(Level* level, const Facts& inherited) {
  Facts facts = facts_for(level, inherited, -1, -1);
  for (SubLinkUse& use : level->sublinks) {
    if (use.positive && !use.tested.empty()) use.level->outer_columns = use.tested;
    analyse(use.level, facts);
    Distribution& own = level->from_distribution;
    if (own.kind == Kind::bad) continue;
    Distribution result = result_of(use.level);
    if (result.kind == Kind::replicated || within_outer(use.level, own)) continue;
    if (use.level->from_distribution.kind == Kind::bad) {
      own = use.level->from_distribution;
    } else {
      own = bad("a sub-query over a sharded table that is not tied to the distribution column of the outer query",
                kSubqueryHint);
    }
  }
}

bool DistributionAnalysis::strict(const Level* level, const KeyVar& key) {
  int region = statement_.instance(key.var.instance).region;
  return key.strict && (region < 0 || level->regions[region].discharged);
}

bool DistributionAnalysis::covers_key(Level* level, const Distribution& distribution, const std::vector<Var>& vars) {
  EqualityClasses& equal = classes_.at(level);
  if (distribution.colocation == 0 || distribution.keys.empty()) return false;
  return std::all_of(distribution.keys.begin(), distribution.keys.end(), [&](const std::vector<KeyVar>& key) {
    return std::any_of(key.begin(), key.end(), [&](const KeyVar& part) {
      if (equal.is_constant(part.var)) return true;
      return std::any_of(vars.begin(), vars.end(), [&](Var var) {
        return var.valid() && (var == part.var ? strict(level, part) : equal.same(var, part.var));
      });
    });
  });
}

std::vector<std::vector<std::pair<int, bool>>> DistributionAnalysis::key_outputs(Level* level) {
  std::vector<std::vector<std::pair<int, bool>>> result(level->from_distribution.keys.size());
  EqualityClasses& equal = classes_.at(level);
  for (size_t i = 0; i < result.size(); ++i) {
    for (size_t j = 0; j < level->outputs.size() && level->outputs_known; ++j) {
      Var var = level->outputs[j].var;
      if (!var.valid()) continue;
      for (const KeyVar& key : level->from_distribution.keys[i]) {
        if (var == key.var || equal.same(var, key.var)) {
          result[i].emplace_back(static_cast<int>(j), var == key.var ? strict(level, key) : true);
          break;
        }
      }
    }
  }
  return result;
}

// Why groups would not compute the same rows from the same tables; nullopt if they do.
std::optional<std::string> DistributionAnalysis::not_shareable(Level* level) {
  if (level->limited()) return "LIMIT in a sub-query over rows that every group has";
  if (level->order_sensitive) return "a sub-query whose result may differ between groups (volatile functions, order)";
  if (!level->windows.empty()) return "window functions in a sub-query over rows that every group has";
  if (distinct_on(level)) return "DISTINCT ON in a sub-query over rows that every group has";
  return std::nullopt;
}

Distribution DistributionAnalysis::result_of(Level* level) {
  if (level->writes)
    return bad("a data-modifying WITH over several groups", "Run the parts as statements of their own.");
  if (level->set_operation()) return of_arms(level);
  Distribution result = level->from_distribution;
  if (result.kind == Kind::bad) return result;
  if (result.kind == Kind::replicated) {
    if (auto reason = not_shareable(level)) return bad(*reason, "Pin the sharded tables of the statement to one key.");
    return result;
  }
  if (level->recursive) return bad("a recursive query over sharded tables", kSubqueryHint);
  if (level->limited())
    return bad("LIMIT or OFFSET in a sub-query over a sharded table", "Use it in the outermost query only.");
  // Without GROUP BY even a group that has no rows answers with one.
  if (level->aggregated() &&
      (!level->has_group() || grouping_sets(level) || !covers_key(level, result, group_vars(level))))
    return bad("an aggregate in a sub-query over a sharded table that is not grouped by the distribution column",
               "Group by the distribution column, or aggregate in the outermost query.");
  if (!windows_within_key(level))
    return bad("a window function over several groups whose PARTITION BY lacks the distribution column",
               "Add the distribution column to PARTITION BY.");
  if (level->select->n_distinct_clause > 0 && !covers_key(level, result, distinct_vars(level)))
    return bad("DISTINCT in a sub-query over a sharded table without the distribution column",
               "Select the distribution column as well, or use DISTINCT in the outermost query.");
  auto outputs = key_outputs(level);
  for (size_t i = 0; i < result.keys.size(); ++i) {
    result.keys[i].clear();
    for (auto [column, is_strict] : outputs[i]) result.keys[i].push_back(KeyVar{Var{-1, column}, is_strict});
  }
  return result;
}

Distribution DistributionAnalysis::of_arms(Level* level, bool outermost) {
  Distribution left = result_of(level->arms[0]), right = result_of(level->arms[1]);
  if (left.kind == Kind::bad) return left;
  if (right.kind == Kind::bad) return right;
  if (left.kind == Kind::replicated && right.kind == Kind::replicated) {
    if (auto reason = not_shareable(level)) return bad(*reason);
    return left;
  }
  if (level->recursive) return bad("a recursive query over sharded tables", kSubqueryHint);
  if (left.kind != right.kind)
    return bad("a set operation of a sharded table with rows that every group has",
               "Run the parts as statements of their own.");
  if (level->limited() && !outermost) return bad("LIMIT or OFFSET in a sub-query over a sharded table");
  bool same_keys = left.colocation == right.colocation && left.colocation != 0;
  for (size_t i = 0; same_keys && i < left.keys.size(); ++i) {
    std::erase_if(left.keys[i], [&](const KeyVar& a) {
      return !a.strict || std::none_of(right.keys[i].begin(), right.keys[i].end(),
                                       [&](const KeyVar& b) { return b.strict && b.var == a.var; });
    });
  }
  bool full_key = same_keys && std::none_of(left.keys.begin(), left.keys.end(), [](auto& key) { return key.empty(); });
  if (level->select->op == PG_QUERY__SET_OPERATION__SETOP_UNION && level->select->all) {
    if (!same_keys) {
      left.colocation = 0;
      left.keys.clear();
    }
    return left;
  }
  if (!full_key)
    return bad("UNION, INTERSECT or EXCEPT in a sub-query without the distribution column in the same place",
               "Use UNION ALL, or select the distribution column in every part.");
  return left;
}

std::vector<Var> DistributionAnalysis::group_vars(Level* level) {
  std::vector<Var> vars;
  if (level->select == nullptr || grouping_sets(level)) return vars;
  for (const Node* node : each(level->select->n_group_clause, level->select->group_clause)) {
    Var var;
    if (auto* constant = as<PgQuery__AConst>(node); constant != nullptr) {
      if (constant->val_case == PG_QUERY__A__CONST__VAL_IVAL && level->outputs_known) {
        size_t position = static_cast<size_t>(constant->ival->ival) - 1;
        if (position < level->outputs.size()) var = level->outputs[position].var;
      }
    } else if (auto* reference = as<PgQuery__ColumnRef>(node)) {
      var = statement_.resolve(reference, level);
      if (!var.valid() && reference->n_fields == 1)
        for (const OutputColumn& out : level->outputs)
          if (out.name == string_value(reference->fields[0]) && out.expr != nullptr) var = out.var;
    }
    if (var.valid()) vars.push_back(var);
  }
  return vars;
}

std::vector<Var> DistributionAnalysis::distinct_vars(Level* level) {
  std::vector<Var> vars;
  if (!distinct_on(level)) {
    if (level->outputs_known)
      for (const OutputColumn& out : level->outputs) vars.push_back(out.var);
    return vars;
  }
  for (const Node* node : each(level->select->n_distinct_clause, level->select->distinct_clause)) {
    auto* reference = as<PgQuery__ColumnRef>(node);
    if (reference == nullptr) continue;
    const OutputColumn* named = nullptr;
    if (reference->n_fields == 1)
      for (const OutputColumn& out : level->outputs)
        if (out.name == string_value(reference->fields[0])) named = &out;
    vars.push_back(named != nullptr ? named->var : statement_.resolve(reference, level));
  }
  return vars;
}

bool DistributionAnalysis::windows_within_key(Level* level) {
  for (const PgQuery__FuncCall* call : level->windows) {
    std::vector<Var> vars;
    auto collect = [&](const PgQuery__WindowDef* window) {
      for (const Node* node : each(window->n_partition_clause, window->partition_clause))
        if (auto* reference = as<PgQuery__ColumnRef>(node)) vars.push_back(statement_.resolve(reference, level));
    };
    collect(call->over);
    std::string_view base =
        text_of(call->over->name).empty() ? text_of(call->over->refname) : text_of(call->over->name);
    for (int hops = 0; !base.empty() && hops < 10; ++hops) {
      std::string_view next;
      for (const Node* node : each(level->select->n_window_clause, level->select->window_clause)) {
        auto* window = as<PgQuery__WindowDef>(node);
        if (window == nullptr || text_of(window->name) != base) continue;
        collect(window);
        next = text_of(window->refname);
      }
      base = next;
    }
    if (!covers_key(level, level->from_distribution, vars)) return false;
  }
  return true;
}

}  // namespace pgmosaic::plan
