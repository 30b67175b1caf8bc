// Until routers can share a store (docs/consistency.md), one process serves it at a time.
#pragma once

#include <string>

#include "base/result.h"

namespace pgmosaic::meta {

// Holds `path`.lock for this process; the kernel lets go of it when the process ends, however that happens.
class SingleUser {
 public:
  // F0000 if another process holds it.
  static Result<SingleUser> take(const std::string& path);
  SingleUser(SingleUser&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  SingleUser(const SingleUser&) = delete;
  SingleUser& operator=(const SingleUser&) = delete;
  SingleUser& operator=(SingleUser&&) = delete;
  ~SingleUser();

 private:
  explicit SingleUser(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace pgmosaic::meta
