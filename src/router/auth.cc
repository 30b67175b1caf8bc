#include "router/auth.h"

#include "router/worker.h"

namespace pgmosaic::router {

net::Task<Result<UserRecord>> lookup_user(Worker& worker, const std::string& user) {
  const Config& config = *worker.config;
  pool::PoolEntry& entry = worker.pool.entry(config.internal.user, config.internal.database, worker.snapshot->home);
  pool::PoolWaiter waiter;
  auto conn = co_await worker.pool.acquire(entry, waiter);
  if (!conn.ok()) co_return std::move(conn.error());
  const std::vector<std::optional<std::string>> values = {user};
  auto rows = co_await (*conn)->query_params(
      "SELECT rolcanlogin, coalesce(rolvaliduntil < now(), false), rolsuper, coalesce(rolpassword, '') "
      "FROM pg_catalog.pg_authid WHERE rolname = $1",
      values);
  worker.pool.release(std::move(*conn));
  if (!rows.ok()) co_return std::move(rows.error());
  UserRecord record;
  if (rows->rows.empty()) co_return record;
  const auto& row = rows->rows[0];
  record.exists = true;
  record.can_login = row[0] == "t";
  record.expired = row[1] == "t";
  record.superuser = row[2] == "t";
  record.verifier = pg::parse_verifier(*row[3]);
  co_return record;
}

}  // namespace pgmosaic::router
