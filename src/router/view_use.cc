#include "router/view_use.h"

#include <algorithm>
#include <atomic>
#include <charconv>

#include "pool/settings.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr int64_t kPollUs = 500, kPatienceUs = 30'000'000, kBetweenCancelsUs = 50'000, kBetweenQuestionsUs = 20'000;
constexpr int kQuestions = 5;

// pg_get_viewdef() waits for locks on the tables; the text is read in any session.
constexpr const char* kSet =
    "SET %search_path = ''; SET %client_encoding = 'UTF8'; SET %standard_conforming_strings = on; "
    "SET %DateStyle = 'ISO'; SET %IntervalStyle = 'postgres'; SET %TimeZone = 'UTC'; SET %extra_float_digits = 1; "
    "SET %quote_all_identifiers = off; SET %lock_timeout = 50";

std::string settings(bool local) {
  std::string text = kSet;
  const std::string word = local ? "LOCAL " : "";
  for (std::size_t at = text.find('%'); at != std::string::npos; at = text.find('%', at)) text.replace(at, 1, word);
  return text;
}

std::string list_of(const std::vector<catalog::Oid>& views) {
  std::string oids;
  for (catalog::Oid oid : views) oids += (oids.empty() ? "" : ",") + std::to_string(oid);
  return "'{" + oids + "}'::pg_catalog.oid[]";
}

Error schema_changed() {
  return make_error("40001", "could not serialize access due to a concurrent schema change",
                    "Retry the transaction: a view that it uses has changed.");
}

}  // namespace

net::Task<Result<plan::PlanPtr>> ViewUse::plan(std::string_view sql, const std::vector<pg::Oid>& types) {
  while (true) {
    plan::ViewsMet met;
    plan::PlanPtr plan = s_.plan_text(sql, types, &met);
    if (met.unread.empty()) {
      CO_TRY_ASSIGN(const bool current, co_await use(*plan));
      if (current) co_return plan;
    } else if (s_.failed_) {
      co_return plan;
    } else {
      CO_TRY(co_await read(std::move(met.unread)));
    }
    CO_TRY(co_await s_.refresh_context());  // it may have waited for a schema change
  }
}

net::Task<Result<bool>> ViewUse::use(const plan::Plan& plan) {
  if (plan.views.empty()) co_return true;
  NameGate& gate = s_.worker_.context.names;
  const int64_t deadline_us = s_.worker_.loop.now_us() + kPatienceUs;
  bool waited = false;
  while (gate.closed(s_.backends_.database())) {
    if (s_.worker_.loop.now_us() > deadline_us)
      co_return make_error("55P03", "a schema change of this database is not finished: a group does not answer",
                           "Try again when all groups do.");
    waited = true;
    co_await s_.worker_.loop.sleep(kPollUs);
    CO_TRY(s_.interrupted());
  }
  if (!waited) s_.views_in_use_.insert(s_.views_in_use_.end(), plan.views.begin(), plan.views.end());
  co_return !waited;
}

// Where nobody's schema change is in the way the router asks by itself, with settings of its own.
net::Task<Status> ViewUse::read(std::vector<catalog::Oid> views) {
  const std::shared_ptr<const catalog::Database> database(s_.snapshot_, s_.database_);
  const catalog::GroupId group = s_.snapshot_->home;
  if (s_.staged_) {
    if (s_.extended_) CO_TRY(co_await s_.settle_current());
    auto home = co_await s_.backends_.get(group);
    if (!home.ok()) co_return std::move(home.error());
    auto known = co_await ask(*(*home)->conn, "SAVEPOINT pgmosaic_look; " + settings(true),
                              "ROLLBACK TO SAVEPOINT pgmosaic_look; RELEASE SAVEPOINT pgmosaic_look", *database, views);
    if (!known.ok()) co_return std::move(known.error());
    if (*known) co_return Status{};
    co_return co_await wait_for_locks(views);
  }
  CO_TRY_ASSIGN(auto conn,
                co_await s_.worker_.context.control->connect(s_.worker_.loop, group, s_.backends_.database()));
  // Who holds locks himself must not wait for ever behind somebody who waits for him.
  const int most = s_.backends_.in_transaction() ? 5 : 1000;
  for (int i = 0; i < most; ++i) {
    CO_TRY_ASSIGN(const bool known, co_await ask(*conn, settings(false), std::string(), *database, views));
    if (known) co_return Status{};
    CO_TRY(co_await wait_for_locks(views));
  }
  co_return make_error("55P03", "a schema change of what a view reads is in the way", "Try again.");
}

