#include "router/lent_statements.h"

#include <algorithm>
#include <cctype>

#include "pg/frontend.h"

namespace pgmosaic::router {

namespace {

constexpr std::string_view kOwnPrefix = "pgm_";  // of the router's on backends

std::string in_lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

}  // namespace

net::Task<Status> LentStatements::lend(const ByName<PreparedPtr>& statements, std::string_view sql) {
  const std::string lower = in_lower_case(sql);
  if (lower.find("execute") == std::string::npos) co_return Status{};
  std::vector<std::pair<std::string, PreparedPtr>> wanted;
  for (const auto& [name, statement] : statements)
    if (!name.empty() && !name.starts_with(kOwnPrefix) && lower.find(in_lower_case(name)) != std::string::npos &&
        statement->plan && statement->plan->kind != plan::PlanKind::session)
      wanted.emplace_back(name, statement);
  for (const auto& [name, statement] : wanted) {
    auto before = co_await home_.query("SAVEPOINT pgmosaic_lent");
    if (!before.ok()) co_return std::move(before.error());
    home_.write_parse(name, statement->sql, statement->types);
    pg::write_sync(home_.out());
    home_.expect({pool::RequestKind::parse, true});
    home_.expect({pool::RequestKind::sync, true});
    Status parsed = co_await home_.drain();
    if (!home_.alive()) co_return parsed;
    if (parsed.ok()) names_.push_back(name);
    const char* end = parsed.ok() ? "RELEASE SAVEPOINT pgmosaic_lent"
                                  : "ROLLBACK TO SAVEPOINT pgmosaic_lent; RELEASE SAVEPOINT pgmosaic_lent";
    auto behind = co_await home_.query(end);
    if (!behind.ok()) co_return std::move(behind.error());
  }
  co_return Status{};
}

net::Task<void> LentStatements::take_back() {
  if (names_.empty() || !home_.alive()) co_return;
  for (const std::string& name : names_) {
    pg::write_close(home_.out(), 'S', name);
    home_.expect({pool::RequestKind::close, true});
  }
  names_.clear();
  pg::write_sync(home_.out());
  home_.expect({pool::RequestKind::sync, true});
  (void)(co_await home_.drain());
}

}  // namespace pgmosaic::router
