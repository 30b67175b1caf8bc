// The name PostgreSQL gives an unnamed result column. The final SELECT over partial results must repeat it, because
// there the expression looks different.
#pragma once

#include <string>

#include "sql/ast.h"

namespace pgmosaic::plan {

std::string result_column_name(const sql::Node* expression);

}  // namespace pgmosaic::plan
