#include "router/name_gate.h"

namespace pgmosaic::router {

namespace {

constexpr int64_t kPollUs = 500;
constexpr int kPolls = 2000;

}  // namespace

net::Task<Result<std::shared_ptr<NamesClosed>>> close_names(net::EventLoop& loop, NameGate& gate, std::string database,
                                                            bool makes_names) {
  if (!makes_names) co_return std::shared_ptr<NamesClosed>();
  auto closed = std::make_shared<NamesClosed>(gate, database);
  for (int i = 0; i < kPolls; ++i) {
    if (closed->alone()) co_return closed;
    co_await loop.sleep(kPollUs);
  }
  co_return make_error("55P03", "statements that name new tables are in the way of the schema change", "Try again.");
}

}  // namespace pgmosaic::router
