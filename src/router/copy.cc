// COPY … FROM STDIN: into one group (the bytes pass through), into every group (reference tables), or split by key.
#include "exec/copy_split.h"
#include "router/ask_shard.h"
#include "router/copy_values.h"
#include "router/execution.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr std::size_t kCopyPiece = 64 * 1024;        // payload of a CopyData message to a group
constexpr std::size_t kCopyHighWater = 1024 * 1024;  // unsent bytes at which the client has to wait

}  // namespace

net::Task<Status> Session::run_copy_in(std::string_view sql, const plan::Plan& plan) {
  Execution execution;
  execution.sql = sql;
  sql::scan_shape(sql, execution.shape);
  execution.values = values_of(sql, execution.shape, nullptr, plan);
  const bool fills = !plan.copy_in->filled.empty();
  if ((plan.copy_in->colocation != 0 || fills) && plan.copy_in->format != plan::CopyIn::Format::binary &&
      plan_settings_->encoding == PlanSettings::Encoding::unscannable)
    co_return make_error("0A000", "COPY into a sharded table with this client_encoding is not supported",
                         "SET client_encoding to the server's encoding.");
  CO_TRY_ASSIGN(execution.where, co_await locate(plan, execution));
  CO_TRY_ASSIGN(std::string text, co_await text_for_group(plan, sql));
  if (execution.where.single() && !copy_source_ && !fills) {
    CO_TRY(backends_.may_reach(std::span(&execution.where.one, 1)));
    auto backend = co_await backends_.get(execution.where.one);
    if (!backend.ok()) co_return std::move(backend.error());
    note_effects(**backend, plan.effects);
    (*backend)->wrote = true;
    pg::write_query((*backend)->conn->out(), text);
    (*backend)->conn->expect({pool::RequestKind::query});
    co_await relay(**backend, Until::ready, false);
    co_return Status{};
  }
  const bool own = !backends_.in_transaction();
  if (own) begin_transaction("BEGIN", true);
  std::vector<exec::GroupId> groups = execution.where.groups;
  if (execution.where.single()) groups = {execution.where.one};
  std::optional<CopyValues> values;
  Status status;
  if (fills) status = co_await values.emplace(*this, *plan.copy_in).begin();
  copy_values_ = values ? &*values : nullptr;
  Result<uint64_t> rows = 0;
  if (status.ok()) rows = co_await copy_to(text, plan, std::move(groups));
  if (!rows.ok()) status = std::move(rows.error());
  copy_values_ = nullptr;
  drop_broken_backends();
  if (own) {
    if (status.ok()) {
      status = co_await commit_transaction();
    } else {
      co_await abort_transaction();
    }
    implicit_ = false;
  }
  if (status.ok() && !copy_source_) put_complete("COPY " + std::to_string(*rows));
  co_return status;
}

net::Task<Result<uint64_t>> Session::copy_to(std::string_view text, const plan::Plan& plan,
                                             std::vector<exec::GroupId> groups) {
  CO_TRY(backends_.may_reach(groups));
  std::vector<exec::RowReader> readers;
  for (exec::GroupId group : groups) {
    auto backend = co_await backends_.get(group);
    if (!backend.ok()) co_return std::move(backend.error());
    note_effects(**backend, plan.effects);
    (*backend)->wrote = true;
    readers.emplace_back(**backend);
  }
  exec::Request request;
  request.sql = text;
  for (exec::RowReader& reader : readers) reader.send(request);
  uint64_t rows = 0;
  CO_TRY(co_await split_copy(plan, readers, rows));
  co_return rows;
}

