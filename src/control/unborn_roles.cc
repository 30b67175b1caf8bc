#include "control/unborn_roles.h"

#include "base/log.h"

namespace pgmosaic::control {

namespace {

std::string roles_sql(const std::string& condition) {
  return "SELECT r.rolname FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_shdescription d ON d.objoid = r.oid AND "
         "d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass WHERE d.description = " +
         pool::quote_literal(kUnborn) + condition;
}

// A transaction in doubt may still hold it.
net::Task<Status> drop_role(pool::ServerConn& home, const std::string& name) {
  auto dropped = co_await home.query("SET LOCAL lock_timeout = '2s'; DROP ROLE " + pool::quote_identifier(name));
  if (!dropped.ok()) co_return std::move(dropped.error());
  co_return Status{};
}

}  // namespace

net::Task<Status> drop_unborn_role(pool::ServerConn& home, const std::string& name) {
  auto known = co_await home.query(roles_sql(" AND r.rolname = " + pool::quote_literal(name)));
  if (!known.ok()) co_return std::move(known.error());
  if (known->rows.empty()) co_return Status{};
  co_return co_await drop_role(home, name);
}

net::Task<Status> drop_unborn_roles(pool::ServerConn& home) {
  auto known = co_await home.query(roles_sql(""));
  if (!known.ok()) co_return std::move(known.error());
  for (const auto& row : known->rows) {
    Status dropped = co_await drop_role(home, *row[0]);
    if (dropped.ok()) log_info("control", "dropped role \"{}\" of a transaction that did not commit", *row[0]);
    if (!dropped.ok()) log_warning("control", "role \"{}\" stays: {}", *row[0], dropped.error().message);
  }
  co_return Status{};
}

}  // namespace pgmosaic::control
