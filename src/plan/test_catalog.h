// A catalog in memory from CREATE TABLE statements in our dialect, for golden tests. Used by tests only.
//
//   CREATE TABLE t (k int PRIMARY KEY, v text) SHARD BY HASH (k) WITH (shard_count = 4);
//   CREATE VIEW v AS SELECT … FROM t;      (its columns are not known; reads the tables named in FROM)
//   CREATE FUNCTION f();                   (a user function that may do anything)
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "catalog/catalog.h"

namespace pgmosaic::plan {

// Aborts on a statement it does not understand.
std::shared_ptr<catalog::Snapshot> build_test_catalog(std::string_view statements);

}  // namespace pgmosaic::plan
