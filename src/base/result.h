// How a function fails. Three ways exist in this code base:
//   - a user's (or the environment's) error is a Result<T> whose Error is what the client will see;
//   - our own bug is a CHECK (base/check.h);
//   - exceptions do not leave the file that calls a throwing library.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace pgmosaic {

// What a client receives as an ErrorResponse. `sqlstate` is five characters of PostgreSQL's Appendix A.
struct Error {
  std::string sqlstate = "XX000";
  std::string message;
  std::string detail = {};
  std::string hint = {};
  std::string node = {};  // replication group it came from; empty: the router itself
  int position = 0;       // 1-based character position in the statement; 0: none
  // A server's other fields (schema, table, column, constraint, context, routine, …) as they stand in its message: a
  // code byte and a zero-terminated text, one after the other.
  std::string fields = {};
};

inline Error make_error(std::string sqlstate, std::string message, std::string hint = {}, std::string detail = {}) {
  return Error{std::move(sqlstate), std::move(message), std::move(detail), std::move(hint)};
}

// Either a T or an Error. Test with `ok()` or in a boolean context, then `*r`, `r->` or `r.error()`.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::make_unique<Error>(std::move(error))) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // REQUIRES: ok()
  T& value() & {
    CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    CHECK(ok());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  // REQUIRES: !ok()
  Error& error() {
    CHECK(!ok());
    return *std::get<1>(state_);
  }
  const Error& error() const {
    CHECK(!ok());
    return *std::get<1>(state_);
  }

 private:
  std::variant<T, std::unique_ptr<Error>> state_;
};

// Result without a value: `return {};` is success.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::make_unique<Error>(std::move(error))) {}

  bool ok() const { return error_ == nullptr; }
  explicit operator bool() const { return ok(); }
  Error& error() {
    CHECK(!ok());
    return *error_;
  }
  const Error& error() const {
    CHECK(!ok());
    return *error_;
  }

 private:
  std::unique_ptr<Error> error_;
};

using Status = Result<void>;

}  // namespace pgmosaic

// TRY(status);  TRY_ASSIGN(auto x, result);  – return the error to the caller; CO_… inside a coroutine.
#define PGM_CONCAT_INNER(a, b) a##b
#define PGM_CONCAT(a, b) PGM_CONCAT_INNER(a, b)
#define PGM_TRY_IMPL(tmp, ret, expr)           \
  do {                                         \
    auto tmp = (expr);                         \
    if (!tmp.ok()) ret std::move(tmp.error()); \
  } while (false)
#define PGM_TRY_ASSIGN_IMPL(tmp, ret, target, expr) \
  auto tmp = (expr);                                \
  if (!tmp.ok()) ret std::move(tmp.error());        \
  target = std::move(*tmp)
#define TRY(expr) PGM_TRY_IMPL(PGM_CONCAT(try_tmp_, __LINE__), return, expr)
#define CO_TRY(expr) PGM_TRY_IMPL(PGM_CONCAT(try_tmp_, __LINE__), co_return, expr)
#define TRY_ASSIGN(target, expr) PGM_TRY_ASSIGN_IMPL(PGM_CONCAT(try_tmp_, __LINE__), return, target, expr)
#define CO_TRY_ASSIGN(target, expr) PGM_TRY_ASSIGN_IMPL(PGM_CONCAT(try_tmp_, __LINE__), co_return, target, expr)
