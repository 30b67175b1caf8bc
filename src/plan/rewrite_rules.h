// Rules (CREATE RULE). A statement about a table with rules runs their actions in its place or beside it, on the server
// that has the table: so the table must be local, and so must be what the actions write.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "catalog/catalog.h"

namespace pgmosaic::plan {

struct RuleText {
  catalog::Oid table = 0;
  std::string definition;  // as pg_get_ruledef() prints it, with qualified names
};

struct RuleFacts {
  std::vector<Error> misplaced;      // rules that would see or write a part of the rows only
  std::set<catalog::Oid> notifying;  // tables with actions whose transaction cannot be prepared
  std::set<catalog::Oid> tainting;   // … that may leave something in the session
};

// `database`: its tables and functions are known.
RuleFacts read_rules(const std::vector<RuleText>& rules, const catalog::Database& database);

}  // namespace pgmosaic::plan
