#include "pg/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/objects.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

#include "base/random.h"

namespace pgmosaic::pg {

namespace {

constexpr size_t kKeyLength = SHA256_DIGEST_LENGTH;
constexpr size_t kNonceBytes = 18;  // 24 characters of base64
constexpr int kMaxIterations = 10'000'000;
constexpr std::string_view kPrefix = "SCRAM-SHA-256$";
constexpr std::string_view kBindingFlag = "p=tls-server-end-point";

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string sha256(std::string_view text) {
  std::string digest(kKeyLength, '\0');
  SHA256(bytes_of(text), text.size(), reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

std::string hmac_sha256(std::string_view key, std::string_view text) {
  std::string digest(kKeyLength, '\0');
  unsigned length = 0;
  CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(text), text.size(),
             reinterpret_cast<unsigned char*>(digest.data()), &length) != nullptr);
  return digest;
}

std::string xor_keys(std::string_view a, std::string_view b) {
  std::string out(kKeyLength, '\0');
  for (size_t i = 0; i < kKeyLength; ++i) out[i] = static_cast<char>(a[i] ^ b[i]);
  return out;
}

bool equal_secrets(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string encode_base64(std::string_view text) {
  std::string out((text.size() + 2) / 3 * 4 + 1, '\0');
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes_of(text), static_cast<int>(text.size()));
  out.resize(static_cast<size_t>(length));
  return out;
}

// Strict: no blanks, complete padding. OpenSSL's decoder forgives both, and counts the padding as bytes.
std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
  for (const char c : text.substr(0, text.size() - padding)) {
    const bool digit =
        (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
    if (!digit) return std::nullopt;
  }
  std::string out(text.size() / 4 * 3, '\0');
  const int length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes_of(text), static_cast<int>(text.size()));
  if (length < 0) return std::nullopt;
  out.resize(static_cast<size_t>(length) - padding);
  return out;
}

std::optional<int> parse_iterations(std::string_view text) {
  int value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || value < 1 || value > kMaxIterations) return std::nullopt;
  return value;
}

ScramKeys derive(std::string_view password, std::string_view salt, int iterations) {
  std::string salted(kKeyLength, '\0');
  CHECK(PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), bytes_of(salt),
                          static_cast<int>(salt.size()), iterations, EVP_sha256(), static_cast<int>(kKeyLength),
                          reinterpret_cast<unsigned char*>(salted.data())) == 1);
  ScramKeys keys{hmac_sha256(salted, "Client Key"), hmac_sha256(salted, "Server Key")};
  OPENSSL_cleanse(salted.data(), salted.size());
  return keys;
}

Error malformed(std::string_view what) { return make_error("08P01", "malformed SCRAM message", {}, std::string(what)); }

// Takes "<name>=<value>" up to the next comma off the front of `rest`.
std::optional<std::string_view> take_attribute(std::string_view& rest, char name) {
  if (rest.size() < 2 || rest[0] != name || rest[1] != '=') return std::nullopt;
  const size_t comma = rest.find(',');
  const std::string_view value = rest.substr(2, comma == rest.npos ? rest.npos : comma - 2);
  rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
  return value;
}

bool printable(std::string_view text) {
  for (const char c : text)
    if (c < 0x21 || c > 0x7e || c == ',') return false;
  return !text.empty();
}

std::string make_nonce(const std::string& given) {
  return given.empty() ? encode_base64(random_bytes(kNonceBytes)) : given;
}

struct Range {
  uint32_t first, last;
};

// Code points that SASLprep maps to themselves in any combination with each other: none is mapped or decomposed, and
// none composes with a neighbour.
constexpr Range kStable[] = {
    {0x00, 0x7f},     {0xa1, 0xa7},     {0xa9, 0xa9},     {0xab, 0xac},     {0xae, 0xae},       {0xb0, 0xb1},
    {0xb6, 0xb7},     {0xbb, 0xbb},     {0xbf, 0x131},    {0x134, 0x13e},   {0x141, 0x148},     {0x14a, 0x17e},
    {0x180, 0x1c3},   {0x386, 0x386},   {0x388, 0x38a},   {0x38c, 0x38c},   {0x38e, 0x3a1},     {0x3a3, 0x3ce},
    {0x400, 0x481},   {0x48a, 0x4ff},   {0x5d0, 0x5ea},   {0x621, 0x63a},   {0x641, 0x64a},     {0x20ac, 0x20ac},
    {0x3041, 0x3096}, {0x30a1, 0x30fa}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0x1f300, 0x1f64f},
};

