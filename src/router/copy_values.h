// The values that a COPY … FROM STDIN leaves to the home (plan::CopyIn::filled): asked for while the rows come in, for
// many rows at once, and put in front of each (exec/copy_fill.h). Numbers of sequences are drawn for the rows that are
// there, so that after the COPY a sequence stands where PostgreSQL's would.
#pragma once

#include <string>

#include "exec/copy_fill.h"
#include "router/number_source.h"

namespace pgmosaic::router {

class CopyValues {
 public:
  CopyValues(Session& session, const plan::CopyIn& spec) : source_(session), spec_(spec), filler_(spec) {}

  // In the COPY's transaction, before any group has heard of it.
  net::Task<Status> begin();
  // What the groups' CopyInResponse is to the client, which knows nothing of these columns.
  std::string as_client_sees(std::string_view copy_in_response) const;
  // The next piece of the client's stream, which becomes the next one for the groups, and may be empty. `more`: it goes
  // on. After an error of the stream the piece has the rows that stood before it.
  net::Task<Status> pass(std::string& payload, bool more);
  // The stream ends in mid-row: `why`, with the CONTEXT. The piece has the rows before.
  net::Task<Error> pass_rest(std::string& payload, Error why);

 private:
  net::Task<Status> fill(std::string& payload);
  net::Task<Result<exec::CopyFiller::Values>> next(std::size_t rows);
  net::Task<Status> numbers(const plan::CopyIn::Filled& column, std::size_t rows,
                            std::vector<std::optional<std::string>>& values);

  NumberSource source_;
  const plan::CopyIn& spec_;
  exec::CopyFiller filler_;
  std::vector<std::optional<std::string>> once_;  // values of the columns that have one for all rows
  std::size_t enough_ = 64 * 1024;                // bytes of rows that are worth a question
};

}  // namespace pgmosaic::router
