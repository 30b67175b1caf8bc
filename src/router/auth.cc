#include "router/auth.h"

#include "pg/md5.h"
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
  if (pg::is_md5_verifier(*row[3])) record.md5 = *row[3];
  co_return record;
}

Status check_md5_response(const UserRecord& record, const std::string& user, std::string_view body,
                          std::string_view salt) {
  if (record.expired || !body.ends_with('\0') || body.substr(0, body.size() - 1) != pg::md5_response(record.md5, salt))
    return make_error("28P01", "password authentication failed for user \"" + user + "\"");
  if (!record.can_login) return make_error("28000", "role \"" + user + "\" is not permitted to log in");
  return {};
}

net::Task<std::vector<pool::Credentials>> confirmed(Worker& worker, std::vector<PasswordChange> changes) {
  std::vector<pool::Credentials> result;
  for (PasswordChange& change : changes) {
    if (change.role == worker.config->internal.user) continue;  // its password is the configuration's
    auto record = co_await lookup_user(worker, change.role);
    if (!record.ok()) continue;
    if (!change.md5.empty() && record->md5 == change.md5)
      result.push_back({std::move(change.role), {}, {}, std::move(change.md5)});
    else if (change.md5.empty() && record->verifier && *record->verifier == change.verifier)
      result.push_back({std::move(change.role), {}, std::move(change.keys)});
  }
  co_return result;
}

}  // namespace pgmosaic::router
