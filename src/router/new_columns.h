// ALTER TABLE … ADD COLUMN whose values the groups must not compute by themselves (plan::Ddl::NewColumns).
//
// The groups run the same ALTER TABLE as the home, with another default in it, so that PostgreSQL sees to everything
// else of it in one pass over the rows: constraints, NOT NULL, other commands beside it. That default is
//   a constant           what is the same for all rows (now()), computed once at home
//   nextval(a sequence)  numbers: the home has drawn as many as the group has rows
//   a function           of the row's place: numbers that were drawn while others drew from the same sequence, and the
//                        values of a reference table's rows, whose copies lie in another order
// Sequence, function and their table are there for the moment. Behind it the column gets its own default.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "plan/commands.h"
#include "router/schema_step.h"

namespace pgmosaic::router {

class NewColumns final : public SchemaStep {
 public:
  NewColumns(exec::Backends& backends, exec::GroupId home, const plan::Ddl::NewColumns& plan)
      : backends_(backends), home_(home), plan_(plan) {}

  net::Task<Status> before() override;
  net::Task<Status> begun(const std::vector<exec::Backend*>& groups, std::vector<std::string>& texts) override;
  net::Task<Status> done(const std::vector<exec::Backend*>& groups) override;

 private:
  using Values = plan::Ddl::NewColumns::Values;
  using Rows = pool::ServerConn::Rows;
  struct Column {
    std::string number;  // attnum
    std::string type;    // with its modifier, as PostgreSQL writes it
    bool key = false;    // of the primary key
  };
  using Columns = std::map<std::string, Column>;

  pool::ServerConn& home() { return *backends_.held(home_)->conn; }
  // IF NOT EXISTS, and there is one.
  bool was_there(const std::string& column) const;
  std::string filler(std::size_t number, const char* suffix = "") const;
  net::Task<Result<Columns>> columns_at_home();
  net::Task<Status> compute_once(std::vector<std::string>& texts);
  net::Task<Status> lock_and_count(const std::vector<exec::Backend*>& groups);
  net::Task<Status> settle(const std::vector<exec::Backend*>& groups, bool exactly);
  net::Task<Status> draw(std::size_t number, const std::vector<exec::Backend*>& groups,
                         std::vector<std::string>& texts);
  net::Task<Status> carry(std::size_t number, const std::vector<exec::Backend*>& groups,
                          std::vector<std::string>& texts);
  Result<std::string> row_key() const;
  net::Task<Status> load(const std::string& table, const std::string& column, const std::string& key,
                         const std::vector<exec::Backend*>& groups);
  net::Task<Result<std::string>> own_sequence(const std::string& column);
  net::Task<Status> check_draws(const std::vector<exec::Backend*>& groups);
  net::Task<Result<std::string>> settings_of(const plan::Ddl::NewColumns::Column& column);
  void put(std::string& text, char kind, std::size_t number, const std::string& value) const;

  exec::Backends& backends_;
  const exec::GroupId home_;
  const plan::Ddl::NewColumns& plan_;
  Columns columns_, now_;                                   // of the table at home, before and behind its statement
  std::vector<int64_t> counts_;                             // rows of each group
  std::vector<std::string> restore_;                        // settings of each group, and of the home at the end
  std::string drop_;                                        // what is there for the moment
  std::map<std::size_t, std::vector<std::string>> limits_;  // of values: whether too many were drawn, of each group
};

}  // namespace pgmosaic::router
