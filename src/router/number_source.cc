#include "router/number_source.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "router/worker.h"

namespace pgmosaic::router {

// What stands in the way of a block is rare: then the home is asked for exactly the numbers that the statement needs.
bool NumberSource::may_keep(const plan::Plan& plan) const {
  const plan::Effects& effects = plan.effects;
  return s_.worker_.config->sharding.sequence_block > 1 && plan.fill->numbers_alone && !effects.pins &&
         !effects.taints && !effects.draws.any() && !own_view();
}

net::Task<bool> NumberSource::take_over() {
  exec::Backend* home = s_.backends_.held(s_.snapshot_->home);
  if (home == nullptr) co_return true;
  if (!home->conn->idle() || !home->conn->alive()) co_return false;
  if (!home->drew && !home->draws.draws()) co_return true;
  co_await s_.numbers_.read_from(*home, true);
  home->draws = {};
  home->drew = home->knows_last = false;
  co_return home->conn->alive();
}

// On a backend of the home that the session has, if any: with another one beside it two sessions might wait for each
// other's.
net::Task<Result<pool::ServerConn::Rows>> NumberSource::ask(const std::string& question) {
  exec::Backend* home = s_.backends_.held(s_.snapshot_->home);
  const bool borrows = home == nullptr || !home->conn->idle();
  pool::ServerConn* conn = nullptr;
  if (borrows) {
    CO_TRY_ASSIGN(conn, co_await s_.backends_.borrow(s_.snapshot_->home));
  } else {
    auto ready = co_await s_.backends_.get(s_.snapshot_->home);
    if (!ready.ok()) co_return std::move(ready.error());
    conn = (*ready)->conn.get();
  }
  auto rows = co_await conn->query(question);
  conn->knows_numbers = true;
  if (borrows) s_.backends_.give_back();
  if (!rows.ok()) rows.error().fields.clear();  // they tell of our function
  co_return rows;
}

net::Task<Result<pool::ServerConn::Rows>> NumberSource::ask_within(const std::string& question) {
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  if (question.empty()) co_return pool::ServerConn::Rows();
  co_return co_await (*home)->conn->query(question);
}

void NumberSource::sequences_change() {
  if (!s_.sequences_change_)
    s_.sequences_change_ = std::make_unique<BlocksSuspended>(s_.worker_.context.blocks, s_.backends_.database());
}

net::Task<Result<Numbers>> NumberSource::draw(catalog::Oid sequence, bool identity, uint64_t count) {
  const std::string question = std::string("SELECT pg_catalog.pgmosaic_draw") + (identity ? "_identity(" : "(") +
                               std::to_string(sequence) + ", " + std::to_string(count) + ")";
  auto rows = co_await ask(question);
  if (!rows.ok()) co_return std::move(rows.error());
  Numbers numbers;
  CHECK(rows->rows.size() == 1 && rows->rows[0][0] && numbers.read(*rows->rows[0][0]));
  co_return numbers;
}

// False: the home has to be asked for exactly these.
net::Task<Result<bool>> NumberSource::answer(const plan::Fill& fill, FillAnswers& answers) {
  struct Wanted {
    bool identity = false;
    uint64_t count = 0;
    Numbers numbers;
  };
  std::map<catalog::Oid, Wanted> wanted;
  std::size_t rows = 0;
  for (const plan::Fill::Draw& draw : fill.draws) {
    Wanted& of_sequence = wanted[draw.sequence];
    of_sequence.identity = draw.identity;
    ++of_sequence.count;
    rows = std::max<std::size_t>(rows, draw.row + 1);
  }
  const bool ours = co_await take_over();
  if (!ours) co_return false;
  SequenceBlocks& blocks = s_.worker_.context.blocks;
  const uint64_t length = static_cast<uint64_t>(s_.worker_.config->sharding.sequence_block);
  SequenceBlocks::Key key{s_.backends_.database(), 0, s_.backends_.user()};
  for (const char* name : {"role", "session_authorization"})
    if (const auto set = s_.backends_.settings()->find(name); set != s_.backends_.settings()->end())
      key.role += '\0' + set->second;
  for (auto& [sequence, of_sequence] : wanted) {
    key.sequence = sequence;
    Numbers& numbers = of_sequence.numbers;
    const auto ticket = blocks.take(key, of_sequence.count, numbers);
    if (!ticket) co_return false;
    const uint64_t missing = of_sequence.count - numbers.size();
    if (missing == 0) continue;
    auto drawn = co_await draw(sequence, of_sequence.identity, std::max(missing, length));
    if (!drawn.ok()) co_return std::move(drawn.error());
    if (drawn->size() < missing) co_return false;
    numbers.take_from(*drawn, missing);
    blocks.put(key, *ticket, std::move(*drawn));
  }
  answers.assign(rows, std::vector<std::optional<std::string>>(fill.columns));
  for (const plan::Fill::Draw& draw : fill.draws) {
    const int64_t number = wanted[draw.sequence].numbers.take();
    if (number > draw.most || number < -draw.most - 1) co_return false;
    answers[draw.row][draw.column] = std::to_string(number);
    s_.numbers_.drawn(draw.sequence, number);
  }
  co_return true;
}

}  // namespace pgmosaic::router
