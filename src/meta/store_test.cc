// One suite for every store, and what only a file can suffer: other processes and kill -9.
#include "meta/store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "meta/memory_store.h"
#include "meta/sqlite_store.h"

namespace pgmosaic::meta {
namespace {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "pgmosaic-meta-XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
  std::string path;
};

enum class Kind { memory, sqlite };

class StoreTest : public testing::TestWithParam<Kind> {
 protected:
  StoreTest() {
    const Clock clock = [this] { return now_ms_; };
    if (GetParam() == Kind::memory) {
      store_ = std::make_unique<MemoryStore>(clock);
    } else {
      auto opened = open_sqlite_store(directory_.path + "/meta.db", {.clock = clock});
      CHECK(opened.ok());
      store_ = std::move(*opened);
    }
  }

  Revision put(const std::string& key, const std::string& value, LeaseId lease = 0) {
    auto result = store_->commit({.puts = {{key, value, lease}}});
    EXPECT_TRUE(result.ok() && result->committed);
    return result->revision;
  }
  bool remove(const std::string& key) {
    auto result = store_->commit({.deletes = {key}});
    return result.ok() && result->committed;
  }
  std::string value(const std::string& key) {
    auto entry = store_->get(key);
    EXPECT_TRUE(entry.ok());
    return entry->has_value() ? (*entry)->value : "(none)";
  }
  // "key=value key2=value2"; a deleted key shows as "key=-".
  std::string changes(Revision since, const std::string& prefix) {
    auto result = store_->changes_since(since, prefix);
    EXPECT_TRUE(result.ok());
    if (result->compacted) return "(compacted)";
    std::string text;
    for (const Change& change : result->changes) {
      text += (text.empty() ? "" : " ") + change.key + "=" + change.value.value_or("-");
    }
    return text;
  }
  LeaseId grant(int64_t ttl_ms) {
    auto lease = store_->grant_lease(ttl_ms);
    EXPECT_TRUE(lease.ok());
    return *lease;
  }

  int64_t now_ms_ = 1000;
  TemporaryDirectory directory_;
  std::unique_ptr<Store> store_;
};

INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, testing::Values(Kind::memory, Kind::sqlite),
                         [](const auto& param) { return param.param == Kind::memory ? "memory" : "sqlite"; });

TEST_P(StoreTest, a_key_has_the_revision_of_its_last_write) {
  EXPECT_EQ(value("a"), "(none)");
  const Revision first = put("a", "1");
  const Revision second = put("b", "2");
  EXPECT_GT(second, first);
  const Revision third = put("a", "3");
  auto entry = store_->get("a");
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(**entry, (Entry{"a", "3", third, 0}));
}

TEST_P(StoreTest, values_are_any_bytes) {
  const std::string bytes("\0\xff'\"\n", 5);
  put(bytes, bytes);
  put("empty", "");
  EXPECT_EQ(value(bytes), bytes);
  EXPECT_EQ(value("empty"), "");
}

TEST_P(StoreTest, a_prefix_is_read_in_order_of_bytes) {
  for (const char* key : {"b/2", "b/10", "a/1", "c", "b/", "b0", "\xff\xff/1"}) put(key, "v");
  const auto keys = [&](const std::string& prefix) {
    auto read = store_->read_prefix(prefix);
    EXPECT_TRUE(read.ok());
    std::string text;
    for (const Entry& entry : read->entries) text += entry.key + " ";
    return text;
  };
  EXPECT_EQ(keys("b/"), "b/ b/10 b/2 ");
  EXPECT_EQ(keys("\xff"), "\xff\xff/1 ");
  EXPECT_EQ(keys("nothing"), "");
  EXPECT_EQ(keys(""), "a/1 b/ b/10 b/2 b0 c \xff\xff/1 ");
}

