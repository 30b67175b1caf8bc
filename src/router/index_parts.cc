// IndexWork: what one group does.
#include "pool/settings.h"
#include "router/index_work.h"
#include "router/new_tables.h"
#include "router/patience.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr int kMostTries = 5;  // to drop what is left

// The leaves of a table, and their parts of an index.
//   $TABLE$, $INDEX$: their OIDs on the group, $PREFIX$: of the names of parts
constexpr const char* kLeaves = R"(
SELECT l.relname, a.relname, $PREFIX$ || pg_catalog.substring(l.relname, '[0-9]+$'), o.indisvalid
FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class l ON l.oid = h.inhrelid
     LEFT JOIN LATERAL (SELECT x.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                             JOIN pg_catalog.pg_inherits p ON p.inhrelid = x.oid
                        WHERE i.indrelid = l.oid AND p.inhparent = $INDEX$) a ON true
     LEFT JOIN LATERAL (SELECT i.indisvalid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                        WHERE i.indrelid = l.oid
                              AND x.relname = $PREFIX$ || pg_catalog.substring(l.relname, '[0-9]+$')) o ON true
WHERE h.inhparent = $TABLE$ ORDER BY l.oid)";

// What REINDEX CONCURRENTLY has left, when it failed, of a table and its leaves.
constexpr const char* kLeft = R"(
SELECT i.indexrelid::pg_catalog.regclass FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND NOT c.relispartition AND c.relname ~ '_cc(new|old)[0-9]*$'
      AND i.indrelid IN (SELECT pg_catalog.to_regclass($1) UNION ALL
                         SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = pg_catalog.to_regclass($1)))";

std::string with(std::string text, std::initializer_list<std::pair<std::string_view, std::string>> values) {
  for (const auto& [mark, value] : values)
    for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + value.size()))
      text.replace(at, mark.size(), value);
  return text;
}

std::string shard(const std::string& name) { return qualified_name("pgmosaic_shards", name); }

}  // namespace

// With a limit for waiting, again and again; where the session sets one itself, once.
net::Task<Status> IndexWork::gently(exec::GroupId group, std::string sql, int tries) {
  Patience patience(true);
  for (;;) {
    if (auto stop = stopped(); stop && tries == 0) co_return std::move(*stop);
    // One transaction, as every string of several statements.
    const std::string text = waits_for_ever_ ? "SET LOCAL lock_timeout = " + patience.lock_timeout() + ";" + sql : sql;
    auto done = co_await conn(group).query(text);
    if (done.ok()) co_return Status{};
    const bool again = waits_for_ever_ && done.error().sqlstate == "55P03" && --tries != 0;
    if (!again) co_return std::move(done.error());
    co_await worker_.loop.sleep(patience.pause_us());
  }
}

net::Task<Status> IndexWork::repeat(exec::GroupId group) {
  operation_.part(group, "building", 0, 1);
  co_await drop_left(group);
  auto done = co_await conn(group).query(plan_.statement);
  if (!done.ok()) co_return std::move(done.error());
  operation_.part(group, "building", 1, 1);
  co_return Status{};
}

// The group's own index, of a table without leaves; where it has no rows, only its definition counts.
net::Task<Status> IndexWork::make(exec::GroupId group) {
  if (place_ == Place::leaves) co_return co_await make_leaves(group);
  operation_.part(group, "building", 0, 1);
  const std::string name = index_.qualified();
  const std::string question = "SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass(" +
                               pool::quote_literal(name) + ")";
  auto rows = co_await conn(group).query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  const bool concurrently = plan_.concurrently && has_rows(group);
  if (rows->rows.empty()) {
    const std::string create = create_text(index_, index_.name, relation_, false, concurrently);
    auto made = co_await conn(group).query(create);
    if (!made.ok()) co_return std::move(made.error());
  } else if (has_rows(group) && (rebuilds_ || rows->rows[0][0] != "t")) {
    const std::string again = "REINDEX " + plan_.options + "INDEX " + (concurrently ? "CONCURRENTLY " : "") + name;
    co_await drop_left(group);
    auto made = co_await conn(group).query(again);
    if (!made.ok()) co_return std::move(made.error());
  }
  operation_.part(group, "building", 1, 1);
  co_return Status{};
}

