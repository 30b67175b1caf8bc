// Sizes, row estimates and counters that catalogs have of one server, added up over the groups.
//
// The home's own value is in the catalog; the other groups' come as a JSON object in the place of
// virtual_marker(kClusterSums), which the executor fills in:
//   {"<OID of a table or index at home>": {"relation_size": …, "seq_scan": …, …}, "database <name or OID>": {"size":
//   …}}
//
// before: SELECT pg_table_size(c.oid), reltuples FROM pg_class c
// after:  SELECT pg_table_size(c.oid) + coalesce(('{…}'::jsonb -> c.oid::text ->> 'table_size')::int8, 0), reltuples
//         FROM (SELECT oid, …, reltuples + coalesce(…) AS reltuples, … FROM pg_class) AS c
#pragma once

#include <vector>

#include "sql/ast.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

inline constexpr std::string_view kClusterSums = "cluster_sums";

// Whether a statement's part reads such a value. `estimates`: the statement names reltuples or relpages.
bool reads_sums(const sql::Message* message, bool estimates);
// What takes the node's place, or null. `keep` holds what the result points into.
sql::Node* with_sums(sql::Arena& arena, const sql::Node* node, bool estimates, std::vector<sql::ParseTree>& keep);

}  // namespace pgmosaic::plan