TEST_P(StoreTest, a_failed_compare_changes_nothing) {
  const Revision version = put("a", "1");
  auto result = store_->commit({.compares = {{"a", version}, {"b", 5}}, .puts = {{"a", "2"}}, .deletes = {"a"}});
  ASSERT_TRUE(result.ok());
  EXPECT_FALSE(result->committed);
  EXPECT_EQ(result->revision, version);
  EXPECT_EQ(value("a"), "1");

  result = store_->commit({.compares = {{"a", version}, {"b", 0}}, .puts = {{"b", "2"}}, .deletes = {"a"}});
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->committed);
  EXPECT_EQ(value("a"), "(none)");
  EXPECT_EQ(value("b"), "2");
  result = store_->commit({.compares = {{"a", 0}}, .puts = {{"a", "again"}}});
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->committed) << "a deleted key is absent";
}

TEST_P(StoreTest, a_commit_that_changes_nothing_makes_no_revision) {
  const Revision version = put("a", "1");
  auto result = store_->commit({.compares = {{"a", version}}, .deletes = {"absent"}});
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->committed);
  EXPECT_EQ(result->revision, version);
}

TEST_P(StoreTest, changes_show_the_last_state_of_each_key) {
  put("x/a", "1");
  auto read = store_->read_prefix("x/");
  ASSERT_TRUE(read.ok());
  const Revision start = read->revision;
  EXPECT_EQ(changes(start, "x/"), "");
  put("x/b", "1");
  put("x/a", "2");
  put("y", "1");
  put("x/b", "3");
  EXPECT_EQ(changes(start, "x/"), "x/a=2 x/b=3");
  const Revision later = store_->changes_since(start, "x/")->revision;
  EXPECT_EQ(changes(later, "x/"), "");
  EXPECT_TRUE(remove("x/a"));
  EXPECT_EQ(changes(later, "x/"), "x/a=-");
  EXPECT_EQ(changes(start, ""), "y=1 x/b=3 x/a=-");
}

TEST_P(StoreTest, keys_vanish_with_their_lease) {
  const LeaseId lease = grant(100);
  EXPECT_NE(lease, 0U);
  EXPECT_NE(grant(100000), lease);
  const Revision start = put("routers/1", "here", lease);
  put("other", "stays");
  now_ms_ += 99;
  EXPECT_EQ(value("routers/1"), "here");
  EXPECT_TRUE(store_->renew_lease(lease).ok());
  now_ms_ += 99;
  EXPECT_EQ(value("routers/1"), "here");
  now_ms_ += 1;
  EXPECT_EQ(changes(start, ""), "other=stays routers/1=-");
  EXPECT_EQ(value("routers/1"), "(none)");
  EXPECT_EQ(value("other"), "stays");

  const Status renewed = store_->renew_lease(lease);
  ASSERT_FALSE(renewed.ok());
  EXPECT_EQ(renewed.error().sqlstate, "55000");
  auto result = store_->commit({.puts = {{"routers/1", "late", lease}}});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().sqlstate, "55000");
  EXPECT_EQ(value("routers/1"), "(none)");
}

TEST_P(StoreTest, a_lease_ends_when_revoked) {
  const LeaseId lease = grant(1000);
  put("a", "1", lease);
  put("b", "1", lease);
  put("b", "2");  // written without a lease: no longer bound
  EXPECT_TRUE(store_->revoke_lease(lease).ok());
  EXPECT_EQ(value("a"), "(none)");
  EXPECT_EQ(value("b"), "2");
  EXPECT_TRUE(store_->revoke_lease(lease).ok());
  EXPECT_FALSE(store_->renew_lease(lease).ok());
}

TEST_P(StoreTest, an_expired_holder_is_absent_for_compares) {
  const LeaseId first = grant(100);
  put("leader", "one", first);
  const LeaseId second = grant(100);
  const Txn take{.compares = {{"leader", 0}}, .puts = {{"leader", "two", second}}};
  auto result = store_->commit(take);
  ASSERT_TRUE(result.ok());
  EXPECT_FALSE(result->committed);
  now_ms_ += 50;
  EXPECT_TRUE(store_->renew_lease(second).ok());
  now_ms_ += 50;
  result = store_->commit(take);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->committed);
  EXPECT_EQ(value("leader"), "two");
}

