#include "plan/function_traits.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <set>

namespace pgmosaic::plan {
namespace {

using namespace sql;

using Names = std::set<std::string_view>;

const Names kCombinable{"count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or"};

const Names kAggregates{"array_agg",      "bit_xor",        "corr",          "covar_pop",      "covar_samp",
                        "json_agg",       "json_object_agg", "jsonb_agg",    "jsonb_object_agg", "mode",
                        "percentile_cont", "percentile_disc", "range_agg",   "range_intersect_agg",
                        "regr_avgx",      "regr_avgy",      "regr_count",    "regr_intercept", "regr_r2",
                        "regr_slope",     "regr_sxx",       "regr_sxy",      "regr_syy",       "stddev",
                        "stddev_pop",     "stddev_samp",    "string_agg",    "var_pop",        "var_samp",
                        "variance",       "xmlagg"};

const Names kVolatile{"random",           "setseed",       "gen_random_uuid", "clock_timestamp",   "timeofday",
                      "pg_sleep",         "pg_sleep_for",  "pg_sleep_until",  "txid_current",      "pg_current_xact_id",
                      "pg_backend_pid",   "uuid_generate_v4"};

// Stable functions of time, session or settings; everything else in pg_catalog that is not named here counts as
// immutable only where `immutable_expression` finds it in kSafe.
const Names kSequence{"nextval", "currval", "setval", "lastval"};
const Names kSessionLock{"pg_advisory_lock",       "pg_advisory_lock_shared", "pg_try_advisory_lock",
                         "pg_try_advisory_lock_shared", "pg_advisory_unlock", "pg_advisory_unlock_shared",
                         "pg_advisory_unlock_all"};
const Names kTransactionLock{"pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock",
                             "pg_try_advisory_xact_lock_shared"};
const Names kReadsTables{"query_to_xml",        "query_to_xmlschema",    "query_to_xml_and_xmlschema",
                         "table_to_xml",        "table_to_xmlschema",    "table_to_xml_and_xmlschema",
                         "schema_to_xml",       "schema_to_xmlschema",   "schema_to_xml_and_xmlschema",
                         "database_to_xml",     "database_to_xmlschema", "database_to_xml_and_xmlschema",
                         "cursor_to_xml",       "cursor_to_xmlschema",   "ts_stat"};
// pg_… functions that mean the same on every server.
const Names kAnywhere{"pg_typeof", "pg_size_pretty", "pg_size_bytes", "pg_column_size", "pg_sleep", "pg_sleep_for",
                      "pg_sleep_until", "pg_input_is_valid", "pg_client_encoding", "pg_char_to_encoding",
                      "pg_encoding_to_char"};
const Names kHome{"format_type",    "obj_description", "col_description", "shobj_description", "to_regclass",
                  "to_regtype",     "to_regproc",      "to_regnamespace", "to_regrole",        "txid_current",
                  "txid_status",    "current_schema",  "current_schemas", "currtid2",          "inet_server_addr",
                  "inet_server_port", "has_sequence_privilege", "row_security_active"};

// Immutable functions of pg_catalog that schema definitions and reference-table writes commonly call.
const Names kSafe{"abs",        "ascii",      "btrim",     "ceil",      "ceiling",   "char_length", "character_length",
                  "chr",        "concat_op",  "decode",    "encode",    "exp",       "extract",     "floor",
                  "greatest",   "initcap",    "least",     "left",      "length",    "ln",          "log",
                  "lower",      "lpad",       "ltrim",     "md5",       "mod",       "nullif",      "octet_length",
                  "overlay",    "pi",         "position",  "power",     "pow",       "repeat",      "replace",
                  "reverse",    "right",      "round",     "rpad",      "rtrim",     "sha224",      "sha256",
                  "sha384",     "sha512",     "sign",      "split_part", "sqrt",     "strpos",      "substr",
                  "substring",  "translate",  "trim",      "trunc",     "upper",     "array_length", "cardinality",
                  "coalesce",   "make_date",  "make_time", "make_timestamp", "make_interval", "jsonb_build_object",
                  "array_append", "array_prepend", "array_cat", "array_remove", "array_position", "jsonb_set",
                  "like",       "regexp_replace", "regexp_match", "int4range", "int8range", "numrange", "div",
                  "date_part"};

bool has(const Names& names, std::string_view name) { return names.contains(name); }

// set_config(name, value, true) is undone at the end of the transaction.
bool is_local_set_config(const PgQuery__FuncCall* call) {
  if (call->n_args < 3) return false;
  auto* typecast = as<PgQuery__TypeCast>(call->args[2]);
  auto* constant = as<PgQuery__AConst>(typecast == nullptr ? call->args[2] : typecast->arg);
  return constant != nullptr && constant->val_case == PG_QUERY__A__CONST__VAL_BOOLVAL && constant->boolval->boolval;
}

void builtin_traits(std::string_view name, const PgQuery__FuncCall* call, FunctionTraits& traits) {
  traits.combinable = has(kCombinable, name);
  traits.aggregate = traits.combinable || has(kAggregates, name);
  traits.is_volatile = has(kVolatile, name);
  traits.immutable = has(kSafe, name);
  traits.reads_tables = has(kReadsTables, name);
  if (has(kSequence, name)) {
    traits.home = traits.home_only = traits.is_volatile = true;
    traits.writes = name == "nextval" || name == "setval";
    // currval and lastval are the session's own: the backend must stay.
    traits.taints = true;
    return;
  }
  if (has(kSessionLock, name) || has(kTransactionLock, name)) {
    traits.home = traits.home_only = traits.is_volatile = true;
    traits.pins = traits.not_preparable = has(kSessionLock, name);
    return;
  }
  if (name == "pg_notify") {
    traits.home = traits.home_only = traits.is_volatile = traits.not_preparable = traits.writes = true;
    return;
  }
  if (name == "set_config") {
    traits.is_volatile = true;
    traits.home_only = true;
    traits.sets_config = !is_local_set_config(call);
    return;
  }
  if (name == "pg_export_snapshot") {
    traits.home = traits.home_only = traits.not_preparable = traits.is_volatile = true;
    return;
  }
  if (name.starts_with("lo_") || name == "loread" || name == "lowrite") {
    traits.home = traits.home_only = traits.is_volatile = traits.writes = true;
    return;
  }
  if (has(kHome, name) || traits.reads_tables) {
    traits.home = true;
    return;
  }
  if (name.starts_with("pg_") && !has(kAnywhere, name)) {
    traits.home = true;
    traits.is_volatile = true;
  }
}

}  // namespace

FunctionTraits function_traits(const PgQuery__FuncCall* call, const catalog::Database* database) {
  FunctionTraits traits;
  std::string_view name = last_name(call->n_funcname, call->funcname);
  bool qualified = call->n_funcname > 1;
  bool builtin_schema = qualified && string_value(call->funcname[call->n_funcname - 2]) == "pg_catalog";
  if (database != nullptr && !builtin_schema) {
    auto user = database->user_functions.find(name);
    if (user != database->user_functions.end()) {
      traits.user_defined = true;
      traits.taints = !user->second;
      traits.is_volatile = !user->second;
    }
  }
  if (!traits.user_defined && (!qualified || builtin_schema)) builtin_traits(name, call, traits);
  if (!traits.user_defined && qualified && !builtin_schema) traits.is_volatile = true;  // PostgreSQL will say no
  return traits;
}

bool immutable_expression(const Node* expression, const catalog::Database* database) {
  bool immutable = true;
  walk(expression, [&](const Message* message) {
    if (auto* call = as<PgQuery__FuncCall>(message))
      immutable = immutable && function_traits(call, database).immutable;
    if (as<PgQuery__SQLValueFunction>(message) != nullptr || as<PgQuery__SubLink>(message) != nullptr)
      immutable = false;
    if (auto* typecast = as<PgQuery__TypeCast>(message)) {
      // 'now', 'today', … are read when the value is converted; other strings mean the same everywhere.
      auto* constant = as<PgQuery__AConst>(typecast->arg);
      std::string_view type = last_name(typecast->type_name->n_names, typecast->type_name->names);
      bool of_time = type.starts_with("timestamp") || type == "date" || type.starts_with("time");
      bool is_digit_first = constant != nullptr && constant->val_case == PG_QUERY__A__CONST__VAL_SVAL &&
                            !text_of(constant->sval->sval).empty() && constant->sval->sval[0] >= '0' &&
                            constant->sval->sval[0] <= '9';
      if (of_time && !is_digit_first) immutable = false;
    }
    return immutable;
  });
  return immutable;
}

}  // namespace pgmosaic::plan
