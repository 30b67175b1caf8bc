// Random COPY streams, good and broken: what the splitter makes of them against what PostgreSQL makes of the whole.
//   - a stream PostgreSQL takes gives the same rows in pieces, each row in the group of its partition;
//   - a stream PostgreSQL refuses is refused by the splitter, in the same words and for the same line, or by the group
//     that gets the bad row.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/bytes.h"
#include "exec/copy_split.h"
#include "harness/pg_connection.h"
#include "harness/postgres_server.h"

namespace pgmosaic::exec {
namespace {

using Format = plan::CopyIn::Format;
using Random = std::mt19937_64;

constexpr uint32_t kShards = 5;
const CopyColumns kColumns{"whole", {"a", "k", "c"}};

struct CopyResult {
  std::vector<std::string> rows;  // remainder of the key, then the row
  std::string error, context;
};

class CopySplitServer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new test::PostgresServer;
    connection_ = new test::PgConnection(server_->conninfo());
    connection_->execute(
        "CREATE TABLE whole (a text, k text, c text);"
        "CREATE TABLE hashed (k text) PARTITION BY HASH (k)");
  }
  static void TearDownTestSuite() {
    delete connection_;
    delete server_;
    connection_ = nullptr;
    server_ = nullptr;
  }

  // Copies the stream into the table, in a transaction that is rolled back.
  static CopyResult copy(const std::string& options, std::string_view stream) {
    PGconn* pg = connection_->get();
    CopyResult result;
    connection_->execute("BEGIN");
    PQclear(PQexec(pg, ("COPY whole FROM STDIN WITH (" + options + ")").c_str()));
    EXPECT_EQ(PQputCopyData(pg, stream.data(), static_cast<int>(stream.size())), 1);
    EXPECT_EQ(PQputCopyEnd(pg, nullptr), 1);
    while (test::PgResult reply{PQgetResult(pg)}) {
      if (PQresultStatus(reply.get()) != PGRES_FATAL_ERROR) continue;
      result.error = PQresultErrorField(reply.get(), PG_DIAG_MESSAGE_PRIMARY);
      const char* context = PQresultErrorField(reply.get(), PG_DIAG_CONTEXT);
      result.context = context == nullptr ? "" : context;
    }
    if (result.error.empty()) {
      const auto rows = connection_->query(
          "SELECT (SELECT r FROM generate_series(0, 4) r WHERE satisfies_hash_partition('hashed'::regclass, 5, r, k))"
          " || ': ' || whole::text FROM whole");
      for (int i = 0; i < PQntuples(rows.get()); ++i) result.rows.emplace_back(PQgetvalue(rows.get(), i, 0));
      std::sort(result.rows.begin(), result.rows.end());
    }
    connection_->execute("ROLLBACK");
    return result;
  }

  // True if the stream was accepted.
  static bool compare(const plan::CopyIn& spec, const std::string& options, const std::string& stream, Random& random) {
    catalog::Colocation colocation;
    for (uint32_t i = 0; i < kShards; ++i) colocation.shards.push_back({i + 1, kShards, i, i + 1});
    CopySplitter splitter(spec, colocation, {}, kColumns);
    Status status;
    for (std::size_t at = 0; at < stream.size() && status.ok();) {
      const std::size_t size = 1 + random() % 40;
      status = splitter.feed(std::string_view(stream).substr(at, size));
      at += size;
    }
    if (status.ok()) status = splitter.finish();
    const CopyResult whole = copy(options, stream);
    if (!status.ok()) {
      expect_same_error(status.error(), whole);
      return false;
    }
    CopyResult pieces;
    for (const auto& row : splitter.undecided()) splitter.place(row, splitter.groups()[0]);
    for (std::size_t i = 0; i < splitter.groups().size(); ++i) {
      const CopyResult piece = copy(options, splitter.buffer(i));
      if (!piece.error.empty()) pieces.error = piece.error;
      for (const std::string& row : piece.rows) {
        EXPECT_EQ(row.substr(0, 1), std::to_string(i)) << "row in the wrong group";
        pieces.rows.push_back(row);
      }
    }
    EXPECT_EQ(whole.error.empty(), pieces.error.empty()) << whole.error << " / " << pieces.error;
    if (!whole.error.empty()) return false;
    std::sort(pieces.rows.begin(), pieces.rows.end());
    EXPECT_EQ(pieces.rows, whole.rows);
    EXPECT_EQ(splitter.rows(), whole.rows.size());
    return true;
  }

  static void expect_same_error(const Error& error, const CopyResult& whole) {
    EXPECT_NE(whole.error, "") << "only the splitter refuses: " << error.message;
    // An earlier row may be wrong in a way that the group is to find.
    for (const char* of_groups :
         {"extra data after last expected column", "missing data for column", "invalid byte sequence"})
      if (whole.error.starts_with(of_groups)) return;
    EXPECT_EQ(error.message, whole.error);
    const std::string context = error.fields.empty() ? "" : error.fields.substr(1, error.fields.size() - 2);
    EXPECT_EQ(whole.context, context);
  }

  static test::PostgresServer* server_;
  static test::PgConnection* connection_;
};

test::PostgresServer* CopySplitServer::server_ = nullptr;
test::PgConnection* CopySplitServer::connection_ = nullptr;

std::string random_text(Random& random, std::string_view alphabet, std::size_t longest) {
  std::string text;
  for (std::size_t size = random() % (longest + 1); size > 0; --size) text += alphabet[random() % alphabet.size()];
  return text;
}

bool one_in(Random& random, unsigned n) { return random() % n == 0; }

const char* random_line_end(Random& random) {
  constexpr const char* kEnds[] = {"\n", "\n", "\r\n", "\r"};
  return kEnds[random() % 4];
}

