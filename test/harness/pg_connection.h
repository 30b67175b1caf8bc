// A libpq connection for tests.
#pragma once

#include <libpq-fe.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace pgmosaic::test {

struct PgResultFree {
  void operator()(PGresult* result) const { PQclear(result); }
};
using PgResult = std::unique_ptr<PGresult, PgResultFree>;

// One libpq connection. Errors of the server are exceptions.
class PgConnection {
 public:
  explicit PgConnection(const std::string& conninfo) : connection_(PQconnectdb(conninfo.c_str())) {
    if (PQstatus(connection_) != CONNECTION_OK) {
      const std::string message = PQerrorMessage(connection_);
      PQfinish(connection_);
      throw std::runtime_error(message);
    }
  }
  ~PgConnection() { PQfinish(connection_); }
  PgConnection(const PgConnection&) = delete;
  PgConnection& operator=(const PgConnection&) = delete;

  PGconn* get() { return connection_; }
  PgResult execute(const std::string& sql) { return checked(PQexec(connection_, sql.c_str()), sql); }
  // Rows in text (0) or binary (1) form; the parameters are texts.
  PgResult query(const std::string& sql, const std::vector<std::string>& parameters = {}, int format = 0) {
    std::vector<const char*> values;
    for (const std::string& parameter : parameters) values.push_back(parameter.c_str());
    return checked(PQexecParams(connection_, sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(),
                                nullptr, nullptr, format),
                   sql);
  }
  // The first column of the first row.
  std::string value(const std::string& sql) {
    const PgResult result = query(sql);
    if (PQntuples(result.get()) == 0) throw std::runtime_error("no row: " + sql);
    return PQgetvalue(result.get(), 0, 0);
  }

 private:
  PgResult checked(PGresult* raw, const std::string& sql) {
    PgResult result(raw);
    const ExecStatusType status = PQresultStatus(raw);
    if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE)
      throw std::runtime_error(std::string(PQresultErrorMessage(raw)) + " in: " + sql);
    return result;
  }

  PGconn* connection_;
};

}  // namespace pgmosaic::test
