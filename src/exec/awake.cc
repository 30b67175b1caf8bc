#include "exec/awake.h"

#include "pg/frontend.h"

namespace pgmosaic::exec {

// Nobody waits for what it has to say.
static bool has_nothing_to_do(Backend& backend) {
  pool::ServerConn& conn = *backend.conn;
  if (!backend.begun || !conn.alive() || conn.has_unsent() || conn.open_batch() || conn.finishing) return false;
  if (conn.owes_nudge() && conn.receive()) {
    pool::Reply reply;
    while (conn.next_reply(reply, false) == pool::ReplyStatus::reply)
      if (reply.message.type == 'A') conn.overheard += reply.message.whole;
    conn.own_input();
  }
  return conn.idle() && conn.transaction_status != 'I';
}

bool nudge_participants(Backends& backends) {
  if (!backends.in_transaction()) return false;
  bool any = false;
  for (auto& backend : backends.all()) {
    if (!has_nothing_to_do(*backend)) continue;
    pool::ServerConn& conn = *backend->conn;
    pg::write_sync(conn.out());
    pool::Request nudge{pool::RequestKind::sync, true};
    nudge.nudge = true;
    conn.expect(nudge);
    conn.flush();
    any = true;
  }
  return any;
}

net::Task<void> hear_participants(Backends& backends) {
  for (std::size_t i = 0; i < backends.all().size(); ++i) {
    pool::ServerConn& conn = *backends.all()[i]->conn;
    if (conn.alive() && !conn.idle() && !conn.open_batch()) (void)(co_await conn.drain());
  }
}

}  // namespace pgmosaic::exec
