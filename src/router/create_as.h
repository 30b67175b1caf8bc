// CREATE TABLE … AS and SELECT INTO (plan::Ddl::FromQuery), within the transaction that Session::run_ddl has open.
#pragma once

#include "router/session.h"

namespace pgmosaic::router {

// The columns of a relation as CREATE TABLE has them; whether their values keep their meaning in any output style.
// `relation`: its OID, or an expression for it.
std::string columns_question(const std::string& relation);

// Of one statement, on its session's thread.
class TableFromQuery {
 public:
  TableFromQuery(Session& session, const plan::Ddl& ddl) : s_(session), ddl_(ddl) {}

  // REQUIRES: ddl.from_query or ddl.view_rows
  net::Task<Status> run(std::string& tag);
  // Runs what the home makes by itself: notices and the tag are the client's, rows too where ddl.shows_rows.
  net::Task<Status> at_home(const std::string& text, std::string& tag);

 private:
  // What the rows are read from.
  struct Source {
    PreparedPtr statement;  // of EXECUTE
    plan::PlanPtr plan;
    std::string sql;     // as planned
    std::string text;    // what the home can run in place of the client's query
    std::string sample;  // the same, where no row is wanted
    bool at_home = false;
  };
  // materialized.cc
  net::Task<Status> run_view(std::string& tag);
  net::Task<Status> fill_view(std::string& tag);
  net::Task<Result<Source>> source();
  net::Task<Result<bool>> exists();
  struct Columns {
    std::string text;    // as in CREATE TABLE
    bool exact = false;  // their values keep their meaning in any output style
  };
  net::Task<Result<Columns>> columns(const Source& source);
  Status check_styles(const Columns& columns) const;
  std::string text_at_home(const Source& source) const;
  net::Task<Status> make_temporary(const Source& source, bool by_home, std::string& tag);
  net::Task<Status> read_rows(const Source& source, std::string& rows);
  net::Task<Status> copy_rows(std::string_view rows);

  Session& s_;
  const plan::Ddl& ddl_;
};

}  // namespace pgmosaic::router
