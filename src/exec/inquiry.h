// Asks a transaction's anchor for the decision (DESIGN §5), as a machine without I/O. The question is a row in the
// place of the decision's, an abort tombstone: if the anchor's transaction still lives, the INSERT waits for it; if it
// has committed, the key is taken and the row there tells; else the tombstone stays, and a late COMMIT finds the key
// taken. So nobody has to know whether the anchor's transaction is over.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "exec/two_phase.h"

namespace pgmosaic::exec {

class Inquiry {
 public:
  enum class Manner : uint8_t {
    wait,   // of a commit that nobody performs any more
    look,   // of what a client has prepared, and may decide on in a year
    glance  // likewise, and the anchor has prepared it for certain: no tombstone need stay
  };
  enum class Step : uint8_t { ask, over };

  Inquiry(const Gid& gid, const std::vector<uint32_t>& participants, Manner manner);

  uint32_t anchor() const { return gid_.anchor; }
  Step step() const { return step_; }
  // For the anchor, in one query, while there is something to ask.
  std::string sql() const;
  // Its answer: the last row's value, if there is a row, or its error, or that of the connection.
  void answered(std::optional<std::string_view> value);
  void refused(Error error);

  // Of what is over. True: committed; nullopt: a client has yet to decide. Error: it cannot be told now.
  const Result<std::optional<bool>>& decision() const { return decision_; }

 private:
  Gid gid_;
  std::string participants_;
  Manner manner_;
  Step step_ = Step::ask;
  bool taken_ = false;  // the row is there
  Result<std::optional<bool>> decision_ = std::optional<bool>();
};

// Whether a group that answers so to COMMIT or ROLLBACK PREPARED has nothing of the transaction any more (42704). While
// it is still about it (55000), or after any other error, it is asked again.
bool is_ended(const Error& error);

}  // namespace pgmosaic::exec