bool is_stable(uint32_t code_point) {
  for (const Range& range : kStable)
    if (code_point >= range.first && code_point <= range.last) return true;
  return false;
}

// Decodes one UTF-8 character at `at`; nullopt: not UTF-8.
std::optional<uint32_t> take_code_point(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at++);
  if (lead < 0x80) return lead;
  const int extra = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  if (lead < 0xc2 || lead > 0xf4 || at + static_cast<size_t>(extra) > text.size()) return std::nullopt;
  uint32_t value = lead & (0x3fU >> extra);
  for (int i = 0; i < extra; ++i) {
    const unsigned char next = byte(at++);
    if ((next & 0xc0) != 0x80) return std::nullopt;
    value = value << 6 | (next & 0x3fU);
  }
  constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[extra] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return std::nullopt;
  return value;
}

Error unprepared_password() {
  return make_error("0A000", "password contains characters that need Unicode normalization",
                    "Use another password, or give its SCRAM-SHA-256 verifier as a PostgreSQL server makes it.");
}

}  // namespace

std::optional<ScramVerifier> parse_verifier(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  const size_t salt_at = text.find(':');
  const size_t stored_at = text.find('$');
  if (salt_at == text.npos || stored_at == text.npos || stored_at < salt_at) return std::nullopt;
  const size_t server_at = text.find(':', stored_at);
  if (server_at == text.npos) return std::nullopt;
  const auto iterations = parse_iterations(text.substr(0, salt_at));
  auto salt = decode_base64(text.substr(salt_at + 1, stored_at - salt_at - 1));
  auto stored_key = decode_base64(text.substr(stored_at + 1, server_at - stored_at - 1));
  auto server_key = decode_base64(text.substr(server_at + 1));
  if (!iterations || !salt || !stored_key || !server_key) return std::nullopt;
  if (stored_key->size() != kKeyLength || server_key->size() != kKeyLength) return std::nullopt;
  return ScramVerifier{*iterations, std::move(*salt), std::move(*stored_key), std::move(*server_key)};
}

std::string format_verifier(const ScramVerifier& verifier) {
  return std::string(kPrefix) + std::to_string(verifier.iterations) + ":" + encode_base64(verifier.salt) + "$" +
         encode_base64(verifier.stored_key) + ":" + encode_base64(verifier.server_key);
}

bool saslprep_is_identity(std::string_view password) {
  bool stable = true;
  for (size_t at = 0; at < password.size();) {
    const auto code_point = take_code_point(password, at);
    if (!code_point) return true;
    stable = stable && is_stable(*code_point);
  }
  return stable;
}

Result<ScramVerifier> make_verifier(std::string_view password, int iterations, std::string_view salt) {
  CHECK(iterations >= 1 && iterations <= kMaxIterations && !salt.empty());
  if (!saslprep_is_identity(password)) return unprepared_password();
  ScramKeys keys = derive(password, salt, iterations);
  return ScramVerifier{iterations, std::string(salt), sha256(keys.client_key), std::move(keys.server_key)};
}

ScramKeys login_keys(std::string_view password, const ScramVerifier& verifier) {
  return derive(password, verifier.salt, verifier.iterations);
}

ScramVerifier mock_verifier(std::string_view user, std::string_view secret) {
  std::string salt = hmac_sha256(secret, user).substr(0, 16);
  return ScramVerifier{kScramIterations, std::move(salt), std::string(kKeyLength, '\0'), std::string(kKeyLength, '\0')};
}

