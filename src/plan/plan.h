// What the planner gives the executor. A Plan is immutable and shared: prepared statements and the shape cache keep
// it; executing it never changes it. It holds no values of a particular execution, only where they come from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "plan/commands.h"

namespace pgmosaic::plan {

// Where the value of a key column comes from when the statement is executed.
struct KeySource {
  enum class Kind : uint8_t {
    literal,      // sql::Shape literal number `index` (order of appearance in the text), without quotes/escapes
    parameter,    // $index+1
    array_param,  // $index+1 is an array; each element is one value (= ANY($1)); only in single-column keys
    null_value,   // NULL written in an INSERT
    constant,     // `text`, a value the planner knows (TRUE, literals of a statement that was rewritten)
  };
  Kind kind = Kind::literal;
  bool negate = false;  // literal: a minus sign stands before it
  uint32_t index = 0;
  catalog::Oid type = 0;  // base type of the key column, i.e. the type whose hash function applies
  // parameter, array_param: the type in which the value arrives (the array's type for array_param) where it was
  // declared or cast; 0: inferred by PostgreSQL from the key column (another width of integer, varchar for text and
  // text for varchar are possible).
  catalog::Oid value_type = 0;
  // INSERT only: the column's typmod. A value it would change (longer than varchar(n), more digits than
  // numeric(p, s), …) must not be hashed as it stands.
  int32_t typmod = -1;
  std::string text = {};  // constant
};

// One value per key column.
using KeyTuple = std::vector<KeySource>;

// A range of the first distribution column in which all rows of one table lie that matter.
struct KeyWindow {
  struct Side {
    KeySource value;
    bool inclusive = false;
  };
  std::vector<Side> lower, upper;  // all of them hold; none: open
};

// Which groups a statement goes to.
struct Target {
  enum class Kind : uint8_t {
    any,        // needs no table: any one group (SELECT 1)
    home,       // the home group (catalog queries, local tables, advisory locks, LISTEN/NOTIFY, sequences)
    keys,       // groups of the given keys (one or several tuples: IN, OR); no tuple: contradiction, any one group
    all,        // every group that holds shards of `colocation`
    everywhere  // every group of the cluster (reference table writes, DDL)
  };
  Kind kind = Kind::any;
  catalog::ColocationId colocation = 0;
  std::vector<KeyTuple> keys;
  // all: of a table sharded by ranges, one for each of its uses in the statement. Only groups that have partitions
  // within one of them matter. Empty: they all do.
  std::vector<KeyWindow> windows;

