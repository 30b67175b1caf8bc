#include "plan/cluster_sums.h"

#include <array>

#include "plan/planning.h"
#include "plan/virtual_relations.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

struct SizeFunction {
  std::string_view name, value;
};
constexpr std::array<SizeFunction, 5> kSizeFunctions{{{"pg_relation_size", "relation_size"},
                                                      {"pg_table_size", "table_size"},
                                                      {"pg_indexes_size", "indexes_size"},
                                                      {"pg_total_relation_size", "total_size"},
                                                      {"pg_database_size", "size"}}};

constexpr std::string_view kClassColumns =
    "oid, relname, relnamespace, reltype, reloftype, relowner, relam, relfilenode, reltablespace, relpages, reltuples, "
    "relallvisible, reltoastrelid, relhasindex, relisshared, relpersistence, relkind, relnatts, relchecks, "
    "relhasrules, "
    "relhastriggers, relhassubclass, relrowsecurity, relforcerowsecurity, relispopulated, relreplident, "
    "relispartition, "
    "relrewrite, relfrozenxid, relminmxid, relacl, reloptions, relpartbound";
constexpr std::string_view kTableCounters =
    "relid, schemaname, relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch, n_tup_ins, n_tup_upd, n_tup_del, "
    "n_tup_hot_upd, n_live_tup, n_dead_tup, n_mod_since_analyze, n_ins_since_vacuum, last_vacuum, last_autovacuum, "
    "last_analyze, last_autoanalyze, vacuum_count, autovacuum_count, analyze_count, autoanalyze_count";

bool of_catalog(std::string_view schema) { return schema.empty() || schema == "pg_catalog"; }

// The function of `call`, where it asks for the main part of a relation or for a database.
const SizeFunction* size_function(const PgQuery__FuncCall* call) {
  if (call == nullptr || call->n_args == 0 || call->n_args > 2) return nullptr;
  if (call->n_funcname == 2 && string_value(call->funcname[0]) != "pg_catalog") return nullptr;
  if (call->n_args == 2) {  // the fork
    auto* fork = as<PgQuery__AConst>(call->args[1]);
    if (fork == nullptr || fork->val_case != PG_QUERY__A__CONST__VAL_SVAL || text_of(fork->sval->sval) != "main")
      return nullptr;
  }
  for (const SizeFunction& function : kSizeFunctions)
    if (function.name == last_name(call->n_funcname, call->funcname)) return &function;
  return nullptr;
}

bool is_class(const PgQuery__RangeVar* range) {
  return range != nullptr && of_catalog(text_of(range->schemaname)) && text_of(range->relname) == "pg_class";
}

bool has_counters(const PgQuery__RangeVar* range) {
  if (range == nullptr || !of_catalog(text_of(range->schemaname))) return false;
  const std::string_view name = text_of(range->relname);
  return name == "pg_stat_user_tables" || name == "pg_stat_all_tables";
}

// The other groups' value of an object; NULL: they have none.
std::string of_groups(const std::string& key, std::string_view value, const std::string& type) {
  return "((('" + virtual_marker(kClusterSums) + "'::pg_catalog.jsonb OPERATOR(pg_catalog.->) " + key +
         ") OPERATOR(pg_catalog.->>) '" + std::string(value) + "')::pg_catalog." + type + ")";
}

std::string added(const std::string& column, const std::string& key) {
  if (column.starts_with("last_")) return "GREATEST(" + column + ", " + of_groups(key, column, "timestamptz") + ")";
  if (column == "reltuples" || column == "relpages") {
    const std::string type = column == "reltuples" ? "float4" : "int4";
    const std::string others = of_groups(key, column, type);
    return "CASE WHEN " + others + " IS NULL THEN " + column + " ELSE GREATEST(" + column + ", 0) + " + others + " END";
  }
  if (column == "idx_scan" || column == "idx_tup_fetch")  // NULL without an index
    return column + " + coalesce(" + of_groups(key, column, "int8") + ", 0)";
  return "coalesce(" + column + ", 0) + coalesce(" + of_groups(key, column, "int8") + ", 0)";
}

// SELECT with each of `columns` as it is, or with the groups' added.
std::string summed(const std::string& relation, std::string_view columns, const std::string& key,
                   const std::function<bool(std::string_view)>& is_sum) {
  std::string targets;
  while (!columns.empty()) {
    const std::size_t end = std::min(columns.find(", "), columns.size());
    const std::string column(columns.substr(0, end));
    columns.remove_prefix(std::min(end + 2, columns.size()));
    targets += (targets.empty() ? "" : ", ") + (is_sum(column) ? added(column, key) + " AS " + column : column);
  }
  return "SELECT " + targets + " FROM pg_catalog." + relation;
}

std::string query_of(const PgQuery__RangeVar* range) {
  if (is_class(range))
    return summed("pg_class", kClassColumns, "oid::pg_catalog.text",
                  [](std::string_view column) { return column == "reltuples" || column == "relpages"; });
  return summed(
      std::string(text_of(range->relname)), kTableCounters, "relid::pg_catalog.text",
      [](std::string_view column) { return column != "relid" && column != "schemaname" && column != "relname"; });
}

// call + the groups' value. The argument takes the place of $1.
Node* size_with_sums(Arena& arena, const PgQuery__FuncCall* call, const SizeFunction& function,
                     std::vector<ParseTree>& keep) {
  const bool database = function.name == "pg_database_size";
  const std::string key = database ? "('database ' OPERATOR(pg_catalog.||) $1::pg_catalog.text)"
                                   : "$1::pg_catalog.regclass::pg_catalog.oid::pg_catalog.text";
  auto tree = ParseTree::parse("SELECT coalesce(" + of_groups(key, function.value, "int8") + ", 0)");
  CHECK(tree.ok());
  keep.push_back(std::move(*tree));
  auto* select = as<PgQuery__SelectStmt>(keep.back().statement());
  Node* others = arena.copy(as<PgQuery__ResTarget>(select->target_list[0])->val, [&](const Node* node) -> Node* {
    return as<PgQuery__ParamRef>(node) != nullptr ? call->args[0] : nullptr;
  });
  return arena.binary("+", arena.node(arena.shallow(call)), others);
}

}  // namespace

bool reads_sums(const Message* message, bool estimates) {
  return size_function(as<PgQuery__FuncCall>(message)) != nullptr || has_counters(as<PgQuery__RangeVar>(message)) ||
         (estimates && is_class(as<PgQuery__RangeVar>(message)));
}

Node* with_sums(Arena& arena, const Node* node, bool estimates, std::vector<ParseTree>& keep) {
  if (auto* range = as<PgQuery__RangeVar>(node); has_counters(range) || (estimates && is_class(range)))
    return in_place_of(arena, range, query_of(range), keep);
  if (auto* call = as<PgQuery__FuncCall>(node); size_function(call) != nullptr)
    return size_with_sums(arena, call, *size_function(call), keep);
  // A column is named after the function that it is.
  auto* target = as<PgQuery__ResTarget>(node);
  auto* call = target == nullptr ? nullptr : as<PgQuery__FuncCall>(target->val);
  if (call == nullptr || !text_of(target->name).empty() || size_function(call) == nullptr) return nullptr;
  return arena.target(size_with_sums(arena, call, *size_function(call), keep), size_function(call)->name);
}

}  // namespace pgmosaic::plan
