// Runs an INSERT whose values one PostgreSQL computes first (plan::Fill): asks the home, puts the answers in, and runs
// the statement that comes of it.
#include <charconv>

#include "router/execution.h"
#include "router/number_source.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

constexpr std::size_t kMostBytes = 64 << 20;  // of all answers, with …
constexpr std::size_t kPerValue = 512;        // … what the parser makes of a value

using Answers = FillAnswers;

net::Task<Result<Answers>> ask_home(exec::Backend& home, std::string_view question, const Execution& asked) {
  exec::Request request;
  request.sql = question;
  request.extended = asked.extended();
  request.bind = asked.bind;
  request.types = &asked.types;
  request.client_formats = false;
  exec::RowReader reader(home);
  reader.send(request);
  Answers answers;
  std::size_t bytes = 0;
  std::vector<std::optional<std::string_view>> values;
  for (;;) {
    auto event = co_await reader.next();
    if (!event.ok()) {
      event.error().position = 0;  // it counts in our text
      co_return std::move(event.error());
    }
    if (*event == exec::RowReader::Event::end) co_return answers;
    if (*event != exec::RowReader::Event::row) continue;
    pg::parse_data_row(reader.message().body, values);
    if ((bytes += reader.message().body.size() + kPerValue * values.size()) > kMostBytes) {
      (void)(co_await reader.finish());
      co_return make_error("54000", "an INSERT of more rows than the router can keep",
                           "Insert them in several statements, or with COPY.");
    }
    auto& row = answers.emplace_back();
    for (const auto& value : values) value ? row.emplace_back(std::string(*value)) : row.emplace_back(std::nullopt);
  }
}

// `text` with the answers in the place of the marks; `row` instead of theirs, where given.
std::string filled_text(std::string_view text, const plan::Fill& fill, const Answers& answers,
                        std::optional<std::size_t> row) {
  const std::string begin = "'/*" + fill.mark;
  std::string result;
  for (std::size_t at = text.find(begin); at != std::string_view::npos; at = text.find(begin)) {
    result += text.substr(0, at);
    text.remove_prefix(at + begin.size());
    std::size_t marked = 0, column = 0;
    const char* end = std::from_chars(text.data(), text.data() + text.size(), marked).ptr + 1;
    end = std::from_chars(end, text.data() + text.size(), column).ptr;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 3);  // */'
    const auto& answer = answers[row.value_or(marked)][column];
    result += answer ? pool::quote_literal(*answer) : "NULL";
  }
  return result.append(text);
}

// The statement that the answers make.
std::string filled(const plan::Fill& fill, const Answers& answers) {
  if (!fill.pulls) return filled_text(fill.statement, fill, answers, std::nullopt);
  // ('mark 0:0', …, 'mark 0:n')
  const std::string first = "('/*" + fill.mark + "0:0*/'";
  const std::string last = "'/*" + fill.mark + "0:" + std::to_string(fill.columns - 1) + "*/')";
  const std::size_t begin = fill.statement.find(first), end = fill.statement.find(last) + last.size();
  const std::string_view row = std::string_view(fill.statement).substr(begin, end - begin);
  std::string text = fill.statement.substr(0, begin);
  if (answers.empty()) {  // no rows: still the statement's columns and tag
    const std::size_t values = text.rfind("VALUES");
    text.replace(values, std::string::npos, "SELECT NULL");
    for (std::size_t i = 1; i < fill.columns; ++i) text += ", NULL";
    text += " WHERE false";
  }
  for (std::size_t i = 0; i < answers.size(); ++i) text += (i == 0 ? "" : ", ") + filled_text(row, fill, answers, i);
  return text + fill.statement.substr(end);
}

