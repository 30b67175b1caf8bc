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

constexpr std::string_view kOtherFailed = "another group failed", kClientFailed = "COPY from stdin failed: ";

}  // namespace

// One COPY … FROM STDIN over several groups, which are in it already.
class Session::CopyRun {
 public:
  CopyRun(Session& session, const plan::Plan& plan, std::vector<exec::RowReader>& readers)
      : s_(session),
        plan_(plan),
        spec_(*plan.copy_in),
        readers_(readers),
        slot_(readers.size(), 0),
        failed_(readers.size(), false),
        failures_(spec_.name) {}

  net::Task<Status> run(uint64_t& rows);

 private:
  net::Task<void> until_ready();
  net::Task<void> read_piece();
  net::Task<Status> place_undecided();
  net::Task<void> send_pieces();
  void end_streams();
  net::Task<void> collect(uint64_t& rows);
  std::optional<Error> heard(std::size_t reader);
  void fail_own(Error error);
  void fail_of_group(std::size_t reader, Error error);
  void to_client_lines(std::size_t reader, std::string& fields) const;
  void pass_notice(std::size_t reader, const pg::MessageView& message);

  Session& s_;
  const plan::Plan& plan_;
  const plan::CopyIn& spec_;
  std::vector<exec::RowReader>& readers_;
  std::optional<exec::CopySplitter> splitter_;  // nullopt: every group gets all
  std::vector<std::size_t> slot_;               // of each reader: its group's place among the splitter's
  std::vector<bool> failed_;
  exec::CopyFailures failures_;
  std::string payload_, copy_, reason_{kOtherFailed};
  bool more_ = true;
};

net::Task<Status> Session::split_copy(const plan::Plan& plan, std::vector<exec::RowReader>& readers, uint64_t& rows) {
  CopyRun copy(*this, plan, readers);
  co_return co_await copy.run(rows);
}

net::Task<Status> Session::CopyRun::run(uint64_t& rows) {
  co_await until_ready();
  while (more_ && !failures_) {
    co_await read_piece();
    co_await send_pieces();
  }
  end_streams();
  co_await collect(rows);
  if (failures_) co_return failures_.take();
  co_return Status{};
}

// Every group must be ready to take data before the client is asked for it.
net::Task<void> Session::CopyRun::until_ready() {
  bool announced = false;
  for (exec::RowReader& reader : readers_) {
    auto ready = co_await reader.until_copy_in();
    if (!ready.ok()) {
      failures_.add(std::move(ready.error()));
      continue;
    }
    if (!announced && !failures_) s_.announced_copy_ = std::string(reader.message().whole);
    announced = true;
  }
  if (failures_) co_return;
  if (!s_.copy_source_)
    s_.out_ += s_.copy_values_ != nullptr ? s_.copy_values_->as_client_sees(s_.announced_copy_) : s_.announced_copy_;
  if (spec_.colocation == 0) co_return;
  splitter_.emplace(spec_, *s_.database_->colocation(spec_.colocation),
                    s_.values_of({}, s_.worker_.shape, nullptr, plan_).text,
                    exec::CopyColumns{spec_.name, spec_.columns}, s_.snapshot_->any_shards_group());
  const auto& groups = splitter_->groups();
  for (std::size_t i = 0; i < readers_.size(); ++i)
    slot_[i] =
        static_cast<std::size_t>(std::find(groups.begin(), groups.end(), readers_[i].backend().group) - groups.begin());
}

// The client's next piece becomes the groups'. They also get what stands before an error.
net::Task<void> Session::CopyRun::read_piece() {
  payload_.clear();
  auto data = co_await s_.next_copy_data(payload_);
  more_ = data.ok() && *data;
  if (data.ok() && s_.copy_values_ != nullptr) {
    Status passed = co_await s_.copy_values_->pass(payload_, more_);
    if (!passed.ok()) fail_own(std::move(passed.error()));
  }
  if (!data.ok() && s_.copy_values_ != nullptr) {
    Error why = co_await s_.copy_values_->pass_rest(payload_, std::move(data.error()));
    fail_own(std::move(why));
  } else if (!data.ok() && splitter_) {
    fail_own(splitter_->at_next_line(std::move(data.error())));
  } else if (!data.ok()) {  // the groups say at which line
    if (data.error().message.starts_with(kClientFailed)) reason_ = data.error().message.substr(kClientFailed.size());
    fail_own(std::move(data.error()));
  }
  if (!splitter_) co_return;
  Status fed;
  if (!payload_.empty()) fed = splitter_->feed(payload_);
  if (fed.ok() && !more_ && !failures_) fed = splitter_->finish();
  if (!fed.ok()) fail_own(std::move(fed.error()));
  Status placed = co_await place_undecided();
  if (!placed.ok()) fail_own(std::move(placed.error()));
}

namespace {

// A binary value of another length is none.
bool has_binary_length(catalog::Oid type, std::string_view value) {
  switch (type) {
    case 16: return value.size() == 1;
    case 21: return value.size() == 2;
    case 23:
    case 1082: return value.size() == 4;
    case 20:
    case 1114:
    case 1184: return value.size() == 8;
    case 2950: return value.size() == 16;
    default: return true;
  }
}

}  // namespace