// The next CopyData of the client; false: CopyDone. Errors: CopyFail (57014), a client that is gone, protocol.
net::Task<Result<bool>> Session::next_copy_data(std::string& payload) {
  if (copy_source_) {
    payload = copy_source_->substr(0, kCopyPiece);
    copy_source_->remove_prefix(payload.size());
    co_return !payload.empty();
  }
  for (;;) {
    pg::MessageView message;
    uint32_t length = 0;
    const pg::FrameStatus frame = pg::peek_message(in_.view(), message, length);
    if (frame == pg::FrameStatus::malformed) {
      closing_ = true;
      co_return make_error("08P01", "invalid message length");
    }
    if (frame == pg::FrameStatus::incomplete) {
      if (!co_await flush_out()) co_return make_error("08006", "the client went away during COPY");
      in_.own();
      if (co_await client_.readable() == net::WaitStatus::interrupted) {
        if (closing_ || client_gone_) co_return make_error("57014", "COPY was interrupted");
        continue;
      }
      char* scratch = worker_.loop.scratch();
      const net::IoResult result = client_.read(scratch, net::EventLoop::kScratchSize);
      if (result.kind == net::IoResult::Kind::ok) {
        WorkerStats::add(worker_.stats.bytes_from_clients, result.bytes);
        in_.feed({scratch, result.bytes});
      } else if (result.kind != net::IoResult::Kind::would_block) {
        client_gone_ = true;
        co_return make_error("08006", "the client went away during COPY");
      }
      continue;
    }
    const std::string_view body = message.body;
    switch (message.type) {
      case 'd':
        payload.append(body);
        in_.consume(length);
        in_.own();  // the caller reads from groups next
        co_return true;
      case 'c':
        in_.consume(length);
        in_.own();
        co_return false;
      case 'f': {
        std::string reason(body.empty() ? body : body.substr(0, body.size() - 1));
        in_.consume(length);
        co_return make_error("57014", "COPY from stdin failed: " + reason);
      }
      case 'H':
      case 'S': in_.consume(length); break;
      default:
        in_.consume(length);
        co_return make_error("08P01", "unexpected message type 0x" +
                                          fmt::format("{:02x}", static_cast<unsigned char>(message.type)) +
                                          " during COPY from stdin");
    }
  }
}

namespace {

// Sends what is buffered for a group; waits while the group is slow. False: the group has failed.
net::Task<bool> send_piece(pool::ServerConn& conn, std::string& payload) {
  if (!payload.empty()) {
    pg::write_copy_data(conn.out(), payload);
    payload.clear();
  }
  if (!conn.flush()) co_return false;
  while (conn.out().size() > kCopyHighWater) {
    net::WaitSet wait;
    wait.read(conn.stream());
    wait.write(conn.stream());
    const net::WaitStatus waited = co_await wait;
    if (waited == net::WaitStatus::interrupted || conn.stream().has_input() || !conn.flush()) co_return false;
  }
  co_return !conn.stream().has_input();
}

}  // namespace

namespace {

// "COPY t, line 12, column k: …" counts the lines of one group's part of the stream.
Error without_line(Error error) {
  std::string& fields = error.fields;
  const std::size_t at = fields.find(", line ");
  if (at == std::string::npos) return error;
  std::size_t end = at + 7;
  while (end < fields.size() && std::isdigit(static_cast<unsigned char>(fields[end]))) ++end;
  fields.erase(at, end - at);
  return error;
}

Status feed(exec::CopySplitter& splitter, std::string_view payload, bool more) {
  if (!payload.empty()) TRY(splitter.feed(payload));
  return more ? Status() : splitter.finish();
}

// Of each reader its group's place among the splitter's.
void fill_slots(std::vector<exec::RowReader>& readers, const exec::CopySplitter& splitter,
                std::vector<std::size_t>& slot) {
  const auto& groups = splitter.groups();
  for (std::size_t i = 0; i < readers.size(); ++i)
    slot[i] =
        static_cast<std::size_t>(std::find(groups.begin(), groups.end(), readers[i].backend().group) - groups.begin());
}

}  // namespace

