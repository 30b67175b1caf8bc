#include "pool/server_conn.h"

#include <algorithm>

#include "net/tls.h"
#include "pg/frontend.h"

namespace pgmosaic::pool {

namespace {

constexpr uint32_t kPartialFrom = 16 * 1024;  // larger rows are passed on in pieces

Error lost(const std::string& why) {
  return make_error("08006", "connection to a group's PostgreSQL was lost" + (why.empty() ? "" : ": " + why),
                    "Retry the transaction; see the router's log for the group.");
}

}  // namespace

ServerConn::ServerConn(Endpoint endpoint, std::unique_ptr<net::Stream> stream)
    : endpoint_(std::move(endpoint)), stream_(std::move(stream)) {
  created_us = stream_->loop().now_us();
}

bool ServerConn::send(std::string_view bytes) {
  if (!out_.empty()) {
    out_.append(bytes);
    bytes = out_;
  }
  if (bytes.empty()) return !broken_;
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const net::IoResult result = stream_->write(bytes.substr(sent));
    if (result.kind == net::IoResult::Kind::ok) {
      sent += result.bytes;
    } else if (result.kind == net::IoResult::Kind::would_block) {
      break;
    } else {
      broken_ = true;
      return false;
    }
  }
  if (!out_.empty()) {
    out_.erase(0, sent);
    if (out_.empty() && out_.capacity() > 64 * 1024) std::string().swap(out_);
  } else {
    out_.assign(bytes.substr(sent));
  }
  return true;
}

void ServerConn::add_internal_query(std::string_view sql, bool setting) {
  pg::write_query(out_, sql);
  expect({.kind = RequestKind::query, .internal = true, .setting = setting});
}

void ServerConn::add_vital_statement(std::string_view sql) {
  pg::write_parse(out_, "", sql, {});
  pg::write_bind_text(out_, "", "", {}, 0);
  pg::write_execute(out_, "", 0);
  for (RequestKind kind : {RequestKind::parse, RequestKind::bind, RequestKind::execute})
    expect({.kind = kind, .internal = true, .vital = true});
}

bool ServerConn::apply_settings(const Settings& wanted) {
  const Settings before = std::exchange(settings, wanted);
  const std::vector<std::string> statements = transition(*before, *wanted);
  if (statements.empty()) return false;
  if (!may_be_refused(*before, *wanted)) {
    std::string sql;
    for (const std::string& statement : statements) sql += statement + ";";
    add_internal_query(sql, true);
    return false;
  }
  // Behind a refusal nothing may run: it would with other settings than the session's.
  const std::size_t first = requests_.size();
  add_vital_statement("BEGIN");
  for (const std::string& statement : statements) add_vital_statement(statement);
  add_vital_statement("COMMIT");
  for (std::size_t i = first; i < requests_.size(); ++i) requests_[i].setting = true;
  pg::write_flush(out_);
  open_batch_ = false;  // COMMIT has ended it
  return true;
}

void ServerConn::write_parse(std::string_view name, std::string_view sql, const std::vector<pg::Oid>& types) {
  const bool users =
      oid_map && std::any_of(types.begin(), types.end(), [](pg::Oid type) { return type >= pg::kFirstUserOid; });
  if (!users) return pg::write_parse(out_, name, sql, types);
  std::vector<pg::Oid> here;
  for (pg::Oid type : types) here.push_back(oid_map->type_here(type));
  pg::write_parse(out_, name, sql, here);
}

bool ServerConn::receive() {
  char* scratch = stream_->loop().scratch();
  in_.own();
  const net::IoResult result = stream_->read(scratch, net::EventLoop::kScratchSize);
  if (result.kind == net::IoResult::Kind::ok) {
    in_.feed({scratch, result.bytes});
    return true;
  }
  if (result.kind == net::IoResult::Kind::would_block) return true;
  broken_ = true;
  return false;
}

void ServerConn::pop_request() {
  if (++request_head_ == requests_.size()) {
    requests_.clear();
    request_head_ = 0;
  }
}

void ServerConn::skip_to_sync() {
  std::vector<uint32_t> not_closed;
  while (request_head_ < requests_.size() && requests_[request_head_].kind != RequestKind::sync) {
    const Request& skipped = requests_[request_head_];
    if (skipped.kind == RequestKind::parse && skipped.statement != 0) forget_statement(skipped.statement);
    if (skipped.kind == RequestKind::close && skipped.statement != 0) not_closed.push_back(skipped.statement);
    if (skipped.forgets) knows_numbers = true;
    ++request_head_;
  }
  for (uint32_t statement : not_closed)
    if (!statements_.contains(statement)) note_statement(statement);
  if (request_head_ == requests_.size()) {
    requests_.clear();
    request_head_ = 0;
  }
}

