#include "exec/inquiry.h"

#include "pool/settings.h"

namespace pgmosaic::exec {

Inquiry::Inquiry(const Gid& gid, const std::vector<uint32_t>& participants, Manner manner)
    : gid_(gid), manner_(manner) {
  for (const uint32_t group : participants) participants_ += (participants_.empty() ? "" : ",") + std::to_string(group);
}

std::string Inquiry::sql() const {
  const std::string gid = pool::quote_literal(gid_.text());
  if (taken_)
    return std::string(manner_ == Manner::wait ? "" : "ROLLBACK; ") +
           "SELECT aborted FROM pg_catalog.pgmosaic_commit_log WHERE gid = " + gid;
  const std::string tombstone = "INSERT INTO pg_catalog.pgmosaic_commit_log (gid, participants, aborted) VALUES (" +
                                gid + ", '{" + participants_ + "}', true)";
  if (manner_ == Manner::wait) return tombstone;
  return "BEGIN; SET LOCAL lock_timeout = '20ms'; " + tombstone +
         (manner_ == Manner::glance ? "; ROLLBACK" : "; COMMIT");
}

void Inquiry::answered(std::optional<std::string_view> value) {
  step_ = Step::over;
  if (!taken_)
    decision_ = std::optional<bool>(false);
  else if (value)
    decision_ = std::optional<bool>(*value == "f");
  else
    decision_ = make_error("XX000", "decision row of " + gid_.text() + " vanished");
}

void Inquiry::refused(Error error) {
  if (!taken_ && error.sqlstate == "23505") {
    taken_ = true;
    return;
  }
  step_ = Step::over;
  const bool undecided = !taken_ && manner_ != Manner::wait && error.sqlstate == "55P03";
  if (!undecided) decision_ = std::move(error);
}

bool is_ended(const Error& error) { return error.sqlstate == "42704"; }

}  // namespace pgmosaic::exec
