// The sequences of a database, and who draws numbers from them: what a statement, a function or a trigger of it may do
// to the session's currval and lastval. Part of catalog::Database.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace pgmosaic::catalog {

struct Sequence {
  uint32_t oid = 0;  // the home's
};

// What something may do with sequences when it runs at the home.
struct Draws {
  std::set<uint32_t> sequences;  // it may draw from these (nextval, setval), and …
  bool unknown = false;          // … from any other
  bool reads = false;            // it asks for currval or lastval
  bool sets = false;             // it may set or restart them

  bool draws() const { return unknown || !sequences.empty(); }
  bool any() const { return draws() || reads || sets; }
  void add(const Draws& other) {
    sequences.insert(other.sequences.begin(), other.sequences.end());
    unknown = unknown || other.unknown;
    reads = reads || other.reads;
    sets = sets || other.sets;
  }
  bool operator==(const Draws&) const = default;
};

inline const Draws kDrawsAnything{.sequences = {}, .unknown = true, .reads = true, .sets = true};

struct TableDraws {
  Draws defaults;  // of its columns
  Draws writing;   // triggers and rules of a write, those of tables that foreign keys cascade to included
  Draws naming;    // views, rules and policies: a statement that names it at all
};

struct Sequences {
  std::map<std::pair<std::string, std::string>, Sequence> by_name;  // schema and name; temporary ones are not here
  std::map<uint32_t, Sequence> by_oid;
  std::map<std::string, Draws, std::less<>> of_functions;  // by name, all overloads taken together
  std::map<uint32_t, TableDraws> of_tables;                // those that may draw
  bool asked_unseen = false;  // functions, rules, views or defaults ask for currval or lastval
  Draws unseen;  // of functions behind operators, casts, domains, …: a statement does not show that it calls them

  const Sequence* find(uint32_t oid) const {
    const auto found = by_oid.find(oid);
    return found == by_oid.end() ? nullptr : &found->second;
  }
};

}  // namespace pgmosaic::catalog
