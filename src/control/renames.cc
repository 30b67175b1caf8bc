// ALTER DATABASE … RENAME over several servers (router/databases.h). It is written down in the metadata store before
// the first server renames the database, and moves the records under the new name when the last one has. A start that
// finds it written down goes on with it: every step can be repeated.
//
//   renames/<old name>    the new name
#include "base/log.h"
#include "control/cluster.h"
#include "control/membership.h"
#include "meta/codec.h"

namespace pgmosaic::control {

namespace {

constexpr std::string_view kRenamePrefix = "renames/";

std::string rename_key(const std::string& from) { return std::string(kRenamePrefix) + from; }

}  // namespace

Status Cluster::begin_rename(const std::string& from, const std::string& to) {
  meta::Txn txn;
  txn.compares.push_back({rename_key(from), 0});
  txn.puts.push_back({rename_key(from), to});
  TRY_ASSIGN(auto done, store_.commit(txn));
  if (done.committed) return {};
  return make_error("55006", "database \"" + from + "\" is being renamed", "Restart the router, which finishes it.");
}

Status Cluster::forget_rename(const std::string& from) {
  meta::Txn txn;
  txn.deletes.push_back(rename_key(from));
  TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  return {};
}

Status Cluster::move_records(const std::string& from, const std::string& to) {
  const auto prefix_of = [](const std::string& database) {
    const std::string tables = meta::table_prefix(database);
    return tables.substr(0, tables.size() - std::string_view("tables/").size());
  };
  const std::string prefix = prefix_of(from);
  TRY_ASSIGN(const auto found, store_.read_prefix(prefix));
  meta::Txn txn;
  for (const meta::Entry& entry : found.entries) {
    txn.puts.push_back({prefix_of(to) + entry.key.substr(prefix.size()), entry.value});
    txn.deletes.push_back(entry.key);
  }
  txn.deletes.push_back(rename_key(from));
  TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  return {};
}

net::Task<Status> Cluster::database_renamed(net::EventLoop& loop, std::string from, std::string to) {
  CO_TRY(move_records(from, to));
  CO_TRY(co_await reload(loop, to));
  co_await take_away(loop, from);
  co_return Status{};
}

// Before anything is made of the databases' names.
net::Task<Status> Cluster::finish_renames(net::EventLoop& loop) {
  CO_TRY_ASSIGN(const auto found, store_.read_prefix(kRenamePrefix));
  for (const meta::Entry& entry : found.entries) {
    const std::string from = entry.key.substr(kRenamePrefix.size()), to = entry.value;
    for (const GroupEndpoint& group : groups_) {
      auto conn = co_await connect(loop, group.group.id, internal_database_);
      if (!conn.ok()) co_return std::move(conn.error());
      CO_TRY(co_await check_member(**conn, cluster_id_, group.group));
      const std::string old_name = group.endpoint.database_name(from), name = group.endpoint.database_name(to);
      const std::string question =
          "SELECT FROM pg_catalog.pg_database WHERE datname = " + pool::quote_literal(old_name) +
          " AND NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = " + pool::quote_literal(name) + ")";
      auto left = co_await (*conn)->query(question);
      if (!left.ok()) co_return group_error(group.group.id, std::move(left.error()));
      if (left->rows.empty()) continue;
      auto done = co_await (*conn)->query("ALTER DATABASE " + pool::quote_identifier(old_name) + " RENAME TO " +
                                          pool::quote_identifier(name));
      if (!done.ok()) {
        done.error().message = "an interrupted ALTER DATABASE ... RENAME cannot be finished: " + done.error().message;
        co_return group_error(group.group.id, std::move(done.error()));
      }
    }
    CO_TRY(move_records(from, to));
    log_info("control", "database \"{}\" is \"{}\" now, on all groups", from, to);
  }
  co_return Status{};
}

}  // namespace pgmosaic::control
