// What a session keeps for the extended protocol and for PREPARE: prepared statements, portals, cursors, the batch at
// hand.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "exec/backends.h"
#include "pg/frontend.h"
#include "plan/plan.h"
#include "router/shape_cache.h"

namespace pgmosaic::router {

// Names are looked up as they stand in a message.
struct NameHash : std::hash<std::string_view> {
  using is_transparent = void;
};
template <class T>
using ByName = std::unordered_map<std::string, T, NameHash, std::equal_to<>>;

inline constexpr const char* kOtherColumns = "cached plan must not change result type";

// A prepared statement of the client, named or not, from Parse or SQL PREPARE.
struct Prepared {
  std::string sql;
  std::vector<pg::Oid> types;  // as declared
  plan::PlanPtr plan;
  std::shared_ptr<LeafStatements> leaves;  // of plan->point
  bool has_literals = true;                // in its text
  std::string wire_name;                   // name on backends; empty: unnamed there too
  uint32_t id = 0;                         // number behind wire_name
  std::vector<pg::Oid> resolved_types;     // of all parameters, once a group was asked
  uint32_t context = 0;                    // plan context (search path …) the plan belongs to
  uint64_t serial = 0;                     // of the unnamed statement
  uint64_t result_signature = 0;           // of its first plan: what the client was told
  uint64_t columns = 0;                    // hash of what a group said to PREPARE; 0: unknown
  int text_at = 0;                         // characters before it in the string of its PREPARE: errors count from there
  std::string source;                      // SQL PREPARE: the string it stood in; empty: from Parse
  int64_t prepared_us = 0;
  bool parsed = false;       // by a group, under this context
  bool old_strings = false;  // prepared with standard_conforming_strings = off
  uint64_t executions = 0;
  // Whether its rows in binary hold OIDs (pg/oid_map.h), under the plan's context. Unless they do not, each Execute in
  // binary has a Describe of the router's in front.
  enum class RowOids : uint8_t { unknown, none, some } row_oids = RowOids::unknown;
};
using PreparedPtr = std::shared_ptr<Prepared>;

// A portal that the router itself executes (several groups, session commands); portals of one group live there.
struct Portal {
  PreparedPtr statement;
  std::string bind_body;    // copy of the client's Bind
  exec::GroupId group = 0;  // != 0: bound at this group under the same name
  bool done = false;        // executed to the end
  bool binary = false;      // some column's result format
  std::string rows;         // row-limited Execute: DataRow messages not yet delivered
  std::string tag;
  int64_t made_us = 0;
  uint64_t moment = 0;  // of Backends::next_moment()
};

// A cursor made with DECLARE: on one group, or held by the router when its query spans groups.
struct SqlCursor {
  exec::GroupId group = 0;  // 0: the router's
  std::string description;  // RowDescription message
  std::string rows;         // DataRow messages not yet fetched
  bool hold = false;        // WITH HOLD: it stays when its transaction commits
  bool committed = false;   // made by a transaction that has committed
  bool binary = false;
  std::string source;  // the string its DECLARE stood in
  int64_t made_us = 0;
  uint64_t moment = 0;  // of Backends::next_moment()
};

// State that only sessions with the extended protocol or PREPARE have.
struct ExtendedState {
  ByName<PreparedPtr> statements;
  PreparedPtr unnamed;
  ByName<Portal> portals;
  std::vector<PreparedPtr> described;  // whose rows the router has asked about, in the order of the replies to come
  PreparedPtr owed_parse;              // parsed by the client, not yet sent anywhere; its ParseComplete is owed
  std::string owed_name;
  exec::Backend* current = nullptr;                         // backend whose replies are outstanding in this batch
  std::vector<exec::GroupId> batch;                         // groups that took part since the last Sync
  std::vector<std::pair<std::string, PreparedPtr>> parsed;  // names of this batch; gone again if it failed before them
  const pg::BindMessage* command_bind = nullptr;  // of a session command that Execute runs: its columns were described
  bool skip_to_sync = false;
  bool executed_in_batch = false;
  bool implicit = false;  // this batch's implicit transaction spans groups

  // The reply to a Describe that the router has put in front of an Execute.
  void learn_row_oids(bool hold) {
    if (described.empty()) return;
    described.front()->row_oids = hold ? Prepared::RowOids::some : Prepared::RowOids::none;
    described.erase(described.begin());
  }
};

}  // namespace pgmosaic::router
