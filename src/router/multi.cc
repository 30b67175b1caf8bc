// Statements that go to several groups: where they go, the transaction around them, and the call into exec/.
#include "base/log.h"
#include "exec/combine.h"
#include "exec/gather.h"
#include "router/execution.h"
#include "router/router_calls.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

class ClientSink final : public exec::RowSink {
 public:
  using Put = bool (*)(void*, std::string_view);
  ClientSink(std::string& out, const bool& gone, net::Task<bool> (*wait)(void*), void* session)
      : out_(out), gone_(gone), wait_(wait), session_(session) {}
  bool put(std::string_view messages) override {
    out_.append(messages);
    return !gone_;
  }
  net::Task<bool> throttle() override { return wait_(session_); }

 private:
  std::string& out_;
  const bool& gone_;
  net::Task<bool> (*wait_)(void*);
  void* session_;
};

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

net::Task<Result<exec::Resolution>> Session::locate(const plan::Plan& plan, Execution& execution) {
  exec::Resolution where = exec::resolve(plan.target, execution.values, *snapshot_, *database_);
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

namespace {

struct Split {
  exec::GroupId group;
  std::string sql;
};

// A group's error position counts in the text it was sent. Where that is the client's text with another beginning, the
// place can be told; else there is none.
int position_in(std::string_view client, std::string_view sent, int position) {
  if (position == 0 || client == sent) return position;
  std::size_t common = 0;
  while (common < client.size() && common < sent.size() &&
         client[client.size() - 1 - common] == sent[sent.size() - 1 - common])
    ++common;
  const std::ptrdiff_t from_end = static_cast<std::ptrdiff_t>(sent.size()) - (position - 1);
  if (from_end <= 0 || static_cast<std::size_t>(from_end) > common) return 0;
  return static_cast<int>(static_cast<std::ptrdiff_t>(client.size()) - from_end) + 1;
}

std::optional<uint64_t> bound_value(const plan::Gather::Bound& bound, const Execution& execution) {
  if (bound.constant) return bound.constant;
  if (bound.parameter == 0 || execution.bind == nullptr) return std::nullopt;
  const std::size_t index = static_cast<std::size_t>(bound.parameter) - 1;
  if (index >= execution.bind->values.size() || !execution.bind->values[index]) return std::nullopt;
  std::string_view value = *execution.bind->values[index];
  if (execution.bind->binary(index)) {
    if (value.size() == 8) return load_big_endian<uint64_t>(value.data());
    if (value.size() == 4) return load_big_endian<uint32_t>(value.data());
    if (value.size() == 2) return load_big_endian<uint16_t>(value.data());
    return std::nullopt;
  }
  const auto parsed = catalog::parse_int(value);
  return parsed && *parsed >= 0 ? std::optional<uint64_t>(static_cast<uint64_t>(*parsed)) : std::nullopt;
}

}  // namespace

net::Task<Status> Session::run_multi(const plan::Plan& given, Execution& execution) {
  if (is_signal(given)) co_return co_await run_signal(execution);
  // A cached plan's rewritten texts hold another statement's literals.
  plan::Plan fresh;
  const plan::Plan* chosen = &given;
  if (given.rewritten_literals && !execution.extended()) {
    fresh = plan::plan_statement(execution.sql, plan_context({}));
    chosen = &fresh;
  }
  const plan::Plan& plan = *chosen;
  WorkerStats::add(worker_.stats.multi_group);

  // What each group runs.
  std::vector<Split> parts;
  if (plan.kind == plan::PlanKind::insert_split) {
    CO_TRY(co_await split_insert(plan, execution, [&parts](exec::GroupId group, std::string sql) {
      parts.push_back({group, std::move(sql)});
    }));
  } else {
    std::vector<exec::GroupId> groups = execution.where.groups;
    if (groups.empty()) groups.push_back(execution.where.one);
    CO_TRY_ASSIGN(std::string text, co_await text_for_group(plan, execution.sql));
    if (groups.size() > 1 && plan.combine) {
      text = plan.combine->partial_sql;
    } else if (groups.size() > 1 && plan.gather && !plan.gather->sql.empty()) {
      text = plan.gather->sql;
    }
    for (exec::GroupId group : groups) parts.push_back({group, text});
  }
  const bool several = parts.size() > 1;
  if (several && plan.multi_group_error) co_return co_await refuse(execution.sql, *plan.multi_group_error);
  // Rewritten texts could be right where the client's is not (a column that is not grouped by).
  const bool rewritten = plan.combine || (plan.gather && !plan.gather->sql.empty());
  if (several && rewritten && !execution.extended()) CO_TRY(co_await check_with_postgres(execution.sql));
  if (several && plan.command == "LOCK TABLE" && (!backends_.in_transaction() || implicit_))
    co_return make_error("25P01", "LOCK TABLE can only be used in transaction blocks");
  if (several && plan.no_transaction && backends_.in_transaction())
    co_return make_error("25001", plan.command + " cannot run inside a transaction block");

  // A write to several groups is atomic: a transaction of its own, if none is open.
  const bool own_transaction = several && plan.effects.writes && !plan.no_transaction && !backends_.in_transaction();
  if (own_transaction) begin_transaction("BEGIN", true);
  std::vector<exec::RowReader> readers;
  for (const Split& part : parts) {
    auto backend = co_await backends_.get(part.group);
    if (!backend.ok()) {
      if (own_transaction) co_await abort_transaction();
      co_return std::move(backend.error());
    }
    note_effects(**backend, plan.effects);
    readers.emplace_back(**backend);
  }
  const bool describe = !execution.extended() || execution.describe;
  const bool combines = several && plan.combine.has_value();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    exec::Request request;
    request.sql = parts[i].sql;
    request.extended = execution.extended();
    request.bind = execution.bind;
    request.types = &execution.types;
    request.client_formats = !combines;
    readers[i].send(request);
  }
  ClientSink sink(
      out_, client_gone_, [](void* self) { return static_cast<Session*>(self)->throttle(); }, this);
  exec::GatherResult done;
  Status status;
  {
    Result<exec::GatherResult> result = exec::GatherResult{};
    if (combines) {
      exec::Request request;
      request.bind = execution.bind;
      request.types = &execution.types;
      result = co_await exec::combine(readers, *plan.combine, request, describe, plan_settings_->loss, sink);
    } else {
      exec::GatherOptions options;
      options.describe = describe;
      options.first_only = plan.reference_write || plan.single_tag;
      if (plan.kind == plan::PlanKind::copy_out && plan.copy_in) {
        options.copy_binary = plan.copy_in->format == plan::CopyIn::Format::binary;
        options.copy_header = plan.copy_in->header;
      }
      if (several && plan.gather) {
        options.merge = plan.gather->merge;
        options.hidden_columns = plan.gather->hidden_columns;
        options.offset = bound_value(plan.gather->offset, execution).value_or(0);
        options.limit = bound_value(plan.gather->limit, execution);
      }
      result = co_await exec::gather(readers, options, sink);
    }
    if (result.ok()) {
      done = std::move(*result);
    } else {
      status = std::move(result.error());
      status.error().position = position_in(execution.sql, parts[0].sql, status.error().position);
    }
  }
  drop_broken_backends();
  if (status.ok() && plan.effects.sets_config) status = co_await read_back_settings(execution.sql);
  if (own_transaction) {
    if (status.ok()) {
      status = co_await commit_transaction();
    } else {
      co_await abort_transaction();
    }
    implicit_ = false;
  }
  if (!status.ok()) co_return status;
  if (done.tag.empty()) done.tag = plan.command;
  if (hold_complete_) {
    pg::write_command_complete(held_complete_, done.tag);
  } else {
    pg::write_command_complete(out_, done.tag);
  }
  co_return Status{};
}

void Session::drop_broken_backends() {
  for (std::size_t i = 0; i < backends_.all().size();) {
    exec::Backend& backend = *backends_.all()[i];
    if (!backend.conn->alive()) {
      if (extended_ && extended_->current == &backend) extended_->current = nullptr;
      backends_.drop(backend);
    } else {
      ++i;
    }
  }
}

// Groups the rows of a multi-row INSERT by the group that owns them; one statement per group.
net::Task<Status> Session::split_insert(const plan::Plan& plan, Execution& execution,
                                        const std::function<void(exec::GroupId, std::string)>& emit) {
  const plan::InsertSplit& insert = *plan.insert_split;
  const catalog::Colocation& colocation = *database_->colocation(insert.colocation);
  std::map<exec::GroupId, std::string> by_group;
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
    std::string& text = by_group[group];
    text += text.empty() ? insert.prefix : std::string(", ");
    text += execution.sql.substr(row.begin, row.end - row.begin);
  }
  for (auto& [group, text] : by_group) emit(group, text + " " + insert.suffix);
  co_return Status{};
}

}  // namespace pgmosaic::router
