// What the planner gives for statements that are no queries: changes of the schema, and the session's own commands.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"

namespace pgmosaic::plan {

// Statements that the session itself handles.
struct SessionCommand {
  enum class Kind : uint8_t {
    begin,
    commit,
    rollback,
    savepoint,
    release,
    rollback_to,
    prepare_transaction,
    commit_prepared,
    rollback_prepared,
    set,
    set_local,
    reset,
    reset_all,
    discard_all,
    discard_plans,
    discard_temp,
    discard_sequences,
    prepare,
    execute,
    deallocate,
    deallocate_all,
    listen,
    unlisten,
    unlisten_all,
    declare_cursor,
    fetch_cursor,
    close_cursor,
    close_all_cursors,
    set_constraints,
    set_transaction,
    set_session_characteristics,
    empty,
  };
  Kind kind = Kind::empty;
  std::string name;  // setting, prepared statement, savepoint, cursor or channel
  std::string sql;   // SET: canonical statement to replay ("SET search_path TO a, b"); PREPARE: the inner statement
  bool chain = false;
  std::vector<std::string> arguments;  // EXECUTE: argument expressions as SQL; PREPARE: type names
  // DECLARE CURSOR: plan of its query, whose text is inner->rewritten_sql; literal numbers count in the whole statement
  std::shared_ptr<const struct Plan> inner;
};

// A statement that changes the schema: what each group runs, in one distributed transaction.
struct Ddl {
  std::vector<std::string> everywhere;  // run on every group, in order (dialect clauses stripped)
  // A new sharded table: after `everywhere`, each group creates the leaves it owns.
  struct NewSharded {
    std::string schema;  // empty: the first schema of search_path, resolved by the executor
    std::string table;
    std::vector<std::string> key_columns;
    uint32_t shard_count = 16;
    bool if_not_exists = false;
    bool unlogged = false;       // the leaves are UNLOGGED
    std::string storage;         // storage parameters of the leaves: "fillfactor=70"
    std::string colocate_with;   // "none", a table as written ("schema.table" or "table"), or empty: any fitting one
    bool by_partition = false;   // its shards are the partitions that the user declares
    bool by_expression = false;  // of which key_columns tells nothing
    bool in_partitions = false;  // no leaves of its own: those partitions are spread by its key
  };
  std::optional<NewSharded> new_sharded;
  // A new table of another kind: recorded in the catalog once it exists.
  struct NewTable {
    std::string schema;
    std::string table;
    catalog::TableKind kind = catalog::TableKind::local;
  };
  std::optional<NewTable> new_table;
  // New partitions that users declare: after `everywhere`, each is placed on a group, or gets leaves.
  struct NewPartition {
    std::string schema;  // empty: as in NewSharded
    std::string table;
    bool unlogged = false;  // of leaves
    std::string storage;
    bool adopted = false;  // a local table that becomes one: its rows, which the home has, go with it, before …
    bool spread = false;   // adopted: it is not local, its partitions are on several groups, and it must be empty
    std::string parent;    // … it is attached to this table, qualified and quoted
  };
  std::vector<NewPartition> new_partitions;
  std::vector<Error> notices;  // for the client, once it is done; see key_notices.h
  // The table's leaves are replaced by partitions of its user's own, before all else.
  struct ReplacedLeaves {
    catalog::Oid table = 0;
  };
  std::optional<ReplacedLeaves> replaced_leaves;
  // ADD COLUMN with values that groups must not compute by themselves (router/new_columns.h). In everywhere[0] stand
  // string constants '/*<mark>v<n>*/' for values[n] and '/*<mark>o<n>*/' for once[n].
  struct NewColumns {
    struct Column {
      std::string name;
      bool own_sequence = false;  // serial, identity
    };
    struct Values {
      std::string column;
      std::string sequence;  // whose numbers they are, as nextval() has it; empty: the column's own
    };
    catalog::Oid table = 0;
    std::string name;     // qualified and quoted
    bool copies = false;  // a reference table: each row gets the value that it has at home
    std::vector<Column> columns;
    std::vector<Values> values;
    std::vector<std::string> once;  // expressions
    std::string mark;
  };
  std::optional<NewColumns> new_columns;
  // CREATE INDEX CONCURRENTLY, and REINDEX: in steps, each of which is committed (router/index_work.h).
  struct IndexWork {
    enum class Verb : uint8_t { create, rebuild_index, rebuild_table } verb = Verb::create;
    bool concurrently = true;
    catalog::Oid table = 0;  // at home; rebuild_index: not known here
    std::string name;        // create: of the index as it will be, empty: PostgreSQL chooses; else as it is written
    std::string statement;   // as the client wrote it
    std::string options;     // REINDEX: "(TABLESPACE x) " for the parts of an index
  };
  std::optional<IndexWork> index;
  // The groups lose what an interrupted IndexWork has left of indexes that are gone.
  bool drops_indexes = false;
  std::string not_partitioned;  // DROP INDEX CONCURRENTLY: of this index PostgreSQL refuses it, where it is partitioned
  bool gentle = false;          // waits for locks by moments, so that nobody waits for it for longer
  bool changes_catalog = true;  // tables or columns may differ afterwards: introspect the home, publish an epoch
  bool moves_owner = false;     // tables get another owner: their leaves follow
  bool transactional = true;    // false: CREATE DATABASE and the like
  std::string alone;            // not in a transaction block; its name in the error
  std::string tag;              // command tag for the client
  std::string object;           // CREATE/DROP DATABASE, CREATE/ALTER ROLE: its name; empty: CURRENT_USER
  std::string renamed_to;       // ALTER DATABASE: the new name of `object`
  bool force = false;           // DROP DATABASE: ends its sessions first
  bool hash_password = false;   // everywhere[0] holds a password: it is hashed once before it is sent
  // The relation is not in the catalog. If the session holds temporary objects it may be one of them: the statement
  // then runs on the home group alone, as a plain statement.
  bool unknown_relation = false;
  // What the home runs in place of the text in `everywhere` at the same place, where it is not empty. CREATE TABLE: the
  // table as declared, not partitioned; CREATE TABLE AS: with the rows, of which the other groups only make the empty
  // table.
  std::vector<std::string> home_instead;
  bool done_at_home = false;  // the home has run it already, within a function
  // It makes or resets sequences: those of the groups are sealed behind it, so that numbers come from the home alone.
  bool seals_sequences = false;
  // The table whose columns change their types, qualified and quoted: where the others' identity sequences are, sealed,
  // the new type may not reach. They are taken back before it.
  std::string reopens_sequences_of;
  // Roles and the like belong to a server: the group that shares one with the home has them with it.
  bool server_wide = false;
  // What that group runs in place of everywhere[0], where the statement names a database.
  std::string beside_home_instead;
  // EXPLAIN ANALYZE of a statement that makes a relation: the rows with which the home answers are the client's.
  bool shows_rows = false;
  // CREATE TABLE … AS and SELECT INTO, and LIKE of a temporary table. What columns the query has the home tells, and
  // the table that is made of them is planned and created like any other; then come the rows.
  struct FromQuery {
    std::string sql;  // the client's text
    std::string schema, table;
    std::string create;   // CREATE UNLOGGED TABLE IF NOT EXISTS s.t, without columns
    std::string clauses;  // what stands behind the columns, in our dialect
    std::string plain;    // `create` with names of columns and PostgreSQL's own clauses, up to AS
    std::string query;    // SELECT … or EXECUTE …
    std::string home;     // what the home runs where it can compute the rows and keeps them; with EXPLAIN …
    std::optional<SessionCommand> execute;
    bool like = false;     // no query: `plain` is the whole statement
    bool at_home = false;  // the home can compute the rows; of EXECUTE its statement tells
    bool no_data = false;
    bool if_not_exists = false;
    bool temporary = false;
    bool explain = false;       // `home` begins so, and …
    bool explain_only = false;  // … makes no table
  };
  std::optional<FromQuery> from_query;
  // CREATE, ALTER and DROP SUBSCRIPTION: where they bring tables it is looked at these (router/subscriptions.h).
  struct Subscription {
    std::string name;
    bool alone = true;     // outside of a transaction block the home runs it by itself
    std::string disabled;  // CREATE: as it runs first; empty: it brings no tables
    bool enables = false;  // … to be enabled behind it
    // ALTER: the publications whose tables it brings.
    enum class Adds : uint8_t { nothing, same, these, more, fewer } adds = Adds::nothing;
    std::vector<std::string> publications;  // as the statement names them
  };
  std::optional<Subscription> subscription;
  // The rows of a materialized view, which the home keeps, and the router reads where its query goes to other groups:
  // router/materialized.cc.
  struct ViewRows {
    std::string name;     // as the client wrote it
    std::string refresh;  // the client's REFRESH; empty: `everywhere` makes the view without rows
    bool concurrently = false;
    bool if_not_exists = false;
  };
  std::optional<ViewRows> view_rows;
};

}  // namespace pgmosaic::plan
