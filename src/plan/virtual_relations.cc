// pgmosaic.tables, .shards, .groups and .activity, pg_prepared_statements and pg_cursors in a query: each becomes
// json_to_recordset() over a marker that the executor replaces, and the rewritten statement is planned. Likewise
// catalogs of the home's server in which databases of ours would be seen.
#include "plan/virtual_relations.h"

#include <set>

#include "pg/site_names.h"
#include "plan/cluster_sums.h"
#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;

bool find_virtual(const PgQuery__RangeVar* range) {
  return range != nullptr && find_virtual_relation(text_of(range->schemaname), text_of(range->relname)) != nullptr;
}

Node* in_place_of(Arena& arena, const PgQuery__RangeVar* range, const std::string& query,
                  std::vector<ParseTree>& keep) {
  auto tree = ParseTree::parse("SELECT * FROM (" + query + ") AS x");
  CHECK(tree.ok());
  keep.push_back(std::move(*tree));
  auto* select = as<PgQuery__SelectStmt>(keep.back().statement());
  auto* sub = arena.shallow(as<PgQuery__RangeSubselect>(select->from_clause[0]));
  if (range->alias != nullptr) {
    sub->alias = range->alias;
  } else {
    sub->alias = arena.make<PgQuery__Alias>();
    sub->alias->aliasname = arena.string(text_of(range->relname));
  }
  return arena.node(sub);
}

namespace {

bool is_own_pid(const PgQuery__FuncCall* call) {
  return call != nullptr && last_name(call->n_funcname, call->funcname) == "pg_backend_pid" && call->n_args == 0;
}

// Catalogs with a row for each database of the server, in a column datname, or for each prepared transaction.
bool lists_databases(const PgQuery__RangeVar* range) {
  if (range == nullptr || (!text_of(range->schemaname).empty() && text_of(range->schemaname) != "pg_catalog"))
    return false;
  const std::string_view name = text_of(range->relname);
  return name == "pg_database" || name == "pg_stat_database" || name == "pg_stat_activity" ||
         name == "pg_prepared_xacts";
}

// (SELECT * FROM json_to_recordset('marker') AS r(columns)) AS alias
std::string record_set(const VirtualRelation& relation) {
  return "SELECT * FROM pg_catalog.json_to_recordset('" + virtual_marker(relation.name) + "') AS r(" +
         std::string(relation.columns) + ")";
}

bool lists_event_triggers(const PgQuery__RangeVar* range) {
  return range != nullptr && text_of(range->relname) == "pg_event_trigger" &&
         (text_of(range->schemaname).empty() || text_of(range->schemaname) == "pg_catalog");
}

// Without the router's own.
std::string of_users(bool with_system_columns) {
  return std::string("SELECT ") + (with_system_columns ? "tableoid, " : "") +
         "* FROM pg_catalog.pg_event_trigger WHERE NOT pg_catalog.starts_with(evtname::pg_catalog.text, "
         "'pgmosaic_guard_')";
}

std::string without_ours(const PgQuery__RangeVar* range) {
  if (text_of(range->relname) == "pg_prepared_xacts")
    return "SELECT * FROM pg_catalog.pg_prepared_xacts WHERE NOT pg_catalog.starts_with(gid, 'pgmosaic')";
  return "SELECT * FROM pg_catalog." + std::string(text_of(range->relname)) +
         " AS d WHERE datname IS NULL OR NOT pg_catalog.starts_with(datname::pg_catalog.text, '" +
         pg::kShardsDatabasePrefix + "')";
}

}  // namespace