// The index of the parent first, which becomes valid with the last of its parts.
net::Task<Status> IndexWork::make_leaves(exec::GroupId group) {
  operation_.part(group, "looking");
  const std::string index = pool::quote_literal(index_.qualified());
  const std::string question = "SELECT pg_catalog.to_regclass(" + index + ")::pg_catalog.oid, pg_catalog.to_regclass(" +
                               pool::quote_literal(relation_) + ")::pg_catalog.oid";
  auto found = co_await conn(group).query(question);
  if (!found.ok()) co_return std::move(found.error());
  if (!found->rows[0][0]) {
    const std::string create = create_text(index_, index_.name, relation_, true, false);
    CO_TRY(co_await gently(group, create));
    found = co_await conn(group).query(question);
    if (!found.ok()) co_return std::move(found.error());
  }
  const std::string parent = found->rows[0][0].value_or("0"), table = found->rows[0][1].value_or("0");
  if (rebuilds_) co_await drop_left(group);
  for (bool all = rebuilds_;; all = false) {
    CO_TRY_ASSIGN(const std::vector<Leaf> leaves, co_await leaves_of(group, parent, table));
    std::size_t left = 0, done = 0;
    for (const Leaf& leaf : leaves) left += all || leaf.index.empty();
    if (left == 0) break;
    for (const Leaf& leaf : leaves) {
      operation_.part(group, "building", done, leaves.size());
      if (all || leaf.index.empty()) CO_TRY(co_await make_leaf(group, leaf));
      ++done;
    }
    operation_.part(group, "building", done, leaves.size());
  }
  const std::string valid = "SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = " + parent;
  auto state = co_await conn(group).query(valid);
  if (!state.ok()) co_return std::move(state.error());
  if (!state->rows.empty() && state->rows[0][0] == "t") co_return Status{};
  co_return make_error("55000", "index \"" + index_.name + "\" is still not valid",
                       "A part of it is not valid: DROP INDEX, and create it again.");
}

net::Task<Result<std::vector<IndexWork::Leaf>>> IndexWork::leaves_of(exec::GroupId group, std::string parent,
                                                                     std::string table) {
  const std::string prefix =
      pool::quote_literal(leaf_prefix(index_.name, static_cast<catalog::Oid>(std::stoul(parent))) + "_i");
  const std::string question = with(kLeaves, {{"$TABLE$", table}, {"$INDEX$", parent}, {"$PREFIX$", prefix}});
  auto rows = co_await conn(group).query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  std::vector<Leaf> leaves;
  for (const auto& row : rows->rows)
    leaves.push_back({*row[0], row[1].value_or(""), row[2].value_or(""), row[3].has_value(), row[3] == "t"});
  co_return leaves;
}

net::Task<Status> IndexWork::make_leaf(exec::GroupId group, const Leaf& leaf) {
  if (auto stop = stopped()) co_return std::move(*stop);
  const std::string word = plan_.concurrently ? "CONCURRENTLY " : "";
  if (!leaf.index.empty()) {
    const std::string again = "REINDEX " + plan_.options + "INDEX " + word + shard(leaf.index);
    auto done = co_await conn(group).query(again);
    if (done.ok()) co_return Status{};
    co_return named(std::move(done.error()), leaf.index);
  }
  if (leaf.left && !leaf.left_valid) {
    const std::string drop = "DROP INDEX " + word + shard(leaf.part);
    auto dropped = co_await conn(group).query(drop);
    if (!dropped.ok()) co_return named(std::move(dropped.error()), leaf.part);
  }
  if (!leaf.left || !leaf.left_valid) {
    const std::string create = create_text(index_, leaf.part, shard(leaf.name), false, plan_.concurrently);
    auto made = co_await conn(group).query(create);
    if (!made.ok()) co_return named(std::move(made.error()), leaf.part);
  }
  // To compare them PostgreSQL computes what is constant in them, here as whoever asks: others' functions are not to
  // run with the rights of a superuser, so this is done as the table's owner, as PostgreSQL builds indexes.
  const auto oid_of = [](const std::string& name) {
    return "pg_catalog.to_regclass(" + pool::quote_literal(name) + ")::pg_catalog.oid";
  };
  const std::string attach = index_.computes
                                 ? "SELECT pg_catalog.pgmosaic_attach_index(" + oid_of(index_.qualified()) + ", " +
                                       oid_of(shard(leaf.part)) + ", pg_catalog.current_setting('search_path'))"
                                 : "ALTER INDEX " + index_.qualified() + " ATTACH PARTITION " + shard(leaf.part);
  Status attached = co_await gently(group, attach);
  if (!attached.ok()) co_return named(std::move(attached.error()), leaf.part);
  co_return Status{};
}

// An error about a part of an index is about the index.
Error IndexWork::named(Error error, const std::string& part) const {
  for (std::string* text : {&error.message, &error.detail, &error.fields})
    for (std::size_t at = text->find(part); at != std::string::npos; at = text->find(part, at + index_.name.size()))
      text->replace(at, part.size(), index_.name);
  return error;
}

// As far as nobody is in the way: REINDEX and DROP INDEX come by again.
net::Task<void> IndexWork::drop_left(exec::GroupId group) {
  const std::string question = with(kLeft, {{"$1", pool::quote_literal(relation_)}});
  auto rows = co_await conn(group).query(question);
  std::vector<std::string> drops;
  if (rows.ok())
    for (const auto& row : rows->rows) drops.push_back("DROP INDEX IF EXISTS " + *row[0]);
  if (place_ == Place::leaves && failed_) drops.push_back(kDropLeftIndexes);
  for (const std::string& drop : drops)
    if (conn(group).alive()) (void)(co_await gently(group, drop, kMostTries));
}

}  // namespace pgmosaic::router
