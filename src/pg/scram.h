// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, channel binding tls-server-end-point of RFC 5929) as
// PostgreSQL speaks them, without I/O: strings in, strings out. One object serves one login.
//
//   client                                   server
//   first()          -- client-first -->     first()
//   final()          <-- server-first --
//                    -- client-final -->     final(); then client_key() is known
//   verify()         <-- server-final --
//
// A successful login shows the server the client's ClientKey (proof XOR signature). With it and the verifier's
// ServerKey a ScramClient can log in as the same user wherever the same verifier is stored, which is how a router
// reaches the groups as the real user without ever seeing a password.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pgmosaic::pg {

inline constexpr std::string_view kScramSha256 = "SCRAM-SHA-256";
inline constexpr std::string_view kScramSha256Plus = "SCRAM-SHA-256-PLUS";
inline constexpr int kScramIterations = 4096;

// What pg_authid.rolpassword holds: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, the last three in
// base64. The members are raw bytes.
struct ScramVerifier {
  int iterations = 0;
  std::string salt;
  std::string stored_key;  // 32 bytes
  std::string server_key;  // 32 bytes

  bool operator==(const ScramVerifier&) const = default;
};

// nullopt: not a SCRAM-SHA-256 verifier (a plain password, md5…).
std::optional<ScramVerifier> parse_verifier(std::string_view text);
std::string format_verifier(const ScramVerifier& verifier);

// True if SASLprep certainly leaves the password as it is: ASCII, bytes that are no UTF-8 (PostgreSQL then takes them
// raw), and letters of scripts whose NFKC form is themselves. Full NFKC needs Unicode tables, which this code lacks.
bool saslprep_is_identity(std::string_view password);

// Hashes a password. 0A000 if saslprep_is_identity() is false: a verifier made from other bytes than the clients'
// would lock the user out, so let a PostgreSQL make it.
Result<ScramVerifier> make_verifier(std::string_view password, int iterations, std::string_view salt);

// A verifier that no password fits, for users that do not exist: the same user always gets the same salt, so the
// exchange looks like a real one. `secret` is any bytes that stay the same while the cluster lives.
ScramVerifier mock_verifier(std::string_view user, std::string_view secret);

// Channel binding data of a server's certificate (DER): its hash by the algorithm of its signature, SHA-256 in place
// of MD5 and SHA-1.
Result<std::string> tls_server_end_point(std::string_view certificate_der);

struct ScramKeys {
  std::string client_key;  // 32 bytes
  std::string server_key;  // 32 bytes
};

// What logs in against the verifier of the same password, iterations and salt.
ScramKeys login_keys(std::string_view password, const ScramVerifier& verifier);

class ScramServer {
 public:
  struct Options {
    std::string user;  // for messages only
    ScramVerifier verifier;
    bool known_user = true;  // false: verifier is a mock, final() fails whatever the proof is
    bool plus = false;       // the client chose SCRAM-SHA-256-PLUS
    // tls_server_end_point() of the certificate this connection shows; set whenever -PLUS was offered.
    std::optional<std::string> channel_binding;
    std::string nonce;  // empty: random; tests give one
  };

  explicit ScramServer(Options options);

  // server-first-message. 08P01: malformed; 28000: the client was tricked out of channel binding.
  Result<std::string> first(std::string_view client_first);
  // server-final-message. 28P01: wrong password.
  // REQUIRES: first() succeeded
  Result<std::string> final(std::string_view client_final);

  // REQUIRES: final() succeeded
  const std::string& client_key() const;
  ScramKeys keys() const { return ScramKeys{client_key(), options_.verifier.server_key}; }

 private:
  Status check_gs2_header(std::string_view client_first, size_t& bare_begin);

  Options options_;
  std::string gs2_header_;
  std::string client_first_bare_;
  std::string server_first_;
  std::string nonce_;  // client's and server's
  std::string client_key_;
};

class ScramClient {
 public:
  enum class Binding {
    unsupported,  // 'n': this client does no channel binding (no TLS)
    not_offered,  // 'y': it would, but the server did not offer -PLUS
    used,         // 'p': SCRAM-SHA-256-PLUS with `channel_binding`
  };
  struct Options {
    Binding binding = Binding::unsupported;
    std::string channel_binding = {};  // tls_server_end_point() of the server's certificate
    std::string user = {};             // PostgreSQL takes the name from the startup message; empty is usual
    std::string nonce = {};            // empty: random; tests give one
  };

  ScramClient(std::string password, Options options);
  // Pass-through: the keys are derived already, so the server's salt and iterations do not matter.
  ScramClient(ScramKeys keys, Options options);

  std::string_view mechanism() const;
  std::string first();
  // client-final-message.
  // REQUIRES: first() was called
  Result<std::string> final(std::string_view server_first);
  // The server has proved that it knows the verifier; 28000 if it has not.
  // REQUIRES: final() succeeded
  Status verify(std::string_view server_final);

 private:
  Status derive_keys(std::string_view salt, int iterations);

  Options options_;
  std::optional<std::string> password_;
  ScramKeys keys_;
  std::string gs2_header_;
  std::string client_first_bare_;
  std::string server_signature_;
};

}  // namespace pgmosaic::pg
