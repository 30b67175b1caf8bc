#pragma once

#include <string>
#include <string_view>

namespace pgmosaic::pg {

// SHA-256 in lower-case hexadecimal digits, as PostgreSQL's encode(sha256(text), 'hex').
std::string sha256_hex(std::string_view text);

}  // namespace pgmosaic::pg
