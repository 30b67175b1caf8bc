#include "control/cluster.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/random.h"
#include "catalog/hashing.h"
#include "control/commit_secret.h"
#include "control/fsck.h"
#include "control/group_oids.h"
#include "control/install_home_sql.h"
#include "control/install_saga_sql.h"
#include "control/install_sql.h"
#include "control/intents.h"
#include "control/introspect.h"
#include "control/membership.h"
#include "control/unborn_roles.h"
#include "pg/site_names.h"

namespace pgmosaic::control {

namespace {

constexpr int kConnectTimeoutMs = 10000;
constexpr std::string_view kClusterKey = "cluster/id";
constexpr std::string_view kMockSecretKey = "cluster/mock_authentication_secret";

}  // namespace

Cluster::Cluster(meta::Store& store, std::vector<GroupEndpoint> groups, pool::Credentials internal,
                 std::string internal_database)
    : store_(store),
      groups_(std::move(groups)),
      internal_(std::move(internal)),
      internal_database_(std::move(internal_database)),
      router_name_(random_hex(4)),
      commit_secret_(random_hex(32)) {
  for (const GroupEndpoint& group : groups_)
    if (group.group.home) home_ = group.group.id;
  CHECK(home_ != 0);
}

catalog::SnapshotPtr Cluster::snapshot() const {
  std::lock_guard lock(mutex_);
  return snapshot_;
}

Error Cluster::group_error(catalog::GroupId group, Error error) const {
  for (const GroupEndpoint& entry : groups_)
    if (entry.group.id == group)
      error.node = entry.group.name + " (" + entry.group.host + " port " + std::to_string(entry.group.port) + ")";
  return error;
}

net::Task<Result<std::unique_ptr<pool::ServerConn>>> Cluster::connect(net::EventLoop& loop, catalog::GroupId group,
                                                                      const std::string& database) {
  for (const GroupEndpoint& entry : groups_) {
    if (entry.group.id != group) continue;
    auto conn = co_await pool::ServerConn::connect(loop, entry.endpoint, internal_, database, kConnectTimeoutMs);
    if (!conn.ok()) co_return group_error(group, std::move(conn.error()));
    co_return conn;
  }
  co_return make_error("XX000", "no group " + std::to_string(group));
}

Status Cluster::load_identity() {
  TRY_ASSIGN(auto entry, store_.get(kClusterKey));
  if (entry) {
    cluster_id_ = entry->value;
    return load_mock_secret();
  }
  cluster_id_ = random_hex(4);
  meta::Txn txn;
  txn.compares.push_back({std::string(kClusterKey), 0});
  txn.puts.push_back({std::string(kClusterKey), cluster_id_});
  for (const GroupEndpoint& group : groups_)
    txn.puts.push_back({meta::group_key(group.group.id), meta::encode_group(group.group)});
  TRY_ASSIGN(auto committed, store_.commit(txn));
  (void)committed;
  return load_identity();
}

Status Cluster::load_mock_secret() {
  TRY_ASSIGN(auto entry, store_.get(kMockSecretKey));
  if (entry) {
    mock_secret_ = entry->value;
    return {};
  }
  meta::Txn txn;
  txn.compares.push_back({std::string(kMockSecretKey), 0});
  txn.puts.push_back({std::string(kMockSecretKey), random_hex(32)});
  TRY_ASSIGN(auto committed, store_.commit(txn));
  (void)committed;  // else another router has just made one
  return load_mock_secret();
}

net::Task<Result<std::vector<std::string>>> Cluster::list_databases(net::EventLoop& loop) {
  auto conn = co_await connect(loop, home_, internal_database_);
  if (!conn.ok()) co_return std::move(conn.error());
  auto rows = co_await (*conn)->query(
      "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1");
  if (!rows.ok()) co_return std::move(rows.error());
  std::vector<std::string> names;
  for (const auto& row : rows->rows)
    if (!pg::is_shards_database(*row[0])) names.push_back(*row[0]);
  co_return names;
}

// The databases for the shards of the home's server, where they are missing: alike to the user's own.
net::Task<Status> Cluster::make_shards_databases(net::EventLoop& loop, const std::vector<std::string>& databases) {
  auto conn = co_await connect(loop, home_, internal_database_);
  if (!conn.ok()) co_return std::move(conn.error());
  for (const std::string& database : databases) {
    const std::string name = pg::shards_database_name(database);
    const std::string question =
        "SELECT pg_catalog.format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L LOCALE_PROVIDER %s "
        "LC_COLLATE %L LC_CTYPE %L', " +
        pool::quote_literal(name) +
        ", pg_catalog.pg_get_userbyid(datdba), pg_catalog.pg_encoding_to_char(encoding), "
        "CASE datlocprovider WHEN 'i' THEN 'icu' ELSE 'libc' END, datcollate, datctype) || "
        "CASE WHEN daticulocale IS NULL THEN '' ELSE pg_catalog.format(' ICU_LOCALE %L', daticulocale) END FROM "
        "pg_catalog.pg_database WHERE datname = " +
        pool::quote_literal(database) +
        " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE datname = " + pool::quote_literal(name) + ")";
    auto missing = co_await (*conn)->query(question);
    if (!missing.ok()) co_return group_error(home_, std::move(missing.error()));
    if (missing->rows.empty()) continue;
    const std::string create = *missing->rows[0][0];
    auto made = co_await (*conn)->query(create);
    if (!made.ok()) co_return group_error(home_, std::move(made.error()));
  }
  co_return Status{};
}

net::Task<Status> Cluster::install(net::EventLoop& loop, const std::string& database) {
  for (const GroupEndpoint& group : groups_) {
    auto conn = co_await connect(loop, group.group.id, database);
    if (!conn.ok()) co_return std::move(conn.error());
    auto done = co_await (*conn)->query(kInstallSql);
    if (done.ok()) done = co_await (*conn)->query(kInstallSagaSql);
    if (done.ok() && group.group.home) done = co_await (*conn)->query(kInstallSagaHomeSql);
    if (done.ok()) done = co_await (*conn)->query(group.group.home ? kInstallHomeSql : kInstallShardsSql);
    if (!done.ok()) co_return group_error(group.group.id, std::move(done.error()));
    CO_TRY(co_await install_secret(**conn, group.group.id));
  }
  co_return Status{};
}

net::Task<Status> Cluster::install_secret(pool::ServerConn& conn, catalog::GroupId group) {
  const auto texts = [](const pool::ServerConn::Rows& rows) {
    std::vector<std::string> list;
    for (const auto& row : rows.rows) list.push_back(row[0].value_or(""));
    return list;
  };
  auto found = co_await conn.query(kSecretsSql);
  if (!found.ok()) co_return group_error(group, std::move(found.error()));
  const std::string replace = replace_secret_sql(texts(*found), commit_secret_, group);
  auto done = co_await conn.query(replace);
  if (!done.ok()) co_return group_error(group, std::move(done.error()));
  auto now = co_await conn.query(kSecretsSql);
  if (!now.ok()) co_return group_error(group, std::move(now.error()));
  if (texts(*now) == std::vector<std::string>{commit_secret_}) co_return Status{};
  co_return group_error(group, make_error("55006", "another router has started at this moment"));
}

// Nothing is made on a server that belongs to another cluster: the home comes first, its databases for shards after it.
net::Task<Status> Cluster::check_membership(net::EventLoop& loop, const std::vector<std::string>& databases) {
  std::vector<catalog::Group> configured;
  for (const GroupEndpoint& group : groups_) configured.push_back(group.group);
  CO_TRY(check_groups(store_, configured));
  std::stable_partition(configured.begin(), configured.end(), [](const catalog::Group& group) { return group.home; });
  for (const catalog::Group& group : configured) {
    if (group.beside_home) CO_TRY(co_await make_shards_databases(loop, databases));
    auto conn = co_await connect(loop, group.id, internal_database_);
    if (!conn.ok()) co_return std::move(conn.error());
    CO_TRY(co_await check_member(**conn, cluster_id_, group));
  }
  co_return Status{};
}

net::Task<Status> Cluster::open(net::EventLoop& loop) {
  CO_TRY(load_identity());
  CO_TRY(co_await finish_renames(loop));
  auto databases = co_await list_databases(loop);
  if (!databases.ok()) co_return std::move(databases.error());
  CO_TRY(co_await check_membership(loop, *databases));
  for (const std::string& database : *databases) CO_TRY(co_await install(loop, database));
  RecoveryLook look = co_await recover(loop);
  CO_TRY(std::move(look.status));
  const Gids all;
  CO_TRY(co_await recover_intents(loop, all, look.settled));
  CO_TRY(co_await recover_parked(loop));
  for (const std::string& database : *databases) CO_TRY(co_await forget_commits(loop, database));
  auto conn = co_await connect(loop, home_, internal_database_);
  if (!conn.ok()) co_return std::move(conn.error());
  CO_TRY(co_await drop_unborn_roles(**conn));
  auto snapshot = std::make_shared<catalog::Snapshot>();
  for (const GroupEndpoint& group : groups_) snapshot->groups.push_back(group.group);
  snapshot->home = home_;
  snapshot->epoch = 1;
  {
    std::lock_guard lock(mutex_);
    snapshot_ = snapshot;
  }
  for (const std::string& database : *databases) CO_TRY(co_await reload(loop, database));
  log_info("control", "cluster {} ready: {} groups, {} databases", cluster_id_, groups_.size() - 1, databases->size());
  co_return Status{};
}

// The OIDs of the other groups, which are those of a catalog with the same identities.
net::Task<Status> Cluster::add_oid_maps(net::EventLoop& loop, catalog::Database& loaded,
                                        std::vector<const catalog::Database*> like) {
  for (const catalog::Database* known : like) {
    if (known == nullptr || known->identities != loaded.identities || known->oid_maps->size() + 1 != groups_.size())
      continue;
    loaded.oid_maps = known->oid_maps;
    co_return Status{};
  }
  std::vector<std::unique_ptr<pool::ServerConn>> open;
  Participants groups;
  for (const GroupEndpoint& group : groups_) {
    if (group.group.home) continue;
    auto conn = co_await connect(loop, group.group.id, loaded.name);
    if (!conn.ok()) co_return std::move(conn.error());
    open.push_back(std::move(*conn));
    groups.emplace_back(group.group.id, open.back().get());
  }
  CO_TRY_ASSIGN(loaded.oid_maps, co_await load_oid_maps(groups, loaded));
  co_return Status{};
}

// Deletes the records of tables that were there, in the catalog or in the committed transaction itself, and are not any
// more; at the first look all of them. `records` are older than `loaded`, and a record is made behind its table: one
// without a table is of a dropped one.
Status Cluster::forget_dropped(const std::vector<meta::ShardedTableRecord>& records, const catalog::Database& loaded,
                               const catalog::Database* before, const exec::StagedSchema* staged) {
  meta::Txn txn;
  for (const meta::ShardedTableRecord& record : records) {
    if (loaded.tables_by_oid.contains(record.oid)) continue;
    const bool made = staged != nullptr && std::any_of(staged->tables.begin(), staged->tables.end(),
                                                       [&](const auto& table) { return table.oid == record.oid; });
    if (made || before == nullptr || before->tables_by_oid.contains(record.oid))
      txn.deletes.push_back(meta::table_key(record.database, record.oid));
  }
  if (txn.deletes.empty()) return {};
  TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  return {};
}

// What is recorded of tables (`committed`), and what schema changes that are being committed intend to record of tables
// that `published` does not know: where such a table is there, its change is committed.
Result<Records> Cluster::read_records(const std::string& database, const catalog::Database* published,
                                      std::vector<meta::ShardedTableRecord>& committed) {
  // First the intents: one that is gone behind this has left its records.
  TRY_ASSIGN(const auto intents, store_.read_prefix(kIntentPrefix));
  TRY_ASSIGN(committed, meta::read_tables(store_, database));
  Records records{committed, {}};
  TRY_ASSIGN(records.colocations, meta::read_colocations(store_, database));
  for (const auto& entry : intents.entries) {
    const auto intent = nlohmann::json::parse(entry.value, nullptr, false);
    if (intent.is_discarded()) return make_error("XX001", "the metadata store's key " + entry.key + " is damaged");
    if (intent["database"] != database) continue;
    for (const auto& table : intent["tables"]) {
      TRY_ASSIGN(auto record, meta::decode_table({meta::table_key(database, table["oid"]), table["record"], 0, 0}));
      const auto same = [&](const auto& known) { return known.oid == record.oid; };
      const bool recorded = std::any_of(committed.begin(), committed.end(), same);
      if (!recorded && (published == nullptr || !published->tables_by_oid.contains(record.oid)))
        records.tables.push_back(std::move(record));
    }
    for (const auto& colocation : intent["colocations"]) {
      TRY_ASSIGN(auto record, meta::decode_colocation(
                                  {meta::colocation_key(database, colocation["id"]), colocation["record"], 0, 0}));
      const auto same = [&](const auto& known) { return known.id == record.id; };
      if (std::none_of(records.colocations.begin(), records.colocations.end(), same))
        records.colocations.push_back(std::move(record));
    }
  }
  return records;
}

// Introspects what is committed and announces it.
net::Task<Status> Cluster::reload(net::EventLoop& loop, const std::string& database, exec::StagedPtr staged) {
  const catalog::SnapshotPtr before = snapshot();
  auto home = co_await connect(loop, home_, database);
  if (!home.ok()) co_return std::move(home.error());
  uint64_t looked;
  {
    std::lock_guard lock(mutex_);
    looked = changed_[database] = ++last_number_;
  }
  std::vector<meta::ShardedTableRecord> committed;
  const std::function<Result<Records>()> read = [&] {
    return read_records(database, before->database(database), committed);
  };
  auto asked = co_await introspect(**home, database, read);
  if (!asked.ok()) co_return std::move(asked.error());
  const std::shared_ptr<catalog::Database> loaded = std::move(*asked);
  CO_TRY(forget_dropped(committed, *loaded, before->database(database), staged.get()));
  const catalog::SnapshotPtr current = snapshot();
  const catalog::Database* like = staged ? staged->snapshot->database(database) : nullptr;
  const std::vector<const catalog::Database*> candidates({current->database(database), like});
  CO_TRY(co_await add_oid_maps(loop, *loaded, candidates));
  catalog::SnapshotPtr next;
  {
    std::lock_guard lock(mutex_);
    // Else somebody who looked later was faster.
    if (published_[database] <= looked) install_database(loaded, looked);
    next = snapshot_;
  }
  if (announce_) co_await announce_(loop, next);
  co_return Status{};
}

// REQUIRES: mutex_ is held.
void Cluster::install_database(std::shared_ptr<const catalog::Database> database, uint64_t looked) {
  published_[database->name] = looked;
  auto changed = std::make_shared<catalog::Snapshot>(*snapshot_);
  changed->epoch = snapshot_->epoch + 1;
  changed->databases[database->name] = std::move(database);
  snapshot_ = std::move(changed);
}

// Whether there are relations under names that are new to what is published, and not only the home has rows of theirs.
// A name that is of another kind now would be taken for the old one by statements that wait for the change: refused.
// (What was a view is router/view_use.h's.)
Result<bool> Cluster::compare_kinds(const catalog::Database& changed, const std::string& name) const {
  const catalog::SnapshotPtr published = snapshot();
  const catalog::Database* before = published->database(name);
  bool makes_names = false;
  for (const auto& [oid, table] : changed.tables_by_oid) {
    using Kind = catalog::TableKind;
    const Kind kind = changed.reach(*table);
    const catalog::Table* old = before == nullptr ? nullptr : before->find(table->schema, table->name);
    if (old != nullptr && old->oid == oid) continue;
    makes_names = makes_names || table->kind != Kind::view || kind != Kind::local;
    if (old == nullptr || old->kind == Kind::view || before->reach(*old) == kind) continue;
    return make_error("0A000",
                      "\"" + table->name + "\" would be a table of another kind than before, in one transaction",
                      "Commit what drops or renames the old table first.");
  }
  return makes_names;
}

net::Task<Result<exec::StagedPtr>> Cluster::stage(Participants participants, const catalog::SnapshotPtr& base,
                                                  exec::StagedSchema changes) {
  const auto home = std::find_if(participants.begin(), participants.end(),
                                 [&](const auto& participant) { return participant.first == base->home; });
  CHECK(home != participants.end());
  pool::ServerConn& home_conn = *home->second;
  participants.erase(home);

  {
    std::lock_guard lock(mutex_);
    changes.looked = ++last_number_;
  }
  const catalog::SnapshotPtr published = snapshot();
  const auto before = published->databases.find(changes.database);
  changes.published = before == published->databases.end() ? nullptr : before->second;
  std::vector<meta::ShardedTableRecord> committed;
  const std::function<Result<Records>()> read = [&]() -> Result<Records> {
    TRY_ASSIGN(Records records, read_records(changes.database, changes.published.get(), committed));
    records.tables.insert(records.tables.end(), changes.tables.begin(), changes.tables.end());
    for (const auto& added : changes.colocations) {
      const auto same = [&added](const catalog::Colocation& colocation) { return colocation.id == added.id; };
      if (std::none_of(records.colocations.begin(), records.colocations.end(), same))
        records.colocations.push_back(added);
    }
    return records;
  };
  auto loaded = co_await introspect(home_conn, changes.database, read);
  if (!loaded.ok()) co_return std::move(loaded.error());
  const catalog::Database* known = base->database(changes.database);
  for (const Error& error : (*loaded)->misplaced) {
    const auto same = [&](const Error& other) { return other.message == error.message; };
    if (known == nullptr || std::none_of(known->misplaced.begin(), known->misplaced.end(), same)) co_return error;
  }
  CO_TRY_ASSIGN(changes.makes_names, compare_kinds(**loaded, changes.database));
  if (known != nullptr && known->identities == (*loaded)->identities) {
    (*loaded)->oid_maps = known->oid_maps;
  } else {
    CO_TRY_ASSIGN((*loaded)->oid_maps, co_await load_oid_maps(std::move(participants), **loaded));
  }
  auto snapshot = std::make_shared<catalog::Snapshot>(*base);
  snapshot->databases[changes.database] = *loaded;
  changes.snapshot = snapshot;
  co_return std::make_shared<const exec::StagedSchema>(std::move(changes));
}

Status Cluster::intend(const exec::StagedSchema& staged, const std::string& gid) {
  meta::Txn txn;
  txn.puts.push_back({std::string(kIntentPrefix) + gid, encode_intent(staged)});
  TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  return {};
}

void Cluster::forget(const std::string& gid) {
  meta::Txn txn;
  txn.deletes.push_back(std::string(kIntentPrefix) + gid);
  if (auto done = store_.commit(txn); !done.ok())
    log_warning("control", "intent {} stays until the next start: {}", gid, done.error().message);
}

Status Cluster::apply(const std::vector<meta::ShardedTableRecord>& tables,
                      const std::vector<catalog::Colocation>& colocations, const std::string& database,
                      const std::string& gid) {
  meta::Txn txn;
  for (const auto& record : tables)
    txn.puts.push_back({meta::table_key(database, record.oid), meta::encode_table(record)});
  for (const auto& colocation : colocations)
    txn.puts.push_back({meta::colocation_key(database, colocation.id), meta::encode_colocation(colocation)});
  txn.deletes.push_back(std::string(kIntentPrefix) + gid);
  TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  std::lock_guard lock(mutex_);
  auto& waiting = pending_[database];
  std::erase_if(waiting, [&colocations](const catalog::Colocation& placed) {
    return std::any_of(colocations.begin(), colocations.end(),
                       [&placed](const auto& done_) { return done_.id == placed.id; });
  });
  return {};
}

net::Task<Status> Cluster::publish(net::EventLoop& loop, exec::StagedPtr staged, std::string gid) {
  CO_TRY(apply(staged->tables, staged->colocations, staged->database, gid));
  // What the transaction saw last is what there is now, unless others have changed the schema meanwhile, also ones that
  // are not published yet: they look again, and what they see may not be older than what is published here.
  const auto made = staged->snapshot->databases.find(staged->database);
  CO_TRY_ASSIGN(const auto records, meta::read_tables(store_, staged->database));
  catalog::SnapshotPtr next;
  {
    std::lock_guard lock(mutex_);
    const auto now = snapshot_->databases.find(staged->database);
    const bool alone = changed_[staged->database] < staged->looked;
    if (alone && staged->published != nullptr && now != snapshot_->databases.end() &&
        now->second == staged->published) {
      install_database(made->second, changed_[staged->database] = ++last_number_);
      next = snapshot_;
    }
  }
  if (next == nullptr) co_return co_await reload(loop, staged->database, staged);
  CO_TRY(forget_dropped(records, *made->second, staged->published.get(), staged.get()));
  if (announce_) co_await announce_(loop, next);
  co_return Status{};
}

Result<catalog::Colocation> Cluster::place(const catalog::Snapshot& snapshot, const catalog::Database& database,
                                           const std::vector<catalog::Oid>& key_types,
                                           const std::vector<catalog::Oid>& key_collations, uint32_t shard_count,
                                           const plan::Ddl::NewSharded& wish) {
  const bool alone = wish.colocate_with == "none" || wish.by_expression;
  auto fits = [&](const catalog::Colocation& colocation) {
    return !alone && !colocation.explicit_only && !colocation.by_partition && !colocation.computed &&
           colocation.key_types == key_types && colocation.key_collations == key_collations &&
           colocation.shards.size() == shard_count;
  };
  for (const auto& [id, colocation] : database.colocations)
    if (fits(colocation)) return colocation;
  std::lock_guard lock(mutex_);
  for (const catalog::Colocation& placed : pending_[database.name])
    if (fits(placed)) return placed;
  catalog::Colocation colocation;
  TRY_ASSIGN(colocation.id, new_colocation());
  TRY_ASSIGN(uint64_t first_shard, meta::allocate_ids(store_, meta::ids_key("shard"), shard_count));
  colocation.key_types = key_types;
  colocation.key_collations = key_collations;
  colocation.explicit_only = alone;
  colocation.computed = wish.by_expression;
  // Neighbouring remainders go to different groups; each group gets the same number, give or take one.
  std::vector<catalog::GroupId> owners;
  for (const catalog::Group& group : snapshot.groups)
    if (!group.home) owners.push_back(group.id);
  for (uint32_t remainder = 0; remainder < shard_count; ++remainder)
    colocation.shards.push_back(
        {first_shard + remainder, shard_count, remainder, owners[remainder % owners.size()], 0});
  pending_[database.name].push_back(colocation);
  return colocation;
}

Result<catalog::ColocationId> Cluster::new_colocation() {
  TRY_ASSIGN(const uint64_t id, meta::allocate_ids(store_, meta::ids_key("colocation"), 1));
  return static_cast<catalog::ColocationId>(id);
}

net::Task<Status> Cluster::index_built(net::EventLoop& loop, std::string database, catalog::Oid index) {
  // What is touched of the table lets those who have planned a statement over it hear of the index.
  const std::string sql =
      "WITH made AS (UPDATE pg_catalog.pg_index SET indisvalid = true WHERE indexrelid = " + std::to_string(index) +
      " AND indisready AND indislive RETURNING indrelid) "
      "UPDATE pg_catalog.pg_attribute SET attcacheoff = attcacheoff WHERE attrelid IN (SELECT indrelid FROM made) AND "
      "attnum = 1";
  auto home = co_await connect(loop, home_, database);
  if (!home.ok()) co_return std::move(home.error());
  auto done = co_await (*home)->query(sql);
  if (!done.ok()) co_return group_error(home_, std::move(done.error()));
  co_return co_await reload(loop, database);
}

net::Task<Status> Cluster::database_created(net::EventLoop& loop, std::string database) {
  CO_TRY(co_await install(loop, database));
  co_return co_await reload(loop, database);
}

net::Task<Status> Cluster::database_dropped(net::EventLoop& loop, std::string database) {
  meta::Txn txn;
  CO_TRY_ASSIGN(auto tables, meta::read_tables(store_, database));
  for (const auto& record : tables) txn.deletes.push_back(meta::table_key(database, record.oid));
  CO_TRY_ASSIGN(auto colocations, meta::read_colocations(store_, database));
  for (const auto& colocation : colocations) txn.deletes.push_back(meta::colocation_key(database, colocation.id));
  CO_TRY_ASSIGN(const auto layouts, meta::read_layouts(store_, database));
  for (const auto& [name, text] : layouts) txn.deletes.push_back(meta::layout_key(database, name.first, name.second));
  CO_TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  co_await take_away(loop, database);
  co_return Status{};
}

net::Task<void> Cluster::take_away(net::EventLoop& loop, const std::string& database) {
  catalog::SnapshotPtr next;
  {
    std::lock_guard lock(mutex_);
    auto changed = std::make_shared<catalog::Snapshot>(*snapshot_);
    changed->epoch = snapshot_->epoch + 1;
    changed->databases.erase(database);
    pending_.erase(database);
    snapshot_ = next = changed;
  }
  if (announce_) co_await announce_(loop, next);
}

Result<meta::Layouts> Cluster::layouts(const std::string& database) { return meta::read_layouts(store_, database); }

Status Cluster::set_layout(const std::string& database, const std::string& schema, const std::string& table,
                           const std::string& clauses) {
  meta::Txn txn;
  if (!clauses.empty()) {
    txn.puts.push_back({meta::layout_key(database, schema, table), clauses});
  } else if (!table.empty()) {
    txn.deletes.push_back(meta::layout_key(database, schema, table));
  } else {
    TRY_ASSIGN(const auto known, meta::read_layouts(store_, database));
    for (const auto& [name, text] : known) txn.deletes.push_back(meta::layout_key(database, name.first, name.second));
  }
  TRY_ASSIGN(auto done, store_.commit(txn));
  CHECK(done.committed);
  return {};
}

net::Task<Result<std::vector<exec::Difference>>> Cluster::check(net::EventLoop& loop, std::string database) {
  Fsck fsck(*this, store_, loop, std::move(database));
  co_return co_await fsck.run();
}

}  // namespace pgmosaic::control