  bool has_values() const { return kind == Kind::keys || !windows.empty(); }
};

// What a statement does to the backend it runs on (DESIGN §4).
struct Effects {
  bool writes = false;       // may write rows or take row locks: the group becomes a writer of the transaction
  bool taints = false;       // may leave session state we cannot see: DISCARD ALL before the next client
  bool pins = false;         // temp table, session advisory lock, LISTEN, WITH HOLD cursor: backend stays with client
  bool sets_config = false;  // calls set_config(…, false): the session's settings are read back afterwards
  bool not_preparable = false;  // NOTIFY, temp table, WITH HOLD…: this group must be the anchor of a 2PC
  catalog::Draws draws;         // of what the home runs: how it changes the session's currval and lastval
};

// A column to merge by, when sorted streams of several groups become one.
struct SortKey {
  uint16_t column = 0;  // position in the rows that the groups return (hidden columns included)
  bool descending = false;
  bool nulls_first = false;
  catalog::Oid type = 0;  // of the column: bool, int2/4/8, oid, float4/8, numeric, date, timestamp(tz), uuid, bytea,
                          // or text/varchar with bytewise collation
};

// A SELECT, UPDATE or DELETE of at most one row by its whole primary key. The leaf that holds the row can be named by a
// prepared statement, which PostgreSQL neither parses nor plans again, nor looks for the partition (TRAPS 23).
struct PointStatement {
  std::string shard_prefix;             // of the table: see catalog::Table
  std::string before_leaf, after_leaf;  // the statement around the table's name; its literals are $1, $2, …
  // Types of the literals of a statement without parameters, in order (int2, int4, int8, numeric, text, varchar or
  // uuid); empty: the values, if any, are the client's own parameters.
  std::vector<catalog::Oid> literal_types;
};

// Several groups answer; the router concatenates or merges.
struct Gather {
  // What each group runs. Empty: the client's own text, untouched.
  std::string sql;
  std::vector<SortKey> merge;   // empty: plain concatenation
  uint16_t hidden_columns = 0;  // trailing columns of the groups' rows that the client must not see
  // LIMIT/OFFSET that the router applies after merging: a constant, a parameter number or absent.
  struct Bound {
    std::optional<uint64_t> constant;
    int parameter = 0;  // 1-based; 0: none
  };
  Bound limit, offset;
};

// Partial results of several groups are combined by SQL that a PostgreSQL runs over them.
//   partial_sql  runs on every target group; its columns are c1..cn
//   final_sql    runs on one group, reads FROM "pgmosaic_partial" (c1..cn), which the executor replaces by
//                unnest over arrays or a working table. It may contain the statement's parameters.
struct Combine {
  std::string partial_sql;
  std::string
      final_prefix;  // final_sql = final_prefix + <the relation with alias pgmosaic_partial(c1,…)> + final_suffix
  std::string final_suffix;
  uint16_t partial_columns = 0;
};

// INSERT … VALUES with rows for several shards: row texts are slices of the statement.
struct InsertSplit {
  std::string prefix;  // "INSERT INTO t (cols) VALUES " as the client wrote it
  std::string suffix;  // everything behind the last row (ON CONFLICT, RETURNING)
  struct Row {
    uint32_t begin = 0, end = 0;  // byte range of "( … )" in the client's text
    KeyTuple key;
  };
  std::vector<Row> rows;
  catalog::ColocationId colocation = 0;
};

// INSERT … VALUES with values that one PostgreSQL must compute before the rows are told apart: numbers of sequences,
// defaults and functions that differ between servers, expressions for the key; other statements with currval().
struct Fill {
  struct Draw {  // which of the answers is a number that a sequence gave
    catalog::Oid sequence = 0;
    uint32_t row = 0, column = 0;
    int64_t most = 0;  // of the column's type
    bool identity = false;
  };
  std::string question;  // what the home is asked: as many rows as the statement has, of text columns
  std::vector<Draw> draws;
  catalog::Draws draws_unseen;  // by functions in the question
  std::string statement;        // the INSERT with '/*<mark><row>:<column>*/' in the place of each value asked for
  bool numbers_alone = false;   // all that is asked is in `draws`, and integers
  bool expressions = false;     // some values are the statement's own, which PostgreSQL has not checked yet
  bool pulls = false;           // `statement` has one row, to be repeated for each row of the answer
  bool splits_moments = false;  // now() is in the question, and in the rest of the statement, too
  std::string mark;             // occurs nowhere else in it
  std::size_t columns = 0;      // of the question
};

// COPY t (cols) FROM STDIN into a sharded or reference table, split as a stream.
struct CopyIn {
  catalog::Oid table = 0;
  std::string name;                  // the table's; empty: not known
  std::vector<std::string> columns;  // of a row of the stream, where the router reads it
  std::vector<int> key_fields;       // position of each key column in a row of the stream
  std::vector<catalog::Oid> key_types;
  std::vector<int32_t> key_typmods;      // see KeySource::typmod
  catalog::ColocationId colocation = 0;  // 0: reference (every group) or local (home): see target
  enum class Format : uint8_t { text, csv, binary } format = Format::text;
  char delimiter = '\t', quote = '"', escape = '"';
  std::string null_text = "\\N";
  bool header = false;
  std::vector<bool> force_null, force_not_null;  // CSV, of each key column
  // Columns that the client's rows lack: the router puts values in front of each row. `key_fields` counts them.
  struct Filled {
    std::string name;
    catalog::Oid sequence = 0;                   // its numbers, up to …
    int64_t most = 0;                            // … those of the column's type (0: no integer type), or …
    std::string expression;                      // … what the home is asked, for a text
    bool identity = false, of_each_row = false;  // of a sequence; of an expression
  };
  std::vector<Filled> filled;
  std::size_t given = 0;  // columns of the client's rows
};

struct KeyChange;  // plan/row_moves.h

enum class PlanKind : uint8_t {
  route,  // client's bytes to the one group that `target` gives; several groups: `gather`/`combine`/sum of tags
  insert_split,
  fill,  // the home is asked, and the statement that comes of it is planned and run
  copy_in,
  copy_out,  // COPY TO STDOUT: streams of the target groups, concatenated
  ddl,
  session,
  explain,      // EXPLAIN of `inner`
  unsupported,  // `error` says what and how to go on
};

struct Plan {
  PlanKind kind = PlanKind::route;
  Effects effects;
  Target target;
  bool returns_rows = true;      // SELECT or RETURNING; else the command tags of several groups are added up
  std::string command;           // first word of the command tag: SELECT, INSERT, UPDATE, …
  std::string rewritten_sql;     // route: text to send instead of the client's (dialect hints stripped); empty: as is
  std::optional<Gather> gather;  // how to go on when target resolves to more than one group …
  std::optional<PointStatement> point;  // target.keys holds one tuple
  std::optional<Combine> combine;  // … (one of the two; neither: DML, add up the tags, concatenate RETURNING rows)
  std::optional<Error> multi_group_error;  // … or why this statement cannot run over several groups
  std::optional<InsertSplit> insert_split;
  std::optional<Fill> fill;
  std::optional<CopyIn> copy_in;  // copy_out: only its format and header
  std::optional<Ddl> ddl;
  std::optional<SessionCommand> session;
  uint64_t result_signature = 0;  // differs where the result's columns may be others under another schema; 0: no rows
  std::shared_ptr<const KeyChange> key_change;  // UPDATE that sets distribution columns: rows may leave their group
  catalog::Oid written = 0;  // the sharded table whose rows it changes or locks, where these may be on several groups
  std::string read_tables;   // where it is not the home's alone: sharded and reference ones, for LOCK TABLE
  bool reference_write = false;  // runs everywhere; the client gets the rows and the tag of one group only
  bool single_tag = false;  // the groups' tags are not added up (LOCK TABLE, TRUNCATE, VACUUM): one goes to the client
  bool no_transaction = false;  // VACUUM and the like: refused inside a transaction block by PostgreSQL
  // gather->sql or combine hold literals of this very statement. When a plan from the shape cache resolves to
  // several groups and this is set, the statement must be planned afresh.
  bool rewritten_literals = false;
  std::shared_ptr<const Plan> inner;
  // explain: "EXPLAIN (ANALYZE) ", to be put before the text that each group would run for `inner`. The inner plan's
  // literal numbers count within the client's text behind this prefix.
  std::string explain_prefix;
  std::optional<Error> error;
  // It runs SQL that nobody has read (functions with EXECUTE, triggers of such functions). The home runs it in a
  // transaction, and takes it back where it touched what is not the home's: see router/guard.h.
  bool guarded = false;
  bool moments = false, view_moments = false;  // now() and its kin decide its result, in a view: see moments.h
  std::vector<catalog::Oid> views;             // that it reads by name or as their queries: router/view_use.h
  bool unknown_names = false;  // it names relations that the catalog does not know: a schema change may be making them
  // Shape cache: this plan serves every statement of the same token shape whose structural literals are equal.
  bool cacheable = false;
  struct StructuralLiteral {
    uint32_t index;    // literal number
    std::string text;  // as it stands in the statement
  };
  std::vector<StructuralLiteral> structural_literals;
  int parameter_count = 0;
  // Those it reads (pgmosaic.tables, …); the executor replaces each `/*pgmosaic:NAME*/` in rewritten_sql by their rows.
  std::vector<std::string> virtual_relations;
};

using PlanPtr = std::shared_ptr<const Plan>;

}  // namespace pgmosaic::plan
