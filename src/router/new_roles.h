// A role that a transaction makes and names later: GRANT … TO it, OWNER TO it. On the home's server two databases take
// part in the transaction, and what is not committed in one of them is not there for the other. So the bare role, which
// may do nothing, is committed at once, with a comment that says so; the transaction gives it its attributes and takes
// the comment away. Whoever ends a transaction otherwise – this session, or the next router where this one was killed
// (control/unborn_roles.h) – drops what still has the comment.
#pragma once

#include <string>
#include <vector>

#include "exec/backends.h"
#include "plan/commands.h"

namespace pgmosaic::router {

// Before CREATE ROLE in a transaction block: `ddl` becomes what is left to do. Errors are PostgreSQL's for the
// statement. A role that the transaction has dropped before cannot be made known: see check_remade_roles().
net::Task<Status> make_role_known(exec::Backends& backends, exec::GroupId home, plan::Ddl& ddl);
// Before a schema change that the group beside the home runs, too: it would give the rights to the role that is
// dropped, and wait for its end.
Status check_remade_roles(exec::Backends& backends, const plan::Ddl& ddl);
// After the end of the transaction, or after ROLLBACK TO: those of its roles that did not come to be.
net::Task<void> drop_unborn_roles(exec::Backends& backends, exec::GroupId home);

}  // namespace pgmosaic::router
