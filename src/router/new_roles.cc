#include "router/new_roles.h"

#include "base/log.h"
#include "control/unborn_roles.h"
#include "plan/new_role.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

net::Task<Status> make_role_known(exec::Backends& backends, exec::GroupId home, plan::Ddl& ddl) {
  CO_TRY_ASSIGN(const plan::RoleSteps steps, plan::role_in_steps(ddl.everywhere[0]));
  auto backend = co_await backends.get(home);
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& conn = *(*backend)->conn;
  (*backend)->wrote = true;
  // May it be made, and with these attributes?
  for (const std::string& sql : {std::string("SAVEPOINT pgmosaic_role"), ddl.everywhere[0],
                                 std::string("ROLLBACK TO SAVEPOINT pgmosaic_role; RELEASE SAVEPOINT pgmosaic_role")}) {
    auto tried = co_await conn.query(sql);
    if (!tried.ok()) co_return std::move(tried.error());
  }
  const std::string name = pool::quote_identifier(steps.name);
  auto borrowed = co_await backends.borrow(home);
  if (!borrowed.ok()) co_return std::move(borrowed.error());
  auto made = co_await (*borrowed)->query("CREATE ROLE " + name + "; COMMENT ON ROLE " + name + " IS " +
                                          pool::quote_literal(control::kUnborn));
  backends.give_back();
  if (!made.ok() && made.error().sqlstate == "42710") {  // it would be dropped, if the transaction were committed
    backends.remade_roles().insert(steps.name);
    co_return Status{};
  }
  if (!made.ok()) co_return std::move(made.error());
  backends.note_role(steps.name);
  ddl.home_instead = {"COMMENT ON ROLE " + name + " IS NULL" + (steps.attributes.empty() ? "" : ";") +
                      steps.attributes};
  co_return Status{};
}

Status check_remade_roles(exec::Backends& backends, const plan::Ddl& ddl) {
  for (const std::string& role : backends.remade_roles())
    for (const std::string& text : ddl.everywhere) {
      sql::TokenScanner words(text);
      for (sql::Token word = words.next(); word.kind != sql::Token::Kind::end; word = words.next())
        if ((word.kind == sql::Token::Kind::word || word.kind == sql::Token::Kind::quoted) && words.name(word) == role)
          return make_error("0A000", "role \"" + role + "\" in the transaction that has dropped one of this name",
                            "Commit DROP and CREATE ROLE first.");
    }
  return {};
}

net::Task<void> drop_unborn_roles(exec::Backends& backends, exec::GroupId home) {
  const std::vector<std::string> names = backends.take_lost_roles();
  if (names.empty()) co_return;
  auto borrowed = co_await backends.borrow(home);
  if (!borrowed.ok()) {
    log_warning("router", "role \"{}\" of a transaction that was rolled back stays until the next start: {}", names[0],
                borrowed.error().message);
    co_return;
  }
  for (const std::string& name : names) {
    Status dropped = co_await control::drop_unborn_role(**borrowed, name);
    if (!dropped.ok())
      log_warning("router", "role \"{}\" stays until the next start: {}", name, dropped.error().message);
  }
  backends.give_back();
}

}  // namespace pgmosaic::router