namespace {

// What a statement reads that no group has as such.
struct Reads {
  std::set<std::string> names;  // of kVirtualRelations, kBackendPid, kClusterSums
  std::string signal;           // pg_cancel_backend or pg_terminate_backend
  bool hidden_databases = false, estimates = false, sums = false;
  bool event_triggers = false, system_columns = false;
};

Reads reads_of(const Node* root) {
  Reads reads;
  bool own_pid = false, databases = false, hidden = false;
  bool& system_columns = reads.system_columns;
  std::set<std::string> common;
  walk(root, [&](const Message* message) {
    if (auto* range = as<PgQuery__RangeVar>(message); find_virtual(range)) reads.names.insert(range->relname);
    databases = databases || lists_databases(as<PgQuery__RangeVar>(message));
    reads.event_triggers = reads.event_triggers || lists_event_triggers(as<PgQuery__RangeVar>(message));
    if (auto* cte = as<PgQuery__CommonTableExpr>(message)) {
      hidden = hidden || text_of(cte->ctename).starts_with("pg_");
      common.emplace(text_of(cte->ctename));
    }
    if (auto* column = as<PgQuery__ColumnRef>(message); column != nullptr && column->n_fields > 0) {
      const std::string_view name = string_value(column->fields[column->n_fields - 1]);
      for (std::string_view system : {"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})
        system_columns = system_columns || name == system;
      reads.estimates = reads.estimates || name == "reltuples" || name == "relpages";
    }
    if (auto* call = as<PgQuery__FuncCall>(message)) {
      const std::string_view name = last_name(call->n_funcname, call->funcname);
      if (name == "pg_cancel_backend" || name == "pg_terminate_backend") reads.signal = name;
      own_pid = own_pid || is_own_pid(call);
    }
    return true;
  });
  reads.event_triggers = reads.event_triggers && as<PgQuery__SelectStmt>(root) != nullptr;
  // A sub-select has no tableoid, for which tools ask the catalog itself.
  if (!system_columns && !hidden && as<PgQuery__SelectStmt>(root) != nullptr) {
    reads.hidden_databases = databases;
    walk(root, [&](const Message* message) {
      reads.sums = reads.sums || reads_sums(message, reads.estimates);
      return true;
    });
  }
  std::erase_if(reads.names, [&common](const std::string& name) {
    return find_virtual_relation(kVirtualSchema, name) == nullptr && common.contains(name);
  });
  if (own_pid && !reads.names.empty()) reads.names.emplace(kBackendPid);
  if (reads.sums) reads.names.emplace(kClusterSums);
  return reads;
}

const PgQuery__RangeVar* written(const Node* root) {
  if (auto* insert = as<PgQuery__InsertStmt>(root)) return insert->relation;
  if (auto* update = as<PgQuery__UpdateStmt>(root)) return update->relation;
  if (auto* remove = as<PgQuery__DeleteStmt>(root)) return remove->relation;
  return nullptr;
}

}  // namespace

std::optional<Plan> plan_virtual_relations(std::string_view /*sql*/, const Node* root, const PlanContext& context) {
  const Reads reads = reads_of(root);
  if (reads.names.empty() && !reads.hidden_databases && !reads.event_triggers) return std::nullopt;
  if (!reads.signal.empty() && reads.names.contains("activity"))
    return unsupported(reads.signal + "() of rows of pgmosaic.activity",
                       "Read the pids first; then SELECT " + reads.signal + "(PID) for each (in psql with \\gexec).");
  if (find_virtual(written(root))) {
    if (find_virtual_relation(kVirtualSchema, written(root)->relname) == nullptr) return std::nullopt;
    return unsupported(make_error("42501", "pgmosaic's own relations cannot be written"));
  }

  bool sampled = false;
  walk(root, [&](const Message* message) {
    auto* sample = as<PgQuery__RangeTableSample>(message);
    auto* range = sample == nullptr ? nullptr : as<PgQuery__RangeVar>(sample->relation);
    sampled = sampled || find_virtual(range) || lists_databases(range) || lists_event_triggers(range);
    return !sampled;
  });
  if (sampled) return unsupported("TABLESAMPLE of what the router reads for its clients", "Read all its rows.");

  Arena arena;
  std::vector<ParseTree> keep;
  Node* rewritten = arena.copy(root, [&](const Node* node) -> Node* {
    if (reads.names.contains(std::string(kBackendPid)) && is_own_pid(as<PgQuery__FuncCall>(node)))
      return arena.cast(arena.string_constant(virtual_marker(kBackendPid)), {"pg_catalog", "int4"});
    auto* range = as<PgQuery__RangeVar>(node);
    if (as<PgQuery__RangeFunction>(node) != nullptr) return const_cast<Node*>(node);  // a function, not its value
    if (reads.sums)
      if (Node* summed = with_sums(arena, node, reads.estimates, keep)) return summed;
    if (reads.event_triggers && lists_event_triggers(range))
      return in_place_of(arena, range, of_users(reads.system_columns), keep);
    if (reads.hidden_databases && lists_databases(range)) return in_place_of(arena, range, without_ours(range), keep);
    if (!find_virtual(range) || !reads.names.contains(range->relname)) return nullptr;
    const VirtualRelation* relation = find_virtual_relation(text_of(range->schemaname), range->relname);
    return in_place_of(arena, range, record_set(*relation), keep);
  });
  auto sql = deparse_statement(rewritten);
  if (!sql) return unsupported(sql.error());
  auto tree = ParseTree::parse(*sql);
  if (!tree) return unsupported("this use of pgmosaic's own relations", "Use them in FROM.");

  Planning p(*sql, context, tree->statement());
  p.statement.constants_by_value = true;
  scan_functions(p, p.root);
  if (auto* select = as<PgQuery__SelectStmt>(tree->statement())) {
    plan_select(p, select);
  } else if (auto* insert = as<PgQuery__InsertStmt>(tree->statement())) {
    const bool filled = plan_fill(*sql, tree->statement(), context, false).has_value();
    if (!filled) plan_insert(p, insert);
    if (filled || p.pulled_columns > 0 || p.key_expression)
      return unsupported("INSERT of what only the router knows into this table",
                         "Create a temporary table of the query first, then INSERT its rows.");
  } else if (auto* update = as<PgQuery__UpdateStmt>(tree->statement())) {
    plan_update(p, update);
  } else if (auto* remove = as<PgQuery__DeleteStmt>(tree->statement())) {
    plan_delete(p, remove);
  } else {
    return unsupported("pgmosaic's own relations in this statement", "Use them in SELECT, INSERT, UPDATE or DELETE.");
  }
  Plan plan = std::move(p.plan);
  if (plan.kind == PlanKind::unsupported) return plan;
  plan.rewritten_sql = *sql;
  plan.cacheable = false;
  plan.virtual_relations.assign(reads.names.begin(), reads.names.end());
  return plan;
}

}  // namespace pgmosaic::plan
