// Who draws numbers from sequences, read from the texts of functions, rules and defaults: fills catalog::Sequences.
// Names in a text are compared with the names of tables, functions and sequences, so what is found may be too much,
// never too little.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "catalog/catalog.h"
#include "plan/function_body.h"

namespace pgmosaic::plan {

struct DrawTexts {
  using Calls = std::vector<std::pair<catalog::Oid, std::string>>;
  std::vector<FunctionText> functions;
  Calls triggers;   // table and function
  Calls rules;      // table and definition
  Calls naming;     // relation whose view, rule or policy calls the function, which may be a built-in one
  struct Cascade {  // a foreign key by which a change of one table changes another
    catalog::Oid from = 0, to = 0;
    bool sets_default = false;
  };
  std::vector<Cascade> cascades;
};

// `database`: its tables and sequences (by name and OID) are known.
void find_draws(const DrawTexts& texts, catalog::Database& database);

// The same for one text that is just being run: a DO block.
catalog::Draws draws_of_block(const FunctionText& block, const catalog::Database& database);

// The sequence that a text means as regclass: name, schema.name, both quoted or not. Null: not known for sure.
const catalog::Sequence* find_sequence(std::string_view text, const std::vector<std::string>& search_path,
                                       const catalog::Database& database);

}  // namespace pgmosaic::plan
