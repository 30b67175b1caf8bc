#include "meta/sqlite_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

namespace pgmosaic::meta {

namespace {

constexpr int64_t kFormat = 1;

constexpr const char* kSchema =
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB, version INTEGER NOT NULL,"
    "  lease INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS entries_version ON entries (version);"
    "CREATE INDEX IF NOT EXISTS entries_lease ON entries (lease) WHERE lease <> 0;"
    "CREATE TABLE IF NOT EXISTS leases (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL);"
    "INSERT OR IGNORE INTO facts VALUES ('format', 1), ('revision', 0), ('compacted', 0), ('next_lease', 1), ('boot', "
    "'');";

std::string kernel_boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

class SqliteStore : public Store {
 public:
  SqliteStore(std::string path, SqliteOptions options) : path_(std::move(path)), options_(std::move(options)) {}
  ~SqliteStore() override {
    for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
    sqlite3_close(db_);
  }

  Status open();

  Result<std::optional<Entry>> get(std::string_view key) override;
  Result<Entries> read_prefix(std::string_view prefix) override;
  Result<CommitResult> commit(const Txn& txn) override;
  Result<Changes> changes_since(Revision revision, std::string_view prefix) override;
  Result<LeaseId> grant_lease(int64_t ttl_ms) override;
  Status renew_lease(LeaseId lease) override;
  Status revoke_lease(LeaseId lease) override;

 private:
  // One use of a cached statement: bind in order, step, read columns; reset at the end.
  class Query {
   public:
    explicit Query(SqliteStore& store, const char* sql) : store_(store), statement_(store.statement(sql)) {}
    ~Query() {
      if (statement_ != nullptr) sqlite3_reset(statement_), sqlite3_clear_bindings(statement_);
    }
    Query(const Query&) = delete;
    Query& operator=(const Query&) = delete;

    Query& bind(uint64_t value) {
      if (statement_ != nullptr) sqlite3_bind_int64(statement_, ++bound_, static_cast<int64_t>(value));
      return *this;
    }
    Query& bind(int64_t value) { return bind(static_cast<uint64_t>(value)); }
    // REQUIRES: `bytes` outlives the query
    Query& bind(std::string_view bytes) {
      // A null pointer would bind NULL.
      const char* data = bytes.data() == nullptr ? "" : bytes.data();
      if (statement_ != nullptr) sqlite3_bind_blob64(statement_, ++bound_, data, bytes.size(), SQLITE_STATIC);
      return *this;
    }
    // True: a row is there.
    Result<bool> step() {
      const int code = statement_ == nullptr ? SQLITE_ERROR : sqlite3_step(statement_);
      if (code == SQLITE_ROW) return true;
      if (code == SQLITE_DONE) return false;
      return store_.failure();
    }
    Status run() {
      TRY(step());
      return {};
    }
    uint64_t number(int column) const { return static_cast<uint64_t>(sqlite3_column_int64(statement_, column)); }
    bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
    std::string bytes(int column) const {
      const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
      const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
      return data == nullptr ? std::string() : std::string(data, size);
    }

   private:
    SqliteStore& store_;
    sqlite3_stmt* statement_;
    int bound_ = 0;
  };

  // Rolls back unless commit() was reached.
  class Transaction {
   public:
    explicit Transaction(SqliteStore& store) : store_(store) {}
    ~Transaction() {
      if (open_) sqlite3_exec(store_.db_, "ROLLBACK", nullptr, nullptr, nullptr);
    }
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    Status begin(const char* sql) {
      TRY(store_.execute(sql));
      open_ = true;
      return {};
    }
    Status commit() {
      TRY(store_.execute("COMMIT"));
      open_ = false;
      return {};
    }

   private:
    SqliteStore& store_;
    bool open_ = false;
  };

  Error failure() const {
    const int code = db_ == nullptr ? SQLITE_CANTOPEN : sqlite3_errcode(db_);
    const char* text = db_ == nullptr ? "out of memory" : sqlite3_errmsg(db_);
    return make_error("58030", fmt::format("metadata store \"{}\" failed: {}", path_, text),
                      code == SQLITE_BUSY ? "Another process has held its lock for too long." : "");
  }

