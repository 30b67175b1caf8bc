// Our partition hash against satisfies_hash_partition() of a PostgreSQL, and our reading of literals against its own.
#include <gtest/gtest.h>

#include "catalog/hashing.h"
#include "harness/key_values.h"
#include "harness/pg_connection.h"
#include "harness/postgres_server.h"

namespace pgmosaic::catalog {
namespace {

using test::array_literal;
using test::key_types;
using test::KeyType;
using test::make_values;
using test::PgConnection;
using test::PgResult;
using test::PostgresServer;
using test::Random;
using test::Texts;

constexpr int kValuesPerType = 3000;
// The last one compares 31 bits of the hash.
constexpr uint32_t kModuli[] = {1, 2, 3, 16, 100, 2147483647};

// combine_hash for one column, as a remainder.
uint64_t remainder_of(uint64_t column_hash, uint32_t modulus) { return combine_hash(0, column_hash) % modulus; }

class HashingAgainstPostgres : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = std::make_unique<PostgresServer>();
    connection_ = std::make_unique<PgConnection>(server_->conninfo());
    connection_->execute("SET client_min_messages = warning");
    for (const KeyType& type : key_types())
      connection_->execute("CREATE TABLE hash_" + type.name + " (k " + type.name + ") PARTITION BY HASH (k)");
    // The exact remainder for a modulus, or 'refused' when PostgreSQL does not take the literal.
    connection_->execute(R"(
      CREATE FUNCTION agrees(type text, literal text, remainder bigint) RETURNS text LANGUAGE plpgsql AS $$
      DECLARE answer boolean;
      BEGIN
        EXECUTE format('SELECT satisfies_hash_partition(''hash_%s''::regclass, 2147483647, $1, $2::%s)', type, type)
          USING remainder::int, literal INTO answer;
        RETURN CASE WHEN answer THEN 'agrees' ELSE 'differs' END;
      EXCEPTION WHEN data_exception OR program_limit_exceeded THEN RETURN 'refused';
      END $$)");
  }
  static void TearDownTestSuite() {
    connection_.reset();
    server_.reset();
  }

  static PgConnection& pg() { return *connection_; }

  // Every value's remainder, as we compute it from `hashes`, holds in PostgreSQL.
  static void expect_remainders(const KeyType& type, const Texts& values, const std::vector<uint64_t>& hashes) {
    for (const uint32_t modulus : kModuli) {
      Texts remainders;
      for (const uint64_t hash : hashes) remainders.push_back(std::to_string(remainder_of(hash, modulus)));
      const PgResult wrong = pg().query(
          "SELECT v FROM unnest($1::text[], $2::int[]) AS u(v, r) WHERE NOT satisfies_hash_partition('hash_" +
              type.name + "'::regclass, " + std::to_string(modulus) + ", r, v::" + type.name + ")",
          {array_literal(values), array_literal(remainders)});
      ASSERT_EQ(PQntuples(wrong.get()), 0)
          << type.name << " modulo " << modulus << ": " << PQgetvalue(wrong.get(), 0, 0);
    }
  }

  // Whatever we decide about a literal, PostgreSQL decides too, and alike. How many we decided.
  static int expect_no_guess(const KeyType& type, const Texts& values, const TextContext& context) {
    Texts decided, remainders;
    for (const std::string& value : values) {
      const auto hash = hash_key_value(type.oid, ValueFormat::text, value, context);
      if (!hash) continue;
      decided.push_back(value);
      remainders.push_back(std::to_string(remainder_of(*hash, 2147483647)));
    }
    const PgResult wrong = pg().query("SELECT v, a FROM unnest($1::text[], $2::bigint[]) AS u(v, r), agrees('" +
                                          type.name + "', v, r) AS a WHERE a <> 'agrees'",
                                      {array_literal(decided), array_literal(remainders)});
    EXPECT_EQ(PQntuples(wrong.get()), 0) << type.name << " " << PQgetvalue(wrong.get(), 0, 1) << ": "
                                         << PQgetvalue(wrong.get(), 0, 0);
    return static_cast<int>(decided.size());
  }

