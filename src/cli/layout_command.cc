// pgmosaic layout dump: what pg_dump does not know of a database, as a script (sql/layout.h).
#include <cstdio>

#include "cli/client.h"
#include "cli/commands.h"

namespace pgmosaic::cli {

namespace {

constexpr const char* kUsage =
    "Usage: pgmosaic layout dump [--admin-database NAME] [URL]\n"
    "\n"
    "Writes an SQL script that says how the tables of a database are sharded. pg_dump does not know that; with the\n"
    "script its dump can be restored into a new database of a cluster:\n"
    "\n"
    "    pgmosaic layout dump postgresql://…/shop > layout.sql;  pg_dump -Fc -f shop.dump postgresql://…/shop\n"
    "    psql -f layout.sql postgresql://…/new;  pg_restore -d postgresql://…/new shop.dump\n"
    "    psql -c 'DROP LAYOUT ALL' postgresql://…/new\n"
    "\n"
    "URL is postgresql://user:password@host:port/database of the router. What it leaves out comes from PGHOST, "
    "PGPORT,\n"
    "PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and PGSSLROOTCERT. The user must be a superuser. NAME is the router's\n"
    "admin_database.\n";

constexpr int kWrongUsage = 2;

net::Task<Status> dump(pool::ServerConn& conn, const std::string& database) {
  const std::string question = "LAYOUT " + pool::quote_identifier(database);
  CO_TRY_ASSIGN(const auto answer, co_await conn.query(question));
  std::printf(
      "-- How the tables of a database are sharded. Run this in the new one before a dump of the tables is restored, "
      "and\n-- behind that: DROP LAYOUT ALL;\n");
  for (const auto& row : answer.rows) std::printf("%s;\n", row[0]->c_str());
  co_return Status{};
}

}  // namespace

int run_layout(const std::vector<std::string>& arguments) {
  if (asks_for_help(arguments)) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  if (arguments.empty() || arguments[0] != "dump") {
    std::fputs(kUsage, stderr);
    return kWrongUsage;
  }
  auto target = read_target({arguments.begin() + 1, arguments.end()});
  if (target.ok() && target->database.empty())
    target = make_error("42601", "no database is named", "Write postgresql://user:password@host:port/database.");
  if (!target.ok()) {
    fail(target.error());
    return kWrongUsage;
  }
  const Work work = [&](pool::ServerConn& conn) { return dump(conn, target->database); };
  Status status = with_connection(*target, target->admin_database, work);
  return status.ok() ? 0 : fail(status.error());
}

}  // namespace pgmosaic::cli
