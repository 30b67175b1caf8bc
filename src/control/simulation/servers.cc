#include "control/simulation/servers.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "control/commit_secret.h"

namespace pgmosaic::control::simulation {

namespace {

// The text between the first `before` and the next `after`.
std::string_view between(std::string_view text, std::string_view before, std::string_view after) {
  const std::size_t start = text.find(before);
  CHECK(start != std::string_view::npos);
  text.remove_prefix(start + before.size());
  return text.substr(0, text.find(after));
}

uint64_t number_in(std::string_view text) {
  uint64_t number = 0;
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  CHECK(problem == std::errc());
  return number;
}

std::vector<uint64_t> numbers_in(std::string_view list) {
  std::vector<uint64_t> numbers;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    numbers.push_back(number_in(list.substr(0, comma)));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return numbers;
}

int64_t hash_of(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return static_cast<int64_t>(hash);
}

bool names(const LogRow& row, uint64_t group) {
  return std::find(row.participants.begin(), row.participants.end(), group) != row.participants.end();
}

}  // namespace

std::shared_ptr<Session> Server::connect(int session_number) {
  if (down) return nullptr;
  auto session = std::make_shared<Session>();
  session->number = session_number;
  session->server = this;
  sessions.push_back(session);
  return session;
}

void Server::send(Session& session, std::string_view sql) {
  if (session.orphan || session.gone) {
    session.reply = Reply{.lost = true};
    return;
  }
  CHECK(!session.busy);
  session.reply.reset();
  session.statements.clear();
  for (std::size_t end; !sql.empty(); sql.remove_prefix(std::min(end + 2, sql.size()))) {
    end = std::min(sql.find("; "), sql.size());
    session.statements.emplace_back(sql.substr(0, end));
  }
  session.at = 0;
  session.busy = true;
  session.begun = false;
  session.answer = {};
}

void Server::step(Session& session) {
  if (!session.busy) return terminate(session);  // it has noticed that its client is gone
  session.begun = true;
  if (session.at == session.statements.size()) return finish_query(session);
  const std::size_t at = session.at;
  if (!run(session, session.statements[at])) {
    session.blocked = session.at == at && session.finishing.empty();
    return;
  }
  if (!session.answer.sqlstate.empty())
    session.at = session.statements.size();
  else
    ++session.at;
}

// What began without BEGIN ends with the query.
void Server::finish_query(Session& session) {
  Transaction& transaction = session.transaction;
  if (transaction.open && !transaction.explicit_) {
    if (session.answer.sqlstate.empty())
      commit(transaction);
    else
      roll_back(transaction);
  } else if (!session.answer.sqlstate.empty()) {
    transaction.failed = transaction.open;
  }
  session.busy = false;
  if (!session.orphan) session.reply = std::move(session.answer);
}

void Server::cut(Session& session, bool before_arrival) {
  session.orphan = true;
  session.reply = Reply{.lost = true};
  if (before_arrival && session.busy && !session.begun) session.busy = false;
}

void Server::terminate(Session& session) {
  if (!session.finishing.empty())
    if (Prepared* one = find_prepared(session.finishing)) one->busy = false;
  roll_back(session.transaction);
  session.gone = true;
  session.busy = false;
  session.reply = Reply{.lost = true};
  std::erase_if(sessions, [](const auto& other) { return other->gone; });
}

void Server::crash() {
  const auto all = sessions;
  for (const auto& session : all) terminate(*session);
}

void Server::fail(Session& session, const char* sqlstate) { session.answer.sqlstate = sqlstate; }

bool Server::run(Session& session, std::string_view sql) {
  Transaction& transaction = session.transaction;
  Reply& answer = session.answer;
  if (sql.starts_with("COMMIT PREPARED ") || sql.starts_with("ROLLBACK PREPARED ")) return end_prepared(session, sql);
  if (sql.starts_with("BEGIN")) {
    transaction.open = transaction.explicit_ = true;
    return true;
  }
  if (sql == "COMMIT" || sql == "ROLLBACK") {
    const bool commits = sql == "COMMIT" && !transaction.failed;
    if (commits && transaction.writes != 0 && refuses && random_.one_in(8)) {
      roll_back(transaction);
      fail(session, "23514");
      return true;
    }
    answer.tag = commits ? "COMMIT" : "ROLLBACK";
    if (commits)
      commit(transaction);
    else
      roll_back(transaction);
    return true;
  }
  if (transaction.failed && sql.starts_with("PREPARE TRANSACTION")) {
    answer.tag = "ROLLBACK";
    roll_back(transaction);
    return true;
  }
  if (transaction.failed) {
    fail(session, "25P02");
    return true;
  }
  transaction.open = true;
  return run_in_transaction(session, sql);
}

bool Server::run_in_transaction(Session& session, std::string_view sql) {
  Transaction& transaction = session.transaction;
  if (sql.starts_with("WRITE ")) {
    transaction.writes |= Transactions{1} << number_in(sql.substr(6));
  } else if (sql.starts_with("SET LOCAL lock_timeout")) {
    transaction.impatient = true;
  } else if (sql.starts_with("SET ")) {
  } else if (sql.starts_with("SELECT pg_catalog.pgmosaic_log_commit(")) {
    LogRow row{.gid = std::string(between(sql, "('", "'"))};
    for (const uint64_t group : numbers_in(between(sql, "'{", "}'")))
      row.participants.push_back(static_cast<uint32_t>(group));
    const std::string_view rest = sql.substr(sql.find("}', '") + 5);
    row.router = std::string(rest.substr(0, rest.find('\'')));
    row.label = number_in(between(rest, "', ", ","));
    if (row.router == trusted_router) return insert(session, std::move(row));
    fail(session, "42501");
  } else if (sql.starts_with("INSERT INTO pg_catalog.pgmosaic_commit_log ")) {
    return insert(session, {.gid = std::string(between(sql, "VALUES ('", "'")), .aborted = true});
  } else if (sql.starts_with("PREPARE TRANSACTION ")) {
    prepare(session, sql);
  } else if (sql.starts_with("SELECT aborted FROM ")) {
    const std::string_view gid = between(sql, "gid = '", "'");
    for (const LogRow& row : log)
      if (row.gid == gid) session.answer.values = {row.aborted ? "t" : "f"};
  } else if (sql.starts_with("INSERT INTO pg_catalog.pgmosaic_epochs ")) {
    set_epoch(session, sql);
  } else if (sql.starts_with("WITH gone ")) {
    remove(session, sql);
  } else if (sql.starts_with("DELETE FROM pg_catalog.pgmosaic_commit_log ")) {
    forget(session, sql);
  } else if (sql.starts_with("DELETE FROM pg_catalog.pgmosaic_epochs ")) {
    if (in_force(sql))
      transaction.later.emplace_back([seen = epochs](Server& server) {
        for (const auto& [router, epoch] : seen) server.epochs.erase(router);
      });
  } else if (sql.starts_with("SELECT pg_catalog.pgmosaic_seen_commits(")) {
    session.answer.values = {seen_commits(sql)};
    session.answer.shown = committed;
  } else if (sql == "READ") {
    session.answer.shown = committed;
  } else if (sql.starts_with("SELECT gid, database FROM pg_catalog.pg_prepared_xacts")) {
    for (const Prepared& one : prepared) session.answer.values.push_back(one.name);
  } else if (sql == kSecretsSql) {
    if (!trusted_router.empty()) session.answer.values = {trusted_router};
  } else if (sql.starts_with("DELETE FROM pg_catalog.pgmosaic_secret ")) {
    transaction.later.emplace_back([all = std::string(sql)](Server& server) {
      const bool found = all.find("'" + server.trusted_router + "'") != std::string::npos;
      if (found || server.sabotage_.does_whatever_comes_late) server.trusted_router.clear();
    });
  } else if (sql.starts_with("INSERT INTO pg_catalog.pgmosaic_secret ")) {
    transaction.later.emplace_back([name = std::string(between(sql, "SELECT '", "'"))](Server& server) {
      if (server.trusted_router.empty()) server.trusted_router = name;
    });
  } else {
    CHECK(!"a statement that the simulation does not know");
  }
  return true;
}

// A step to find it, another one to end it: meanwhile it is busy.
bool Server::end_prepared(Session& session, std::string_view sql) {
  const std::string_view name = between(sql, "'", "'");
  Prepared* one = find_prepared(name);
  if (session.finishing.empty()) {
    if (one == nullptr || one->busy) {
      fail(session, one == nullptr ? "42704" : "55000");
      return true;
    }
    one->busy = true;
    session.finishing = name;
    return false;
  }
  session.finishing.clear();
  Transaction transaction = std::move(one->transaction);
  prepared.erase(prepared.begin() + (one - prepared.data()));
  session.answer.tag = sql.substr(0, sql.find(" '"));
  if (session.answer.tag == "COMMIT PREPARED")
    commit(transaction);
  else
    roll_back(transaction);
  return true;
}

void Server::prepare(Session& session, std::string_view sql) {
  Transaction& transaction = session.transaction;
  const std::string name(between(sql, "'", "'"));
  const bool refused = refuses && random_.one_in(8);
  if (refused || find_prepared(name) != nullptr) {
    roll_back(transaction);
    return fail(session, refused ? "23514" : "42710");
  }
  ++changes;
  prepared.push_back({name, std::move(transaction)});
  transaction = {};
  session.answer.tag = "PREPARE TRANSACTION";
}

Server::Taken Server::taken(const Session& by, const std::string& gid) const {
  const auto has = [&](const std::vector<LogRow>& rows) {
    return std::any_of(rows.begin(), rows.end(), [&](const LogRow& row) { return row.gid == gid; });
  };
  if (has(log) || has(by.transaction.rows)) return Taken::yes;
  for (const auto& session : sessions)
    if (session.get() != &by && has(session->transaction.rows)) return Taken::maybe;
  for (const Prepared& one : prepared)
    if (has(one.transaction.rows)) return Taken::maybe;
  return Taken::no;
}

bool Server::insert(Session& session, LogRow row) {
  row.transaction = Transactions{1} << number_in(std::string_view(row.gid).substr(row.gid.rfind('_') + 1));
  switch (taken(session, row.gid)) {
    case Taken::no: session.transaction.rows.push_back(std::move(row)); return true;
    case Taken::yes: fail(session, "23505"); return true;
    case Taken::maybe: break;
  }
  if (!session.transaction.impatient) return false;
  fail(session, "55P03");
  return true;
}

void Server::set_epoch(Session& session, std::string_view sql) {
  const std::string router(between(sql, "VALUES ('", "'"));
  const uint64_t epoch = number_in(between(sql, "', ", ")"));
  session.transaction.later.emplace_back([router, epoch](Server& server) {
    uint64_t& known = server.epochs[router].epoch;
    known = std::max(known, epoch);
  });
}

void Server::remove(Session& session, std::string_view sql) {
  const std::string router(between(sql, "router = '", "'"));
  const uint64_t epoch = number_in(between(sql, "label <= ", " "));
  const std::vector<uint64_t> list = numbers_in(between(sql, "ALL ('{", "}'"));
  const std::set<uint64_t> kept(list.begin(), list.end());
  for (const LogRow& row : log)
    if (row.router == router && row.label <= epoch && !kept.contains(row.label) && !row.aborted)
      session.transaction.deleted.push_back(row.gid);
  const bool guarded =
      sql.find("trimmed < " + std::to_string(epoch)) != std::string_view::npos && !sabotage_.takes_trimming_back;
  session.transaction.later.emplace_back([=](Server& server) {
    const auto known = server.epochs.find(router);
    if (known == server.epochs.end() || (guarded && known->second.trimmed >= epoch)) return;
    known->second.trimmed = epoch;
    known->second.kept = kept;
  });
}

// Whether the statement is of the router whose secret is here.
bool Server::in_force(std::string_view sql) const {
  return sabotage_.does_whatever_comes_late || between(sql, "secret = '", "'") == trusted_router;
}

void Server::forget(Session& session, std::string_view sql) {
  const std::string_view kept = between(sql, "NOT IN (", ")");
  if (!in_force(sql)) return;
  for (const LogRow& row : log)
    if (!row.aborted && kept.find("'" + row.gid + "'") == std::string_view::npos)
      session.transaction.deleted.push_back(row.gid);
}

// As pgmosaic_seen_commits() does (install_sql.h).
std::string Server::seen_commits(std::string_view sql) const {
  std::string answer;
  for (const auto& [name, router] : epochs) {
    answer += (answer.empty() ? "" : ";") + name + " " + std::to_string(router.epoch) + " " +
              std::to_string(router.trimmed) + " ";
    for (const uint64_t label : router.kept)
      answer += std::to_string(label) + (label == *router.kept.rbegin() ? "" : ",");
  }
  answer += "|";
  std::map<std::pair<uint64_t, exec::SeenCommits::Key>, exec::SeenCommits::Sum> sums;
  for (const uint64_t other : numbers_in(between(sql, "'{", "}'")))
    for (const LogRow& row : log) {
      if (row.aborted || !names(row, other)) continue;
      exec::SeenCommits::Sum& sum = sums[{other, {row.router, row.label}}];
      ++sum.count;
      sum.hashes ^= static_cast<uint64_t>(hash_of(row.gid));
    }
  for (const auto& [key, sum] : sums)
    answer += (answer.ends_with('|') ? "" : ";") + std::to_string(key.first) + " " + key.second.first + " " +
              std::to_string(key.second.second) + " " + std::to_string(sum.count) + " " +
              std::to_string(static_cast<int64_t>(sum.hashes));
  return answer;
}

void Server::commit(Transaction& transaction) {
  committed |= transaction.writes;
  for (const std::string& gid : transaction.deleted)
    std::erase_if(log, [&](const LogRow& row) { return row.gid == gid; });
  for (LogRow& row : transaction.rows) log.push_back(std::move(row));
  for (const auto& change : transaction.later) change(*this);
  transaction = {};
  wake();
}

void Server::roll_back(Transaction& transaction) {
  rolled_back |= transaction.writes;
  transaction = {};
  wake();
}

void Server::wake() {
  ++changes;
  for (const auto& session : sessions) session->blocked = false;
}

Prepared* Server::find_prepared(std::string_view name) {
  const auto found =
      std::find_if(prepared.begin(), prepared.end(), [&](const Prepared& one) { return one.name == name; });
  return found == prepared.end() ? nullptr : &*found;
}

Transactions Server::prepared_writes() const {
  Transactions all = 0;
  for (const Prepared& one : prepared) all |= one.transaction.writes;
  return all;
}

Transactions Server::open_writes() const {
  Transactions all = 0;
  for (const auto& session : sessions) all |= session->transaction.writes;
  return all;
}

Transactions Server::logged(bool aborted) const {
  Transactions all = 0;
  for (const LogRow& row : log)
    if (row.aborted == aborted) all |= row.transaction;
  return all;
}

}  // namespace pgmosaic::control::simulation
