#include "router/passwords.h"

#include <strings.h>

#include <cctype>

#include "base/random.h"
#include "pg/md5.h"
#include "pg/scram.h"
#include "pool/settings.h"
#include "sql/shape.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

// The literal behind the word PASSWORD, or null.
const sql::Literal* password_in(const std::string& sql, const sql::Shape& shape) {
  for (const sql::Literal& literal : shape.literals) {
    std::size_t at = literal.begin;
    while (at > 0 && std::isspace(static_cast<unsigned char>(sql[at - 1]))) --at;
    if (at >= 8 && strncasecmp(sql.c_str() + at - 8, "password", 8) == 0) return &literal;
  }
  return nullptr;
}

// ALTER ROLE SESSION_USER
bool names_session_user(const std::string& sql) {
  sql::TokenScanner words(sql);
  words.next();
  words.next();
  return words.is_word(words.next(), "session_user");
}

}  // namespace

net::Task<Result<std::string>> with_hashed_password(const plan::Ddl& ddl, pool::ServerConn& home,
                                                    std::vector<PasswordChange>& changes) {
  auto asked =
      co_await home.query("SELECT current_user, session_user, pg_catalog.current_setting('password_encryption')");
  if (!asked.ok()) co_return std::move(asked.error());
  const std::string& sql = ddl.everywhere[0];
  const auto& row = asked->rows[0];
  std::string role = ddl.object;
  if (role.empty()) role = *row[names_session_user(sql) ? 1 : 0];
  sql::Shape shape;
  sql::scan_shape(sql, shape);
  const sql::Literal* literal = password_in(sql, shape);
  if (literal == nullptr) co_return sql;
  std::string scratch;
  const std::string value(sql::literal_value(sql, *literal, scratch));
  if (value.empty() || pg::parse_verifier(value)) co_return sql;
  std::string verifier;
  if (pg::is_md5_verifier(value) || row[2] == "md5") {
    verifier = pg::is_md5_verifier(value) ? value : pg::md5_verifier(value, role);
    changes.push_back({role, {}, {}, verifier});
  } else {
    CO_TRY_ASSIGN(pg::ScramVerifier made, pg::make_verifier(value, pg::kScramIterations, random_bytes(16)));
    // The role's open sessions go on: their new backends are logged in with the new password's keys.
    changes.push_back({role, made, pg::login_keys(value, made)});
    verifier = pg::format_verifier(made);
  }
  co_return sql.substr(0, literal->begin) + pool::quote_literal(verifier) + sql.substr(literal->end);
}

}  // namespace pgmosaic::router