Result<std::string> tls_server_end_point(std::string_view certificate_der) {
  const unsigned char* next = bytes_of(certificate_der);
  X509* certificate = d2i_X509(nullptr, &next, static_cast<long>(certificate_der.size()));
  if (certificate == nullptr) return make_error("XX000", "could not read the server's certificate");
  int digest_nid = NID_undef;
  const bool known = X509_get_signature_info(certificate, &digest_nid, nullptr, nullptr, nullptr) == 1;
  X509_free(certificate);
  if (digest_nid == NID_md5 || digest_nid == NID_sha1) digest_nid = NID_sha256;
  const EVP_MD* digest = known ? EVP_get_digestbynid(digest_nid) : nullptr;
  if (digest == nullptr) {
    return make_error("0A000", "the certificate's signature algorithm has no hash for channel binding");
  }
  std::string hash(EVP_MAX_MD_SIZE, '\0');
  unsigned length = 0;
  CHECK(EVP_Digest(certificate_der.data(), certificate_der.size(), reinterpret_cast<unsigned char*>(hash.data()),
                   &length, digest, nullptr) == 1);
  hash.resize(length);
  return hash;
}

// ---------------------------------------------------------------- server

ScramServer::ScramServer(Options options) : options_(std::move(options)) {
  CHECK(!options_.plus || options_.channel_binding.has_value());
}

// gs2-header = ("n" / "y" / "p=" name) "," [ "a=" authzid ] ","
Status ScramServer::check_gs2_header(std::string_view client_first, size_t& bare_begin) {
  const size_t flag_end = client_first.find(',');
  if (flag_end == client_first.npos) return malformed("The channel binding flag is missing.");
  const std::string_view flag = client_first.substr(0, flag_end);
  if (flag.starts_with("p=")) {
    if (!options_.plus) return malformed("Channel binding data came with a mechanism that has none.");
    if (flag != kBindingFlag) {
      return make_error("08P01", "unsupported SCRAM channel binding type", "Supported is tls-server-end-point.");
    }
  } else if (flag == "n" || flag == "y") {
    if (options_.plus) return malformed("SCRAM-SHA-256-PLUS was chosen without channel binding data.");
    if (flag == "y" && options_.channel_binding) {
      return make_error("28000", "SCRAM channel binding negotiation error", {},
                        "The client could bind to the channel but did not see this server's offer to do so; "
                        "somebody between the two may have removed it.");
    }
  } else {
    return malformed("Unknown channel binding flag.");
  }
  const std::string_view rest = client_first.substr(flag_end + 1);
  if (rest.starts_with("a=")) {
    return make_error("0A000", "SCRAM authorization identity is not supported");
  }
  if (!rest.starts_with(",")) return malformed("The authorization identity field is missing.");
  bare_begin = flag_end + 2;
  return {};
}

Result<std::string> ScramServer::first(std::string_view client_first) {
  size_t bare_begin = 0;
  TRY(check_gs2_header(client_first, bare_begin));
  std::string_view rest = client_first.substr(bare_begin);
  if (rest.starts_with("m=")) return make_error("0A000", "client requires an unsupported SCRAM extension");
  gs2_header_ = client_first.substr(0, bare_begin);
  client_first_bare_ = rest;
  if (!take_attribute(rest, 'n')) return malformed("The user name field is missing.");
  const auto client_nonce = take_attribute(rest, 'r');
  if (!client_nonce || !printable(*client_nonce)) return malformed("The client's nonce is missing or not printable.");
  nonce_ = std::string(*client_nonce) + make_nonce(options_.nonce);
  server_first_ = "r=" + nonce_ + ",s=" + encode_base64(options_.verifier.salt) +
                  ",i=" + std::to_string(options_.verifier.iterations);
  return server_first_;
}

Result<std::string> ScramServer::final(std::string_view client_final) {
  CHECK(!server_first_.empty());
  const size_t proof_at = client_final.rfind(",p=");
  if (proof_at == client_final.npos) return malformed("The client's proof is missing.");
  const std::string_view without_proof = client_final.substr(0, proof_at);
  std::string_view rest = without_proof;
  const auto binding = take_attribute(rest, 'c');
  const auto nonce = take_attribute(rest, 'r');
  if (!binding || !nonce) return malformed("The channel binding or nonce field is missing.");
  const std::string expected = gs2_header_ + (options_.plus ? *options_.channel_binding : std::string());
  if (decode_base64(*binding) != expected) {
    return make_error("28000", "SCRAM channel binding check failed");
  }
  if (*nonce != nonce_) return malformed("The nonce is not the one this exchange began with.");
  const auto proof = decode_base64(client_final.substr(proof_at + 3));
  if (!proof || proof->size() != kKeyLength) return malformed("The client's proof has the wrong length.");

  const std::string auth_message = client_first_bare_ + "," + server_first_ + "," + std::string(without_proof);
  const ScramVerifier& verifier = options_.verifier;
  std::string client_key = xor_keys(*proof, hmac_sha256(verifier.stored_key, auth_message));
  const bool proven = equal_secrets(sha256(client_key), verifier.stored_key);
  if (!proven || !options_.known_user) {
    return make_error("28P01", "password authentication failed for user \"" + options_.user + "\"");
  }
  client_key_ = std::move(client_key);
  return "v=" + encode_base64(hmac_sha256(verifier.server_key, auth_message));
}