void mutate(std::string& stream, std::string_view alphabet, Random& random) {
  for (std::size_t i = 0; i < 1 + random() % 3 && !stream.empty(); ++i) {
    const std::size_t at = random() % stream.size();
    switch (random() % 4) {
      case 0: stream.erase(at, 1); break;
      case 1: stream.insert(at, 1, alphabet[random() % alphabet.size()]); break;
      case 2: stream[at] = alphabet[random() % alphabet.size()]; break;
      default: stream.resize(at); break;
    }
  }
}

plan::CopyIn spec_of(Format format) {
  plan::CopyIn spec;
  spec.format = format;
  spec.key_fields = {1};
  spec.key_types = {25};
  spec.key_typmods = {-1};
  return spec;
}

TEST_F(CopySplitServer, Text) {
  Random random(1);
  constexpr std::string_view kField = "ab\\\\\\tnN.x4107|\n\r ";
  int accepted = 0;
  for (int round = 0; round < 1200; ++round) {
    plan::CopyIn spec = spec_of(Format::text);
    std::string options = "FORMAT text";
    if (one_in(random, 3)) spec.delimiter = '|', options += ", DELIMITER '|'";
    if (one_in(random, 4)) spec.null_text = "", options += ", NULL ''";
    if (one_in(random, 4)) spec.header = true, options += ", HEADER";
    const std::string line_end = random_line_end(random);
    std::string stream;
    for (std::size_t rows = random() % 6; rows > 0; --rows) {
      for (int field = 0; field < 3; ++field) {
        if (field > 0) stream += spec.delimiter;
        if (one_in(random, 6))
          stream += spec.null_text;
        else if (one_in(random, 6))
          stream += random_text(random, kField, 6);
        else
          for (char c : random_text(random, kField, 8)) {
            if (c == '\\' || c == '\n' || c == '\r' || c == spec.delimiter) stream += '\\';
            stream += c == '\n' && one_in(random, 2) ? 'n' : c;
          }
      }
      if (rows > 1 || !one_in(random, 3)) stream += line_end;
    }
    if (one_in(random, 4)) stream += "\\." + line_end + "ignored";
    if (one_in(random, 3)) mutate(stream, "a\\\n\r.|\t", random);
    SCOPED_TRACE(options + "\n" + testing::PrintToString(stream));
    accepted += compare(spec, options, stream, random) ? 1 : 0;
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 400);
}

TEST_F(CopySplitServer, Csv) {
  Random random(2);
  constexpr std::string_view kField = "ab,\"\"\\'.N\n\r ";
  int accepted = 0;
  for (int round = 0; round < 1200; ++round) {
    plan::CopyIn spec = spec_of(Format::csv);
    spec.delimiter = ',';
    spec.null_text = "";
    std::string options = "FORMAT csv";
    if (one_in(random, 4)) spec.null_text = "N", options += ", NULL 'N'";
    if (one_in(random, 4)) spec.quote = spec.escape = '\'', options += ", QUOTE ''''";
    if (one_in(random, 3)) spec.escape = '\\', options += ", ESCAPE '\\'";
    if (one_in(random, 4)) spec.header = true, options += ", HEADER";
    const std::string line_end = random_line_end(random);
    std::string stream;
    for (std::size_t rows = random() % 6; rows > 0; --rows) {
      for (int field = 0; field < 3; ++field) {
        if (field > 0) stream += spec.delimiter;
        if (one_in(random, 6))
          stream += spec.null_text;
        else if (one_in(random, 4))
          stream += random_text(random, "ab. \\", 6);
        else if (one_in(random, 8))
          stream += random_text(random, kField, 6);
        else {
          stream += spec.quote;
          for (char c : random_text(random, kField, 8)) {
            if (c == spec.quote || c == spec.escape) stream += spec.escape;
            stream += c;
          }
          stream += spec.quote;
        }
      }
      if (rows > 1 || !one_in(random, 3)) stream += line_end;
    }
    if (one_in(random, 4)) stream += "\\." + line_end + "ignored";
    if (one_in(random, 3)) mutate(stream, "a,\"'\\\n\r.", random);
    SCOPED_TRACE(options + "\n" + testing::PrintToString(stream));
    accepted += compare(spec, options, stream, random) ? 1 : 0;
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 400);
}

TEST_F(CopySplitServer, Binary) {
  Random random(3);
  const plan::CopyIn spec = spec_of(Format::binary);
  int accepted = 0;
  for (int round = 0; round < 600; ++round) {
    std::string stream("PGCOPY\n\377\r\n\0\0\0\0\0", 15);
    const std::string extension = one_in(random, 4) ? random_text(random, "xyz", 5) : "";
    append_big_endian<int32_t>(stream, static_cast<int32_t>(extension.size()));
    stream += extension;
    for (std::size_t rows = random() % 5; rows > 0; --rows) {
      append_big_endian<int16_t>(stream, 3);
      for (int field = 0; field < 3; ++field) {
        const std::string value = random_text(random, "abc\n\t\\", 6);
        const bool null = one_in(random, 5);
        append_big_endian<int32_t>(stream, null ? -1 : static_cast<int32_t>(value.size()));
        if (!null) stream += value;
      }
    }
    if (one_in(random, 2)) append_big_endian<int16_t>(stream, -1);
    if (one_in(random, 2)) mutate(stream, std::string_view("\0\1\2\3a\xff", 6), random);
    SCOPED_TRACE(testing::PrintToString(stream));
    accepted += compare(spec, "FORMAT binary", stream, random) ? 1 : 0;
    if (HasFailure()) return;
  }
  EXPECT_GT(accepted, 200);
}

}  // namespace
}  // namespace pgmosaic::exec
