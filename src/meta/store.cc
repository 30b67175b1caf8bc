#include "meta/store.h"

#include <fmt/format.h>
#include <time.h>

#include <charconv>

namespace pgmosaic::meta {

int64_t host_clock_ms() {
  timespec now{};
  CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

Error lease_ended(LeaseId lease) { return make_error("55000", fmt::format("lease {} has ended", lease)); }

std::string prefix_end(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xff) end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

Result<uint64_t> allocate_ids(Store& store, const std::string& key, uint64_t count) {
  for (;;) {
    TRY_ASSIGN(const std::optional<Entry> entry, store.get(key));
    uint64_t next = 1;
    if (entry) {
      const char* end = entry->value.data() + entry->value.size();
      const auto [stop, ec] = std::from_chars(entry->value.data(), end, next);
      if (ec != std::errc() || stop != end) {
        return make_error("XX001", fmt::format("metadata key \"{}\" does not hold a number", key));
      }
    }
    Txn txn;
    txn.compares.push_back({key, entry ? entry->version : 0});
    txn.puts.push_back({key, std::to_string(next + count)});
    TRY_ASSIGN(const CommitResult result, store.commit(txn));
    if (result.committed) return next;
  }
}

}  // namespace pgmosaic::meta
