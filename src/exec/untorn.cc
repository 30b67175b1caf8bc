#include "exec/untorn.h"

#include <charconv>

namespace pgmosaic::exec {

namespace {

// The fields of `text` up to the separator; what is left stays in it.
std::string_view take(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view field = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return field;
}

template <class T>
bool take_number(std::string_view& text, char separator, T& value) {
  const std::string_view field = take(text, separator);
  const auto [stop, problem] = std::from_chars(field.data(), field.data() + field.size(), value);
  return problem == std::errc() && stop == field.data() + field.size() && !field.empty();
}

bool has_rows(const SeenCommits& seen, const SeenCommits::Key& key) {
  const auto router = seen.routers.find(key.first);
  return router == seen.routers.end() || key.second > router->second.trimmed ||
         router->second.kept.contains(key.second);
}

const std::map<SeenCommits::Key, SeenCommits::Sum>& sums_with(const SeenCommits& seen, GroupId group) {
  static const std::map<SeenCommits::Key, SeenCommits::Sum> kNone;
  const auto found = seen.with.find(group);
  return found == seen.with.end() ? kNone : found->second;
}

// What `mine` shows of transactions with another group, that shows just as much, as far as both still have rows.
bool covered(const std::map<SeenCommits::Key, SeenCommits::Sum>& mine, const SeenCommits& seen_mine,
             const std::map<SeenCommits::Key, SeenCommits::Sum>& theirs, const SeenCommits& seen_theirs) {
  for (const auto& [key, sum] : mine) {
    if (!has_rows(seen_mine, key) || !has_rows(seen_theirs, key)) continue;
    const auto other = theirs.find(key);
    if (other == theirs.end() || other->second != sum) return false;
  }
  return true;
}

// Whether `late` is behind the end of all that `trimmed` has no rows of any more.
bool behind(const SeenCommits& late, const SeenCommits& trimmed) {
  for (const auto& [name, router] : trimmed.routers) {
    const auto known = late.routers.find(name);
    if (router.trimmed > (known == late.routers.end() ? 0 : known->second.epoch)) return false;
  }
  return true;
}

}  // namespace

std::string seen_commits_sql(const std::vector<GroupId>& groups) {
  std::string list;
  for (const GroupId group : groups) list += (list.empty() ? "" : ",") + std::to_string(group);
  return "SELECT pg_catalog.pgmosaic_seen_commits('{" + list + "}')";
}

// router epoch trimmed kept,kept;…|participant,participant router label count hashes;…
std::optional<SeenCommits> parse_seen_commits(std::string_view answer) {
  SeenCommits seen;
  if (answer.find('|') == std::string_view::npos) return std::nullopt;
  for (std::string_view routers = take(answer, '|'); !routers.empty();) {
    std::string_view entry = take(routers, ';');
    SeenCommits::Router& router = seen.routers[std::string(take(entry, ' '))];
    if (!take_number(entry, ' ', router.epoch) || !take_number(entry, ' ', router.trimmed)) return std::nullopt;
    while (!entry.empty()) {
      uint64_t label = 0;
      if (!take_number(entry, ',', label)) return std::nullopt;
      router.kept.insert(label);
    }
  }
  while (!answer.empty()) {
    std::string_view entry = take(answer, ';');
    std::string_view participants = take(entry, ' ');
    const std::string router(take(entry, ' '));
    uint64_t label = 0, count = 0;
    int64_t hashes = 0;
    if (!take_number(entry, ' ', label) || !take_number(entry, ' ', count) || !take_number(entry, ' ', hashes))
      return std::nullopt;
    do {
      GroupId group = 0;
      if (!take_number(participants, ',', group)) return std::nullopt;
      SeenCommits::Sum& sum = seen.with[group][{router, label}];
      sum.count += count;
      sum.hashes ^= static_cast<uint64_t>(hashes);
    } while (!participants.empty());
  }
  return seen;
}

bool agree(GroupId a, const SeenCommits& seen_a, GroupId b, const SeenCommits& seen_b) {
  if (!behind(seen_a, seen_b) || !behind(seen_b, seen_a)) return false;
  const auto& with_b = sums_with(seen_a, b);
  const auto& with_a = sums_with(seen_b, a);
  return covered(with_b, seen_a, with_a, seen_b) && covered(with_a, seen_b, with_b, seen_a);
}

Result<bool> agree(const std::vector<GroupId>& groups, const std::vector<std::string>& answers) {
  std::vector<SeenCommits> seen;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    std::optional<SeenCommits> parsed = parse_seen_commits(answers[i]);
    if (!parsed)
      return make_error("XX000", "group " + std::to_string(groups[i]) + " does not tell what its snapshot shows");
    seen.push_back(std::move(*parsed));
  }
  for (std::size_t i = 0; i < seen.size(); ++i)
    for (std::size_t j = i + 1; j < seen.size(); ++j)
      if (!agree(groups[i], seen[i], groups[j], seen[j])) return false;
  return true;
}

bool tells_the_same(const std::string& before, const std::string& behind) {
  if (before == behind) return true;
  const auto first = parse_seen_commits(before);
  return first && first == parse_seen_commits(behind);
}

Error torn() {
  return make_error("40001", "could not read several groups as of one moment",
                    "A transaction over several groups is committed on one of them and not on another: retry when all "
                    "groups answer.");
}

net::Task<Result<std::vector<std::string>>> ask_all(std::vector<pool::ServerConn*> conns, std::string sql) {
  for (pool::ServerConn* conn : conns) {
    conn->add_internal_query(sql);
    conn->flush();
  }
  std::vector<std::string> answers;
  Status status;
  for (pool::ServerConn* conn : conns) {
    pool::ServerConn::Rows rows;
    Status answered = co_await conn->drain(&rows);
    if (!answered.ok() && status.ok()) status = std::move(answered);
    answers.push_back(rows.rows.empty() ? "" : rows.rows.back().back().value_or(""));
  }
  if (!status.ok()) co_return std::move(status.error());
  co_return answers;
}

net::Task<Result<bool>> take_snapshots(const std::vector<Backend*>& backends, std::string sql) {
  std::vector<pool::ServerConn*> conns;
  std::vector<GroupId> groups;
  for (const Backend* backend : backends) {
    conns.push_back(backend->conn.get());
    groups.push_back(backend->group);
  }
  CO_TRY_ASSIGN(const std::vector<std::string> answers, co_await ask_all(std::move(conns), std::move(sql)));
  co_return agree(groups, answers);
}

}  // namespace pgmosaic::exec
