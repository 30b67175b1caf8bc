// Where a statement goes: the groups of its key values, asking a PostgreSQL for a hash where the router cannot tell it,
// and the rows of a multi-row INSERT by group.
#include "router/execution.h"
#include "router/session.h"

namespace pgmosaic::router {

namespace {

// PostgreSQL's extended hash function of a key type, by name.
const char* hash_function(catalog::Oid type) {
  switch (type) {
    case 16: return "hashcharextended(($1::pg_catalog.text)::pg_catalog.bool::pg_catalog.int4::pg_catalog.\"char\"";
    case 17: return "hashvarlenaextended($1::pg_catalog.bytea";
    case 20: return "hashint8extended($1::pg_catalog.int8";
    case 21: return "hashint2extended($1::pg_catalog.int2";
    case 23: return "hashint4extended($1::pg_catalog.int4";
    case 25:
    case 1043: return "hashtextextended($1::pg_catalog.text";
    case 1042: return "hashbpcharextended($1::pg_catalog.bpchar";
    case 1082: return "hashint4extended(($1::pg_catalog.date - '2000-01-01'::pg_catalog.date)";
    case 1114: return "timestamp_hash_extended($1::pg_catalog.timestamp";
    case 1184: return "timestamp_hash_extended($1::pg_catalog.timestamptz::pg_catalog.timestamptz AT TIME ZONE 'UTC'";
    case 1700: return "hash_numeric_extended($1::pg_catalog.numeric";
    case 2950: return "uuid_hash_extended($1::pg_catalog.uuid";
    default: return nullptr;
  }
}

}  // namespace

// Asks a PostgreSQL for the hash of one value (an unusual spelling of a date, a value that the column would round).
net::Task<Status> Session::ask_hash(const plan::KeySource& source, const std::string& value, uint64_t& hash) {
  const char* function = hash_function(source.type);
  if (function == nullptr) co_return make_error("0A000", "the key's value cannot be hashed");
  // On a connection of its own: the session's may be in the middle of a COPY.
  auto borrowed = co_await backends_.borrow(snapshot_->home);
  if (!borrowed.ok()) co_return std::move(borrowed.error());
  pool::ServerConn* conn = *borrowed;
  std::string expression = function;
  if (source.typmod >= 0) {
    const std::size_t at = expression.find("$1");
    const std::string question =
        "SELECT pg_catalog.format_type(" + std::to_string(source.type) + ", " + std::to_string(source.typmod) + ")";
    auto name = co_await conn->query(question);
    if (!name.ok()) {
      backends_.give_back();
      co_return std::move(name.error());
    }
    expression.replace(at, 2, "(CAST($1 AS " + *name->rows[0][0] + "))");
  }
  const std::vector<std::optional<std::string>> values = {value};
  const std::vector<pg::Oid> types = {25};
  const std::string question = "SELECT pg_catalog." + expression + ", 8816678312871386365)";
  auto rows = co_await conn->query_params(question, values, types);
  backends_.give_back();
  if (!rows.ok()) co_return std::move(rows.error());
  hash = static_cast<uint64_t>(std::stoll(*rows->rows[0][0]));
  co_return Status{};
}

namespace {

// An UPDATE of the distribution columns stays within its shard.
Status check_new_key(const plan::Plan& plan, const Execution& execution, const exec::Resolution& where,
                     const catalog::Colocation& colocation) {
  bool is_null = false;
  const auto hash = exec::hash_tuple(plan.new_key, execution.values, is_null);
  if (where.proven() && hash && colocation.shard_of_hash(*hash) == where.shard) return {};
  return make_error("0A000", "changing the distribution column to a value of another shard is not supported yet",
                    "Delete the row and insert it again with the new key, in one transaction.");
}

}  // namespace

net::Task<Result<exec::Resolution>> Session::locate(const plan::Plan& plan, Execution& execution) {
  exec::Resolution where = exec::resolve(plan.target, execution.values, *snapshot_, *database_);
  if (!plan.new_key.empty())
    CO_TRY(check_new_key(plan, execution, where, *database_->colocation(plan.target.colocation)));
  if (!where.undecided || plan.command != "INSERT") co_return where;
  // An INSERT must know its shard.
  const catalog::Colocation& colocation = *database_->colocation(plan.target.colocation);
  std::vector<exec::GroupId> groups;
  for (const plan::KeyTuple& tuple : plan.target.keys) {
    uint64_t row_hash = 0;
    for (const plan::KeySource& source : tuple) {
      bool is_null = false;
      auto hash = exec::hash_tuple({source}, execution.values, is_null);
      if (is_null) continue;
      uint64_t column_hash = 0;
      if (hash) {
        auto single = exec::hash_source(source, execution.values, is_null);
        column_hash = *single;
      } else {
        std::string text;
        if (!exec::text_value(source, execution.values, text))
          co_return make_error("0A000", "the shard of this row cannot be told from a binary parameter of this type",
                               "Send the distribution column's value in text format.");
        Status asked = co_await ask_hash(source, text, column_hash);
        // A value that is none: any group says so, with the position in the client's text.
        if (!asked.ok() && !asked.error().sqlstate.starts_with("22")) co_return std::move(asked.error());
        if (!asked.ok() && backends_.in_transaction()) co_return std::move(asked.error());
      }
      row_hash = catalog::combine_hash(row_hash, column_hash);
    }
    const exec::GroupId group = colocation.group_of_hash(row_hash);
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  std::sort(groups.begin(), groups.end());
  exec::Resolution decided;
  groups.size() == 1 ? void(decided.one = groups[0]) : void(decided.groups = std::move(groups));
  co_return decided;
}

// Groups the rows of a multi-row INSERT by the group that owns them; one statement per group.
net::Task<Status> Session::split_insert(const plan::Plan& plan, Execution& execution, std::vector<Split>& parts,
                                        std::vector<std::size_t>& order) {
  const plan::InsertSplit& insert = *plan.insert_split;
  const catalog::Colocation& colocation = *database_->colocation(insert.colocation);
  std::map<exec::GroupId, std::string> by_group;
  std::vector<exec::GroupId> groups;  // of each row
  for (const auto& row : insert.rows) {
    plan::Plan one;
    one.command = "INSERT";
    bool is_null = false;
    auto hash = exec::hash_tuple(row.key, execution.values, is_null);
    exec::GroupId group;
    if (hash) {
      group = colocation.group_of_hash(*hash);
    } else {
      one.target.kind = plan::Target::Kind::keys;
      one.target.colocation = insert.colocation;
      one.target.keys.push_back(row.key);
      CO_TRY_ASSIGN(exec::Resolution where, co_await locate(one, execution));
      group = where.one;
    }
    groups.push_back(group);
    std::string& text = by_group[group];
    text += text.empty() ? insert.prefix : std::string(", ");
    text += execution.sql.substr(row.begin, row.end - row.begin);
  }
  for (auto& [group, text] : by_group) parts.push_back({group, text + " " + insert.suffix});
  for (exec::GroupId group : groups)
    order.push_back(static_cast<std::size_t>(std::distance(by_group.begin(), by_group.find(group))));
  co_return Status{};
}

}  // namespace pgmosaic::router
