// The settings of a session that decide how its statements are read and run and its rows are written: search_path,
// client_encoding, DateStyle and the like. Learnt from a PostgreSQL, because defaults may come from
// the role, the database or the server.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "exec/backends.h"
#include "exec/combine.h"
#include "pool/server_conn.h"
#include "sql/shape.h"

namespace pgmosaic::router {

struct PlanSettings {
  // client_encoding: the server's; another one in which ASCII bytes are ASCII characters everywhere; or one of those
  // that have them inside other characters (SJIS, BIG5, GBK, …), which nothing here can scan.
  enum class Encoding : uint8_t { server, other, unscannable };
  std::vector<std::string> search_path;
  Encoding encoding = Encoding::server;
  bool old_strings = false;       // standard_conforming_strings = off: see old_strings.h
  bool warns_of_escapes = true;   // … and the client wants to hear of them
  bool scannable = true;          // as it stands
  bool comparable_output = true;  // see plan::PlanContext
  exec::OutputLoss loss;
  exec::Isolation isolation = exec::Isolation::read_committed;  // default_transaction_isolation
  // idle_in_transaction_session_timeout, idle_session_timeout; 0: none. The router keeps to them (exec/awake.h).
  int idle_in_transaction_ms = 0, idle_session_ms = 0;
  bool limits_idle_time() const { return idle_in_transaction_ms > 0 || idle_session_ms > 0; }
};
inline constexpr std::string_view kIdleInTransaction = "idle_in_transaction_session_timeout";
inline constexpr std::string_view kIdleSession = "idle_session_timeout";
using PlanSettingsPtr = std::shared_ptr<const PlanSettings>;

// "repeatable read"; that of BEGIN, SET TRANSACTION or SET transaction_isolation. nullopt: none is named.
std::optional<exec::Isolation> isolation_named(std::string_view name);
std::optional<exec::Isolation> isolation_in(std::string_view sql);
// Whether plans depend on the setting; `name` in lower case.
bool decides_plans(std::string_view name);
// What to ask, and what the answer means. No snapshot is taken: SET TRANSACTION may follow.
extern const char* const kAskPlanSettings;
PlanSettings read_plan_settings(const pool::ServerConn::Rows& rows, const std::string& user);
// Names beyond ASCII are known in the server's encoding only. nullopt: the text can be planned.
std::optional<Error> check_encoding(const PlanSettings& settings, std::string_view sql, const sql::Shape& shape);

}  // namespace pgmosaic::router
