// OIDs of one server in messages, replaced by those of another, in place.
//
// Each group has OIDs of its own for what users make. A client knows the home's: they stand in RowDescription and
// ParameterDescription, and in binary values of arrays, composites and records (array_send, record_send), which also
// hide in ranges, multiranges and domains. Replacing one changes no length.
//
// Immutable once built; shared between threads.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pg/backend.h"

namespace pgmosaic::pg {

inline constexpr Oid kFirstUserOid = 16384;  // FirstNormalObjectId: smaller ones are equal on all servers

// What of a type's binary form is needed to find the OIDs in it.
struct TypeForm {
  enum class Kind : uint8_t { plain, array, composite, range, multirange, domain } kind = Kind::plain;
  Oid inner = 0;  // range, multirange: subtype; domain: base type
};

class OidMap {
 public:
  void add_relation(Oid here, Oid home) { relations_[here] = home; }
  // Where column `here` of the relation has another number at home.
  void add_column(Oid relation_here, int16_t here, int16_t home) { columns_[relation_here].emplace_back(here, home); }
  void add_type(Oid here, Oid home) {
    types_[here] = home;
    types_of_home_[home] = here;
  }
  void add_form(Oid home_type, TypeForm form) { forms_[home_type] = form; }

  // 0: not a relation of the user's.
  Oid relation_at_home(Oid here) const { return at(relations_, here, 0); }
  Oid type_at_home(Oid here) const { return at(types_, here, here); }
  Oid type_here(Oid home) const { return at(types_of_home_, home, home); }

  // The body of a RowDescription. `binary` gets one entry per column: the home's type where its values are binary and
  // hold OIDs, else 0; it is empty if there is no such column. Result: whether some column's would hold OIDs in binary.
  bool to_home_description(char* body, std::size_t size, std::vector<Oid>& binary) const;
  // The body of a ParameterDescription.
  void to_home_parameters(char* body, std::size_t size) const;
  // The body of a DataRow, with `binary` of its description.
  void to_home_row(char* body, std::size_t size, const std::vector<Oid>& binary) const;
  // A binary value of the home's type.
  void to_home_value(char* value, std::size_t size, Oid home_type) const;

 private:
  using Oids = std::unordered_map<Oid, Oid>;
  static Oid at(const Oids& oids, Oid key, Oid otherwise) {
    if (key < kFirstUserOid) return otherwise;
    const auto found = oids.find(key);
    return found == oids.end() ? otherwise : found->second;
  }
  TypeForm form(Oid home_type) const;
  bool holds_oids(Oid home_type) const;

  Oids relations_, types_, types_of_home_;
  std::unordered_map<Oid, std::vector<std::pair<int16_t, int16_t>>> columns_;
  std::unordered_map<Oid, TypeForm> forms_;  // of the home's types that are not plain
};

}  // namespace pgmosaic::pg
