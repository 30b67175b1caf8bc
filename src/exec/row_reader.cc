#include "exec/row_reader.h"

namespace pgmosaic::exec {

namespace {

// The client's parameters again, with other result formats and further parameters.
void write_bind(std::string& out, const Request& request) {
  static const pg::BindMessage kNothing;
  const pg::BindMessage& bind = request.bind != nullptr ? *request.bind : kNothing;
  const std::size_t extra = request.extra != nullptr ? request.extra->size() : 0;
  pg::MessageWriter writer(out, 'B');
  writer.string(request.portal).string(request.prepared).int16(static_cast<int16_t>(bind.values.size() + extra));
  for (std::size_t i = 0; i < bind.values.size(); ++i) writer.int16(bind.binary(i) ? 1 : 0);
  for (std::size_t i = 0; i < extra; ++i) writer.int16(0);
  writer.int16(static_cast<int16_t>(bind.values.size() + extra));
  auto put = [&writer](const auto& value) {
    if (value) {
      writer.value(*value);
    } else {
      writer.int32(-1);
    }
  };
  for (const auto& value : bind.values) put(value);
  for (std::size_t i = 0; i < extra; ++i) put((*request.extra)[i]);
  if (!request.client_formats || bind.result_formats.empty()) {
    writer.int16(0);
    return;
  }
  writer.int16(static_cast<int16_t>(bind.result_formats.size()));
  for (int16_t format : bind.result_formats) writer.int16(format);
}

}  // namespace

void RowReader::send(const Request& request) {
  pool::ServerConn& conn = *backend_->conn;
  using pool::RequestKind;
  const bool parses = request.prepared.empty();
  if (!request.behind_bind.empty()) {
    send_bound(request);
    if (!request.later) send_rest();
    return;
  }
  own_requests_ = !request.extended ? 1 : parses ? 5 : 4;
  poisoned_before_ = conn.poisoned;
  if (!request.extended) {
    pg::write_query(conn.out(), request.sql);
    conn.expect({RequestKind::query, true});
  } else {
    static const std::vector<pg::Oid> kNone;
    if (parses) {
      conn.write_parse("", request.sql, request.types != nullptr ? *request.types : kNone);
      conn.expect({RequestKind::parse, true});
      backend_->unnamed_statement = 0;
    }
    write_bind(conn.out(), request);
    pg::write_describe(conn.out(), 'P', request.portal);
    pg::write_execute(conn.out(), request.portal, request.max_rows);
    pg::write_sync(conn.out());
    for (RequestKind kind : {RequestKind::bind, RequestKind::describe, RequestKind::execute, RequestKind::sync})
      conn.expect({kind, true});
  }
  behind_ = request.commit ? 1 : 0;
  if (request.commit) conn.add_internal_query("COMMIT");
  conn.flush();
}

// Parse, Bind and the question, each to its end, so that what is behind is the statement's execution alone.
void RowReader::send_bound(const Request& request) {
  pool::ServerConn& conn = *backend_->conn;
  using pool::RequestKind;
  static const std::vector<pg::Oid> kNone;
  poisoned_before_ = conn.poisoned;
  portal_ = request.portal;
  bound_ = 4;
  if (request.prepared.empty()) {
    conn.write_parse("", request.sql, request.types != nullptr ? *request.types : kNone);
    conn.expect({RequestKind::parse, true});
    backend_->unnamed_statement = 0;
    ++bound_;
  }
  pg::write_close(conn.out(), 'P', request.portal);  // of an attempt before
  write_bind(conn.out(), request);
  pg::write_sync(conn.out());
  for (RequestKind kind : {RequestKind::close, RequestKind::bind, RequestKind::sync}) conn.expect({kind, true});
  conn.add_internal_query(std::string(request.behind_bind));
  own_requests_ = 0;
  conn.flush();
}

void RowReader::send_rest() {
  pool::ServerConn& conn = *backend_->conn;
  using pool::RequestKind;
  own_requests_ = 4;
  tail_ = 2;
  ended_ = false;
  pg::write_describe(conn.out(), 'P', portal_);
  pg::write_execute(conn.out(), portal_, 0);
  pg::write_close(conn.out(), 'P', portal_);
  pg::write_sync(conn.out());
  for (RequestKind kind : {RequestKind::describe, RequestKind::execute, RequestKind::close, RequestKind::sync})
    conn.expect({kind, true});
  conn.flush();
}

void RowReader::send_more(std::string_view portal, int32_t max_rows) {
  pool::ServerConn& conn = *backend_->conn;
  own_requests_ = 2;
  poisoned_before_ = conn.poisoned;
  ended_ = rows_left_ = false;
  pg::write_execute(conn.out(), portal, max_rows);
  pg::write_sync(conn.out());
  for (pool::RequestKind kind : {pool::RequestKind::execute, pool::RequestKind::sync}) conn.expect({kind, true});
  conn.flush();
}

// An error of the client's own statement says nothing about the backend's state; one of what was queued in front does.
void RowReader::note_error() {
  pool::ServerConn& conn = *backend_->conn;
  if (conn.pending_requests() > own_requests_ + behind_ + bound_)
    poisoned_before_ = true;
  else
    conn.poisoned = poisoned_before_;
  if (error_) return;
  error_ = pg::parse_error(reply_.message.body);
  error_->node = "group " + std::to_string(backend_->group);
}

net::Task<Status> RowReader::read_reply() {
  pool::ServerConn& conn = *backend_->conn;
  for (;;) {
    const pool::ReplyStatus status = conn.next_reply(reply_, false);
    if (status == pool::ReplyStatus::reply) {
      const char type = reply_.message.type;
      if (type == 'A') conn.overheard += reply_.message.whole;
      if (type == 'E') note_error();
      co_return Status{};
    }
    bool lost = status == pool::ReplyStatus::broken;
    if (!lost) {
      conn.own_input();
      net::WaitSet wait;
      wait.read(conn.stream());
      if (conn.has_unsent()) wait.write(conn.stream());
      lost = co_await wait == net::WaitStatus::interrupted;
      if (!lost && conn.has_unsent()) lost = !conn.flush();
      if (!lost && conn.stream().can_read()) lost = !conn.receive();
      conn.own_input();  // another group's reader may use the loop's scratch memory next
    }
    if (!lost) continue;
    ended_ = true;
    conn.mark_broken();
    co_return make_error("08006", "the connection to group " + std::to_string(backend_->group) + " was lost",
                         "Retry the transaction.");
  }
}

net::Task<Result<std::vector<std::string>>> RowReader::values_in_front() {
  std::vector<std::string> last;
  std::vector<std::optional<std::string_view>> values;
  while (!ended_ && in_front()) {
    Status status = co_await read_reply();
    if (!status.ok() && !error_) co_return std::move(status.error());
    if (!status.ok() || reply_.message.type != 'D') continue;
    pg::parse_data_row(reply_.message.body, values);
    if (!values.empty()) last.emplace_back(values.back().value_or(""));
  }
  if (own_requests_ == 0) ended_ = true;  // nothing is to come before send_rest()
  if (!error_) co_return last;
  Error error = std::move(*error_);
  error_.reset();
  co_return error;
}

net::Task<Result<RowReader::Event>> RowReader::next() {
  pool::ServerConn& conn = *backend_->conn;
  if (announced_event_) {
    told_ = std::exchange(announced_, {});
    if (!told_.empty()) reply_.message = {told_[0], std::string_view(told_).substr(pg::kHeaderSize), told_};
    co_return *std::exchange(announced_event_, std::nullopt);
  }
  while (!ended_) {
    Status status = co_await read_reply();
    if (!status.ok()) {
      if (error_) break;
      co_return std::move(status.error());
    }
    if (in_front()) continue;
    switch (reply_.message.type) {
      case 'T': co_return Event::description;
      case 'D': co_return Event::row;
      case 'G': co_return Event::copy_in;
      case 'H': co_return Event::copy_out;
      case 'd': co_return Event::copy_data;
      case 'c': co_return Event::copy_done;
      case 'C':
        tag_ = reply_.message.body.substr(0, reply_.message.body.size() - 1);
        if (conn.pending_requests() <= tail_ + behind_) co_return Event::complete;
        break;
      case 's': rows_left_ = true; break;
      case 'N': notices_ += reply_.message.whole; break;
      case 'Z': ended_ = conn.pending_requests() <= behind_; break;
      default: break;
    }
  }
  if (error_) {
    Error error = std::move(*error_);
    error_.reset();
    co_return error;
  }
  co_return Event::end;
}

net::Task<Status> RowReader::until_copy_in() {
  for (;;) {
    auto event = co_await next();
    if (!event.ok()) co_return std::move(event.error());
    if (*event == Event::copy_in) co_return Status{};
    if (*event == Event::end) co_return make_error("08P01", "the group did not start the COPY");
  }
}

net::Task<Status> RowReader::until_copy_out() {
  auto event = co_await next();
  if (!event.ok()) co_return std::move(event.error());
  if (*event != Event::copy_out) co_return make_error("08P01", "the group did not start the COPY");
  announce(*event);
  co_return Status{};
}

net::Task<void> RowReader::until_answer() {
  if (announced_event_ || error_) co_return;
  auto event = co_await next();
  if (event.ok())
    announce(*event);
  else
    error_ = std::move(event.error());
}

void RowReader::announce(Event event) {
  announced_event_ = event;
  announced_ = event == Event::end ? std::string_view() : reply_.message.whole;
}

net::Task<Status> RowReader::finish() {
  for (;;) {
    auto event = co_await next();
    if (!event.ok()) co_return std::move(event.error());
    if (*event == Event::end) co_return Status{};
  }
}

}  // namespace pgmosaic::exec
