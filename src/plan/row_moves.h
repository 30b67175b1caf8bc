// UPDATE of distribution columns: what moves the rows whose new key belongs to another group (docs/design/007).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plan/plan.h"

namespace pgmosaic::plan {

struct KeyChange {
  catalog::Oid table = 0;
  // The new key, where its values are known when the statement runs; else empty. Such a statement needs nothing else
  // where they belong to the group that has the rows.
  KeyTuple constants;
  std::optional<Error> refusal;  // why no row can move: the statement runs as it is, and fails where one should

  // Else the statements that move rows. `mark` stands in `take` for the shard that a row moves to, NULL if it stays on
  // its group, and in `lock` for something that is NULL if it stays in its leaf.
  std::string mark;
  std::string claim;                 // makes sure of the right to UPDATE, and that the table's definition stays
  std::string lock;                  // locks the rows that the statement is about; counts those that leave their leaf
  std::string take;                  // deletes those that leave; returns the shard and what INSERT lists
  std::vector<std::string> new_key;  // the expressions of the new key, in the scope of `take` and `lock`
  std::vector<std::string> old_key;  // and the columns of the old one
  std::string put, put_end;          // INSERT; rows of VALUES come between
};

// The error for a statement that would have to. `hint` empty: the usual way out.
Error cannot_move(const std::string& why, std::string hint = {});

}  // namespace pgmosaic::plan
