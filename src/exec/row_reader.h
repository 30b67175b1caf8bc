// RowReader: the replies of one group to one statement, as a sequence of events. Used wherever the router reads rows
// itself (gather, combine, EXPLAIN); one group's replies that pass through unread are router/relay.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exec/backends.h"
#include "pg/frontend.h"

namespace pgmosaic::exec {

// How a statement is sent to a group.
struct Request {
  std::string_view sql;
  bool extended = false;
  std::string_view prepared = {};               // extended: the name of the statement, which the group knows already
  const pg::BindMessage* bind = nullptr;        // extended: the client's parameters
  const std::vector<pg::Oid>* types = nullptr;  // extended: parameter types
  bool client_formats = true;                   // extended: results in the client's formats; else text
  // further text parameters behind the client's
  const std::vector<std::optional<std::string>>* extra = nullptr;
  std::string_view portal = {};  // extended: its name, where rows are fetched in parts
  int32_t max_rows = 0;          // extended: of the first part; 0: all
  bool commit = false;           // COMMIT goes along behind it; Backends::finish_reads() waits for that
  // Asked between Bind, which takes the snapshot, and Execute; needs a portal with a name. values_in_front() has its
  // value last.
  std::string_view behind_bind = {};
  bool later = false;  // behind_bind: send_rest() executes
};

class RowReader {
 public:
  enum class Event : uint8_t { description, row, complete, copy_out, copy_data, copy_done, copy_in, end };

  explicit RowReader(Backend& backend) : backend_(&backend) {}

  // Queues and flushes the statement; its replies are the reader's, not the client's.
  void send(const Request& request);
  // Executes what was bound only. REQUIRES: values_in_front() was read.
  void send_rest();
  // Asks for the next part of a portal whose last part ended with rows left. REQUIRES: all events of that are read.
  void send_more(std::string_view portal, int32_t max_rows);
  bool rows_left() const { return rows_left_; }
  // Reads what was queued in front of the statement, or of its Execute, to its end: the last value of each row.
  net::Task<Result<std::vector<std::string>>> values_in_front();
  // The next event; `message()` is valid until the next call. An error of the group is returned once all of its
  // replies are read, so that the backend is in step again; a lost connection as 08006.
  net::Task<Result<Event>> next();
  const pg::MessageView& message() const { return reply_.message; }
  const std::string& tag() const { return tag_; }
  // NoticeResponse messages since the last call, whole.
  std::string take_notices() { return std::exchange(notices_, {}); }
  Backend& backend() { return *backend_; }
  // COPY FROM STDIN: waits for CopyInResponse (message()).
  net::Task<Status> until_copy_in();
  // COPY TO STDOUT: the same for CopyOutResponse, which is the next event all the same.
  net::Task<Status> until_copy_out();
  // Waits for the statement's first event, or error, which is the next one all the same: a SELECT has its snapshot.
  net::Task<void> until_answer();
  // Reads what is left and drops it.
  net::Task<Status> finish();

 private:
  Backend* backend_;
  pool::Reply reply_;
  std::string tag_, notices_, announced_, told_;  // announced_: the message of an event that is read and not told yet
  std::optional<Event> announced_event_;
  std::optional<Error> error_;
  bool in_front() const { return backend_->conn->pending_requests() > own_requests_ + behind_; }
  void send_bound(const Request& request);
  void note_error();
  void announce(Event event);
  // Reads into reply_. 08006: the connection is lost.
  net::Task<Status> read_reply();
  std::size_t own_requests_ = 1;  // pending with those `behind_`; if more are, the reply is to something in front
  std::size_t behind_ = 0;
  std::size_t bound_ = 0;  // of those in front, what belongs to the statement
  std::size_t tail_ = 1;   // pending where all of the statement's rows are read
  std::string portal_;     // of send_rest()
  bool poisoned_before_ = false;
  bool ended_ = false, rows_left_ = false;
};

// Where rows for the client go.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // Complete messages. False: the client is gone.
  virtual bool put(std::string_view messages) = 0;
  // Waits while the client is slow. False: the client is gone.
  virtual net::Task<bool> throttle() = 0;
};

}  // namespace pgmosaic::exec
