// What the subscriptions of a database apply rows to.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/subscriptions.h"

namespace pgmosaic::control {

// Columns of a SubscribedTable. Triggers are those that fire for rows which a subscription applies.
inline constexpr const char* kSubscribed = R"(
SELECT DISTINCT s.subname, r.srrelid, coalesce(t.tgrelid, 0)
FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid
     CROSS JOIN LATERAL (SELECT r.srrelid AS relid
                         UNION SELECT p.relid FROM pg_catalog.pg_partition_tree(r.srrelid) p) x
     LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = x.relid AND t.tgenabled IN ('A', 'R') AND NOT t.tgisinternal)";

std::vector<plan::SubscribedTable> subscribed_tables(const std::vector<std::vector<std::optional<std::string>>>& rows);

}  // namespace pgmosaic::control
