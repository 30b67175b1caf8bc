#include "control/schema_facts.h"

#include "control/schema_facts_sql.h"

namespace pgmosaic::control {

namespace {

using Rows = pool::ServerConn::Rows;

// Whoever has a table locked (an ALTER TABLE in an open transaction) is not waited for longer than this. What the
// settings below change is how constants in definitions are printed.
constexpr const char* kSettings =
    "SET search_path = ''; SET lock_timeout = '5s'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; "
    "SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 1; SET quote_all_identifiers = off; "
    "SET jit = off";

constexpr std::size_t kTablesPerQuery = 200;

const std::string& facts_sql() {
  static const std::string sql = std::string(kFactNames) + kRelationFacts + " UNION ALL " + kColumnFacts +
                                 " UNION ALL " + kTableFacts + " UNION ALL " + kOtherFacts + " UNION ALL " +
                                 kPrivilegeFacts;
  return sql;
}

std::string relations_sql(const std::vector<catalog::Oid>& oids) {
  std::string list = "0";
  for (const catalog::Oid oid : oids) list += ", " + std::to_string(oid);
  return kHomeRelations + list + ")";
}

void read_facts(const Rows& rows, SchemaFacts& facts) {
  for (const auto& row : rows.rows) {
    SchemaObject& object = facts[*row[0]];
    if (row[1]) object.parent = *row[1];
    if (row[3] && !row[3]->empty()) object.properties[*row[2]] = *row[3];
  }
}

void read_leaves(const Rows& rows, std::vector<Leaf>& leaves) {
  for (const auto& row : rows.rows) leaves.push_back({*row[0], *row[1], *row[2], *row[3], *row[4], row[5] == "t"});
}

void read_relations(const Rows& rows, std::map<catalog::Oid, HomeRelation>& relations) {
  for (const auto& row : rows.rows) {
    HomeRelation& relation = relations[static_cast<catalog::Oid>(std::stoul(*row[0]))];
    relation.name = *row[1];
    if (row[2]) relation.columns[std::stoi(*row[2])] = *row[3];
  }
}

}  // namespace

void ask(pool::ServerConn& conn) {
  conn.add_internal_query(kSettings);
  conn.add_internal_query(facts_sql());
  conn.flush();
}

net::Task<Result<Look>> read_look(pool::ServerConn& conn, bool home, std::vector<catalog::Oid> oids) {
  Look look;
  Rows facts;
  CO_TRY(co_await conn.drain(&facts));
  read_facts(facts, look.facts);
  CO_TRY_ASSIGN(const Rows stuck, co_await conn.query(kStuck));
  for (const auto& row : stuck.rows) look.stuck.push_back({*row[0], *row[1]});
  CO_TRY_ASSIGN(const Rows unfinished, co_await conn.query(home ? kUnfinishedAtHome : kUnfinishedParts));
  for (const auto& row : unfinished.rows) look.unfinished_indexes.push_back(*row[0]);
  if (home) {
    const std::string question = relations_sql(oids);
    CO_TRY_ASSIGN(const Rows relations, co_await conn.query(question));
    read_relations(relations, look.relations);
    co_return look;
  }
  CO_TRY_ASSIGN(const Rows leaves, co_await conn.query(kLeaves));
  read_leaves(leaves, look.leaves);
  CO_TRY_ASSIGN(const Rows sequences, co_await conn.query(kOpenSequences));
  for (const auto& row : sequences.rows) look.open_sequences.push_back(*row[0]);
  co_return look;
}

net::Task<Result<std::vector<std::string>>> find_rows(pool::ServerConn& conn, std::vector<std::string> tables) {
  std::vector<std::string> found;
  for (std::size_t begin = 0; begin < tables.size(); begin += kTablesPerQuery) {
    std::string question;
    for (std::size_t i = begin; i < std::min(tables.size(), begin + kTablesPerQuery); ++i)
      question += (question.empty() ? "SELECT " : " UNION ALL SELECT ") + pool::quote_literal(tables[i]) +
                  " WHERE EXISTS (SELECT FROM ONLY " + tables[i] + ")";
    CO_TRY_ASSIGN(const Rows rows, co_await conn.query(question));
    for (const auto& row : rows.rows) found.push_back(*row[0]);
  }
  co_return found;
}

}  // namespace pgmosaic::control
