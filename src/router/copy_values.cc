#include "router/copy_values.h"

#include <algorithm>

#include "base/bytes.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr std::size_t kMostBytes = 1024 * 1024, kMostRows = 20'000;  // of rows that wait for a question

}  // namespace

net::Task<Status> CopyValues::begin() {
  // Then only the transaction's own backend sees the sequence as it should be; a reference table's COPY occupies it.
  const bool own_view = source_.own_view();
  const bool reference = spec_.colocation == 0;
  const bool asks = std::any_of(spec_.filled.begin(), spec_.filled.end(),
                                [](const auto& filled) { return filled.sequence != 0 || filled.of_each_row; });
  if (own_view && reference && asks)
    co_return make_error("0A000",
                         "COPY into a reference table that leaves numbers of a sequence out, in a transaction that "
                         "changed the schema, a sequence or its role",
                         "COMMIT before, or give the values.");
  std::string question;
  for (const plan::CopyIn::Filled& filled : spec_.filled)
    if (filled.sequence == 0 && !filled.of_each_row)
      question += (question.empty() ? "SELECT " : ", ") + filled.expression;
  if (own_view || !question.empty()) {
    auto rows = co_await source_.ask_within(question);
    if (!rows.ok()) co_return std::move(rows.error());
    if (!question.empty()) once_ = rows->rows.at(0);
  }
  (void)co_await source_.take_over();
  co_return Status{};
}

std::string CopyValues::as_client_sees(std::string_view copy_in_response) const {
  // 'G', length, format of all, number of columns, format of each
  std::string message(copy_in_response.substr(0, 8 + 2 * spec_.given));
  store_big_endian<uint32_t>(message.data() + 1, static_cast<uint32_t>(message.size() - 1));
  store_big_endian<uint16_t>(message.data() + 6, static_cast<uint16_t>(spec_.given));
  return message;
}

net::Task<Status> CopyValues::pass(std::string& payload, bool more) {
  Status read = more ? filler_.feed(payload) : filler_.finish();
  payload.clear();
  if (!read.ok()) {
    CO_TRY(co_await fill(payload));
    co_return std::move(read.error());
  }
  const bool enough = filler_.waiting_bytes() >= enough_ || filler_.waiting_rows() >= kMostRows;
  if (more && !enough) co_return Status{};
  enough_ = std::min(2 * enough_, kMostBytes);
  co_return co_await fill(payload);
}

net::Task<Error> CopyValues::pass_rest(std::string& payload, Error why) {
  why = filler_.at_next_line(std::move(why));
  payload.clear();
  Status filled = co_await fill(payload);
  if (!filled.ok()) co_return std::move(filled.error());
  co_return why;
}

net::Task<Status> CopyValues::fill(std::string& payload) {
  CO_TRY_ASSIGN(const exec::CopyFiller::Values values, co_await next(filler_.waiting_rows()));
  filler_.fill(values, payload);
  co_return Status{};
}

net::Task<Result<exec::CopyFiller::Values>> CopyValues::next(std::size_t rows) {
  exec::CopyFiller::Values values(spec_.filled.size());
  auto once = once_.begin();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const plan::CopyIn::Filled& column = spec_.filled[i];
    if (column.sequence != 0) {
      CO_TRY(co_await numbers(column, rows, values[i]));
    } else if (!column.of_each_row) {
      values[i].assign(rows, *once++);
    } else if (rows > 0) {
      const std::string question =
          "SELECT " + column.expression + " FROM pg_catalog.generate_series(1, " + std::to_string(rows) + ")";
      auto answer = co_await source_.ask(question);
      if (!answer.ok()) co_return std::move(answer.error());
      for (auto& row : answer->rows) values[i].push_back(std::move(row[0]));
    }
  }
  co_return values;
}

net::Task<Status> CopyValues::numbers(const plan::CopyIn::Filled& column, std::size_t rows,
                                      std::vector<std::optional<std::string>>& values) {
  values.reserve(rows);
  while (values.size() < rows) {
    auto drawing = co_await source_.draw(column.sequence, column.identity, rows - values.size());
    if (!drawing.ok()) co_return filler_.at_row(std::move(drawing.error()), values.size());
    Numbers drawn = std::move(*drawing);
    while (drawn.size() > 0) {
      const int64_t number = drawn.take();
      source_.given(column.sequence, number);
      if (column.most != 0 && (number > column.most || number < -column.most - 1))
        co_return filler_.at_row(
            make_error("22003", column.most == INT16_MAX ? "smallint out of range" : "integer out of range"),
            values.size());
      values.emplace_back(std::to_string(number));
    }
  }
  co_return Status{};
}

}  // namespace pgmosaic::router
