// SELECT pgmosaic.saga_begin(…), …saga_step(…), …saga_finish(…), …saga_compensate(…) and …saga_forget(…): statements of
// their own. A group computes the arguments – pg_catalog.pgmosaic_saga_…() gives them back with what the session is –
// and the router does what they say. The word of a step, and of the end, is held back until its transaction commits,
// and is written by it where it writes anyway: so a transaction of one group stays one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plan/planner.h"
#include "router/execution.h"
#include "router/sagas.h"

namespace pgmosaic::router {

class Session;

struct SagaCall {
  enum class Function : uint8_t { begin, step, compensate, finish, forget } function = Function::begin;
  std::string column;     // name of the result's column
  std::string sql;        // what the group is asked
  std::string arguments;  // their expressions alone, as a list
};
std::optional<SagaCall> parse_saga_call(std::string_view sql);

// Changes the plan of such a statement; other plans stay as they are.
void take_saga_call(std::string_view sql, const plan::PlanContext& context, plan::Plan& plan);
bool is_saga_call(const plan::Plan& plan);

// Name among Plan::virtual_relations.
inline constexpr std::string_view kSagaCall = "saga call";

// Of a session that has to do with sagas.
struct SessionSagas {
  struct Note {
    enum class What : uint8_t { step, finish, undo } what = What::step;
    SagaPtr saga;
    std::string request = {};  // of a step: what the group gave back, JSON
    uint64_t moment = 0;       // among Backends::next_moment()
    uint32_t group = 0;        // where it must be written; 0: anywhere
    int n = 0;                 // undo: of which step
  };
  std::vector<SagaPtr> begun;
  std::vector<Note> notes;       // of the open transaction
  std::vector<SagaPtr> entered;  // of the one that commits
};

// On the session's thread.
class SagaCalls {
 public:
  explicit SagaCalls(Session& session) : s_(session) {}
  net::Task<Status> run(const plan::Plan& plan, Execution& execution);

  // The open transaction takes this step back where it commits.
  void undo(const SagaPtr& saga, uint32_t group, int n);
  bool pending() const;
  // Writes what the transaction has to say of sagas.
  net::Task<Status> before_commit();
  void after_transaction(bool committed);
  void rolled_back_to(uint64_t moment);
  void session_ended();

 private:
  struct Request;
  net::Task<Result<Request>> evaluate(const SagaCall& call, const Execution& execution);
  net::Task<Status> perform(const SagaCall& call, Request& request, std::string& answer);
  net::Task<Result<std::string>> begin(const Request& request);
  net::Task<Status> end(SagaPtr saga, bool forget);
  net::Task<Result<SagaPtr>> find(const Request& request);
  net::Task<Status> check_compensation(const std::string& sql, std::size_t parameters);
  net::Task<Status> add(SessionSagas::Note note);
  net::Task<Status> write(const SessionSagas::Note& note, uint32_t group, pool::ServerConn* conn);
  SessionSagas& state();

  Session& s_;
};

}  // namespace pgmosaic::router
