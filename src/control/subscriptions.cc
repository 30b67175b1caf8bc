#include "control/subscriptions.h"

#include "base/log.h"
#include "base/random.h"
#include "control/cluster.h"
#include "pool/settings.h"

namespace pgmosaic::control {

namespace {

// Reaches the publisher, which may not answer.
constexpr const char* kBegin =
    "SET statement_timeout = '20s'; SET session_replication_role = replica; SET client_min_messages = error; BEGIN";

// The publications whose tables the subscription would have, quoted, as a query for one text.
std::string publications_of(const plan::Ddl::Subscription& subscription) {
  using Adds = plan::Ddl::Subscription::Adds;
  std::string named;
  for (const std::string& name : subscription.publications)
    named += (named.empty() ? "" : ", ") + pool::quote_literal(name);
  named = "pg_catalog.unnest(ARRAY[" + named + "]::pg_catalog.text[])";
  const std::string known = "pg_catalog.unnest(s.subpublications)";
  std::string all = known;
  if (subscription.adds == Adds::these) all = named;
  if (subscription.adds == Adds::more) all = known + " UNION SELECT " + named;
  if (subscription.adds == Adds::fewer) all = known + " EXCEPT SELECT " + named;
  return "(SELECT pg_catalog.string_agg(pg_catalog.quote_ident(name), ', ') FROM (SELECT " + all + ") AS n (name))";
}

// Another subscription to the same, in a transaction that will not be committed: PostgreSQL asks the publisher for its
// tables, finds them here, and begins nothing. Error: it cannot be told what the statement would bring.
net::Task<Status> rehearse(pool::ServerConn& home, const plan::Ddl::Subscription& subscription,
                           const std::string& name) {
  const std::string question =
      "SELECT pg_catalog.format('CREATE SUBSCRIPTION %I CONNECTION %L PUBLICATION %s WITH (create_slot = false, "
      "slot_name = NONE, enabled = false, copy_data = false)', " +
      pool::quote_literal(name) + ", s.subconninfo, " + publications_of(subscription) +
      ") FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = "
      "pg_catalog.current_database() AND s.subname = " +
      pool::quote_literal(subscription.name);
  auto begun = co_await home.query(kBegin);
  if (!begun.ok()) co_return std::move(begun.error());
  auto rows = co_await home.query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty() || !rows->rows[0][0]) co_return make_error("42704", "there is nothing to subscribe to");
  const std::string create = *rows->rows[0][0];
  auto made = co_await home.query(create);
  if (!made.ok()) co_return std::move(made.error());
  co_return Status{};
}

}  // namespace

std::vector<plan::SubscribedTable> subscribed_tables(const std::vector<std::vector<std::optional<std::string>>>& rows) {
  std::vector<plan::SubscribedTable> tables;
  for (const auto& row : rows)
    tables.push_back(
        {*row[0], static_cast<catalog::Oid>(std::stoul(*row[1])), static_cast<catalog::Oid>(std::stoul(*row[2]))});
  return tables;
}

net::Task<Status> Cluster::check_subscription(net::EventLoop& loop, std::string database,
                                              plan::Ddl::Subscription subscription, bool ahead) {
  auto home = co_await connect(loop, home_, database);
  if (!home.ok()) co_return std::move(home.error());
  std::string name = subscription.name;
  if (ahead) {
    name = "pgmosaic_" + random_hex(8);
    if (Status begun = co_await rehearse(**home, subscription, name); !begun.ok()) {
      log_info("control", "subscription {} of database {}: {}", subscription.name, database, begun.error().message);
      co_return Status{};  // the statement itself will tell
    }
  }
  // First the tables that it has, then of what kind they are: one that becomes another kind is locked meanwhile.
  const std::string question =
      "SELECT * FROM (" + std::string(kSubscribed) + ") AS t (name) WHERE name = " + pool::quote_literal(name);
  auto rows = co_await (*home)->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  std::vector<plan::SubscribedTable> tables = subscribed_tables(rows->rows);
  for (plan::SubscribedTable& table : tables) table.subscription = subscription.name;
  std::vector<meta::ShardedTableRecord> committed;
  const catalog::SnapshotPtr known = snapshot();
  const std::function<Result<Records>()> read = [&] {
    return read_records(database, known->database(database), committed);
  };
  auto loaded = co_await introspect(**home, database, read);
  if (!loaded.ok()) co_return std::move(loaded.error());
  const std::vector<Error> errors = plan::misplaced_subscriptions(**loaded, tables);
  if (!errors.empty()) co_return Error(errors[0]);
  co_return Status{};
}

}  // namespace pgmosaic::control