// Decides which request a complete message answers and retires requests that are done.
void ServerConn::complete(const pg::MessageView& message, Reply& reply) {
  const char type = message.type;
  if (type == 'S' && message.body.size() > 1) {
    pg::FieldReader reader(message.body);
    std::string name(reader.string());
    parameters[name] = std::string(reader.string());
    if (changed_parameters.size() < 64) changed_parameters.push_back(std::move(name));
  }
  if (type == 'A' && client_pid != 0 && message.body.size() > 4 &&
      load_big_endian<uint32_t>(message.body.data()) == pid)
    store_big_endian(const_cast<char*>(message.body.data()), client_pid);
  if (request_head_ == requests_.size()) {
    // Nothing was asked: only asynchronous messages are legal, and an error means that the server is going away.
    if (type != 'S' && type != 'N' && type != 'A') broken_ = true;
    return;
  }
  const Request front = requests_[request_head_];
  reply.request = front;
  reply.answers = type != 'N' && type != 'A' && type != 'S';
  switch (type) {
    case 'Z':
      transaction_status = message.body.empty() ? 'I' : message.body[0];
      if (front.kind != RequestKind::query && front.kind != RequestKind::sync) broken_ = true;
      pop_request();
      break;
    case 'E':
      if (front.kind == RequestKind::query && front.internal) poisoned = true;
      if (front.kind != RequestKind::query) skip_to_sync();
      ending_ = front.vital || front.setting;
      break;
    case '1': front.kind == RequestKind::parse ? pop_request() : mark_broken(); break;
    case '2': front.kind == RequestKind::bind ? pop_request() : mark_broken(); break;
    case '3': front.kind == RequestKind::close ? pop_request() : mark_broken(); break;
    case 'n':
      if (front.kind == RequestKind::describe) pop_request();
      break;
    case 'T':
      if (front.kind == RequestKind::describe) pop_request();
      break;
    case 'C':
    case 's':
    case 'I':
      if (front.kind == RequestKind::execute) pop_request();
      break;
    default: break;
  }
}

// The group's OIDs become the home's, in the buffer.
void ServerConn::translate(const Reply& reply) {
  char* body = const_cast<char*>(reply.message.body.data());
  const std::size_t size = reply.message.body.size();
  switch (reply.message.type) {
    case 'T': rows_hold_oids_ = oid_map->to_home_description(body, size, binary_oids_); break;
    case 't': oid_map->to_home_parameters(body, size); break;
    case 'D':
      if (!binary_oids_.empty()) oid_map->to_home_row(body, size, binary_oids_);
      break;
    case 'C':
    case 'E':
    case 's': binary_oids_.clear(); break;  // a further Execute has its own Describe in front
    case 'n': rows_hold_oids_ = false; break;
    default: break;
  }
}

ReplyStatus ServerConn::next_reply(Reply& reply, bool allow_partial) {
  reply.partial = false;
  reply.answers = false;
  if (ending_) {
    broken_ = true;
    return ReplyStatus::broken;
  }
  if (partial_remaining_ > 0) {
    if (in_.empty()) return ReplyStatus::need_more;
    const std::size_t take = std::min<std::size_t>(in_.view().size(), partial_remaining_);
    reply.message.whole = in_.view().substr(0, take);
    reply.partial = reply.answers = true;
    reply.request = requests_[request_head_];
    partial_remaining_ -= static_cast<uint32_t>(take);
    in_.consume(take);
    return ReplyStatus::reply;
  }
  uint32_t length = 0;
  switch (pg::peek_message(in_.view(), reply.message, length)) {
    case pg::FrameStatus::malformed: broken_ = true; return ReplyStatus::broken;
    case pg::FrameStatus::incomplete:
      if (allow_partial && binary_oids_.empty() && length > kPartialFrom &&
          (reply.message.type == 'D' || reply.message.type == 'd') && request_head_ < requests_.size()) {
        reply.message.whole = in_.view();
        reply.partial = reply.answers = true;
        reply.request = requests_[request_head_];
        partial_remaining_ = length - static_cast<uint32_t>(in_.view().size());
        in_.consume(in_.view().size());
        return ReplyStatus::reply;
      }
      return ReplyStatus::need_more;
    case pg::FrameStatus::complete: break;
  }
  in_.consume(length);
  complete(reply.message, reply);
  if (oid_map) translate(reply);
  // What came behind the last answer (a notice, a notification) must not stay in the loop's scratch memory: whoever
  // reads next, on any connection, overwrites it. (An empty buffer would give back the memory that `reply` is in.)
  if (idle() && !in_.empty()) in_.own();
  return broken_ ? ReplyStatus::broken : ReplyStatus::reply;
}

