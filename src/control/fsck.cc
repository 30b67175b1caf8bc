#include "control/fsck.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "exec/two_phase.h"

namespace pgmosaic::control {

namespace {

constexpr int kLooks = 3;
constexpr int64_t kBetweenLooksUs = 200'000;
constexpr int kAttempts = 5;

// Something was dropped between the question and the answer.
bool vanished(const Error& error) {
  return error.sqlstate == "XX000" || error.sqlstate.starts_with("42") || error.sqlstate == "3F000";
}

Error at_group(const catalog::Group& group, Error error) {
  error.message = "group " + group.name + ": " + error.message;
  if (error.sqlstate == "55P03") error.hint = "An open transaction has a table locked; try again when it has ended.";
  return error;
}

}  // namespace

net::Task<Status> Fsck::connect() {
  for (const GroupEndpoint& group : cluster_.groups()) {
    auto conn = co_await cluster_.connect(loop_, group.group.id, database_);
    if (!conn.ok()) co_return at_group(group.group, std::move(conn.error()));
    sites_.push_back({group.group, std::move(*conn), {}});
    groups_.push_back(group.group);
  }
  std::stable_partition(sites_.begin(), sites_.end(), [](const Site& site) { return site.group.home; });
  co_return Status{};
}

net::Task<Status> Fsck::ask_all(const std::vector<meta::ShardedTableRecord>& records) {
  std::vector<catalog::Oid> oids;
  for (const meta::ShardedTableRecord& record : records) oids.push_back(record.oid);
  for (Site& site : sites_) ask(*site.conn);
  Status result;
  for (Site& site : sites_) {
    auto look = co_await read_look(*site.conn, site.group.home, oids);
    if (look.ok())
      site.look = std::move(*look);
    else if (result.ok())
      result = at_group(site.group, std::move(look.error()));
  }
  co_return result;
}

void Fsck::add_stuck(const Site& site, Findings& findings) const {
  for (const StuckTransaction& transaction : site.look.stuck) {
    const auto ours = exec::PreparedGid::parse(transaction.gid);
    if (!ours || ours->gid.parked || ours->gid.cluster != cluster_.cluster_id() || ours->group != site.group.id)
      continue;
    findings.push_back({site.group.name, "transaction " + transaction.gid,
                        "is prepared since " + transaction.prepared_at + ", and neither committed nor rolled back"});
  }
}

net::Task<Status> Fsck::compare(Site& site, const Recorded& recorded, Findings& findings) {
  const bool home = site.group.home;
  const SchemaFacts& at_home = sites_[0].look.facts;
  add_stuck(site, findings);
  if (!home) compare_schemas(at_home, site.look.facts, recorded, site.group.name, findings);
  for (const std::string& sequence : site.look.open_sequences)
    if (at_home.contains("sequence " + sequence))
      findings.push_back(
          {site.group.name, "sequence " + sequence, "is not at its end: numbers could be given out twice"});
  for (const std::string& index : site.look.unfinished_indexes)
    findings.push_back({site.group.name, "index " + index,
                        home ? "is not valid: it is being built, or that was interrupted (REINDEX INDEX CONCURRENTLY "
                               "goes on, DROP INDEX drops it)"
                             : "belongs to no index: one is being built, or that was interrupted"});
  const auto occupied =
      co_await find_rows(*site.conn, tables_without_rows(site.look.facts, at_home, recorded, site.group));
  if (!occupied.ok()) co_return at_group(site.group, occupied.error());
  for (const std::string& table : *occupied)
    findings.push_back({site.group.name, "table " + table,
                        home ? "is sharded, and has rows here" : "has rows here, which belong to another group"});
  co_return Status{};
}

net::Task<Result<Findings>> Fsck::look() {
  CO_TRY_ASSIGN(const auto records, meta::read_tables(store_, database_));
  CO_TRY_ASSIGN(const auto colocations, meta::read_colocations(store_, database_));
  CO_TRY(co_await ask_all(records));
  Findings findings;
  const Recorded recorded = resolve(records, colocations, sites_[0].look, groups_, findings);
  std::map<catalog::GroupId, const Look*> looks;
  for (Site& site : sites_) {
    CO_TRY(co_await compare(site, recorded, findings));
    if (!site.group.home) looks[site.group.id] = &site.look;
  }
  compare_leaves(looks, groups_, sites_[0].look.facts, recorded, findings);
  std::sort(findings.begin(), findings.end());
  co_return findings;
}

net::Task<Result<std::vector<exec::Difference>>> Fsck::run() {
  CO_TRY(co_await connect());
  Findings lasting;
  for (int looks = 0, attempts = 0; looks < kLooks && (looks == 0 || !lasting.empty());) {
    if (looks + attempts > 0) co_await loop_.sleep(kBetweenLooksUs);
    auto found = co_await look();
    if (!found.ok() && vanished(found.error()) && ++attempts < kAttempts) continue;
    if (!found.ok()) co_return std::move(found.error());
    Findings both;
    std::set_intersection(lasting.begin(), lasting.end(), found->begin(), found->end(), std::back_inserter(both));
    lasting = looks == 0 ? std::move(*found) : std::move(both);
    ++looks;
  }
  std::vector<exec::Difference> differences;
  for (Finding& finding : lasting)
    differences.push_back({database_, finding.group, finding.object, std::move(finding.difference)});
  co_return differences;
}

}  // namespace pgmosaic::control
