// ServerConn: one connection of the router to a group's PostgreSQL ("backend").
//
// Every reply is matched to a request: the sender notes what it asked for (`expect`), next_reply() says which request a
// message answers and whether the client may see it. A connection that is out of step is closed, never reused.
// Belongs to one worker thread; used by one session at a time.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "net/stream.h"
#include "pg/backend.h"
#include "pg/message.h"
#include "pg/oid_map.h"
#include "pg/scram.h"
#include "pg/site_names.h"
#include "pool/settings.h"

namespace pgmosaic::pool {

struct PoolEntry;

enum class RequestKind : uint8_t { query, parse, bind, describe, execute, close, sync };

struct Request {
  RequestKind kind;
  bool internal = false;   // the client did not ask: its replies are swallowed
  uint32_t statement = 0;  // parse, close: the router's statement number; undone if the server skips the request
  bool vital = false;      // what comes behind must not run if this fails: the connection ends with its error
  bool setting = false;    // brings the backend to a session's settings: the connection ends with its error, too
  bool forgets = false;    // DISCARD SEQUENCES: see knows_numbers
  bool nudge = false;      // a Sync while the session has nothing to ask here: exec/awake.h
};

struct Reply {
  pg::MessageView message;
  Request request{RequestKind::query};
  bool answers = false;  // false: asynchronous (notice, notification, parameter status outside any request)
  bool partial = false;  // a piece of a DataRow or CopyData too large to wait for; message.whole is the piece
};

enum class ReplyStatus : uint8_t { reply, need_more, broken };

// How the router logs in to a group.
struct Credentials {
  std::string user;
  std::string password;  // internal role only
  pg::ScramKeys keys;    // client_key empty: the group must trust us (certificate, peer, trust), unless there is …
  std::string md5 = {};  // … the verifier of an md5 password
};

struct Endpoint {
  std::string host;
  uint16_t port = 0;
  std::shared_ptr<net::TlsContext> tls;  // null: plain
  bool tls_required = false;
  bool shards_beside_home = false;  // the group shares its server with the home

  // What the server calls a database of the cluster.
  std::string database_name(const std::string& database) const {
    return shards_beside_home ? pg::shards_database_name(database) : database;
  }
};

class ServerConn {
 public:
  // Connects and logs in. Errors are PostgreSQL's own (28P01, 3D000, …) or 08001.
  static net::Task<Result<std::unique_ptr<ServerConn>>> connect(net::EventLoop& loop, Endpoint endpoint,
                                                                Credentials credentials, std::string database,
                                                                int timeout_ms);

  // Of a connected socket whose peer asks for no password: a session of this very router.
  static net::Task<Result<std::unique_ptr<ServerConn>>> over(net::EventLoop& loop, int fd, std::string user,
                                                             std::string database);

  net::Stream& stream() { return *stream_; }
  bool alive() const { return stream_->open() && !broken_ && !stream_->hung_up(); }
  void close() { stream_->close(); }
  void mark_broken() { broken_ = true; }

  // --- sending ---
  void expect(Request request) {
    open_batch_ = request.kind != RequestKind::query && request.kind != RequestKind::sync;
    requests_.push_back(request);
  }
  // Messages of the extended protocol were sent and no Sync behind them: PostgreSQL's implicit transaction is open.
  bool open_batch() const { return open_batch_; }
  // A query of the router's own failed (settings): the backend's state is not what its label says.
  bool poisoned = false;
  std::string& out() { return out_; }  // append messages here, then flush()
  // Sends `bytes` behind what is in out(); what the socket does not take stays in out(). False: broken.
  bool send(std::string_view bytes);
  bool flush() { return send({}); }
  bool has_unsent() const { return !out_.empty(); }
  // Queues a simple query whose replies the client does not see.
  void add_internal_query(std::string_view sql, bool setting = false);
  // The same for one statement that all behind it depends on (BEGIN): as messages of the extended protocol without
  // Sync, so that behind an error the server ignores everything. The connection is lost then. Replaces the unnamed
  // statement.
  void add_vital_statement(std::string_view sql);
  // Queues what brings the backend from its settings to these. True: the unnamed statement was replaced.
  bool apply_settings(const Settings& wanted);
  // Queues a Parse; `types` are the home's.
  void write_parse(std::string_view name, std::string_view sql, const std::vector<pg::Oid>& types);

