// PostgreSQL 15's built-in functions as the planner sees them: by name, worst case over the overloads.
//
// The table is written by tools/gen_functions.py from a server's pg_proc; a test compares it with one. A name that is
// not in it is a user's function, one of a newer PostgreSQL, or one that SQL cannot call: assume the worst.
#pragma once

#include <cstdint>
#include <string_view>

namespace pgmosaic::sql {

enum class Volatility : uint8_t { immutable, stable, volatile_ };

enum FunctionFlag : uint16_t {
  kAggregate = 1 << 0,
  kOrderedSet = 1 << 1,  // with kAggregate: WITHIN GROUP (percentile_cont, mode, hypothetical rank)
  kWindow = 1 << 2,      // rank and its like are both: the OVER clause tells
  kSetReturning = 1 << 3,
  kHarmless = 1 << 4,         // leaves nothing in the session once its transaction is over; without it a call taints
  kHomeOnly = 1 << 5,         // reads the system catalog or server-wide state (or writes it): only the home can answer
  kDiffersPerGroup = 1 << 6,  // each group has its own answer (clock, random numbers, process): see below
  kSessionAdvisoryLock = 1 << 7,  // takes or frees a lock that outlives the transaction: pins
  kSetConfig = 1 << 8,
  kSequence = 1 << 9,        // nextval, currval, lastval, setval
  kNotPreparable = 1 << 10,  // PREPARE TRANSACTION fails afterwards: pg_notify, pg_export_snapshot
  kTransactionId = 1 << 11,  // shows or assigns the group's own transaction id or snapshot
  kLargeObject = 1 << 12,
  kSleep = 1 << 13,
  kRunsSql = 1 << 14,  // reads relations that the planner does not see: query_to_xml('SELECT …'), ts_stat
};

struct FunctionInfo {
  std::string_view name;
  Volatility volatility = Volatility::volatile_;
  uint16_t flags = 0;

  bool is(FunctionFlag flag) const { return (flags & flag) != 0; }
};

// The built-in function of pg_catalog, or a keyword of the grammar that works like one (current_timestamp, user);
// nullptr: none.
const FunctionInfo* find_builtin(std::string_view lower_case_name);

// Must a call with that many arguments be evaluated once, on one PostgreSQL, when its statement runs on several groups?
// now(), current_date, random(), gen_random_uuid(), pg_backend_pid(), inet_server_addr(), version(), txid_current() …
// age() counts from today only with one argument.
bool differs_per_group(const FunctionInfo& function, int argument_count);

}  // namespace pgmosaic::sql
