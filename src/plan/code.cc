// DO and CALL: code of the user's that is a statement of its own.
#include "plan/function_body.h"
#include "plan/planning.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::UserFunction;
using Touches = UserFunction::Touches;

namespace {

// Code that the home runs.
Plan at_home(std::string command, const UserFunction& function) {
  // Nothing can be taken back of what it has committed itself.
  if (function.touches == Touches::unknown && function.commits)
    return unsupported(command + " of what commits, and may touch " + function.what,
                       "Leave out COMMIT and ROLLBACK, or run its statements one by one.");
  Plan plan;
  plan.command = std::move(command);
  plan.returns_rows = false;
  plan.target.kind = Target::Kind::home;
  plan.effects.writes = plan.effects.taints = true;
  plan.effects.pins = function.pins;
  plan.effects.not_preparable = function.notifies || function.pins;
  plan.guarded = function.touches == Touches::unknown;
  return plan;
}

// The home runs it. What it does to the schema the other groups do likewise (router/home_changes.h): of a block that
// names sharded tables only where it changes them the locks tell more than its text.
Plan plan_do(const PgQuery__DoStmt* block, const PlanContext& context) {
  const FunctionText text = text_of_block(block);
  UserFunction function = read_function(text, *context.database);
  if (function.touches == Touches::shards && text.language == "plpgsql" &&
      rows_in_block(text.body, *context.database).empty())
    function.touches = Touches::unknown;
  if (function.touches == Touches::shards)
    return unsupported("DO with a block that may touch " + function.what + " is not supported",
                       "The home runs the block, and has no rows of sharded tables: run its statements one by one.");
  return at_home("DO", function);
}

// Of a procedure that touches no shards: see touching_shards().
Plan plan_call(const PgQuery__CallStmt* call, const PlanContext& context) {
  const auto known =
      context.database->user_functions.find(last_name(call->funccall->n_funcname, call->funccall->funcname));
  const bool read = known != context.database->user_functions.end();
  Plan plan = at_home("CALL", read ? known->second : UserFunction());
  plan.returns_rows = true;
  return plan;
}

}  // namespace

FunctionText text_of_block(const PgQuery__DoStmt* block) {
  FunctionText text;
  text.language = "plpgsql";
  for (const Node* node : each(block->n_args, block->args)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr) continue;
    if (text_of(option->defname) == "as") text.body = string_value(option->arg);
    if (text_of(option->defname) == "language") text.language = string_value(option->arg);
  }
  return text;
}

std::optional<Plan> plan_code(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto* block = as<PgQuery__DoStmt>(root)) return plan_do(block, context);
  if (auto* call = as<PgQuery__CallStmt>(root)) return plan_call(call, context);
  return std::nullopt;
}

}  // namespace pgmosaic::plan