const std::string& ScramServer::client_key() const {
  CHECK(!client_key_.empty());
  return client_key_;
}

// ---------------------------------------------------------------- client

ScramClient::ScramClient(std::string password, Options options)
    : options_(std::move(options)), password_(std::move(password)) {}

ScramClient::ScramClient(ScramKeys keys, Options options) : options_(std::move(options)), keys_(std::move(keys)) {
  CHECK(keys_.client_key.size() == kKeyLength && keys_.server_key.size() == kKeyLength);
}

std::string_view ScramClient::mechanism() const {
  return options_.binding == Binding::used ? kScramSha256Plus : kScramSha256;
}

std::string ScramClient::first() {
  switch (options_.binding) {
    case Binding::unsupported: gs2_header_ = "n,,"; break;
    case Binding::not_offered: gs2_header_ = "y,,"; break;
    case Binding::used: gs2_header_ = std::string(kBindingFlag) + ",,"; break;
  }
  client_first_bare_ = "n=" + options_.user + ",r=" + make_nonce(options_.nonce);
  return gs2_header_ + client_first_bare_;
}

Status ScramClient::derive_keys(std::string_view salt, int iterations) {
  if (!password_) return {};
  if (!saslprep_is_identity(*password_)) return unprepared_password();
  keys_ = derive(*password_, salt, iterations);
  return {};
}

Result<std::string> ScramClient::final(std::string_view server_first) {
  CHECK(!client_first_bare_.empty());
  std::string_view rest = server_first;
  const auto nonce = take_attribute(rest, 'r');
  const auto salt_text = take_attribute(rest, 's');
  const auto iterations_text = take_attribute(rest, 'i');
  if (!nonce || !salt_text || !iterations_text)
    return malformed("The server's nonce, salt or iteration count is missing.");
  const std::string_view own_nonce = std::string_view(client_first_bare_).substr(client_first_bare_.rfind(",r=") + 3);
  if (!nonce->starts_with(own_nonce) || nonce->size() == own_nonce.size() || !printable(*nonce)) {
    return malformed("The server's nonce does not extend the client's.");
  }
  const auto salt = decode_base64(*salt_text);
  const auto iterations = parse_iterations(*iterations_text);
  if (!salt || !iterations) return malformed("The server's salt or iteration count is not valid.");
  TRY(derive_keys(*salt, *iterations));

  const std::string binding =
      gs2_header_ + (options_.binding == Binding::used ? options_.channel_binding : std::string());
  const std::string without_proof = "c=" + encode_base64(binding) + ",r=" + std::string(*nonce);
  const std::string auth_message = client_first_bare_ + "," + std::string(server_first) + "," + without_proof;
  const std::string signature = hmac_sha256(sha256(keys_.client_key), auth_message);
  server_signature_ = hmac_sha256(keys_.server_key, auth_message);
  return without_proof + ",p=" + encode_base64(xor_keys(keys_.client_key, signature));
}

Status ScramClient::verify(std::string_view server_final) {
  CHECK(!server_signature_.empty());
  std::string_view rest = server_final;
  if (const auto reason = take_attribute(rest, 'e')) {
    return make_error("28000", "server refused the SCRAM exchange", {}, std::string(*reason));
  }
  const auto signature = take_attribute(rest, 'v');
  if (!signature) return malformed("The server's signature is missing.");
  if (!equal_secrets(decode_base64(*signature).value_or(""), server_signature_)) {
    return make_error("28000", "server does not know the password's verifier",
                      "The server may be an impostor, or the user's verifiers differ between servers.");
  }
  return {};
}

}  // namespace pgmosaic::pg