  static std::unique_ptr<PostgresServer> server_;
  static std::unique_ptr<PgConnection> connection_;
};

std::unique_ptr<PostgresServer> HashingAgainstPostgres::server_;
std::unique_ptr<PgConnection> HashingAgainstPostgres::connection_;

TEST_F(HashingAgainstPostgres, text_form) {
  Random random;
  pg().execute("SET timezone = 'UTC'");
  for (const KeyType& type : key_types()) {
    const Texts values = make_values(type, random, kValuesPerType);
    std::vector<uint64_t> hashes;
    for (const std::string& value : values) {
      const auto hash = hash_key_value(type.oid, ValueFormat::text, value, {.standard_timezone_utc = true});
      ASSERT_TRUE(hash.has_value()) << type.name << ": " << value;
      hashes.push_back(*hash);
    }
    expect_remainders(type, values, hashes);
  }
}

TEST_F(HashingAgainstPostgres, server_output_in_text_and_binary_form) {
  Random random;
  pg().execute("SET timezone = 'Asia/Kolkata'");
  for (const KeyType& type : key_types()) {
    const Texts values = make_values(type, random, kValuesPerType);
    const std::string sql = "SELECT v::" + type.name + " FROM unnest($1::text[]) WITH ORDINALITY AS u(v, n) ORDER BY n";
    for (const ValueFormat format : {ValueFormat::text, ValueFormat::binary}) {
      const PgResult rows = pg().query(sql, {array_literal(values)}, format == ValueFormat::binary ? 1 : 0);
      ASSERT_EQ(PQntuples(rows.get()), kValuesPerType);
      std::vector<uint64_t> hashes;
      for (int i = 0; i < kValuesPerType; ++i) {
        const std::string_view value(PQgetvalue(rows.get(), i, 0), static_cast<size_t>(PQgetlength(rows.get(), i, 0)));
        const auto hash = hash_key_value(type.oid, format, value, {});
        ASSERT_TRUE(hash.has_value()) << type.name << ": " << values[static_cast<size_t>(i)];
        hashes.push_back(*hash);
      }
      expect_remainders(type, values, hashes);
    }
  }
  pg().execute("RESET timezone");
}

TEST_F(HashingAgainstPostgres, damaged_literals_are_never_guessed) {
  Random random;
  for (const char* date_style : {"ISO, MDY", "ISO, DMY", "ISO, YMD", "SQL, DMY", "German", "Postgres, MDY"}) {
    pg().execute(std::string("SET timezone = 'UTC'; SET datestyle = '") + date_style + "'");
    for (const KeyType& type : key_types()) {
      Texts values = make_values(type, random, 800);
      for (std::string& value : values) {
        for (uint64_t n = 1 + random.below(2); n > 0; --n) {
          const size_t at = random.below(value.size() + 1);
          const char c = random.pick("0123456789+-.: eETZtz{}\\xabcf_'/");
          switch (random.below(3)) {
            case 0: value.insert(at, 1, c); break;
            case 1:
              if (at < value.size() && (value[at] & 0x80) == 0) value.erase(at, 1);
              break;
            default:
              if (at < value.size() && (value[at] & 0x80) == 0) value[at] = c;
          }
        }
        // An insertion inside a character would make the parameter itself invalid.
        for (char& c : value)
          if ((c & 0x80) != 0) c = 'u';
      }
      EXPECT_GT(expect_no_guess(type, values, {.standard_timezone_utc = true}), 20) << type.name;
    }
  }
  pg().execute("RESET datestyle; RESET timezone");
}

