#include "pg/oid_map.h"

#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace pgmosaic::pg {

namespace {

constexpr Oid kRegclass = 2205, kRegtype = 2206, kRecord = 2249, kRecordArray = 2287;

// Walks over a value; any overrun ends the walk, and what is left stays as it is.
class Cursor {
 public:
  Cursor(char* begin, std::size_t size) : at_(begin), end_(begin + size) {}
  bool has(std::size_t bytes) const { return static_cast<std::size_t>(end_ - at_) >= bytes; }
  char* take(std::size_t bytes) {
    if (!has(bytes)) {
      at_ = end_;
      return nullptr;
    }
    return std::exchange(at_, at_ + bytes);
  }
  void skip_text() {  // and its zero byte
    const void* zero = std::memchr(at_, 0, static_cast<std::size_t>(end_ - at_));
    at_ = zero == nullptr ? end_ : const_cast<char*>(static_cast<const char*>(zero)) + 1;
  }
  uint32_t number() {
    const char* bytes = take(4);
    return bytes == nullptr ? 0 : load_big_endian<uint32_t>(bytes);
  }
  // A value behind its length. Null: NULL, or an overrun.
  char* value(std::size_t& size) {
    const auto length = static_cast<int32_t>(number());
    if (length < 0) return nullptr;
    size = static_cast<std::size_t>(length);
    return take(size);
  }

 private:
  char* at_;
  char* end_;
};

}  // namespace

TypeForm OidMap::form(Oid home_type) const {
  if (home_type == kRecord) return {TypeForm::Kind::composite, 0};
  if (home_type == kRecordArray) return {TypeForm::Kind::array, 0};
  if (home_type < kFirstUserOid) return {};
  const auto found = forms_.find(home_type);
  return found == forms_.end() ? TypeForm{} : found->second;
}

bool OidMap::holds_oids(Oid home_type) const {
  if (home_type == kRegclass || home_type == kRegtype) return true;
  const TypeForm form = this->form(home_type);
  switch (form.kind) {
    case TypeForm::Kind::plain: return false;
    case TypeForm::Kind::array:
    case TypeForm::Kind::composite: return true;
    case TypeForm::Kind::range:
    case TypeForm::Kind::multirange:
    case TypeForm::Kind::domain: return holds_oids(form.inner);
  }
  return false;
}

bool OidMap::to_home_description(char* body, std::size_t size, std::vector<Oid>& binary) const {
  binary.clear();
  Cursor cursor(body, size);
  const char* head = cursor.take(2);
  if (head == nullptr) return false;
  const auto count = load_big_endian<uint16_t>(head);
  bool held = false, found = false;
  for (uint16_t column = 0; column < count; ++column) {
    cursor.skip_text();  // the name
    char* field = cursor.take(18);
    if (field == nullptr) return held;
    if (const auto table = load_big_endian<Oid>(field); table >= kFirstUserOid) {
      const Oid home = relation_at_home(table);
      store_big_endian<Oid>(field, home);
      if (home == 0) store_big_endian<int16_t>(field + 4, 0);  // a column of nothing that the client knows
      if (const auto columns = columns_.empty() ? columns_.end() : columns_.find(table); columns != columns_.end())
        for (const auto& [here, number] : columns->second)
          if (load_big_endian<int16_t>(field + 4) == here) {
            store_big_endian<int16_t>(field + 4, number);
            break;
          }
    }
    const Oid type = type_at_home(load_big_endian<Oid>(field + 6));
    store_big_endian<Oid>(field + 6, type);
    if (!holds_oids(type)) continue;
    held = true;
    if (load_big_endian<int16_t>(field + 16) != 1) continue;
    if (!std::exchange(found, true)) binary.assign(count, 0);
    binary[column] = type;
  }
  return held;
}

void OidMap::to_home_parameters(char* body, std::size_t size) const {
  Cursor cursor(body, size);
  (void)cursor.take(2);
  while (char* type = cursor.take(4)) store_big_endian<Oid>(type, type_at_home(load_big_endian<Oid>(type)));
}

void OidMap::to_home_row(char* body, std::size_t size, const std::vector<Oid>& binary) const {
  Cursor cursor(body, size);
  (void)cursor.take(2);
  for (const Oid type : binary) {
    std::size_t length = 0;
    char* value = cursor.value(length);
    if (value != nullptr && type != 0) to_home_value(value, length, type);
  }
}

void OidMap::to_home_value(char* value, std::size_t size, Oid home_type) const {
  if (home_type == kRegclass || home_type == kRegtype) {
    if (size != 4) return;
    const auto here = load_big_endian<Oid>(value);
    if (here < kFirstUserOid) return;
    const Oid relation = relation_at_home(here);
    store_big_endian<Oid>(value, home_type == kRegtype ? type_at_home(here) : relation != 0 ? relation : here);
    return;
  }
  const TypeForm form = this->form(home_type);
  Cursor cursor(value, size);
  auto inner = [&](Oid type) {
    std::size_t length = 0;
    char* part = cursor.value(length);
    if (part != nullptr) to_home_value(part, length, type);
  };
  switch (form.kind) {
    case TypeForm::Kind::plain: return;
    case TypeForm::Kind::domain: return to_home_value(value, size, form.inner);
    case TypeForm::Kind::array: {
      const uint32_t dimensions = cursor.number();
      (void)cursor.number();  // flags
      char* element = cursor.take(4);
      if (element == nullptr) return;
      const Oid type = type_at_home(load_big_endian<Oid>(element));
      store_big_endian<Oid>(element, type);
      if (!holds_oids(type)) return;
      for (uint32_t i = 0; i < dimensions && cursor.has(8); ++i) (void)cursor.take(8);
      while (cursor.has(4)) inner(type);
      return;
    }
    case TypeForm::Kind::composite:
      for (uint32_t fields = cursor.number(); fields > 0 && cursor.has(8); --fields) {
        char* oid = cursor.take(4);
        const Oid type = type_at_home(load_big_endian<Oid>(oid));
        store_big_endian<Oid>(oid, type);
        inner(type);
      }
      return;
    case TypeForm::Kind::range: {
      // flags: 0x01 empty, 0x08 no lower bound, 0x10 no upper bound (range_send)
      const char* flags = cursor.take(1);
      if (flags == nullptr || (*flags & 0x01) != 0) return;
      for (const int infinite : {0x08, 0x10})
        if ((*flags & infinite) == 0) inner(form.inner);
      return;
    }
    case TypeForm::Kind::multirange:
      // `inner` is the range type.
      for (uint32_t ranges = cursor.number(); ranges > 0 && cursor.has(4); --ranges) inner(form.inner);
      return;
  }
}

}  // namespace pgmosaic::pg
