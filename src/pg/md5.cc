#include "pg/md5.h"

#include <openssl/evp.h>

#include "base/check.h"

namespace pgmosaic::pg {

namespace {

constexpr std::string_view kPrefix = "md5";
constexpr std::size_t kHexDigits = 32;

std::string md5_hex(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  CHECK(EVP_Digest(text.data(), text.size(), digest, &size, EVP_md5(), nullptr) == 1);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

}  // namespace

bool is_md5_verifier(std::string_view text) {
  return text.starts_with(kPrefix) && text.size() == kPrefix.size() + kHexDigits &&
         text.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string_view::npos;
}

std::string md5_verifier(std::string_view password, std::string_view role) {
  return std::string(kPrefix) + md5_hex(std::string(password) + std::string(role));
}

std::string md5_response(std::string_view verifier, std::string_view salt) {
  CHECK(is_md5_verifier(verifier));
  return std::string(kPrefix) + md5_hex(std::string(verifier.substr(kPrefix.size())) + std::string(salt));
}

}  // namespace pgmosaic::pg
