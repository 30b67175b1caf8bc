// idle_in_transaction_session_timeout is about the client: a participant must not end a transaction because it waits
// while others work, or because the client has spoken to others since. So the router counts for itself how long the
// client is idle, and now and then lets the participants that wait begin to count anew: with a Sync, which does nothing
// else inside a transaction. Of the session's thread.
#pragma once

#include "exec/backends.h"
#include "net/task.h"

namespace pgmosaic::exec {

// Sends it to those of the open transaction that have nothing to do, without waiting. True: some have got it, and what
// they answer must be heard before the next statement is. REQUIRES: nobody is in hear_participants().
bool nudge_participants(Backends& backends);
net::Task<void> hear_participants(Backends& backends);

}  // namespace pgmosaic::exec
