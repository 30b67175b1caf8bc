// TLS over a Stream with OpenSSL. A TlsContext is made once per configuration and shared by all threads.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "base/result.h"

namespace pgmosaic::net {

class TlsContext {
 public:
  // For accepting clients. Errors: F0000 naming the file that cannot be used.
  static Result<std::shared_ptr<TlsContext>> server(const std::string& cert_file, const std::string& key_file,
                                                    const std::string& ca_file);
  // For connecting to groups. With `ca_file` the server's certificate and name are verified.
  static Result<std::shared_ptr<TlsContext>> client(const std::string& ca_file);

  ~TlsContext() { SSL_CTX_free(context_); }
  SSL_CTX* native() { return context_; }
  bool verifies_peer() const { return verifies_peer_; }

 private:
  explicit TlsContext(SSL_CTX* context) : context_(context) {}
  SSL_CTX* context_;
  bool verifies_peer_ = false;
};

struct TlsState {
  SSL* ssl = nullptr;
  bool server = false;
  ~TlsState() {
    if (ssl != nullptr) SSL_free(ssl);
  }
};

}  // namespace pgmosaic::net