// Rows whose shard only a PostgreSQL can tell. What is no value of its type a group refuses, with the column.
net::Task<Status> Session::CopyRun::place_undecided() {
  if (splitter_->undecided().empty()) co_return Status{};
  const catalog::Colocation& colocation = *s_.database_->colocation(spec_.colocation);
  ShardQuestions questions(s_.backends_, *s_.snapshot_, *s_.database_, s_.staged_ != nullptr);
  for (const auto& row : splitter_->undecided()) {
    plan::KeyTuple tuple;
    bool no_value = false;
    for (std::size_t i = 0; i < row.keys.size(); ++i) {
      if (row.keys[i] && spec_.format == plan::CopyIn::Format::binary)
        no_value = no_value || !has_binary_length(spec_.key_types[i], *row.keys[i]);
      if (!no_value && row.keys[i] && spec_.format == plan::CopyIn::Format::binary &&
          !catalog::is_text_type(spec_.key_types[i]))
        co_return splitter_->at_row(make_error("0A000", "the shard of a row cannot be told from this binary key",
                                               "Use the text or CSV format."),
                                    row);
      plan::KeySource& source = tuple.emplace_back();
      source.type = spec_.key_types[i];
      if (i < spec_.key_typmods.size()) source.typmod = spec_.key_typmods[i];
    }
    Result<uint32_t> shard = 0;
    if (!no_value) shard = co_await questions.shard_of(colocation, tuple, row.keys);
    no_value = no_value || (!shard.ok() && shard.error().sqlstate.starts_with("22"));
    if (!shard.ok() && !no_value) co_return splitter_->at_row(std::move(shard.error()), row);
    if (no_value) {
      splitter_->refuse(row);
      break;
    }
    splitter_->place(row, exec::group_of(colocation, *shard, *s_.snapshot_));
  }
  splitter_->undecided().clear();
  co_return Status{};
}

net::Task<void> Session::CopyRun::send_pieces() {
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    if (failed_[i]) continue;
    pool::ServerConn& conn = *readers_[i].backend().conn;
    std::string& piece = splitter_ ? splitter_->buffer(slot_[i]) : (copy_ = payload_);
    if (piece.size() < kCopyPiece && more_ && splitter_) continue;
    if (splitter_) splitter_->note_sent(slot_[i]);
    if (co_await send_piece(conn, piece)) continue;
    auto failure = heard(i);  // an error, or just a notice
    failed_[i] = failure.has_value();
    if (failure) {
      fail_of_group(i, std::move(*failure));
    } else if (conn.alive() && !more_) {
      (void)conn.flush();
    }
  }
}

// What the others have not been sent yet may be wrong in an earlier line.
void Session::CopyRun::end_streams() {
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    pool::ServerConn& conn = *readers_[i].backend().conn;
    if (conn.idle() || !conn.alive()) continue;
    if (splitter_ && !failed_[i] && !splitter_->buffer(slot_[i]).empty())
      pg::write_copy_data(conn.out(), splitter_->buffer(slot_[i]));
    if (failures_) {
      pg::write_copy_fail(conn.out(), reason_);
    } else {
      pg::write_copy_done(conn.out());
    }
    conn.flush();
  }
}

net::Task<void> Session::CopyRun::collect(uint64_t& rows) {
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    exec::RowReader& reader = readers_[i];
    while (!reader.backend().conn->idle()) {  // else heard() has read all
      auto event = co_await reader.next();
      if (!event.ok()) {
        fail_of_group(i, std::move(event.error()));
        break;
      }
      if (*event == exec::RowReader::Event::complete && (splitter_ || i == 0))
        rows += pg::tag_rows(reader.tag()).value_or(0);
      if (*event == exec::RowReader::Event::end) break;
    }
    const std::string notices = reader.take_notices();
    pg::MessageView notice;
    uint32_t length = 0;
    for (std::string_view rest = notices; pg::peek_message(rest, notice, length) == pg::FrameStatus::complete;
         rest.remove_prefix(length))
      pass_notice(i, notice);
  }
}

// What a group says while it takes data.
std::optional<Error> Session::CopyRun::heard(std::size_t reader) {
  const Error lost = make_error("08006", "the connection to a group was lost during COPY", "Retry the COPY.");
  pool::ServerConn& conn = *readers_[reader].backend().conn;
  if (!conn.receive()) return lost;
  std::optional<Error> failure;
  pool::Reply reply;
  for (;;) {
    const pool::ReplyStatus status = conn.next_reply(reply, false);
    if (status == pool::ReplyStatus::broken) return lost;
    if (status == pool::ReplyStatus::need_more) break;
    if (reply.message.type == 'E' && !failure) failure = pg::parse_error(reply.message.body);
    if (reply.message.type == 'N') pass_notice(reader, reply.message);
  }
  conn.own_input();
  return failure;
}

void Session::CopyRun::fail_own(Error error) {
  if (s_.copy_source_) exec::drop_copy_context(error.fields, spec_.name);
  failures_.add(std::move(error));
}

void Session::CopyRun::fail_of_group(std::size_t reader, Error error) {
  if (failures_ && error.sqlstate == "57014" && error.message.ends_with(kOtherFailed)) return;
  if (error.sqlstate == "08P01") error.node.clear();  // binary data that are too short, not the connection
  to_client_lines(reader, error.fields);
  exec::hide_filled(error, spec_);
  failures_.add(std::move(error));
}

// In a group's fields of an error or notice.
void Session::CopyRun::to_client_lines(std::size_t reader, std::string& fields) const {
  if (s_.copy_source_) return exec::drop_copy_context(fields, spec_.name);
  if (!splitter_) return;
  const auto found = exec::find_copy_line(fields, spec_.name);
  if (found) exec::replace_copy_line(fields, *found, splitter_->client_line(slot_[reader], found->number));
}

// Every group fires the triggers of a reference table.
void Session::CopyRun::pass_notice(std::size_t reader, const pg::MessageView& message) {
  if (!splitter_ && reader > 0) return;
  std::string body(message.body);
  to_client_lines(reader, body);
  s_.rename_leaves(body);
  pg::MessageWriter(s_.out_, 'N').bytes(body);
}

}  // namespace pgmosaic::router
