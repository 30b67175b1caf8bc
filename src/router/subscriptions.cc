#include "router/subscriptions.h"

#include "pool/settings.h"
#include "router/client_text.h"

namespace pgmosaic::router {

net::Task<Status> SubscriptionChange::on_home(std::string sql, bool tell) {
  auto rows = co_await home.conn->query(sql);
  if (!rows.ok()) co_return std::move(rows.error());
  if (tell) notices += rows->notices;
  co_return Status{};
}

net::Task<Status> SubscriptionChange::run() {
  if (!ddl.subscription->disabled.empty()) co_return co_await create();
  if (ddl.subscription->adds != plan::Ddl::Subscription::Adds::nothing) co_return co_await alter();
  co_return co_await on_home(ddl.home_instead[0], true);
}

net::Task<Status> SubscriptionChange::create() {
  const plan::Ddl::Subscription& wish = *ddl.subscription;
  Status made = co_await on_home(wish.disabled, true);
  if (!made.ok()) {
    made.error().position = position_in(ddl.home_instead[0], wish.disabled, made.error().position);
    co_return made;
  }
  Status fits = co_await control.check_subscription(loop, database, wish, false);
  if (fits.ok() && wish.enables) {
    // Event triggers have seen all of it: it is one statement to them.
    fits = co_await on_home(
        "SELECT pg_catalog.set_config('session_replication_role', 'replica', true) FROM pg_catalog.pg_roles WHERE "
        "rolname = current_user AND rolsuper; ALTER SUBSCRIPTION " +
        pool::quote_identifier(wish.name) + " ENABLE");
  }
  if (!fits.ok()) co_await drop(fits.error());
  co_return fits;
}

// It has applied nothing yet.
net::Task<void> SubscriptionChange::drop(Error& why) {
  const std::string name = pool::quote_identifier(ddl.subscription->name);
  Status dropped = co_await on_home("DROP SUBSCRIPTION IF EXISTS " + name);
  if (dropped.ok()) co_return;
  // The publisher cannot be reached, to drop the slot.
  dropped = co_await on_home("ALTER SUBSCRIPTION " + name + " SET (slot_name = NONE); DROP SUBSCRIPTION " + name);
  why.hint +=
      dropped.ok() ? " Drop its replication slot at the publisher." : " Drop the subscription, which is disabled.";
}

net::Task<Status> SubscriptionChange::alter() {
  const plan::Ddl::Subscription& wish = *ddl.subscription;
  const std::string name = pool::quote_identifier(wish.name);
  // Others than its owner, and a subscription that is disabled, PostgreSQL refuses.
  const std::string question =
      "SELECT FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = "
      "pg_catalog.current_database() AND s.subenabled AND pg_catalog.pg_has_role(s.subowner, 'USAGE') AND s.subname "
      "= " +
      pool::quote_literal(wish.name);
  auto rows = co_await home.conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (!rows->rows.empty()) CO_TRY(co_await control.check_subscription(loop, database, wish, true));
  CO_TRY(co_await on_home(ddl.home_instead[0], true));
  Status fits = co_await control.check_subscription(loop, database, wish, false);
  if (fits.ok()) co_return Status{};
  // The publication has changed in between, or could not be asked before.
  Status stopped = co_await on_home("ALTER SUBSCRIPTION " + name + " DISABLE");
  if (stopped.ok())
    fits.error().hint += " It is disabled now: drop the publication from it, or the table from the publication.";
  co_return fits;
}

}  // namespace pgmosaic::router
