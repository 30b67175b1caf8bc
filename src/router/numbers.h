// What a session's sequences gave it last: currval and lastval. Backends know them only as long as they stay with the
// session, so before one goes back that may have drawn numbers it is asked for them (Session::read_numbers), and what
// asks for them at another is told (plan/numbers.cc). Numbers that the router has asked for itself (fill.cc) it knows.
//
// A backend that the session keeps – in a transaction, pinned – knows the newest numbers by itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "exec/backends.h"

namespace pgmosaic::router {

class SequenceNumbers {
 public:
  explicit SequenceNumbers(exec::Backends& backends) : backends_(backends) {}

  // nextval() gave this.
  void drawn(uint32_t sequence, int64_t number);
  // Reads what the session's backends have drawn, before they go back. REQUIRES: the client has its answer.
  net::Task<void> read_all();
  // `forget`: the next session may have the backend then.
  net::Task<void> read_from(exec::Backend& backend, bool forget);
  // DISCARD SEQUENCES.
  void forget();

  // `text` with the numbers in the marker's places; where there are none, without the arguments that the marker is in.
  // `home`: the session's backend of the home, or null; `staged`: its transaction has changed the schema.
  std::string put_into(std::string text, const exec::Backend* home, bool staged);

 private:
  bool read(std::string_view answer);      // of pgmosaic_numbers(); true: lastval() is in it
  void lost(const catalog::Draws& draws);  // drawn from these, and nobody knows what
  exec::Backends& backends_;
  std::map<uint32_t, int64_t> numbers_;
  // Whose number lastval() is. Several where they had equal ones: until one of them changes it does not matter which.
  std::vector<uint32_t> last_;
};

}  // namespace pgmosaic::router