// Fields around their limits.
std::string make_edgy_timestamp(Random& random, bool date_only) {
  static const Texts years = {"0000", "0001",  "1900",   "1999",   "2000",    "2023", "2024",
                              "9999", "10000", "294276", "294277", "5874897", "999"};
  std::string text =
      years[random.below(years.size())] + "-" + random.two(14) + "-" + random.two(8, random.below(2) == 0 ? 0 : 25);
  if (date_only || random.below(10) == 0) return text;
  text += (random.below(2) == 0 ? " " : "T") + random.two(4, random.below(2) == 0 ? 0 : 22) + ":" +
          random.two(3, random.below(2) == 0 ? 0 : 58);
  if (random.below(4) > 0) text += ":" + random.two(3, random.below(3) > 0 ? 0 : 58);
  if (random.below(3) == 0) text += "." + random.digits(random.below(9));
  if (random.below(2) == 0) text += (random.below(2) == 0 ? "+" : "-") + random.two(18);
  if (random.below(3) == 0) text += ":" + random.two(4, 57);
  return text;
}

TEST_F(HashingAgainstPostgres, dates_at_their_limits_are_never_guessed) {
  Random random;
  pg().execute("SET timezone = 'UTC'");
  for (const size_t index : {8, 9, 10}) {
    const KeyType& type = key_types()[index];
    Texts values;
    for (int i = 0; i < 8000; ++i) values.push_back(make_edgy_timestamp(random, type.name == "date"));
    EXPECT_GT(expect_no_guess(type, values, {.standard_timezone_utc = true}), 500) << type.name;
  }
  pg().execute("RESET timezone");
}

TEST_F(HashingAgainstPostgres, odd_literals_are_never_guessed) {
  const Texts odd = {"",
                     " ",
                     "0",
                     "-0",
                     "+1",
                     "1.",
                     ".5",
                     "1e5",
                     "1E+5",
                     "1e-1000",
                     "0x1F",
                     "1_000",
                     " 12 ",
                     "12\n",
                     "٣",
                     "inf",
                     "+inf",
                     "-inf",
                     "infinity",
                     "Infinity",
                     "+infinity",
                     "nan",
                     "NaN",
                     "+NaN",
                     "o",
                     "of",
                     "ON",
                     "2024-02-29",
                     "2023-02-29",
                     "2024-01-01 24:00",
                     "2024-01-01 23:59:60",
                     "2024-01-01 10:00:00.1234565",
                     "2024-01-01T10:00Z",
                     "2024-01-01 10:00-00",
                     "2024-01-01 10:00+15:59:59",
                     "0001-01-01",
                     "0000-01-01",
                     "0001-01-01 BC",
                     "9999-12-31",
                     "10000-01-01",
                     "5874897-12-31",
                     "5874898-01-01",
                     "294276-12-31 23:59:59.999999",
                     "294277-01-01",
                     "epoch",
                     "today",
                     "2024-01-01 10:00 Europe/Berlin",
                     "\\x",
                     "\\xDEADBEEF",
                     "\\xd e",
                     "\\134",
                     "\\\\",
                     "\\400",
                     "abc   ",
                     "   "};
  pg().execute("SET timezone = 'UTC'");
  int decided = 0;
  for (const KeyType& type : key_types()) decided += expect_no_guess(type, odd, {.standard_timezone_utc = true});
  EXPECT_GT(decided, 200);
  pg().execute("RESET timezone");
}

