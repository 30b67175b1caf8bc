#include "control/intents.h"

#include <nlohmann/json.hpp>

#include "meta/codec.h"

namespace pgmosaic::control {

namespace {

nlohmann::json records_of(const exec::StagedSchema* staged) {
  nlohmann::json intent;
  intent["tables"] = nlohmann::json::array();
  intent["colocations"] = nlohmann::json::array();
  if (staged == nullptr) return intent;
  intent["database"] = staged->database;
  for (const auto& record : staged->tables)
    intent["tables"].push_back({{"oid", record.oid}, {"record", meta::encode_table(record)}});
  for (const auto& colocation : staged->colocations)
    intent["colocations"].push_back({{"id", colocation.id}, {"record", meta::encode_colocation(colocation)}});
  return intent;
}

Result<nlohmann::json> parse(const meta::Entry& intent) {
  auto parsed = nlohmann::json::parse(intent.value, nullptr, false);
  if (parsed.is_discarded()) return make_error("XX001", "the metadata store's key " + intent.key + " is damaged");
  return parsed;
}

}  // namespace

std::string encode_intent(const exec::StagedSchema& staged) { return records_of(&staged).dump(); }

std::string encode_intent(const exec::Parking& parking) {
  nlohmann::json intent = records_of(parking.staged.get());
  intent["database"] = parking.database;
  // Numbers: its bytes need not be text in the router's encoding.
  const std::vector<unsigned char> name(parking.name.begin(), parking.name.end());
  intent["parked"] = {{"name", name},
                      {"groups", parking.groups},
                      {"moved", parking.moved_tables},
                      {"schema", parking.staged != nullptr},
                      {"names", parking.staged != nullptr && parking.staged->makes_names}};
  return intent.dump();
}

Status put_intended(const meta::Entry& intent, meta::Txn& txn, std::string& database,
                    std::set<catalog::ColocationId>& colocations) {
  TRY_ASSIGN(const nlohmann::json parsed, parse(intent));
  database = parsed["database"];
  for (const auto& table : parsed["tables"])
    txn.puts.push_back({meta::table_key(database, table["oid"]), table["record"]});
  for (const auto& colocation : parsed["colocations"]) {
    txn.puts.push_back({meta::colocation_key(database, colocation["id"]), colocation["record"]});
    colocations.insert(colocation["id"].get<catalog::ColocationId>());
  }
  return {};
}

Result<std::optional<ParkedTransaction>> decode_parked(const meta::Entry& intent) {
  const auto gid = exec::Gid::parse(std::string_view(intent.key).substr(kIntentPrefix.size()));
  if (!gid || !gid->parked) return std::optional<ParkedTransaction>();
  TRY_ASSIGN(const nlohmann::json parsed, parse(intent));
  const auto& parked = parsed["parked"];
  ParkedTransaction transaction;
  transaction.gid = *gid;
  transaction.database = parsed["database"];
  const auto name = parked["name"].get<std::vector<unsigned char>>();
  transaction.name.assign(name.begin(), name.end());
  transaction.groups = parked["groups"].get<std::vector<uint32_t>>();
  transaction.of_client.moved_tables = parked["moved"].get<std::set<catalog::Oid>>();
  transaction.of_client.changes_schema = parked["schema"];
  transaction.of_client.makes_names = parked["names"];
  return std::optional(std::move(transaction));
}

}  // namespace pgmosaic::control
