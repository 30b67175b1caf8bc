#include "router/sequence_blocks.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"

namespace pgmosaic::router {

namespace {

// Reads a number and the character behind it.
template <class Number>
bool read_number(std::string_view& text, Number& number, char end) {
  const auto [behind, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || behind == text.data() + text.size() || *behind != end) return false;
  text.remove_prefix(static_cast<std::size_t>(behind - text.data()) + 1);
  return true;
}

}  // namespace

bool Numbers::read(std::string_view runs) {
  while (!runs.empty()) {
    Run run;
    if (!read_number(runs, run.first, ',') || !read_number(runs, run.step, ',') || !read_number(runs, run.count, ';') ||
        run.count == 0)
      return false;
    add(run.first, run.step, run.count);
  }
  return true;
}

void Numbers::add(int64_t first, int64_t step, uint64_t count) {
  runs_.push_back({first, step, count});
  size_ += count;
}

int64_t Numbers::take() {
  CHECK(size_ > 0);
  Run& run = runs_.front();
  const int64_t number = run.first;
  --size_;
  if (--run.count == 0) {
    runs_.pop_front();
  } else {
    run.first += run.step;  // the sequence gave that number: it does not overflow
  }
  return number;
}

void Numbers::take_from(Numbers& other, uint64_t count) {
  while (count > 0 && other.size_ > 0) {
    Run& run = other.runs_.front();
    const uint64_t some = std::min(count, run.count);
    add(run.first, run.step, some);
    other.size_ -= some;
    count -= some;
    if (some == run.count) {
      other.runs_.pop_front();
    } else {
      run.count -= some;
      run.first += run.step * static_cast<int64_t>(some);
    }
  }
}

std::optional<SequenceBlocks::Ticket> SequenceBlocks::take(const Key& key, uint64_t count, Numbers& numbers) {
  std::lock_guard lock(mutex_);
  Database& database = databases_[key.database];
  if (database.suspended > 0) return std::nullopt;
  const auto block = database.blocks.find({key.sequence, key.role});
  if (block != database.blocks.end()) numbers.take_from(block->second, count);
  return drops_;
}

void SequenceBlocks::put(const Key& key, Ticket ticket, Numbers rest) {
  std::lock_guard lock(mutex_);
  if (ticket != drops_) return;
  Numbers& block = databases_[key.database].blocks[{key.sequence, key.role}];
  block.take_from(rest, rest.size());
}

void SequenceBlocks::drop_all() {
  std::lock_guard lock(mutex_);
  ++drops_;
  for (auto& [name, database] : databases_) database.blocks.clear();
}

void SequenceBlocks::suspend(const std::string& database) {
  std::lock_guard lock(mutex_);
  ++drops_;
  Database& suspended = databases_[database];
  ++suspended.suspended;
  suspended.blocks.clear();
}

void SequenceBlocks::resume(const std::string& database) {
  std::lock_guard lock(mutex_);
  --databases_[database].suspended;
}

}  // namespace pgmosaic::router
