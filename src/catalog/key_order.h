// The place of a key's value in the order of its type, as bytes: two values compare as their order keys do.
//
// Encodings (big-endian): integers, dates and timestamps with the sign bit turned; bool one byte; uuid its 16 bytes;
// text and bytea with 00 as 00 FF and 00 00 at the end; float8 as IEEE bits made monotone; numeric as class (-Infinity,
// negative, zero, positive, Infinity, NaN), exponent and digits, inverted for negative ones. No order key is a prefix
// of another of its type, so those of several columns can stand one behind the other.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "catalog/hashing.h"

namespace pgmosaic::catalog {

// Appends the order key of one value, as a client sends it, to `key`. False: the value cannot be placed here exactly as
// PostgreSQL would (an unusual spelling, a type not known here); `key` may then hold anything. Text is placed by its
// bytes, which is its order under collations that compare bytes, and tells equality under every deterministic one.
bool append_order_key(std::string& key, Oid type, ValueFormat format, std::string_view value,
                      const TextContext& context);

}  // namespace pgmosaic::catalog