// Numbers of sequences among the answers are the session's. Where there are others that nobody has read yet, or the
// home failed in the midst of them, the home is asked again later.
void note_numbers(exec::Backend& home, const plan::Fill& fill, const Result<Answers>& answers,
                  SequenceNumbers& numbers) {
  home.drew = true;
  home.knows_last = home.knows_last || answers.ok();
  for (const plan::Fill::Draw& draw : fill.draws) {
    if (!answers.ok() || home.draws.draws()) home.draws.sequences.insert(draw.sequence);
    int64_t number = 0;
    if (!answers.ok()) continue;
    const auto& text = (*answers)[draw.row][draw.column];
    CHECK(text.has_value());
    std::from_chars(text->data(), text->data() + text->size(), number);
    numbers.drawn(draw.sequence, number);
  }
}

}  // namespace

net::Task<Result<Answers>> NumberSource::answers(const plan::Plan& plan, const Execution& execution) {
  const plan::Fill& fill = *plan.fill;
  if (may_keep(plan)) {
    Answers answers;
    CO_TRY_ASSIGN(const bool answered, co_await answer(fill, answers));
    if (answered) co_return answers;
  }
  if (fill.expressions && !execution.extended()) CO_TRY(co_await s_.check_with_postgres(execution.sql));
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  const bool wrote = (*home)->wrote;
  s_.note_effects(**home, plan.effects);
  if (!plan.effects.taints) (*home)->wrote = wrote;  // numbers of a sequence are no part of the transaction
  std::string question = fill.question;
  if (plan.effects.draws.reads) question = s_.numbers_.put_into(std::move(question), *home, s_.staged_ != nullptr);
  auto answers = co_await ask_home(**home, question, execution);
  if (!fill.draws.empty()) note_numbers(**home, fill, answers, s_.numbers_);
  co_return answers;
}

// One answer may lead to another question: of values that are left to their defaults, and then of keys that only
// PostgreSQL can read.
net::Task<Status> Session::run_filled(const plan::Plan& plan, const Execution& asked) {
  constexpr int kMostQuestions = 3;
  Execution execution;
  execution.sql = asked.sql;
  execution.bind = asked.bind;
  execution.types = asked.types;
  execution.describe = asked.describe;
  std::string text;
  plan::PlanPtr made;
  const plan::Plan* next = &plan;
  bool no_rows = false;
  for (int question = 0; next->fill && question < kMostQuestions; ++question) {
    CO_TRY_ASSIGN(const Answers answers, co_await NumberSource(*this).answers(*next, execution));
    if (!backends_.in_transaction()) {  // hold none while waiting for another
      if (backends_.with_draws() != nullptr) co_await numbers_.read_all();
      backends_.release_idle();
    }
    no_rows = next->fill->pulls && answers.empty();
    text = filled(*next->fill, answers);
    if (plan_settings_->encoding != PlanSettings::Encoding::server && !is_ascii(text))
      co_return make_error("0A000",
                           "an INSERT whose values are computed first, with text beyond ASCII in another encoding",
                           "Use client_encoding UTF8, or give the values of sequences and of the distribution column.");
    execution.sql = text;
    sql::scan_shape(text, worker_.shape);
    CO_TRY_ASSIGN(CachedPlan planned, co_await plan_of(text, asked.types, asked.extended()));
    made = std::move(planned.plan);
    next = made.get();
    if (no_rows) break;
  }
  if (made->kind == plan::PlanKind::unsupported) co_return Error(*made->error);
  plan::Plan nothing;  // the home says what an INSERT of no rows answers
  if (made->fill && no_rows) {
    nothing.kind = plan::PlanKind::route;
    nothing.target.kind = plan::Target::Kind::home;
    nothing.command = made->command;
    nothing.returns_rows = made->returns_rows;
    made = std::make_shared<const plan::Plan>(std::move(nothing));
  }
  if (made->fill) co_return make_error("XX000", "an INSERT has ever more values to compute");
  if (!asked.extended()) co_return co_await run_route(text, *made);
  sql::scan_shape(text, execution.shape);
  execution.values = values_of(text, execution.shape, asked.bind, *made);
  CO_TRY_ASSIGN(execution.where, co_await locate(*made, execution));
  co_return co_await run_multi(*made, execution);
}

}  // namespace pgmosaic::router
