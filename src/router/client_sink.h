// Where rows go that the router reads itself.
#pragma once

#include <string>
#include <string_view>

#include "exec/row_reader.h"

namespace pgmosaic::router {

// To the session's client, through its output.
class ClientSink final : public exec::RowSink {
 public:
  using Put = bool (*)(void*, std::string_view);
  // `instead`: takes the rows, unless it is null.
  ClientSink(std::string& out, const bool& gone, exec::RowSink* instead, net::Task<bool> (*wait)(void*), void* session)
      : out_(out), gone_(gone), instead_(instead), wait_(wait), session_(session) {}
  bool put(std::string_view messages) override {
    if (instead_ != nullptr) return instead_->put(messages);
    out_.append(messages);
    return !gone_;
  }
  net::Task<bool> throttle() override { return wait_(session_); }

 private:
  std::string& out_;
  const bool& gone_;
  exec::RowSink* instead_;
  net::Task<bool> (*wait_)(void*);
  void* session_;
};

// Dropped.
class Nowhere final : public exec::RowSink {
 public:
  bool put(std::string_view) override { return true; }
  net::Task<bool> throttle() override { co_return true; }
};

}  // namespace pgmosaic::router