TEST_P(StoreTest, ids_are_handed_out_once) {
  EXPECT_EQ(*allocate_ids(*store_, "ids/shard", 1), 1U);
  EXPECT_EQ(*allocate_ids(*store_, "ids/shard", 16), 2U);
  EXPECT_EQ(*allocate_ids(*store_, "ids/shard", 1), 18U);
  EXPECT_EQ(*allocate_ids(*store_, "ids/table", 1), 1U);
  put("ids/bad", "12x");
  EXPECT_FALSE(allocate_ids(*store_, "ids/bad", 1).ok());
}

TEST_P(StoreTest, threads_may_share_a_store) {
  constexpr int kThreads = 4, kTimes = 25;
  std::vector<std::thread> threads;
  std::vector<std::vector<uint64_t>> taken(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < kTimes; ++n) {
        auto id = allocate_ids(*store_, "ids/shard", 1);
        if (id.ok()) taken[static_cast<size_t>(i)].push_back(*id);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint64_t> all;
  for (const auto& ids : taken) all.insert(ids.begin(), ids.end());
  EXPECT_EQ(all.size(), static_cast<size_t>(kThreads * kTimes));
  EXPECT_EQ(*all.rbegin(), static_cast<uint64_t>(kThreads * kTimes));
}

TEST(MemoryStore, old_tombstones_are_forgotten) {
  MemoryStore store;
  ASSERT_TRUE(store.commit({.puts = {{"a", "1"}}}).ok());
  ASSERT_TRUE(store.commit({.deletes = {"a"}}).ok());
  for (Revision i = 0; i < kKeptRevisions; ++i) ASSERT_TRUE(store.commit({.puts = {{"b", "1"}}}).ok());
  EXPECT_TRUE(store.changes_since(1, "")->compacted);
  EXPECT_FALSE(store.changes_since(2, "")->compacted);
  EXPECT_EQ(store.changes_since(2, "")->changes.size(), 1U);
}

TEST(SqliteStore, old_tombstones_are_forgotten) {
  const TemporaryDirectory directory;
  const std::string path = directory.path + "/meta.db";
  auto store = open_sqlite_store(path);
  ASSERT_TRUE(store.ok());
  ASSERT_TRUE((*store)->commit({.puts = {{"a", "1"}}}).ok());
  ASSERT_TRUE((*store)->commit({.deletes = {"a"}}).ok());
  // As many commits with fsync would take long: let the counter jump.
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  const std::string jump =
      "UPDATE facts SET value = " + std::to_string(kKeptRevisions + 1) + " WHERE name = 'revision'";
  ASSERT_EQ(sqlite3_exec(db, jump.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  ASSERT_TRUE((*store)->commit({.puts = {{"b", "1"}}}).ok());
  EXPECT_TRUE((*store)->changes_since(1, "")->compacted);
  EXPECT_EQ((*store)->changes_since(2, "")->changes.size(), 1U);
}

TEST(SqliteStore, keeps_everything_over_reopening) {
  const TemporaryDirectory directory;
  const std::string path = directory.path + "/meta.db";
  Revision version = 0;
  {
    auto store = open_sqlite_store(path);
    ASSERT_TRUE(store.ok());
    version = (*store)->commit({.puts = {{"a", "1"}}})->revision;
  }
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  auto store = open_sqlite_store(path);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ((*store)->get("a")->value(), (Entry{"a", "1", version, 0}));
  EXPECT_GT((*store)->commit({.puts = {{"a", "2"}}})->revision, version);
}

TEST(SqliteStore, leases_end_with_the_boot_they_were_granted_in) {
  const TemporaryDirectory directory;
  const std::string path = directory.path + "/meta.db";
  const Clock clock = [] { return 5; };
  auto store = open_sqlite_store(path, {.clock = clock, .boot_id = "one"});
  ASSERT_TRUE(store.ok());
  const LeaseId lease = *(*store)->grant_lease(1000000);
  ASSERT_TRUE((*store)->commit({.puts = {{"a", "1", lease}}}).ok());
  auto same_boot = open_sqlite_store(path, {.clock = clock, .boot_id = "one"});
  ASSERT_TRUE(same_boot.ok());
  EXPECT_TRUE((*same_boot)->get("a")->has_value());
  auto next_boot = open_sqlite_store(path, {.clock = clock, .boot_id = "two"});
  ASSERT_TRUE(next_boot.ok());
  EXPECT_FALSE((*next_boot)->get("a")->has_value());
  EXPECT_FALSE((*next_boot)->renew_lease(lease).ok());
  EXPECT_GT(*(*next_boot)->grant_lease(1000), lease);
}

TEST(SqliteStore, what_cannot_be_opened_is_an_error) {
  const TemporaryDirectory directory;
  auto missing = open_sqlite_store(directory.path + "/none/meta.db");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().sqlstate, "58030");
  EXPECT_NE(missing.error().message.find("No such file"), std::string::npos) << missing.error().message;

  const std::string path = directory.path + "/text.db";
  std::ofstream(path) << std::string(5000, 'x');
  auto text = open_sqlite_store(path);
  ASSERT_FALSE(text.ok());
  EXPECT_NE(text.error().message.find("not a database"), std::string::npos) << text.error().message;

  const std::string newer = directory.path + "/newer.db";
  ASSERT_TRUE(open_sqlite_store(newer).ok());
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(newer.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "UPDATE facts SET value = 2 WHERE name = 'format'", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  auto refused = open_sqlite_store(newer);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("has format 2"), std::string::npos) << refused.error().message;
}

// Adds one to "n", `times` times, against competition.
bool count_up(Store& store, int times) {
  for (int done = 0; done < times;) {
    auto entry = store.get("n");
    if (!entry.ok()) return false;
    const int value = entry->has_value() ? std::stoi((*entry)->value) : 0;
    const Revision version = entry->has_value() ? (*entry)->version : 0;
    auto result = store.commit({.compares = {{"n", version}}, .puts = {{"n", std::to_string(value + 1)}}});
    if (!result.ok()) return false;
    if (result->committed) ++done;
  }
  return true;
}

TEST(SqliteStore, several_processes_share_one_file) {
  const TemporaryDirectory directory;
  const std::string path = directory.path + "/meta.db";
  constexpr int kProcesses = 4, kTimes = 25;
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto store = open_sqlite_store(path);
      _exit(store.ok() && count_up(**store, kTimes) ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  auto store = open_sqlite_store(path);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ((*store)->get("n")->value().value, std::to_string(kProcesses * kTimes));
}

// Commits n = 1, 2, … to two keys and reports each n once its commit has returned.
[[noreturn]] void write_until_killed(const std::string& path, int report) {
  auto store = open_sqlite_store(path);
  if (!store.ok()) _exit(1);
  auto start = (*store)->get("a");
  if (!start.ok()) _exit(1);
  for (int n = start->has_value() ? std::stoi((*start)->value) + 1 : 1;; ++n) {
    const std::string value = std::to_string(n);
    auto result = (*store)->commit({.puts = {{"a", value}, {"b", value}}});
    if (!result.ok() || !result->committed) _exit(1);
    if (write(report, &n, sizeof n) != sizeof n) _exit(1);
  }
}

TEST(SqliteStore, kill_9_in_mid_commit_loses_nothing_and_halves_nothing) {
  const TemporaryDirectory directory;
  const std::string path = directory.path + "/meta.db";
  int last = 0;
  for (int round = 0; round < 12; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipe_ends[0]);
      write_until_killed(path, pipe_ends[1]);
    }
    close(pipe_ends[1]);
    // The round's number of reports lets the kill fall at different places of the next commit.
    for (int i = 0; i <= round; ++i)
      ASSERT_EQ(read(pipe_ends[0], &last, sizeof last), static_cast<ssize_t>(sizeof last));
    usleep(static_cast<useconds_t>(round * 137));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    for (int more = 0; read(pipe_ends[0], &more, sizeof more) == static_cast<ssize_t>(sizeof more);) last = more;
    close(pipe_ends[0]);

    auto store = open_sqlite_store(path);
    ASSERT_TRUE(store.ok()) << store.error().message;
    const std::string a = (*store)->get("a")->value().value;
    EXPECT_EQ((*store)->get("b")->value().value, a);
    EXPECT_TRUE(std::stoi(a) == last || std::stoi(a) == last + 1) << a << " after " << last;
  }
}

}  // namespace
}  // namespace pgmosaic::meta
