#include "exec/two_phase.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "pg/digest.h"
#include "pool/settings.h"

namespace pgmosaic::exec {

namespace {

constexpr std::string_view kPrefix = "pgmosaic", kParkedPrefix = "pgmosaic-parked";

template <class T>
bool parse_number(std::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, value);
  return problem == std::errc() && stop == end && !text.empty();
}

}  // namespace

std::string Gid::text() const {
  return std::string(parked ? kParkedPrefix : kPrefix) + "_" + cluster + "_" + std::to_string(anchor) + "_" + router +
         "_" + std::to_string(number);
}

bool Gid::reserved(std::string_view text) { return text.starts_with(kPrefix); }

std::string Gid::prepared_text(uint32_t group) const { return text() + "_" + std::to_string(group); }

std::optional<PreparedGid> PreparedGid::parse(std::string_view text) {
  const std::size_t bar = text.rfind('_');
  if (bar == std::string_view::npos) return std::nullopt;
  PreparedGid prepared;
  auto gid = Gid::parse(text.substr(0, bar));
  if (!gid || !parse_number(text.substr(bar + 1), prepared.group)) return std::nullopt;
  prepared.gid = std::move(*gid);
  if (prepared.gid.prepared_text(prepared.group) != text) return std::nullopt;  // somebody's 007
  return prepared;
}

std::optional<Gid> Gid::parse(std::string_view text) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t bar = text.find('_');
    parts.push_back(text.substr(0, bar));
    if (bar == std::string_view::npos) break;
    text.remove_prefix(bar + 1);
  }
  Gid gid;
  gid.parked = parts[0] == kParkedPrefix;
  if (parts.size() != 5 || (parts[0] != kPrefix && !gid.parked) || !parse_number(parts[2], gid.anchor) ||
      !parse_number(parts[4], gid.number))
    return std::nullopt;
  gid.cluster = parts[1];
  gid.router = parts[3];
  return gid;
}

// Anybody can have prepared something by such a name.
std::string end_prepared_sql(const Gid& gid, uint32_t group, bool commit) {
  return (commit ? "COMMIT PREPARED " : "ROLLBACK PREPARED ") + pool::quote_literal(gid.prepared_text(group));
}

std::optional<TwoPhase> TwoPhase::make(std::vector<Participant> participants, Gid gid) {
  CHECK(!participants.empty());
  const auto forced = [](const Participant& participant) { return participant.must_be_anchor; };
  if (std::count_if(participants.begin(), participants.end(), forced) > 1) return std::nullopt;
  auto anchor = std::find_if(participants.begin(), participants.end(), forced);
  if (anchor == participants.end()) anchor = participants.begin();
  TwoPhase machine;
  machine.gid_ = std::move(gid);
  machine.gid_.anchor = anchor->group;
  for (const Participant& participant : participants)
    if (participant.group != machine.gid_.anchor) machine.others_.push_back(participant.group);
  if (machine.others_.empty()) machine.step_ = Step::commit_anchor;
  return machine;
}

TwoPhase TwoPhase::park(uint32_t home, const std::vector<uint32_t>& others, Gid gid, std::string sql) {
  TwoPhase machine;
  machine.gid_ = std::move(gid);
  machine.gid_.anchor = home;
  machine.gid_.parked = true;
  machine.others_ = others;
  machine.park_sql_ = std::move(sql);
  if (others.empty()) machine.step_ = Step::commit_anchor;
  return machine;
}

void TwoPhase::prepared(uint32_t group, Outcome outcome) {
  CHECK(step_ == Step::prepare);
  if (outcome != Outcome::success) failed_ = true;
  // A lost connection may have prepared or not; ROLLBACK PREPARED is tried there too.
  if (outcome != Outcome::failure) prepared_.push_back(group);
  if (++answers_ == others_.size()) step_ = failed_ ? Step::abort : Step::commit_anchor;
}

void TwoPhase::anchor_committed(Outcome outcome) {
  CHECK(step_ == Step::commit_anchor);
  switch (outcome) {
    case Outcome::success:
      if (park_sql_.empty()) {
        decided(true);
      } else {
        step_ = Step::done;
      }
      break;
    case Outcome::failure: step_ = Step::abort; break;
    case Outcome::unknown: step_ = Step::resolve; break;
  }
}

void TwoPhase::decided(bool commit) {
  CHECK(step_ == Step::commit_anchor || step_ == Step::resolve);
  committed_ = commit;
  step_ = commit ? Step::commit_prepared : Step::abort;
}

void TwoPhase::undecided() {
  CHECK(step_ == Step::resolve);
  step_ = Step::done;
}

// A rollback may meet a PREPARE that is still under way: recovery looks for it for longer.
void TwoPhase::told(std::vector<uint32_t> unfinished) {
  CHECK(step_ == Step::commit_prepared || step_ == Step::abort);
  unfinished_ = std::move(unfinished);
  ended_ = unfinished_.empty();
  step_ = committed_ && !ended_ ? Step::finish : Step::done;
}

void TwoPhase::finished(bool everywhere) {
  CHECK(step_ == Step::finish);
  ended_ = everywhere;
  step_ = Step::done;
}

std::vector<uint32_t> TwoPhase::groups() const {
  std::vector<uint32_t> groups{gid_.anchor};
  groups.insert(groups.end(), others_.begin(), others_.end());
  return groups;
}

// The signature is for this group alone: it is of no use to who sees it in pg_stat_activity.
std::string TwoPhase::log_sql(uint32_t group) const {
  std::string list;
  for (uint32_t participant : groups()) list += (list.empty() ? "" : ",") + std::to_string(participant);
  const std::string label = std::to_string(row_.label);
  const std::string signature = pg::sha256_hex(row_.secret + " " + std::to_string(group) + " " + gid_.text() + " " +
                                               list + " " + gid_.router + " " + label);
  return "SELECT pg_catalog.pgmosaic_log_commit('" + gid_.text() + "', '{" + list + "}', '" + gid_.router + "', " +
         label + ", '" + signature + "')";
}

std::string TwoPhase::prepare_sql(uint32_t group) const {
  return "SET CONSTRAINTS ALL IMMEDIATE; " + log_sql(group) + "; SET LOCAL ROLE none; PREPARE TRANSACTION '" +
         gid_.prepared_text(group) + "'";
}
std::string TwoPhase::anchor_sql() const {
  return log_sql(gid_.anchor) + "; " + (park_sql_.empty() ? "COMMIT" : park_sql_);
}
std::string TwoPhase::commit_prepared_sql(uint32_t group) const { return end_prepared_sql(gid_, group, true); }
std::string TwoPhase::rollback_prepared_sql(uint32_t group) const { return end_prepared_sql(gid_, group, false); }

}  // namespace pgmosaic::exec
