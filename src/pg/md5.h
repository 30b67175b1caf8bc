// PostgreSQL's md5 passwords: what pg_authid.rolpassword holds of one, and AuthenticationMD5Password.
//
//   verifier   "md5" + hex(md5(password + role))
//   response   "md5" + hex(md5(hex of the verifier + the server's salt))
//
// The verifier is all that a login needs, so a router that can read it reaches the groups as the user.
#pragma once

#include <string>
#include <string_view>

namespace pgmosaic::pg {

inline constexpr std::size_t kMd5SaltBytes = 4;

bool is_md5_verifier(std::string_view text);
std::string md5_verifier(std::string_view password, std::string_view role);
// REQUIRES: is_md5_verifier(verifier)
std::string md5_response(std::string_view verifier, std::string_view salt);

}  // namespace pgmosaic::pg
