// Numbers of sequences that the router asks the home for by itself: in blocks that all sessions share
// (router/sequence_blocks.h) for an INSERT, or as many as there are rows for a COPY. The session's currval and lastval
// are the router's to tell then (router/numbers.h), and what a backend drew for it before is read first.
#pragma once

#include <string>

#include "plan/plan.h"
#include "router/sequence_blocks.h"
#include "router/session.h"

namespace pgmosaic::router {

using FillAnswers = std::vector<std::vector<std::optional<std::string>>>;  // to Fill::question

class NumberSource {
 public:
  explicit NumberSource(Session& session) : s_(session) {}

  // Of one statement, from blocks or from the home (fill.cc).
  net::Task<Result<FillAnswers>> answers(const plan::Plan& plan, const Execution& execution);
  // As many numbers, or fewer where the sequence ends; at its end PostgreSQL's error. REQUIRES: take_over()
  net::Task<Result<Numbers>> draw(catalog::Oid sequence, bool identity, uint64_t count);
  // Another question to the home: perhaps beside the session's transaction, or within it.
  net::Task<Result<pool::ServerConn::Rows>> ask(const std::string& question);
  net::Task<Result<pool::ServerConn::Rows>> ask_within(const std::string& question);
  // A backend of the home that stays with the session answers currval() and lastval() by itself, and knows nothing of
  // numbers that come from elsewhere. So the session takes over what it knows. False: it is in the middle of something.
  net::Task<bool> take_over();
  // The session has got this number.
  void given(catalog::Oid sequence, int64_t number) { s_.numbers_.drawn(sequence, number); }
  // Sequences, or rights, may be others to the open transaction than to everybody else.
  bool own_view() const { return s_.staged_ || s_.changed_schema_ || s_.sequences_change_ || s_.local_path_; }
  // No blocks until the end of the transaction or statement at hand.
  void sequences_change();

 private:
  bool may_keep(const plan::Plan& plan) const;
  net::Task<Result<bool>> answer(const plan::Fill& fill, FillAnswers& answers);

  Session& s_;
};

}  // namespace pgmosaic::router
