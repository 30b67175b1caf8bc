#include "router/temporary.h"

#include <algorithm>

#include "sql/deparse.h"

namespace pgmosaic::router {

std::string ask_temporary_names(const std::vector<std::string>& search_path) {
  std::string ask =
      "SELECT relname, true FROM pg_catalog.pg_class c WHERE pg_catalog.pg_my_temp_schema() <> 0 AND relnamespace = "
      "pg_catalog.pg_my_temp_schema()";
  const auto is_temporary = [](const std::string& schema) { return schema.starts_with("pg_temp"); };
  const auto named = std::find_if(search_path.begin(), search_path.end(), is_temporary);
  if (named == search_path.begin() || named == search_path.end()) return ask;
  std::string path;
  for (const std::string& schema : search_path) path += (path.empty() ? "" : ", ") + sql::quote_literal(schema);
  // The schema's own name (pg_temp_3) may stand in the path, too, and those of other sessions mean nothing.
  const std::string hides =
      "EXISTS (SELECT FROM s JOIN pg_catalog.pg_namespace n ON n.nspname = s.name JOIN pg_catalog.pg_class f ON "
      "f.relnamespace = n.oid WHERE f.relname = c.relname AND s.at < (SELECT min(t.at) FROM s AS t WHERE t.name IN "
      "('pg_temp', (SELECT m.nspname FROM pg_catalog.pg_namespace m WHERE m.oid = pg_catalog.pg_my_temp_schema()))) "
      "AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'))";
  ask.replace(ask.find("true"), 4, "NOT " + hides);
  return "WITH s AS (SELECT name, at FROM pg_catalog.unnest(ARRAY[" + path +
         "]::pg_catalog.text[]) WITH ORDINALITY AS s (name, at)) " + ask;
}

}  // namespace pgmosaic::router
