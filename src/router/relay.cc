// The hot half of a statement: replies of one backend go to the client as they came, without copies where the client
// keeps up. Whole runs of messages are sent with one system call.
#include "base/log.h"
#include "plan/planner.h"
#include "router/deadlocks.h"
#include "router/execution.h"
#include "router/new_tables.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

// Errors that the leaf's own name may have made: its table has other columns or is gone (42P01, 42703), the role may
// not read leaves (42501), or the statement was prepared before the table changed (0A000; the routine's name is in
// every language). A point statement that fails has changed nothing.
bool may_be_the_leafs(const Error& parsed, const pg::MessageView& error) {
  return parsed.sqlstate.starts_with("42") ||
         (parsed.sqlstate == "0A000" && error.body.find("RRevalidateCachedQuery") != std::string_view::npos);
}

// Parts of a unique index that was built concurrently: "name_16423_i3".
void rename_parts(std::string& message, const catalog::Table& table) {
  const auto skip_digits = [&message](std::size_t at) {
    while (at < message.size() && std::isdigit(static_cast<unsigned char>(message[at]))) ++at;
    return at;
  };
  for (const catalog::UniqueKey& key : table.unique_keys) {
    const std::string prefix = short_name(key.name) + "_";
    for (std::size_t at = message.find(prefix); at != std::string::npos; at = message.find(prefix, at + 1)) {
      const std::size_t oid = at + prefix.size(), middle = skip_digits(oid);
      if (middle == oid || message.compare(middle, 2, "_i") != 0) continue;
      const std::size_t end = skip_digits(middle + 2);
      if (end > middle + 2) message.replace(at, end - at, key.name);
    }
  }
}

// Where a field of Error::fields has its value; npos: there is none.
std::size_t field_at(const std::string& fields, char code) {
  for (std::size_t at = 0; at < fields.size(); at = fields.find('\0', at) + 1)
    if (fields[at] == code) return at + 1;
  return std::string::npos;
}

std::string field_of(const std::string& fields, char code) {
  const std::size_t at = field_at(fields, code);
  return at == std::string::npos ? std::string() : fields.c_str() + at;
}

// The home's currval() and lastval() are functions, which PostgreSQL's own do not stand in (install_home_sql.h).
void without_number_context(std::string& fields) {
  const std::size_t at = field_at(fields, 'W');
  while (at != std::string::npos) {
    const std::string context = fields.c_str() + at;
    if (!context.starts_with("PL/pgSQL function currval(regclass,bigint[]) line ") &&
        !context.starts_with("PL/pgSQL function lastval(bigint[]) line "))
      return;
    const std::size_t line = context.find('\n');
    if (line == context.npos) fields.erase(at - 1, context.size() + 2);
    if (line == context.npos) return;
    fields.erase(at, line + 1);
  }
}

const catalog::ForeignKey* key_of_part(const catalog::Database& database, const catalog::Table& table,
                                       const std::string& part, const std::string& message) {
  const catalog::ForeignKey* found = nullptr;
  for (const catalog::ForeignKey& key : table.foreign_keys) {
    if (key.name == part) return nullptr;
    const auto referenced = database.tables_by_oid.find(key.referenced);
    if (referenced == database.tables_by_oid.end() || referenced->second->shard_prefix.empty() ||
        message.find('"' + referenced->second->name + '"') == std::string::npos)
      continue;
    const bool fits =
        part.starts_with(key.parts) && part.find_first_not_of("0123456789", key.parts.size()) == part.npos;
    if (found == nullptr || fits) found = &key;
  }
  return found;
}

}  // namespace

// Of a foreign key between sharded tables PostgreSQL has a part for each leaf that it references, under a name of its
// own, which stands in errors.
void Session::rename_foreign_key(Error& error) const {
  if (error.sqlstate != "23503" || database_ == nullptr) return;
  const catalog::Table* table = database_->find(field_of(error.fields, 's'), field_of(error.fields, 't'));
  const std::string part = field_of(error.fields, 'n');
  if (table == nullptr || part.empty()) return;
  const catalog::ForeignKey* key = key_of_part(*database_, *table, part, error.message);
  if (key == nullptr) return;
  const std::string quoted = '"' + part + '"';
  if (const std::size_t at = error.message.find(quoted); at != std::string::npos)
    error.message.replace(at, quoted.size(), '"' + key->name + '"');
  error.fields.replace(field_at(error.fields, 'n'), part.size(), key->name);
}

