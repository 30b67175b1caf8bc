// Functions that mean this router's sessions, not a group's backends: pg_backend_pid, pg_cancel_backend and
// pg_terminate_backend know the pids that clients got from the router (and that pgmosaic.activity shows).
//
// Only statements that are nothing but such a call are taken: SELECT f(constant or parameter) [AS name].
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "plan/plan.h"

namespace pgmosaic::router {

struct RouterCall {
  enum class Function : uint8_t { backend_pid, cancel, terminate } function = Function::backend_pid;
  std::string column;  // name of the result's column
};
std::optional<RouterCall> parse_router_call(std::string_view sql);

// Changes the plan of such a statement, so that the router answers it; other plans stay as they are.
void take_router_call(std::string_view sql, plan::Plan& plan);
// The plan is one of a signal: Session::run_signal executes it.
bool is_signal(const plan::Plan& plan);

// Name among Plan::virtual_relations, as plan::kBackendPid.
inline constexpr std::string_view kSignal = "signal";

}  // namespace pgmosaic::router
