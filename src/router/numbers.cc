#include "router/numbers.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/check.h"
#include "plan/virtual_relations.h"

namespace pgmosaic::router {

namespace {

// Reads a number at the beginning, and what stands behind it.
std::optional<int64_t> read_number(std::string_view& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return error == std::errc() ? std::optional<int64_t>(number) : std::nullopt;
}

std::string question_of(const catalog::Draws& draws) {
  if (draws.unknown) return "SELECT pg_catalog.pgmosaic_numbers(NULL)";
  std::string list;
  for (uint32_t sequence : draws.sequences) list += (list.empty() ? "" : ",") + std::to_string(sequence);
  return "SELECT pg_catalog.pgmosaic_numbers('{" + list + "}')";
}

// Whether the session's lastval() may be one that its backend does not know. A sequence that was drawn from and is gone
// makes it undefined, and what a transaction has changed may be gone: then the backend's word counts.
bool last_is_known(const exec::Backend* home, bool staged) {
  if (home == nullptr || home->conn->knows_numbers) return true;  // it forgets them first
  return !(home->knows_last || (home->draws.draws() && staged));
}

}  // namespace

void SequenceNumbers::drawn(uint32_t sequence, int64_t number) {
  numbers_[sequence] = number;
  last_ = {sequence};
}

bool SequenceNumbers::read(std::string_view answer) {
  std::map<uint32_t, int64_t> read;
  while (!answer.empty() && answer.front() != ';') {
    const auto sequence = read_number(answer);
    CHECK(sequence && !answer.empty());
    answer.remove_prefix(1);  // =
    const auto number = read_number(answer);
    CHECK(!answer.empty());
    answer.remove_prefix(1);  // ,
    if (number) {
      read[static_cast<uint32_t>(*sequence)] = *number;
    } else {
      lost({.sequences = {static_cast<uint32_t>(*sequence)}});
    }
  }
  if (!answer.empty()) answer.remove_prefix(1);
  const auto last = read_number(answer);
  std::vector<uint32_t> drawn_last;
  bool changed = false;
  for (const auto& [sequence, number] : read) {
    if (last == number) drawn_last.push_back(sequence);
    const auto known = numbers_.find(sequence);
    const bool differs = known == numbers_.end() || known->second != number;
    changed = changed || (differs && std::find(last_.begin(), last_.end(), sequence) != last_.end());
    numbers_[sequence] = number;
  }
  if (!drawn_last.empty()) {
    last_ = std::move(drawn_last);
  } else if (changed && last_.size() > 1) {  // by setval()
    last_.clear();
  }
  return last.has_value();
}

void SequenceNumbers::lost(const catalog::Draws& draws) {
  if (!draws.draws()) return;
  if (draws.unknown) numbers_.clear();
  for (uint32_t sequence : draws.sequences) numbers_.erase(sequence);
  last_.clear();
}

std::string SequenceNumbers::put_into(std::string text, const exec::Backend* home, bool staged) {
  lost(backends_.take_lost_draws());
  const std::string marker = plan::virtual_marker(plan::kNumbers);
  std::string pairs = "{";
  for (const auto& [sequence, number] : numbers_)
    pairs += "{" + std::to_string(sequence) + "," + std::to_string(number) + "},";
  const auto last = last_.empty() || !last_is_known(home, staged) ? numbers_.end() : numbers_.find(last_.front());
  pairs +=
      last == numbers_.end() ? "{0,0}}" : "{" + std::to_string(last->first) + "," + std::to_string(last->second) + "}}";
  for (std::size_t at = text.find(marker); at != std::string::npos; at = text.find(marker, at)) {
    if (!numbers_.empty()) {
      text.replace(at, marker.size(), pairs);
      continue;
    }
    // ", '/*marker*/'::pg_catalog._int8" or all between the parentheses
    std::size_t begin = at - 1;
    const std::size_t end = text.find(')', at);
    if (text.compare(begin - 2, 2, ", ") == 0) begin -= 2;
    text.erase(begin, end - begin);
    at = begin;
  }
  return text;
}

// Before a sequence goes, or a backend with what it knows.
net::Task<void> SequenceNumbers::read_from(exec::Backend& backend, bool forget) {
  if (backend.conn->knows_numbers) co_return;  // what was to draw came behind an error
  std::string question = question_of(backend.draws);
  if (forget) question += std::string("; ") + exec::kForgetSequences;
  auto rows = co_await backend.conn->query(question);
  if (rows.ok() && rows->rows.size() == 1 && rows->rows[0][0]) {
    const bool last = read(*rows->rows[0][0]);
    backend.knows_last = backend.knows_last || last;
    if (forget) backend.drew = false;
  } else {  // canceled, perhaps: then it has forgotten nothing
    lost(backend.draws);
  }
}

net::Task<void> SequenceNumbers::read_all() {
  while (exec::Backend* backend = backends_.with_draws()) {
    const bool forget = !backend->conn->tainted && !backends_.keeps(*backend);
    co_await read_from(*backend, forget);
    backend->draws = {};
  }
}

void SequenceNumbers::forget() {
  numbers_.clear();
  last_.clear();
  backends_.forget_draws();
  (void)backends_.take_lost_draws();
}

}  // namespace pgmosaic::router
