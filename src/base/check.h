// CHECK(condition): always on. It guards our own invariants, never a user's input.
#pragma once

namespace pgmosaic {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}  // namespace pgmosaic

#define CHECK(condition)                                        \
  do {                                                          \
    if (!(condition)) [[unlikely]] {                            \
      ::pgmosaic::check_failed(#condition, __FILE__, __LINE__); \
    }                                                           \
  } while (false)