// Errors of the groups name the leaves of sharded tables; the client knows the table.
void Session::rename_leaves(std::string& message) const {
  if (database_ == nullptr) return;
  const bool parts = message.find("_i") != std::string::npos;
  for (const auto& [oid, table] : database_->tables_by_oid) {
    if (table->shard_prefix.empty()) continue;
    if (parts) rename_parts(message, *table);
    const std::string prefix = table->shard_prefix + "_";
    for (std::size_t at = message.find(prefix); at != std::string::npos;
         at = message.find(prefix, at + table->name.size())) {
      std::size_t end = at + prefix.size();
      while (end < message.size() && std::isdigit(static_cast<unsigned char>(message[end]))) ++end;
      message.replace(at, end - at, table->name);
    }
    std::string_view shards(
        "s"
        "pgmosaic_shards\0",
        17);
    if (const std::size_t at = message.find(shards); at != std::string::npos && (at == 0 || message[at - 1] == '\0'))
      message.replace(at + 1, 15, table->schema);
  }
}

// Errors of the groups name prepared statements as they are called there.
void Session::rename_statements(std::string& message) const {
  const std::size_t at = message.find("\"pgm_");
  const std::size_t end = at == std::string::npos ? at : message.find('"', at + 1);
  if (end == std::string::npos || !extended_) return;
  const std::string_view wire_name = std::string_view(message).substr(at + 1, end - at - 1);
  for (const auto& [name, statement] : extended_->statements) {
    if (statement->wire_name != wire_name) continue;
    message.replace(at + 1, end - at - 1, name);
    return;
  }
}

// What the session must know of a reply that passes through.
void Session::observe(const pool::Reply& reply, exec::Backend& backend) {
  switch (reply.message.type) {
    case 'E':
      statement_failed_ = true;
      WorkerStats::add(worker_.stats.errors);
      if (backends_.in_transaction()) failed_ = true;
      break;
    case 'Z':
      // A statement of one group may end the transaction behind our back only through an error.
      if (backend.begun && backend.conn->transaction_status == 'E') failed_ = true;
      break;
    case 'S':
      if (reply.message.body.starts_with(std::string_view("application_name\0", 17)))
        application_name_ = reply.message.body.substr(17, reply.message.body.size() - 18);
      break;
    default: break;
  }
}

void Session::drop_backend(exec::Backend& backend) {
  if (extended_ && extended_->current == &backend) extended_->current = nullptr;
  backends_.drop(backend);
}

// Whether the client sees a reply; notes what the session must know of it.
bool Session::passes(const pool::Reply& reply, exec::Backend& backend, bool forward_ready) {
  const char type = reply.partial ? 'D' : reply.message.type;
  if (type == 'E' && reply.answers) {
    const Error error = pg::parse_error(reply.message.body);
    // A trigger or function has said DEALLOCATE ALL.
    const bool forgotten = error.sqlstate == "26000" && error.message.find("pgm_") != std::string::npos;
    if (forgotten) backend.conn->forget_all_statements();
    if (!again_.empty() && (forgotten || may_be_the_leafs(error, reply.message))) leaf_failed_ = true;
  }
  if (leaf_failed_) return false;
  bool pass = !(reply.answers && reply.request.internal);
  if (!pass && reply.request.kind == pool::RequestKind::describe && (type == 'T' || type == 'n'))
    ext().learn_row_oids(backend.conn->rows_hold_oids());
  if (type == 'T' && extended_ && extended_->command_bind != nullptr) pass = false;
  if (reply.answers && !reply.partial) {
    if (type == 'E') pass = true;  // also of what the router asked on the client's behalf
    if (type == 'Z')
      pass = pass && forward_ready && !suppress_ready_ && !(failed_ && backend.conn->transaction_status != 'E');
    if (type == 'C' && hold_complete_ && pass) {
      held_complete_ = reply.message.whole;
      pass = false;
    }
  }
  if (pass || type == 'E' || type == 'Z') observe(reply, backend);
  return pass;
}

// An error of a group in the client's words.
void Session::pass_error(const pg::MessageView& message) {
  names_.leave();
  std::string renamed(message.whole);
  rename_leaves(renamed);
  rename_statements(renamed);
  const bool of_key = renamed.find("C23503") != std::string::npos;
  const bool at_end = renamed.find("Msyntax error at end of input") != std::string::npos;
  const bool of_number = renamed.find("WPL/pgSQL function currval(regclass,bigint[])") != std::string::npos ||
                         renamed.find("WPL/pgSQL function lastval(bigint[])") != std::string::npos;
  if (of_key || at_end || of_number || deadlock_ || text_.at > 0 || !text_.sent.empty() || text_.inserted != nullptr) {
    Error error = pg::parse_error(std::string_view(renamed).substr(pg::kHeaderSize));
    if (of_key) rename_foreign_key(error);
    if (deadlock_) name_deadlock(error, *deadlock_);
    if (of_number) without_number_context(error.fields);
    if (at_end && text_.sent.empty() && text_.at < text_.string.size()) {
      const std::string_view rest = text_.string.substr(text_.at);
      const auto statements = plan::split_statements(rest);
      if (!statements.empty()) name_end(error, rest.substr(statements[0].data() + statements[0].size() - rest.data()));
    }
    if (!text_.sent.empty()) error.position = position_in(text_.statement, text_.sent, error.position);
    error.position = text_.in_string(error.position);
    renamed.clear();
    pg::write_error(renamed, error);
  }
  const std::string_view by_user = "canceling statement due to user request";
  if (const std::size_t at = renamed.find(by_user); timed_out_ && at != std::string::npos)
    renamed.replace(at, by_user.size(), "canceling statement due to statement timeout");
  store_big_endian<uint32_t>(renamed.data() + 1, static_cast<uint32_t>(renamed.size() - 1));
  if (!client_gone_) out_ += renamed;
}