net::Task<Status> Session::split_copy(const plan::Plan& plan, std::vector<exec::RowReader>& readers, uint64_t& rows) {
  const plan::CopyIn& spec = *plan.copy_in;
  const bool split = spec.colocation != 0;
  std::optional<Error> failure;
  // Every group must be ready to take data before the client is asked for it.
  bool announced = false;
  for (exec::RowReader& reader : readers) {
    auto ready = co_await reader.until_copy_in();
    if (!ready.ok()) {
      if (!failure) failure = std::move(ready.error());
      continue;
    }
    if (!announced && !failure) announced_copy_ = std::string(reader.message().whole);
    announced = true;
  }
  std::optional<exec::CopySplitter> splitter;
  std::vector<std::size_t> slot(readers.size(), 0);
  if (!failure) {
    if (!copy_source_) out_ += copy_values_ ? copy_values_->as_client_sees(announced_copy_) : announced_copy_;
    if (split) {
      splitter.emplace(spec, *database_->colocation(spec.colocation), values_of({}, worker_.shape, nullptr, plan).text,
                       exec::CopyColumns(), snapshot_->any_shards_group());
      fill_slots(readers, *splitter, slot);
    }
  }
  std::string payload, copy;
  bool more = !failure;
  while (more && !failure) {
    payload.clear();
    auto data = co_await next_copy_data(payload);
    if (!data.ok()) {
      failure = std::move(data.error());
      break;
    }
    more = *data;
    Status fed;
    if (copy_values_ != nullptr) fed = co_await copy_values_->pass(payload, more);
    if (fed.ok() && splitter) fed = feed(*splitter, payload, more);
    if (fed.ok() && splitter && !splitter->undecided().empty()) fed = co_await place_undecided(spec, *splitter);
    if (!fed.ok()) {
      failure = std::move(fed.error());
      break;
    }
    for (std::size_t i = 0; i < readers.size() && !failure; ++i) {
      pool::ServerConn& conn = *readers[i].backend().conn;
      std::string& piece = splitter ? splitter->buffer(slot[i]) : (copy = payload);
      if (piece.size() < kCopyPiece && more && splitter) continue;
      if (!co_await send_piece(conn, piece)) {
        failure = heard_during_copy(conn);  // an error, or just a notice
        if (!failure && conn.alive() && !more) (void)conn.flush();
      }
    }
  }
  for (exec::RowReader& reader : readers) {
    pool::ServerConn& conn = *reader.backend().conn;
    if (conn.idle() || !conn.alive()) continue;
    if (failure) {
      pg::write_copy_fail(conn.out(), "another group failed");
    } else {
      pg::write_copy_done(conn.out());
    }
    conn.flush();
  }
  bool first = true;
  for (exec::RowReader& reader : readers) {
    for (;;) {
      auto event = co_await reader.next();
      if (!event.ok()) {
        if (!failure) failure = std::move(event.error());
        break;
      }
      if (*event == exec::RowReader::Event::complete && (split || first))
        rows += pg::tag_rows(reader.tag()).value_or(0);
      if (*event == exec::RowReader::Event::end) break;
    }
    first = false;
  }
  if (failure) co_return split ? without_line(std::move(*failure)) : std::move(*failure);
  co_return Status{};
}

// What a group says while it takes data: notices go to the client, an error ends the COPY.
std::optional<Error> Session::heard_during_copy(pool::ServerConn& conn) {
  if (!conn.receive()) return make_error("08006", "the connection to a group was lost during COPY", "Retry the COPY.");
  std::optional<Error> failure;
  pool::Reply reply;
  for (;;) {
    const pool::ReplyStatus status = conn.next_reply(reply, false);
    if (status == pool::ReplyStatus::broken)
      return make_error("08006", "the connection to a group was lost during COPY", "Retry the COPY.");
    if (status == pool::ReplyStatus::need_more) break;
    if (reply.message.type == 'E' && !failure) failure = pg::parse_error(reply.message.body);
    if (reply.message.type == 'N') out_ += reply.message.whole;
  }
  conn.own_input();
  return failure;
}

// Rows whose shard only a PostgreSQL can tell.
net::Task<Status> Session::place_undecided(const plan::CopyIn& spec, exec::CopySplitter& splitter) {
  const catalog::Colocation& colocation = *database_->colocation(spec.colocation);
  ShardQuestions questions(backends_, *snapshot_, *database_, staged_ != nullptr);
  for (const auto& row : splitter.undecided()) {
    plan::KeyTuple tuple;
    for (std::size_t i = 0; i < row.keys.size(); ++i) {
      if (row.keys[i] && spec.format == plan::CopyIn::Format::binary && !catalog::is_text_type(spec.key_types[i]))
        co_return make_error("0A000", "the shard of a row cannot be told from this binary key",
                             "Use the text or CSV format.", "Row " + std::to_string(row.line));
      plan::KeySource& source = tuple.emplace_back();
      source.type = spec.key_types[i];
      if (i < spec.key_typmods.size()) source.typmod = spec.key_typmods[i];
    }
    CO_TRY_ASSIGN(const uint32_t shard, co_await questions.shard_of(colocation, tuple, row.keys));
    splitter.place(row, exec::group_of(colocation, shard, *snapshot_));
  }
  splitter.undecided().clear();
  co_return Status{};
}

}  // namespace pgmosaic::router
