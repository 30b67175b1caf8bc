// What the metadata store knows, under intents/GID, of transactions whose outcome is a row of a group's commit log: the
// records of the tables and colocations that they make (docs/design/002), and of those that clients have prepared also
// the rest (parked.h). As JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "control/parked.h"
#include "exec/control.h"
#include "meta/store.h"

namespace pgmosaic::control {

inline constexpr std::string_view kIntentPrefix = "intents/";

std::string encode_intent(const exec::StagedSchema& staged);
std::string encode_intent(const exec::Parking& parking);

// The intent's records become the database's. Error: it is damaged. `colocations`: those that it makes.
Status put_intended(const meta::Entry& intent, meta::Txn& txn, std::string& database,
                    std::set<catalog::ColocationId>& colocations);

// nullopt: of a transaction that is none of a client's.
Result<std::optional<ParkedTransaction>> decode_parked(const meta::Entry& intent);

}  // namespace pgmosaic::control
