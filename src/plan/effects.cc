// What the statement's functions and tables mean for where it runs and what it leaves behind.
#include <algorithm>
#include <set>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/moments.h"
#include "plan/planning.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

Plan unsupported(Error error) {
  Plan plan;
  plan.kind = PlanKind::unsupported;
  plan.returns_rows = false;
  plan.error = std::move(error);
  return plan;
}

Plan unsupported(std::string message, std::string hint) {
  return unsupported(make_error("0A000", std::move(message), std::move(hint)));
}

void add_effects(const catalog::Table* table, Effects& effects) {
  if (table == nullptr) return;
  effects.not_preparable = effects.not_preparable || table->not_preparable;
  effects.taints = effects.taints || table->taints;
}

void scan_functions(Planning& p, const Node* root) {
  auto* database = p.context.database;
  walk(root, [&](const Message* message) {
    if (auto* range = as<PgQuery__RangeVar>(message); range != nullptr && database->special_tables)
      add_effects(lookup(p.context, range), p.plan.effects);
    if (auto* typecast = as<PgQuery__TypeCast>(message); typecast != nullptr && typecast->type_name != nullptr) {
      // 'name'::regclass and its kin speak of the home's object identifiers.
      if (last_name(typecast->type_name->n_names, typecast->type_name->names).starts_with("reg"))
        p.home_functions = true;
    }
    if (auto* value = as<PgQuery__SQLValueFunction>(message);
        value != nullptr && value->op == PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_CATALOG)
      p.home_only_function = "current_catalog";
    auto* call = as<PgQuery__FuncCall>(message);
    if (call == nullptr) return true;
    FunctionTraits traits = function_traits(call, database);
    std::string name(last_name(call->n_funcname, call->funcname));
    Effects& effects = p.plan.effects;
    effects.writes = effects.writes || traits.writes || traits.taints;
    effects.taints = effects.taints || traits.taints;
    effects.pins = effects.pins || traits.pins;
    effects.sets_config = effects.sets_config || traits.sets_config;
    effects.not_preparable = effects.not_preparable || traits.not_preparable;
    p.plan.guarded = p.plan.guarded || traits.unknown;
    p.home_functions = p.home_functions || traits.home || traits.user_defined || traits.own_of_group;
    if ((traits.own_of_group || traits.home) && p.server_function.empty()) p.server_function = name;
    if (traits.home_only && p.home_only_function.empty()) p.home_only_function = name;
    if ((traits.user_defined || traits.reads_tables) && p.user_function.empty()) p.user_function = name;
    return true;
  });
}

void refuse_session_views(Plan& plan, const Node* root) {
  if (plan.kind != PlanKind::ddl || plan.ddl->from_query) return;
  walk(root, [&](const Message* message) {
    // Where nobody would put the router's rows in: views, rules, functions.
    if (auto* range = as<PgQuery__RangeVar>(message); find_virtual(range) && plan.kind == PlanKind::ddl)
      plan = unsupported(std::string(text_of(range->relname)) + " in an object of the database",
                         "Its rows are the router's, for statements of a session: query it directly.");
    return plan.kind == PlanKind::ddl;
  });
}

void forbid_several_groups(Planning& p, std::string reason, std::string hint) {
  if (p.plan.multi_group_error) return;
  if (hint.empty()) hint = "Pin the sharded tables to one key: an equality of the distribution column with a value.";
  p.plan.multi_group_error = make_error("0A000", "not supported over several groups: " + reason, std::move(hint));
  p.plan.gather.reset();
  p.plan.combine.reset();
}

void check_several_groups(Planning& p, const Distribution& distribution) {
  if (distribution.kind == Distribution::Kind::replicated && !p.statement.dml_in_cte)
    forbid_several_groups(p, "rows that every group has beside a sub-query over sharded tables");
  if (distribution.kind == Distribution::Kind::bad) forbid_several_groups(p, distribution.reason, distribution.hint);
  if (!p.user_function.empty())
    forbid_several_groups(p, "the function " + p.user_function + "(), which may read tables or need all rows");
  if (!p.server_function.empty())
    forbid_several_groups(p, "the function " + p.server_function + "(), which answers for one server",
                          "Call it in a statement of its own.");
  if (p.statement.dml_in_cte)
    forbid_several_groups(p, "a data-modifying WITH", "Run its parts as statements of their own.");
}

// Only where every sharded table of the statement has one.
static void add_windows(Planning& p) {
  const auto& windows = p.distribution.windows();
  for (int id : p.statement.sharded) {
    const auto window = windows.find(id);
    if (window == windows.end()) {
      p.plan.target.windows.clear();
      return;
    }
    p.plan.target.windows.push_back(window->second);
  }
}

