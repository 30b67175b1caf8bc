// What a database says of its schema, by name: the same question to the home and to every group, so that their answers
// can be compared (OIDs differ between servers).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "catalog/catalog.h"
#include "pool/server_conn.h"

namespace pgmosaic::control {

// "column public.t.a" belongs to "table public.t", and has the properties "type", "not null", …
struct SchemaObject {
  std::string parent;                             // empty: none
  std::map<std::string, std::string> properties;  // a property that is not there is the same as an empty one
};
// By kind and qualified name, as PostgreSQL quotes it. Nothing of extensions, of the system's or of ours is among them.
using SchemaFacts = std::map<std::string, SchemaObject>;

// A relation of the schema for shards.
struct Leaf {
  std::string name;
  std::string parent;  // "public.t"; empty: it is no partition
  std::string parent_owner;
  std::string bound;  // "FOR VALUES WITH (modulus 4, remainder 1)"
  std::string owner;
  bool unlogged = false;
};

// One of the home's relations by OID, as the metadata store names it.
struct HomeRelation {
  std::string name;                    // "public.t"
  std::map<int, std::string> columns;  // attnum → name, quoted where needed
};

// A transaction of two phases whose second one does not come.
struct StuckTransaction {
  std::string gid, prepared_at;
};

struct Look {
  SchemaFacts facts;
  std::vector<StuckTransaction> stuck;             // anybody's
  std::vector<Leaf> leaves;                        // not of the home
  std::vector<std::string> open_sequences;         // not of the home: those that could still give out a number
  std::vector<std::string> unfinished_indexes;     // at home: not valid; else parts of indexes that belong to none
  std::map<catalog::Oid, HomeRelation> relations;  // home only: those asked for
};

// Sends the questions; read_look() takes the answers, so that several servers work at once. The connection is for
// nothing else: it gets settings that the answers depend on. `oids`: relations that the home is to name.
void ask(pool::ServerConn& conn);
net::Task<Result<Look>> read_look(pool::ServerConn& conn, bool home, std::vector<catalog::Oid> oids);

// Which of these tables (as PostgreSQL quotes them) have a row, those of their partitions not counted.
net::Task<Result<std::vector<std::string>>> find_rows(pool::ServerConn& conn, std::vector<std::string> tables);

}  // namespace pgmosaic::control
