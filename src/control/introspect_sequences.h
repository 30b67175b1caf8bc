// The sequences of the home's catalogs, and what may draw from them unseen: parts of introspect.cc's question.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "plan/draws.h"

namespace pgmosaic::control {

using Lines = std::vector<std::vector<std::optional<std::string>>>;

// OID, schema, name.
inline constexpr const char* kSequences = R"(
SELECT c.oid, n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't')";

// Of views, rules and policies: the relation, and a function that they call. nextval() and its kin are built in, so no
// dependency on them is recorded: their numbers stand in the trees (nextval, currval, setval, setval, lastval).
#define PGMOSAIC_CALLS_SEQUENCE "~ ':funcid (1574|1575|1576|1765|2559) '"
inline constexpr const char* kUnseenCalls = R"(
SELECT r.ev_class, p.proname
FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d
     ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
     JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
UNION
SELECT o.polrelid, p.proname
FROM pg_catalog.pg_policy o JOIN pg_catalog.pg_depend d
     ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = o.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
     JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
UNION
SELECT ev_class, 'nextval' FROM pg_catalog.pg_rewrite
WHERE oid >= 16384 AND ev_action::pg_catalog.text )" PGMOSAIC_CALLS_SEQUENCE R"(
UNION
SELECT polrelid, 'nextval' FROM pg_catalog.pg_policy
WHERE pg_catalog.concat(polqual, polwithcheck) )" PGMOSAIC_CALLS_SEQUENCE;
#undef PGMOSAIC_CALLS_SEQUENCE

// Foreign keys by which a change of one table changes another, and whether it sets defaults.
inline constexpr const char* kCascades = R"(
SELECT DISTINCT confrelid, conrelid, confdeltype = 'd' OR confupdtype = 'd'
FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')))";

// Whether operators, casts, types and the like call the function of pg_proc p: whoever uses those does not name it.
#define PGMOSAIC_CALLED_UNSEEN                                                                                 \
  "EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass " \
  "AND d.refobjid = p.oid AND d.classid NOT IN ('pg_catalog.pg_proc'::pg_catalog.regclass, "                   \
  "'pg_catalog.pg_trigger'::pg_catalog.regclass, 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, "         \
  "'pg_catalog.pg_extension'::pg_catalog.regclass, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, "             \
  "'pg_catalog.pg_rewrite'::pg_catalog.regclass, 'pg_catalog.pg_policy'::pg_catalog.regclass))"

void add_sequences(const Lines& sequences, catalog::Database& database);

// `reads`: relations that each view reads. REQUIRES: tables and sequences of the database are known.
void add_draws(std::vector<plan::FunctionText> functions, const Lines& triggers, const Lines& rules,
               const Lines& unseen_calls, const Lines& cascades,
               const std::vector<std::pair<catalog::Oid, catalog::Oid>>& reads, catalog::Database& database);

}  // namespace pgmosaic::control
