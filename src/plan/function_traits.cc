#include "plan/function_traits.h"

#include <algorithm>
#include <array>

#include "sql/functions.h"

namespace pgmosaic::plan {
namespace {

using namespace sql;

// Aggregates whose partial results can be combined exactly (rules/aggregate.cc knows how).
constexpr std::array<std::string_view, 10> kCombinable{"count",    "sum",     "avg",   "min",     "max",
                                                       "bool_and", "bool_or", "every", "bit_and", "bit_or"};
// Differ between groups, but no more than between two rows or two moments of one server, or are the same for all groups
// of a statement (moments.h).
constexpr std::array<std::string_view, 9> kOfTheMoment{
    "now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday", "random", "gen_random_uuid",
    "age", "uuid_generate_v4"};

template <size_t n>
bool has(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void builtin_traits(const FunctionInfo& info, const PgQuery__FuncCall* call, FunctionTraits& traits) {
  traits.combinable = has(kCombinable, info.name);
  traits.aggregate = info.is(kAggregate) && call->over == nullptr;
  traits.is_volatile = info.volatility == Volatility::volatile_;
  traits.reads_tables = info.is(kRunsSql) && !(info.name == "ts_rewrite" && call->n_args == 3);
  traits.unknown = traits.reads_tables;
  bool differs = differs_per_group(info, static_cast<int>(call->n_args));
  traits.immutable = !traits.is_volatile && !differs && !info.is(kHomeOnly) && !info.is(kRunsSql) && !traits.aggregate;
  traits.own_of_group = (differs && !has(kOfTheMoment, info.name)) || info.is(kTransactionId);
  traits.pins = info.is(kSessionAdvisoryLock);
  traits.not_preparable = info.is(kNotPreparable) || info.is(kSessionAdvisoryLock);
  traits.sets_config = info.is(kSetConfig);
  // On the home's server the group's database has another name.
  traits.home_only = traits.reads_tables || info.name == "current_database" || info.is(kSequence) ||
                     info.is(kSessionAdvisoryLock) || info.is(kNotPreparable) || info.is(kLargeObject) ||
                     info.is(kSetConfig) || info.name.find("advisory") != std::string_view::npos;
  traits.home = (traits.home_only && !info.is(kSetConfig)) || info.is(kHomeOnly) || info.is(kTransactionId) ||
                traits.reads_tables;
  traits.writes = info.name == "nextval" || info.name == "setval" || info.is(kLargeObject) || info.name == "pg_notify";
  // What sequences leave in the session is told by Effects::draws.
  traits.taints = !info.is(kHarmless) && !info.is(kSetConfig) && !info.is(kSessionAdvisoryLock) && !info.is(kSequence);
}

FunctionTraits user_traits(const catalog::UserFunction& function) {
  using Touches = catalog::UserFunction::Touches;
  FunctionTraits traits;
  traits.aggregate = function.aggregate;
  traits.is_volatile = function.volatility == 'v';
  traits.immutable = function.volatility == 'i' && function.touches == Touches::nothing && !function.aggregate;
  traits.unknown = function.touches == Touches::unknown;
  const bool at_home = function.touches == Touches::home || traits.unknown;
  traits.user_defined = function.aggregate || at_home;
  traits.home = traits.home_only = at_home || (function.writes && traits.is_volatile);
  traits.writes = function.writes || traits.unknown || (traits.is_volatile && !function.clean);
  traits.taints = !function.clean || traits.unknown;
  traits.pins = function.pins;
  traits.not_preparable = function.notifies || function.pins;
  if (function.touches == Touches::shards) traits.touches_shards = function.what;
  return traits;
}

}  // namespace

std::optional<Error> touching_shards(const Node* root, const catalog::Database* database) {
  std::optional<Error> error;
  walk(root, [&](const Message* message) {
    // A function of one composite argument can be written like a column.
    if (auto* column = as<PgQuery__ColumnRef>(message);
        column != nullptr && column->n_fields > 1 && database != nullptr) {
      const std::string name(string_value(column->fields[column->n_fields - 1]));
      const auto user = database->user_functions.find(name);
      if (user != database->user_functions.end() && user->second.touches >= catalog::UserFunction::Touches::unknown)
        error = make_error("0A000", "\"" + name + "\" may be a function that may touch " + user->second.what,
                           "Give the column another name, or drop the function.");
    }
    auto* call = as<PgQuery__FuncCall>(message);
    if (call == nullptr || error) return !error;
    const FunctionTraits traits = function_traits(call, database);
    if (!traits.touches_shards.empty())
      error = make_error("0A000",
                         "the function " + std::string(last_name(call->n_funcname, call->funcname)) + "() may touch " +
                             std::string(traits.touches_shards) + ", of which the server that runs it has a part only",
                         "Run its statements one by one.");
    return true;
  });
  return error;
}

bool calls_builtin(const PgQuery__FuncCall* call, const catalog::Database* database) {
  if (call->n_funcname > 1) return string_value(call->funcname[call->n_funcname - 2]) == "pg_catalog";
  return database == nullptr || !database->user_functions.contains(last_name(call->n_funcname, call->funcname));
}

FunctionTraits function_traits(const PgQuery__FuncCall* call, const catalog::Database* database) {
  FunctionTraits traits;
  std::string_view name = last_name(call->n_funcname, call->funcname);
  bool qualified = call->n_funcname > 1;
  bool builtin_schema = qualified && string_value(call->funcname[call->n_funcname - 2]) == "pg_catalog";
  if (database != nullptr && !builtin_schema) {
    const auto user = database->user_functions.find(name);
    if (user != database->user_functions.end()) return user_traits(user->second);
  }
  const FunctionInfo* info = !qualified || builtin_schema ? find_builtin(name) : nullptr;
  if (info == nullptr) {
    // A function of a newer PostgreSQL, one created since the catalog was read, or none at all.
    traits.user_defined = traits.taints = traits.is_volatile = true;
    return traits;
  }
  builtin_traits(*info, call, traits);
  return traits;
}

bool names_a_moment(const Node* expression) {
  bool found = false;
  walk(expression, [&](const Message* message) {
    auto* constant = as<PgQuery__AConst>(message);
    if (constant == nullptr || constant->val_case != PG_QUERY__A__CONST__VAL_SVAL) return true;
    std::string value;
    for (char c : text_of(constant->sval->sval))
      if (c != ' ') value += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    for (std::string_view moment : {"now", "today", "tomorrow", "yesterday"})
      found = found || value.starts_with(moment);
    return true;
  });
  return found;
}

bool immutable_expression(const Node* expression, const catalog::Database* database) {
  bool immutable = !names_a_moment(expression);
  walk(expression, [&](const Message* message) {
    if (auto* call = as<PgQuery__FuncCall>(message)) immutable = immutable && function_traits(call, database).immutable;
    if (as<PgQuery__SubLink>(message) != nullptr) immutable = false;
    if (auto* value = as<PgQuery__SQLValueFunction>(message))
      immutable = immutable && value->op >= PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_ROLE &&
                  value->op != PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_CATALOG;
    return immutable;
  });
  return immutable;
}

}  // namespace pgmosaic::plan