std::string tables_of(const Statement& statement) {
  std::set<std::string> names;
  for (const Instance& instance : statement.instances)
    if (instance.table != nullptr && !instance.in_view && instance.placement != Instance::Placement::home)
      names.insert(quote_identifier(instance.table->schema) + "." + quote_identifier(instance.table->name));
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

// What the queries of views call, as if the statement did. False: refused.
static bool scan_views(Planning& p) {
  for (const ParseTree& view : p.statement.view_trees) {
    if (auto error = touching_shards(view.statement(), p.context.database)) {
      p.plan = unsupported(std::move(*error));
      return false;
    }
    scan_functions(p, view.statement());
    p.plan.view_moments = p.plan.view_moments || names_moment(view.statement(), p.context.database);
    forbid_physical_places(p, view.statement());
    if (names_tableoid(view.statement())) {
      p.plan = unsupported("a view over sharded tables with their tableoid",
                           "It is a shard's there: name the table in its place, or leave it out.");
      return false;
    }
    if (p.plan.view_moments)
      forbid_several_groups(p, "a view that asks for the time, which every group would tell for itself",
                            "Leave now() and its kin out of the view, and write them into the query of it.");
  }
  return true;
}

void choose_target(Planning& p) {
  if (!scan_views(p)) return;
  Statement& s = p.statement;
  Plan& plan = p.plan;
  Target& target = plan.target;
  if (s.too_complex) {
    plan = unsupported("the statement is too complex to plan", "Split it into simpler statements.");
    return;
  }
  if (s.reference_write_in_cte) {
    plan = unsupported("a write to a reference table in WITH", "Run it as a statement of its own.");
    return;
  }
  for (Level* level : s.dml_levels) p.distribution.run(level);
  s.dml_levels.clear();
  if (s.sharded.empty()) {
    bool home = !s.home_tables.empty() || p.home_functions || s.row_locks || !p.home_only_function.empty();
    target.kind = home ? Target::Kind::home : Target::Kind::any;
    if (!home) plan.read_tables = tables_of(s);
    plan.multi_group_error.reset();
    return;
  }
  if (!s.home_tables.empty()) {
    plan = unsupported("table \"" + s.home_tables[0] + "\" lives on one group and is used together with sharded tables",
                       "Make it a reference table: CREATE TABLE ... WITH (table_type = 'reference').");
    return;
  }
  if (!p.home_only_function.empty()) {
    plan = unsupported("the function " + p.home_only_function + "() together with sharded tables",
                       "Call it in a statement of its own and pass its result on.");
    return;
  }
  target.kind = Target::Kind::keys;
  for (int id : s.sharded) {
    const Instance& table = s.instance(id);
    catalog::ColocationId colocation = table.table->colocation;
    auto pins = p.distribution.pins().find(id);
    bool pinned = pins != p.distribution.pins().end() && pins->second.has_value();
    if (target.colocation != 0 && target.colocation != colocation) {
      target.kind = Target::Kind::everywhere;
      target.keys.clear();
    }
    if (target.colocation == 0) target.colocation = colocation;
    if (table.placement == Instance::Placement::sharded_view) {
      target.kind = Target::Kind::everywhere;
    } else if (!pinned && target.kind == Target::Kind::keys) {
      target.kind = Target::Kind::all;
    } else if (pinned && target.kind == Target::Kind::keys) {
      for (const KeyTuple& key : *pins->second) {
        auto same = [](const KeySource& a, const KeySource& b) {
          return a.kind == b.kind && a.index == b.index && a.negate == b.negate && a.text == b.text;
        };
        bool known =
            target.keys.size() < 64 && std::any_of(target.keys.begin(), target.keys.end(), [&](const KeyTuple& other) {
              return std::equal(key.begin(), key.end(), other.begin(), other.end(), same);
            });
        if (!known) target.keys.push_back(key);
      }
    }
  }
  if (target.kind != Target::Kind::keys) target.keys.clear();
  if (target.kind == Target::Kind::all) add_windows(p);
  plan.read_tables = tables_of(s);
  if (target.kind == Target::Kind::everywhere) target.colocation = 0;
}

void set_reference_cacheable(Planning& p) {
  set_cacheable(p);
  for (const Literal& literal : p.statement.shape.literals)
    if (literal.kind != Literal::Kind::integer && literal.kind != Literal::Kind::decimal) p.plan.cacheable = false;
}

void set_cacheable(Planning& p) {
  Plan& plan = p.plan;
  Statement& s = p.statement;
  plan.parameter_count = s.parameter_count();
  plan.cacheable = plan.kind != PlanKind::unsupported && s.shape.complete && !s.shape.has_hint &&
                   s.shape.single_statement && !s.huge_literal && !s.constants_by_value &&
                   s.virtual_relations.empty() && plan.rewritten_sql.empty();
  if (!plan.cacheable) return;
  for (uint32_t index : s.structural) {
    const Literal& literal = s.shape.literals[index];
    plan.structural_literals.push_back({index, s.text.substr(literal.begin, literal.end - literal.begin)});
  }
}

}  // namespace pgmosaic::plan