// In a transaction its own backend waits, so that a deadlock is one: the statement would have waited there as well.
net::Task<Status> ViewUse::wait_for_locks(const std::vector<catalog::Oid>& views) {
  CO_TRY(s_.interrupted());
  if (!s_.backends_.in_transaction()) {
    co_await s_.worker_.loop.sleep(kBetweenQuestionsUs);
    co_return Status{};
  }
  if (s_.extended_) CO_TRY(co_await s_.settle_current());
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  auto names = co_await (*home)->conn->query(
      "SELECT pg_catalog.string_agg(v.oid::pg_catalog.regclass::pg_catalog.text, ', ') FROM pg_catalog.unnest(" +
      list_of(views) + ") v (oid)");
  if (!names.ok()) co_return std::move(names.error());
  auto locked = co_await (*home)->conn->query("LOCK TABLE " + names->rows[0][0].value_or("") + " IN ACCESS SHARE MODE");
  if (!locked.ok()) co_return std::move(locked.error());
  co_return Status{};
}

// False: a schema change is in the way. XX000, "could not open relation with OID": what a view reads was dropped while
// the question waited for it; the next question sees that the view is gone, too.
net::Task<Result<bool>> ViewUse::ask(pool::ServerConn& conn, std::string set, std::string reset,
                                     const catalog::Database& database, const std::vector<catalog::Oid>& views) {
  const std::string sql =
      "SELECT v.oid, pg_catalog.pg_get_viewdef(v.oid) FROM pg_catalog.unnest(" + list_of(views) + ") v (oid)";
  Result<pool::ServerConn::Rows> rows = make_error("XX000", "not asked yet");
  for (int i = 0; i < kQuestions && !rows.ok() && rows.error().sqlstate == "XX000"; ++i) {
    auto prepared = co_await conn.query(set);
    if (!prepared.ok()) co_return std::move(prepared.error());
    rows = co_await conn.query(sql);
    if (reset.empty()) continue;
    auto done = co_await conn.query(reset);
    if (!done.ok()) co_return std::move(done.error());
  }
  if (!rows.ok() && rows.error().sqlstate == "55P03") co_return false;
  if (!rows.ok()) co_return std::move(rows.error());
  for (auto& row : rows->rows) {
    catalog::Oid view = 0;
    std::from_chars(row[0]->data(), row[0]->data() + row[0]->size(), view);
    std::string query = row[1].value_or("");  // empty: it is gone
    while (query.ends_with(';')) query.pop_back();
    database.view_definitions.put(view, std::move(query));
  }
  co_return true;
}

bool ViewUse::uses(const Session& session, const std::string& database, const std::set<catalog::Oid>* views) {
  const auto& used = session.views_in_use_;
  return !used.empty() && session.backends_.database() == database &&
         (views == nullptr ||
          std::any_of(used.begin(), used.end(), [views](catalog::Oid view) { return views->contains(view); }));
}

std::set<catalog::Oid> changed_views(const catalog::Database& before, const catalog::Database& after) {
  std::set<catalog::Oid> changed;
  for (const auto& [oid, table] : before.tables_by_oid) {
    if (table->kind != catalog::TableKind::view) continue;
    const catalog::TableKind reach = before.reach(*table);
    if (reach == catalog::TableKind::view) {
      const auto now = after.tables_by_oid.find(oid);
      if (now == after.tables_by_oid.end() || now->second->definition != table->definition) changed.insert(oid);
    } else {  // PostgreSQL knows what it is by then, but must be asked at the same place
      const catalog::Table* now = after.find(table->schema, table->name);
      if (now != nullptr && after.reach(*now) != reach) changed.insert(oid);
    }
  }
  return changed;
}

net::Task<Result<std::shared_ptr<NamesClosed>>> close_views(net::EventLoop& loop, RouterContext& context,
                                                            std::string database, const Session* self,
                                                            const std::set<catalog::Oid>* changed,
                                                            std::shared_ptr<NamesClosed> closed) {
  if (changed != nullptr && changed->empty()) co_return closed;
  if (!closed) closed = std::make_shared<NamesClosed>(context.names, database);
  const int64_t deadline_us = loop.now_us() + kPatienceUs;
  int64_t next_cancel_us = 0;
  while (true) {
    const bool cancel = loop.now_us() >= next_cancel_us;
    if (cancel) next_cancel_us = loop.now_us() + kBetweenCancelsUs;
    std::atomic<int> users = 0;
    auto look = [&](Worker& worker) {
      for (Session* session : worker.sessions) {
        if (session == self || !ViewUse::uses(*session, database, changed)) continue;
        ++users;
        if (cancel) session->cancel(std::make_unique<Error>(schema_changed()));
      }
    };
    co_await context.on_each_worker(loop, look);
    if (users == 0) co_return closed;
    if (loop.now_us() > deadline_us)
      co_return make_error("55P03", "statements that use the view are in the way of the schema change", "Try again.");
    co_await loop.sleep(kPollUs);
  }
}

}  // namespace pgmosaic::router