  // --- receiving ---
  // Reads what is there into the buffer. would_block is fine; false: closed or failed.
  bool receive();
  void own_input() { in_.own(); }
  ReplyStatus next_reply(Reply& reply, bool allow_partial);
  bool answering_execute() const {
    return request_head_ < requests_.size() && requests_[request_head_].kind == RequestKind::execute;
  }
  bool ending() const { return ending_; }
  // Of the last RowDescription: whether values of its columns would hold OIDs in binary (see pg/oid_map.h).
  bool rows_hold_oids() const { return rows_hold_oids_; }
  bool idle() const { return request_head_ == requests_.size() && partial_remaining_ == 0; }
  bool owes_nudge() const { return pending_requests() == 1 && requests_[request_head_].nudge; }
  std::size_t pending_requests() const { return requests_.size() - request_head_; }

  // Runs a simple query outside the client's view and collects its rows (text). Waits; for control paths.
  struct Rows {
    std::vector<pg::FieldDescription> fields;
    std::vector<std::vector<std::optional<std::string>>> rows;
    std::string tag;
    std::string notices;                   // NoticeResponse messages, whole
    std::vector<pg::Oid> parameter_types;  // ParameterDescription
  };
  net::Task<Result<Rows>> query(std::string_view sql);
  // The same through the extended protocol with text parameters.
  net::Task<Result<Rows>> query_params(std::string_view sql, const std::vector<std::optional<std::string>>& values,
                                       const std::vector<pg::Oid>& types = {});
  // Waits until every request is answered; the last error, if any.
  net::Task<Status> drain(Rows* rows = nullptr);

  // --- state ---
  char transaction_status = 'I';
  bool tainted = false;
  bool knows_numbers = false;  // its currval and lastval are those of an earlier session
  std::string overheard;       // NotificationResponse messages read by drain() or a reader of rows, whole: the client's
  // PREPARE or COMMIT is under way: a cancel could end its wait for a synchronous standby, so none is sent.
  bool finishing = false;
  bool cancelling = false;  // a CancelRequest is under way: do not hand this backend to another client
  Settings settings;        // what is applied on the backend outside of a transaction
  // Replies speak of the home's OIDs. Null: this is the home, or its OIDs are wanted as they are.
  std::shared_ptr<const pg::OidMap> oid_map;
  // The OID of the home's type on this server, and the other way round: for OIDs in the text of queries and answers.
  pg::Oid type_here(pg::Oid home) const { return oid_map ? oid_map->type_here(home) : home; }
  pg::Oid type_at_home(pg::Oid here) const { return oid_map ? oid_map->type_at_home(here) : here; }
  std::map<std::string, std::string> parameters;  // ParameterStatus
  std::vector<std::string> changed_parameters;    // names told since somebody cleared the list
  uint32_t pid = 0, secret = 0;
  uint32_t client_pid = 0;  // what the client takes for `pid`: in notifications that it has caused itself
  int64_t created_us = 0, idle_since_us = 0;
  uint64_t id = 0;          // unique in the worker
  uint64_t generation = 0;  // of the pool when it was opened
  PoolEntry* entry = nullptr;
  const Endpoint& endpoint() const { return endpoint_; }

  // Prepared statements on this backend, least recently used first out.
  bool has_statement(uint32_t id);
  std::size_t statement_count() const { return statements_.size(); }
  void note_statement(uint32_t id);
  void forget_statement(uint32_t id);
  void forget_all_statements();
  // The one to close to keep at most `limit`; 0: none.
  uint32_t statement_to_evict(std::size_t limit) const;

 private:
  ServerConn(Endpoint endpoint, std::unique_ptr<net::Stream> stream);
  net::Task<Status> login(const Credentials& credentials, const std::string& database);
  net::Task<Status> authenticate(const Credentials& credentials);
  net::Task<Result<pg::MessageView>> next_message();
  void complete(const pg::MessageView& message, Reply& reply);
  void pop_request();
  void skip_to_sync();
  void translate(const Reply& reply);

  Endpoint endpoint_;
  std::unique_ptr<net::Stream> stream_;
  pg::InBuffer in_;
  std::string out_;
  std::vector<Request> requests_;
  std::size_t request_head_ = 0;
  uint32_t partial_remaining_ = 0;
  bool broken_ = false, open_batch_ = false;
  bool rows_hold_oids_ = false;
  std::vector<pg::Oid> binary_oids_;     // of the rows of the last RowDescription
  bool ending_ = false;                  // broken after the reply that was just given out
  std::list<uint32_t> statement_order_;  // most recent first
  std::unordered_map<uint32_t, std::list<uint32_t>::iterator> statements_;
};

// Sends a CancelRequest for the backend and waits until the server has acted on it (it closes the connection).
// False: it is not known whether the server got it.
net::Task<bool> cancel_backend(net::EventLoop& loop, Endpoint endpoint, uint32_t pid, uint32_t secret);

}  // namespace pgmosaic::pool
