// pgmosaic fsck: asks a running router for the differences between its groups (control/fsck.h).
#include <cstdio>

#include "cli/client.h"
#include "cli/commands.h"

namespace pgmosaic::cli {

namespace {

constexpr const char* kUsage =
    "Usage: pgmosaic fsck [--admin-database NAME] [URL]\n"
    "\n"
    "Compares the schema of each group with the home's, and the catalog with both, through a running router, and "
    "prints\n"
    "one line per difference: database, group, object and difference with tabs between them. It changes nothing.\n"
    "\n"
    "URL is postgresql://user:password@host:port[/database] of the router; without a database, all are checked. What "
    "it\n"
    "leaves out comes from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and PGSSLROOTCERT. The user must "
    "be\n"
    "a superuser.\n"
    "\n"
    "Exit status: 0 no differences, 1 differences, 2 it could not be found out.\n";

constexpr int kDifferences = 1, kCannotRun = 2;

int cannot_run(const Error& error) {
  fail(error);
  return kCannotRun;
}

}  // namespace

int run_fsck(const std::vector<std::string>& arguments) {
  if (asks_for_help(arguments)) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  auto target = read_target(arguments);
  if (!target.ok()) return cannot_run(target.error());
  const std::string command = "FSCK" + (target->database.empty() ? "" : " " + pool::quote_identifier(target->database));
  std::size_t count = 0;
  Status status = with_connection(*target, target->admin_database, [&](pool::ServerConn& conn) -> net::Task<Status> {
    CO_TRY_ASSIGN(const auto answer, co_await conn.query(command));
    count = answer.rows.size();
    for (const auto& row : answer.rows)
      std::printf("%s\t%s\t%s\t%s\n", row[0]->c_str(), row[1]->c_str(), row[2]->c_str(), row[3]->c_str());
    co_return Status{};
  });
  if (!status.ok()) return cannot_run(status.error());
  return count > 0 ? kDifferences : 0;
}

}  // namespace pgmosaic::cli