  sqlite3_stmt* statement(const char* sql) {
    sqlite3_stmt*& prepared = statements_[sql];
    if (prepared == nullptr) sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, nullptr);
    return prepared;
  }

  Status execute(const char* sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failure();
    return {};
  }

  Status set_up();
  Status begin_read(Transaction& transaction);
  Status begin_write(Transaction& transaction);
  Result<uint64_t> fact(std::string_view name);
  Status set_fact(std::string_view name, uint64_t value);
  Result<Revision> next_revision();
  Result<Revision> version_of(std::string_view key);
  Result<bool> lease_exists(LeaseId lease);
  Status end_lease(LeaseId lease);
  Status put_cell(const Txn::Put& put, Revision revision);

  std::mutex mutex_;
  std::string path_;
  SqliteOptions options_;
  sqlite3* db_ = nullptr;
  std::map<std::string, sqlite3_stmt*, std::less<>> statements_;
};

Status SqliteStore::open() {
  // Created here so that its mode does not depend on the umask: values may be secrets.
  const int file = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) {
    return make_error("58030", fmt::format("cannot open metadata store \"{}\": {}", path_, std::strerror(errno)));
  }
  ::close(file);
  if (sqlite3_open_v2(path_.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr) != SQLITE_OK) {
    return failure();
  }
  sqlite3_busy_timeout(db_, options_.busy_timeout_ms);
  if (options_.boot_id.empty()) options_.boot_id = kernel_boot_id();
  // The switch to WAL does not wait on the busy timeout when several processes open a new file at once.
  const int64_t give_up = host_clock_ms() + options_.busy_timeout_ms;
  for (;;) {
    const Status done = execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    if (done.ok()) break;
    if (sqlite3_errcode(db_) != SQLITE_BUSY || host_clock_ms() >= give_up) return failure();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return set_up();
}

Status SqliteStore::set_up() {
  Transaction transaction(*this);
  TRY(transaction.begin("BEGIN IMMEDIATE"));
  TRY(execute(kSchema));
  TRY_ASSIGN(const uint64_t format, fact("format"));
  if (format != kFormat) {
    return make_error("58030",
                      fmt::format("metadata store \"{}\" has format {}, this program knows {}", path_, format, kFormat),
                      "Use the version of pgmosaic that wrote it, or a newer one.");
  }
  std::string boot;
  {
    Query query(*this, "SELECT value FROM facts WHERE name = 'boot'");
    TRY(query.step());
    boot = query.bytes(0);
  }
  if (boot != options_.boot_id) {
    TRY(execute("UPDATE leases SET deadline_ms = -1"));
    Query query(*this, "UPDATE facts SET value = ? WHERE name = 'boot'");
    TRY(query.bind(options_.boot_id).run());
  }
  return transaction.commit();
}

Result<uint64_t> SqliteStore::fact(std::string_view name) {
  // Names are TEXT and the parameter is bytes: compare as text.
  Query query(*this, "SELECT value FROM facts WHERE name = CAST(? AS TEXT)");
  TRY_ASSIGN(const bool found, query.bind(name).step());
  CHECK(found);
  return query.number(0);
}

Status SqliteStore::set_fact(std::string_view name, uint64_t value) {
  Query query(*this, "UPDATE facts SET value = ? WHERE name = CAST(? AS TEXT)");
  return query.bind(value).bind(name).run();
}

// The revision of a change about to be made. Also forgets tombstones that are old enough.
Result<Revision> SqliteStore::next_revision() {
  TRY_ASSIGN(const Revision before, fact("revision"));
  const Revision revision = before + 1;
  TRY(set_fact("revision", revision));
  if (revision > kKeptRevisions) {
    const Revision horizon = revision - kKeptRevisions;
    Query query(*this, "DELETE FROM entries WHERE version <= ? AND value IS NULL");
    TRY(query.bind(horizon).run());
    TRY(set_fact("compacted", horizon));
  }
  return revision;
}

Result<Revision> SqliteStore::version_of(std::string_view key) {
  Query query(*this, "SELECT version FROM entries WHERE key = ? AND value IS NOT NULL");
  TRY_ASSIGN(const bool found, query.bind(key).step());
  return found ? Revision{query.number(0)} : Revision{0};
}

Result<bool> SqliteStore::lease_exists(LeaseId lease) {
  Query query(*this, "SELECT 1 FROM leases WHERE id = ?");
  return query.bind(lease).step();
}

Status SqliteStore::end_lease(LeaseId lease) {
  bool bound = false;
  {
    Query query(*this, "SELECT 1 FROM entries WHERE lease = ? AND lease <> 0 LIMIT 1");
    TRY_ASSIGN(bound, query.bind(lease).step());
  }
  if (bound) {
    TRY_ASSIGN(const Revision revision, next_revision());
    Query query(*this, "UPDATE entries SET value = NULL, version = ?, lease = 0 WHERE lease = ? AND lease <> 0");
    TRY(query.bind(revision).bind(lease).run());
  }
  Query query(*this, "DELETE FROM leases WHERE id = ?");
  return query.bind(lease).run();
}

Status SqliteStore::begin_write(Transaction& transaction) {
  TRY(transaction.begin("BEGIN IMMEDIATE"));
  const int64_t now = options_.clock();
  for (;;) {
    LeaseId ended = 0;
    {
      Query query(*this, "SELECT id FROM leases WHERE deadline_ms <= ? ORDER BY id LIMIT 1");
      TRY_ASSIGN(const bool found, query.bind(now).step());
      if (!found) return {};
      ended = query.number(0);
    }
    TRY(end_lease(ended));
  }
}

// A transaction that sees no expired lease. Reading stays read-only unless there is one to remove.
Status SqliteStore::begin_read(Transaction& transaction) {
  bool expired = false;
  {
    Query query(*this, "SELECT 1 FROM leases WHERE deadline_ms <= ? LIMIT 1");
    TRY_ASSIGN(expired, query.bind(options_.clock()).step());
  }
  if (expired) return begin_write(transaction);
  return transaction.begin("BEGIN");
}

Result<std::optional<Entry>> SqliteStore::get(std::string_view key) {
  const std::lock_guard lock(mutex_);
  Transaction transaction(*this);
  TRY(begin_read(transaction));
  std::optional<Entry> entry;
  {
    Query query(*this, "SELECT value, version, lease FROM entries WHERE key = ? AND value IS NOT NULL");
    TRY_ASSIGN(const bool found, query.bind(key).step());
    if (found) entry = Entry{std::string(key), query.bytes(0), query.number(1), query.number(2)};
  }
  TRY(transaction.commit());
  return entry;
}

Result<Entries> SqliteStore::read_prefix(std::string_view prefix) {
  const std::lock_guard lock(mutex_);
  const std::string end = prefix_end(prefix);
  Transaction transaction(*this);
  TRY(begin_read(transaction));
  Entries read;
  TRY_ASSIGN(read.revision, fact("revision"));
  {
    Query query(*this,
                "SELECT key, value, version, lease FROM entries"
                " WHERE key >= ?1 AND (length(?2) = 0 OR key < ?2) AND value IS NOT NULL ORDER BY key");
    query.bind(prefix).bind(end);
    for (;;) {
      TRY_ASSIGN(const bool more, query.step());
      if (!more) break;
      read.entries.push_back({query.bytes(0), query.bytes(1), query.number(2), query.number(3)});
    }
  }
  TRY(transaction.commit());
  return read;
}

Status SqliteStore::put_cell(const Txn::Put& put, Revision revision) {
  Query query(*this, "INSERT OR REPLACE INTO entries (key, value, version, lease) VALUES (?, ?, ?, ?)");
  return query.bind(std::string_view(put.key)).bind(std::string_view(put.value)).bind(revision).bind(put.lease).run();
}

Result<CommitResult> SqliteStore::commit(const Txn& txn) {
  const std::lock_guard lock(mutex_);
  Transaction transaction(*this);
  TRY(begin_write(transaction));
  CommitResult result;
  TRY_ASSIGN(result.revision, fact("revision"));
  for (const Txn::Compare& compare : txn.compares) {
    TRY_ASSIGN(const Revision version, version_of(compare.key));
    if (version == compare.version) continue;
    TRY(transaction.commit());
    return result;
  }
  for (const Txn::Put& put : txn.puts) {
    if (put.lease == 0) continue;
    TRY_ASSIGN(const bool exists, lease_exists(put.lease));
    if (exists) continue;
    TRY(transaction.commit());
    return lease_ended(put.lease);
  }
  std::vector<std::string_view> deletes;
  for (const std::string& key : txn.deletes) {
    TRY_ASSIGN(const Revision version, version_of(key));
    if (version != 0) deletes.push_back(key);
  }
  if (!txn.puts.empty() || !deletes.empty()) {
    TRY_ASSIGN(result.revision, next_revision());
    for (const Txn::Put& put : txn.puts) TRY(put_cell(put, result.revision));
    for (const std::string_view key : deletes) {
      Query query(*this, "UPDATE entries SET value = NULL, version = ?, lease = 0 WHERE key = ?");
      TRY(query.bind(result.revision).bind(key).run());
    }
  }
  TRY(transaction.commit());
  result.committed = true;
  return result;
}

Result<Changes> SqliteStore::changes_since(Revision revision, std::string_view prefix) {
  const std::lock_guard lock(mutex_);
  const std::string end = prefix_end(prefix);
  Transaction transaction(*this);
  TRY(begin_read(transaction));
  Changes result;
  TRY_ASSIGN(result.revision, fact("revision"));
  TRY_ASSIGN(const Revision compacted, fact("compacted"));
  result.compacted = revision < compacted;
  if (!result.compacted && revision < result.revision) {
    Query query(*this,
                "SELECT key, value, version FROM entries"
                " WHERE version > ?1 AND key >= ?2 AND (length(?3) = 0 OR key < ?3) ORDER BY version, key");
    query.bind(revision).bind(prefix).bind(end);
    for (;;) {
      TRY_ASSIGN(const bool more, query.step());
      if (!more) break;
      std::optional<std::string> value;
      if (!query.is_null(1)) value = query.bytes(1);
      result.changes.push_back({query.bytes(0), std::move(value), query.number(2)});
    }
  }
  TRY(transaction.commit());
  return result;
}

Result<LeaseId> SqliteStore::grant_lease(int64_t ttl_ms) {
  const std::lock_guard lock(mutex_);
  Transaction transaction(*this);
  TRY(begin_write(transaction));
  TRY_ASSIGN(const LeaseId lease, fact("next_lease"));
  TRY(set_fact("next_lease", lease + 1));
  Query query(*this, "INSERT INTO leases (id, ttl_ms, deadline_ms) VALUES (?, ?, ?)");
  TRY(query.bind(lease).bind(ttl_ms).bind(options_.clock() + ttl_ms).run());
  TRY(transaction.commit());
  return lease;
}

Status SqliteStore::renew_lease(LeaseId lease) {
  const std::lock_guard lock(mutex_);
  Transaction transaction(*this);
  TRY(begin_write(transaction));
  TRY_ASSIGN(const bool exists, lease_exists(lease));
  if (exists) {
    Query query(*this, "UPDATE leases SET deadline_ms = ? + ttl_ms WHERE id = ?");
    TRY(query.bind(options_.clock()).bind(lease).run());
  }
  TRY(transaction.commit());
  if (!exists) return lease_ended(lease);
  return {};
}

Status SqliteStore::revoke_lease(LeaseId lease) {
  const std::lock_guard lock(mutex_);
  Transaction transaction(*this);
  TRY(begin_write(transaction));
  TRY(end_lease(lease));
  return transaction.commit();
}

}  // namespace

Result<std::unique_ptr<Store>> open_sqlite_store(const std::string& path, SqliteOptions options) {
  auto store = std::make_unique<SqliteStore>(path, std::move(options));
  TRY(store->open());
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace pgmosaic::meta