// Passes on what has arrived, runs of adjacent messages in one piece.
Session::Relayed Session::relay_arrived(exec::Backend& backend, Until until, bool forward_ready, bool& copying) {
  pool::ServerConn& conn = *backend.conn;
  pool::Reply reply;
  const char* begin = nullptr;  // run not yet sent
  const char* end = nullptr;
  auto send_run = [&] {
    if (begin != nullptr && !client_gone_) send_now({begin, static_cast<std::size_t>(end - begin)});
    begin = end = nullptr;
  };
  bool done = false;
  pool::ReplyStatus status = pool::ReplyStatus::reply;
  while (!done && (status = conn.next_reply(reply, true)) == pool::ReplyStatus::reply) {
    const char type = reply.partial ? 'D' : reply.message.type;
    const bool whole_answer = reply.answers && !reply.partial;
    if (whole_answer && type == 'G') copying = true;
    if (whole_answer && (type == 'C' || type == 'E')) copying = false;
    if (passes(reply, backend, forward_ready)) {
      if (whole_answer && std::exchange(parse_complete_owed_, false)) {
        send_run();
        pg::write_empty(out_, '1');
      }
      const char* first = reply.message.whole.data();
      if (first != end || (type == 'E' && whole_answer)) send_run();
      if (type == 'E' && whole_answer && (conn.ending() || pg::is_fatal(reply.message.body))) {
        // The server ends the connection. To the client it is the statement's error, and the only one.
        Error error = pg::parse_error(reply.message.body);
        if (error.hint.empty())
          error.hint =
              reply.request.setting ? "RESET the setting: a group refuses its value." : "Retry the transaction.";
        put_error(std::move(error));
        drop_backend(backend);
        return Relayed::ended;
      }
      if (type == 'E' && whole_answer) {
        pass_error(reply.message);
      } else {
        if (begin == nullptr) begin = first;
        end = first + reply.message.whole.size();
      }
    }
    if (whole_answer && type == 'Z') done = until == Until::ready && conn.idle();
    if (until == Until::answered && conn.idle()) done = true;
  }
  send_run();
  if (done) return Relayed::done;
  return status == pool::ReplyStatus::broken ? Relayed::broken : Relayed::need_more;
}

// Waits for more from the group. False: the connection is lost; its last words, if any, went to the client.
net::Task<bool> Session::hear_more(exec::Backend& backend) {
  pool::ServerConn& conn = *backend.conn;
  conn.own_input();
  if (conn.has_unsent()) {
    net::WaitSet wait;
    wait.read(conn.stream());
    wait.write(conn.stream());
    co_await wait;
    if (!conn.flush()) co_return co_await backend_lost(backend);
  } else if (co_await conn.stream().readable() == net::WaitStatus::interrupted) {
    co_return co_await backend_lost(backend);
  }
  if (!conn.stream().can_read() || conn.receive()) co_return true;
  pool::Reply reply;
  if (conn.next_reply(reply, false) == pool::ReplyStatus::reply && reply.message.type == 'E') {
    put_error(pg::parse_error(reply.message.body));
    drop_backend(backend);
    co_return false;
  }
  co_return co_await backend_lost(backend);
}

net::Task<bool> Session::relay(exec::Backend& backend, Until until, bool forward_ready) {
  pool::ServerConn& conn = *backend.conn;
  if (!conn.flush()) co_return co_await backend_lost(backend);
  bool copying = false;  // the group is taking COPY data
  for (;;) {
    const Relayed relayed = relay_arrived(backend, until, forward_ready, copying);
    if (relayed == Relayed::ended) co_return false;
    if (client_gone_) {
      // Nobody listens: the pool stops the backend's work instead of reading it to the end.
      if (!conn.idle()) drop_backend(backend);
      co_return false;
    }
    if (relayed == Relayed::done) co_return true;
    if (copying) {
      conn.own_input();
      const bool flushed = co_await flush_out();
      if (!flushed) co_return false;
      const bool copied = co_await relay_copy_in(backend);
      if (!copied) co_return false;
      if (copy_ended_) copying = false;
      if (conn.stream().can_read() && !conn.receive()) co_return co_await backend_lost(backend);
      continue;
    }
    if (relayed == Relayed::broken) co_return co_await backend_lost(backend);
    if (!out_.empty()) {
      conn.own_input();
      const bool flushed = co_await flush_out();
      if (!flushed) {
        client_gone_ = true;  // it does not read, and the session must end
        continue;
      }
    }
    const bool heard = co_await hear_more(backend);
    if (!heard) co_return false;
  }
}