TEST_F(HashingAgainstPostgres, composite_keys_with_nulls) {
  Random random;
  pg().execute("SET timezone = 'UTC'");
  const std::vector<KeyType>& types = key_types();
  for (int table = 0; table < 12; ++table) {
    std::vector<const KeyType*> columns;
    for (uint64_t n = 2 + random.below(3); n > 0; --n) columns.push_back(&types[random.below(types.size())]);
    std::string definition, names, arguments, parameters;
    std::vector<Texts> values(columns.size());
    Texts actuals;
    for (size_t c = 0; c < columns.size(); ++c) {
      const std::string name = "c" + std::to_string(c);
      definition += (c > 0 ? ", " : "") + name + " " + columns[c]->name;
      names += (c > 0 ? ", " : "") + name;
      parameters += "$" + std::to_string(c + 2) + "::text[], ";
      arguments += ", nullif(" + name + ", 'NULL')::" + columns[c]->name;
    }
    pg().execute("CREATE TABLE composite (" + definition + ") PARTITION BY HASH (" + names + ")");
    for (const uint32_t modulus : kModuli) {
      Texts remainders;
      for (Texts& column : values) column.clear();
      for (int row = 0; row < 200; ++row) {
        uint64_t hash = 0;
        for (size_t c = 0; c < columns.size(); ++c) {
          const bool null = random.below(5) == 0;
          values[c].push_back(null ? "NULL" : columns[c]->make(random));
          if (null) continue;
          const auto column_hash =
              hash_key_value(columns[c]->oid, ValueFormat::text, values[c].back(), {.standard_timezone_utc = true});
          ASSERT_TRUE(column_hash.has_value());
          hash = combine_hash(hash, *column_hash);
        }
        remainders.push_back(std::to_string(hash % modulus));
      }
      actuals = {array_literal(remainders)};
      for (const Texts& column : values) actuals.push_back(array_literal(column));
      const PgResult wrong = pg().query("SELECT count(*) FROM unnest(" + parameters + "$1::int[]) AS u(" + names +
                                            ", r) WHERE NOT satisfies_hash_partition('composite'::regclass, " +
                                            std::to_string(modulus) + ", r" + arguments + ")",
                                        actuals);
      ASSERT_STREQ(PQgetvalue(wrong.get(), 0, 0), "0") << definition;
    }
    pg().execute("DROP TABLE composite");
  }
}

// stored_unchanged() says yes only where the stored value hashes like the literal.
TEST_F(HashingAgainstPostgres, type_modifiers) {
  Random random;
  pg().execute("SET timezone = 'UTC'");
  struct Modified {
    size_t type;
    std::string declaration;
  };
  const std::vector<Modified> columns = {{6, "bpchar(12)"},      {7, "varchar(12)"},     {9, "timestamp(0)"},
                                         {9, "timestamp(3)"},    {10, "timestamptz(2)"}, {11, "numeric(40,3)"},
                                         {11, "numeric(40,-2)"}, {11, "numeric(40,0)"}};
  for (const Modified& column : columns) {
    const KeyType& type = key_types()[column.type];
    pg().execute("CREATE TABLE modified (k " + column.declaration + ") PARTITION BY HASH (k)");
    const int typmod = std::stoi(
        pg().value("SELECT atttypmod FROM pg_attribute WHERE attrelid = 'modified'::regclass AND attname = 'k'"));
    Texts values, remainders;
    for (int i = 0; i < 2000; ++i) {
      const std::string value = type.make(random);
      const auto hash = hash_key_value(type.oid, ValueFormat::text, value, {.standard_timezone_utc = true});
      if (!hash || !stored_unchanged(type.oid, typmod, ValueFormat::text, value) || value.size() > 32) continue;
      if (column.declaration == "bpchar(12)" && value.size() > 12) continue;
      if (value.find("nf") != std::string::npos && type.oid == 1700) continue;
      values.push_back(value);
      remainders.push_back(std::to_string(remainder_of(*hash, 2147483647)));
    }
    if (column.declaration != "numeric(40,-2)") {
      EXPECT_GT(values.size(), 100u) << column.declaration;
    }
    const PgResult wrong = pg().query(
        "SELECT v FROM unnest($1::text[], $2::int[]) AS u(v, r) WHERE NOT "
        "satisfies_hash_partition('modified'::regclass, 2147483647, r, v::" +
            column.declaration + ")",
        {array_literal(values), array_literal(remainders)});
    EXPECT_EQ(PQntuples(wrong.get()), 0) << column.declaration << ": " << PQgetvalue(wrong.get(), 0, 0);
    pg().execute("DROP TABLE modified");
  }
}

}  // namespace
}  // namespace pgmosaic::catalog
