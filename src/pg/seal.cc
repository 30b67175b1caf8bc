#include "pg/seal.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <memory>

#include "base/check.h"
#include "base/random.h"

namespace pgmosaic::pg {

namespace {

constexpr std::size_t kNonceBytes = 12, kTagBytes = 16;

unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string key_of(std::string_view secret) {
  const std::string material = "pgmosaic seal " + std::string(secret);
  std::string key(SHA256_DIGEST_LENGTH, '\0');
  SHA256(bytes_of(std::string_view(material)), material.size(), bytes_of(key));
  return key;
}

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string to_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex += kDigits[static_cast<unsigned char>(c) >> 4];
    hex += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return hex;
}

std::optional<std::string> from_hex(std::string_view digits) {
  if (digits.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    const int high = digit_of(digits[i]), low = digit_of(digits[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

std::string seal(std::string_view secret, std::string_view about, std::string_view text) {
  const std::string key = key_of(secret), nonce = random_bytes(kNonceBytes);
  std::string sealed(text.size(), '\0'), tag(kTagBytes, '\0');
  const Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int length = 0;
  CHECK(EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes_of(std::string_view(key)),
                           bytes_of(std::string_view(nonce))) == 1);
  CHECK(EVP_EncryptUpdate(context.get(), nullptr, &length, bytes_of(about), static_cast<int>(about.size())) == 1);
  CHECK(EVP_EncryptUpdate(context.get(), bytes_of(sealed), &length, bytes_of(text), static_cast<int>(text.size())) ==
        1);
  CHECK(EVP_EncryptFinal_ex(context.get(), bytes_of(tag), &length) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) == 1);
  return to_hex(nonce + tag + sealed);
}

std::optional<std::string> unseal(std::string_view secret, std::string_view about, std::string_view sealed) {
  const auto bytes = from_hex(sealed);
  if (!bytes || bytes->size() < kNonceBytes + kTagBytes) return std::nullopt;
  const std::string key = key_of(secret), nonce = bytes->substr(0, kNonceBytes);
  std::string tag = bytes->substr(kNonceBytes, kTagBytes);
  const std::string hidden = bytes->substr(kNonceBytes + kTagBytes);
  std::string text(hidden.size(), '\0');
  const Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int length = 0;
  unsigned char rest[EVP_MAX_BLOCK_LENGTH];
  CHECK(EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes_of(std::string_view(key)),
                           bytes_of(std::string_view(nonce))) == 1);
  CHECK(EVP_DecryptUpdate(context.get(), nullptr, &length, bytes_of(about), static_cast<int>(about.size())) == 1);
  CHECK(EVP_DecryptUpdate(context.get(), bytes_of(text), &length, bytes_of(std::string_view(hidden)),
                          static_cast<int>(hidden.size())) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1);
  if (EVP_DecryptFinal_ex(context.get(), rest, &length) != 1) return std::nullopt;
  return text;
}

}  // namespace pgmosaic::pg