// The group's connection broke: this statement fails, the session lives on.
net::Task<bool> Session::backend_lost(exec::Backend& backend) {
  const exec::GroupId group = backend.group;
  const std::string why = backend.conn->stream().error();
  // Its last words, where the server has ended it: a timeout, an administrator, a shutdown.
  std::optional<Error> said;
  pool::Reply reply;
  (void)backend.conn->receive();
  while (!said && backend.conn->next_reply(reply, false) != pool::ReplyStatus::need_more) {
    if (reply.message.type == 'E') said = pg::parse_error(reply.message.body);
    if (!backend.conn->alive()) break;
  }
  drop_backend(backend);
  log_warning("router", "lost a connection to group {} user={} database={}{}", group, backends_.user(),
              backends_.database(), why.empty() ? "" : ": " + why);
  if (!client_gone_ && said && said->sqlstate == "25P03") {
    put_error(std::move(*said));
  } else if (!client_gone_) {
    put_error(make_error("08006", "the connection to group " + std::to_string(group) + " was lost",
                         "Retry the transaction."));
  }
  co_return false;
}

// COPY … FROM STDIN of one group: the client's messages pass through until CopyDone or CopyFail, or the group refuses.
net::Task<bool> Session::relay_copy_in(exec::Backend& backend) {
  pool::ServerConn& conn = *backend.conn;
  // In the extended protocol the group ignores a Sync during COPY; the one behind CopyDone is the one it answers.
  const bool until_sync = conn.answering_execute();
  bool data_ended = false;
  copy_ended_ = false;
  for (;;) {
    bool ended = false;
    while (!in_.empty() && !ended) {
      std::string_view piece;
      if (copy_rest_ > 0) {
        piece = in_.view().substr(0, copy_rest_);
        copy_rest_ -= static_cast<uint32_t>(piece.size());
      } else {
        pg::MessageView message;
        uint32_t length = 0;
        const pg::FrameStatus frame = pg::peek_message(in_.view(), message, length);
        if (frame == pg::FrameStatus::malformed) {
          put_error(make_error("08P01", "invalid message length"), "FATAL");
          closing_ = client_gone_ = true;
          drop_backend(backend);
          co_return false;
        }
        if (length == 0) break;
        if (frame == pg::FrameStatus::incomplete) {
          if (message.type != 'd') break;
          piece = in_.view();
          copy_rest_ = length - static_cast<uint32_t>(piece.size());
        } else {
          piece = message.whole;
          if (message.type == 'H' || (message.type == 'S' && !data_ended)) {  // legal, and ignored, during COPY
            in_.consume(piece.size());
            continue;
          }
          if (message.type != 'd') data_ended = true;
          ended = data_ended && (!until_sync || message.type == 'S');
        }
      }
      const bool sent = conn.send(piece);
      in_.consume(piece.size());
      if (!sent) co_return true;  // the reply tells why
    }
    if (ended) {
      copy_ended_ = true;
      co_return true;
    }
    // More from the client, unless the group takes no more or has something to say.
    in_.own();
    net::WaitSet wait;
    wait.read(conn.stream());
    if (conn.has_unsent()) {
      wait.write(conn.stream());
    } else {
      wait.read(client_);
    }
    co_await wait;
    if (closing_ || client_gone_) {
      drop_backend(backend);
      co_return false;
    }
    if (conn.stream().has_input()) co_return true;  // relay() reads it, and comes back if it is no error
    if (conn.has_unsent()) {
      if (!conn.flush()) co_return true;
      if (conn.has_unsent()) continue;
    }
    if (!client_.can_read()) continue;
    char* scratch = worker_.loop.scratch();
    const net::IoResult result = client_.read(scratch, net::EventLoop::kScratchSize);
    if (result.kind == net::IoResult::Kind::would_block) continue;
    if (result.kind != net::IoResult::Kind::ok) {
      // The client vanished in mid-COPY: the group sees its connection close and rolls back.
      client_gone_ = true;
      drop_backend(backend);
      co_return false;
    }
    WorkerStats::add(worker_.stats.bytes_from_clients, result.bytes);
    in_.feed({scratch, result.bytes});
  }
}

}  // namespace pgmosaic::router