net::Task<Result<pg::MessageView>> ServerConn::next_message() {
  for (;;) {
    pg::MessageView message;
    uint32_t length = 0;
    const pg::FrameStatus status = pg::peek_message(in_.view(), message, length);
    if (status == pg::FrameStatus::malformed) co_return lost("malformed message");
    if (status == pg::FrameStatus::complete) {
      in_.consume(length);
      co_return message;
    }
    in_.own();
    if (co_await stream_->readable() == net::WaitStatus::interrupted) co_return lost("interrupted");
    if (!receive()) co_return lost(stream_->error());
  }
}

net::Task<Status> ServerConn::drain(Rows* rows) {
  Status result;
  Reply reply;
  if (open_batch_ && !idle()) pg::write_flush(out_);
  while (!idle() || has_unsent()) {
    const bool sent = flush();
    if (!sent && !result.ok()) co_return result;  // its last words
    if (!sent) co_return lost(stream_->error());
    ReplyStatus status = next_reply(reply, false);
    if (status == ReplyStatus::broken && !result.ok()) co_return result;
    if (status == ReplyStatus::broken) co_return lost("protocol out of step");
    if (status == ReplyStatus::need_more) {
      if (idle() && !has_unsent()) break;
      in_.own();
      net::WaitSet wait;
      wait.read(*stream_);
      if (has_unsent()) wait.write(*stream_);
      if (co_await wait == net::WaitStatus::interrupted) {
        broken_ = true;
        co_return lost("interrupted");
      }
      if (stream_->can_read() && !receive()) co_return lost(stream_->error());
      continue;
    }
    if (reply.message.type == 'E') {
      Error error = pg::parse_error(reply.message.body);
      if (result.ok()) result = std::move(error);
      if (ending_) broken_ = true;
    }
    if (reply.message.type == 'A') overheard += reply.message.whole;
    if (rows == nullptr || reply.request.vital || reply.request.setting) continue;
    if (reply.message.type == 'T') {
      pg::parse_row_description(reply.message.body, rows->fields);
    } else if (reply.message.type == 'D') {
      std::vector<std::optional<std::string_view>> values;
      pg::parse_data_row(reply.message.body, values);
      auto& row = rows->rows.emplace_back();
      for (const auto& value : values) value ? row.emplace_back(std::string(*value)) : row.emplace_back(std::nullopt);
    } else if (reply.message.type == 'N') {
      rows->notices += reply.message.whole;
    } else if (reply.message.type == 't') {
      pg::parse_parameter_description(reply.message.body, rows->parameter_types);
    } else if (reply.message.type == 'C') {
      rows->tag = reply.message.body.substr(0, reply.message.body.size() - 1);
    }
  }
  co_return result;
}

net::Task<Result<ServerConn::Rows>> ServerConn::query(std::string_view sql) {
  add_internal_query(sql);
  Rows rows;
  const bool was_poisoned = poisoned;
  Status status = co_await drain(&rows);
  // Whoever asks this way reads the answer; an error is no hidden change of state.
  poisoned = was_poisoned;
  if (!status.ok()) co_return std::move(status.error());
  co_return rows;
}

net::Task<Result<ServerConn::Rows>> ServerConn::query_params(std::string_view sql,
                                                             const std::vector<std::optional<std::string>>& values,
                                                             const std::vector<pg::Oid>& types) {
  pg::write_parse(out_, "", sql, types);
  pg::write_bind_text(out_, "", "", values, 0);
  pg::write_describe(out_, 'P', "");
  pg::write_execute(out_, "", 0);
  pg::write_sync(out_);
  for (RequestKind kind :
       {RequestKind::parse, RequestKind::bind, RequestKind::describe, RequestKind::execute, RequestKind::sync})
    expect({kind, true});
  Rows rows;
  CO_TRY(co_await drain(&rows));
  co_return rows;
}

bool ServerConn::has_statement(uint32_t id) {
  auto it = statements_.find(id);
  if (it == statements_.end()) return false;
  if (it->second != statement_order_.begin())
    statement_order_.splice(statement_order_.begin(), statement_order_, it->second);
  return true;
}

void ServerConn::note_statement(uint32_t id) {
  statement_order_.push_front(id);
  statements_[id] = statement_order_.begin();
}

void ServerConn::forget_statement(uint32_t id) {
  auto it = statements_.find(id);
  if (it == statements_.end()) return;
  statement_order_.erase(it->second);
  statements_.erase(it);
}

void ServerConn::forget_all_statements() {
  statements_.clear();
  statement_order_.clear();
}

uint32_t ServerConn::statement_to_evict(std::size_t limit) const {
  return statements_.size() > limit ? statement_order_.back() : 0;
}

}  // namespace pgmosaic::pool
