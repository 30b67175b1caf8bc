// EXPLAIN of what the home does not explain by itself: the router's plan, with each group's own under it.
#pragma once

#include "router/execution.h"
#include "router/session.h"

namespace pgmosaic::router {

// Of one statement, on its session's thread.
class Explainer {
 public:
  // `plan` is of kind explain, `sql` the client's text.
  Explainer(Session& session, const plan::Plan& plan, std::string_view sql) : s_(session), plan_(plan), sql_(sql) {}

  net::Task<Status> run();

 private:
  // What the groups are told, and how their answers are shown.
  struct Way {
    std::vector<exec::GroupId> groups;
    std::string text;       // what each group would run
    std::string statement;  // EXECUTE: the name under which they do, with …
    uint32_t number = 0;    // … its number
    std::string arguments;
    bool alone = false;       // the home's answer, as it is
    bool structured = false;  // one value for programs, not lines
  };
  net::Task<Status> execute();
  net::Task<Status> split(const plan::Plan& inner, const Execution& execution);
  net::Task<Status> show(const plan::Plan& inner, const Execution& execution, std::string arguments);
  net::Task<Status> ask_watching(const plan::Plan& inner, const Execution& execution, const Way& way,
                                 std::string& lines);
  net::Task<Status> ask(const plan::Plan& inner, const Execution& execution, const Way& way, std::string& lines);
  void describe();

  Session& s_;
  const plan::Plan& plan_;
  const std::string_view sql_;
};

}  // namespace pgmosaic::router
