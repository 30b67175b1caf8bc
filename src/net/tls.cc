#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "net/stream.h"

namespace pgmosaic::net {

namespace {

std::string openssl_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  char text[256];
  ERR_error_string_n(code, text, sizeof text);
  return text;
}

Error file_error(const std::string& what, const std::string& file) {
  return make_error("F0000", "could not use the " + what + " \"" + file + "\": " + openssl_error(),
                    "Check the path, the permissions and the PEM format.");
}

}  // namespace

Result<std::shared_ptr<TlsContext>> TlsContext::server(const std::string& cert_file, const std::string& key_file,
                                                       const std::string& ca_file) {
  std::shared_ptr<TlsContext> result(new TlsContext(SSL_CTX_new(TLS_server_method())));
  SSL_CTX* context = result->context_;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context,
                   SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(context, cert_file.c_str()) != 1)
    return file_error("TLS certificate file", cert_file);
  if (SSL_CTX_use_PrivateKey_file(context, key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return file_error("TLS key file", key_file);
  if (!ca_file.empty()) {
    if (SSL_CTX_load_verify_locations(context, ca_file.c_str(), nullptr) != 1)
      return file_error("TLS certificate authority file", ca_file);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    result->verifies_peer_ = true;
  }
  return result;
}

Result<std::shared_ptr<TlsContext>> TlsContext::client(const std::string& ca_file) {
  std::shared_ptr<TlsContext> result(new TlsContext(SSL_CTX_new(TLS_client_method())));
  SSL_CTX* context = result->context_;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context,
                   SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (!ca_file.empty()) {
    if (SSL_CTX_load_verify_locations(context, ca_file.c_str(), nullptr) != 1)
      return file_error("TLS certificate authority file", ca_file);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    result->verifies_peer_ = true;
  }
  return result;
}

Task<Status> Stream::start_tls(TlsContext& context, bool server, const std::string& server_name) {
  auto state = std::make_unique<TlsState>();
  state->server = server;
  state->ssl = SSL_new(context.native());
  CHECK(state->ssl != nullptr && SSL_set_fd(state->ssl, fd_) == 1);
  if (!server && !server_name.empty()) {
    SSL_set_tlsext_host_name(state->ssl, server_name.c_str());
    if (context.verifies_peer()) {
      X509_VERIFY_PARAM* param = SSL_get0_param(state->ssl);
      if (X509_VERIFY_PARAM_set1_ip_asc(param, server_name.c_str()) != 1)
        SSL_set1_host(state->ssl, server_name.c_str());
    }
  }
  for (;;) {
    ERR_clear_error();
    const int rc = server ? SSL_accept(state->ssl) : SSL_connect(state->ssl);
    if (rc == 1) break;
    const int reason = SSL_get_error(state->ssl, rc);
    WaitStatus waited = WaitStatus::ready;
    if (reason == SSL_ERROR_WANT_READ) {
      can_read_ = false;
      waited = co_await readable();
    } else if (reason == SSL_ERROR_WANT_WRITE) {
      can_write_ = false;
      waited = co_await writable();
    } else {
      co_return make_error("08000", "TLS handshake failed: " + openssl_error());
    }
    if (waited == WaitStatus::interrupted) co_return make_error("08000", "TLS handshake was interrupted");
  }
  tls_ = std::move(state);
  can_read_ = true;  // records may already be buffered
  co_return Status{};
}

IoResult Stream::read_tls(char* buffer, std::size_t capacity) {
  ERR_clear_error();
  std::size_t got = 0;
  const int rc = SSL_read_ex(tls_->ssl, buffer, capacity, &got);
  read_wants_write_ = false;
  if (rc == 1) {
    // Is there more? The edge of the socket says nothing of records that OpenSSL has read already.
    char next;
    std::size_t peeked = 0;
    if (SSL_pending(tls_->ssl) == 0 && !hung_up_) {
      const int peek = SSL_peek_ex(tls_->ssl, &next, 1, &peeked);
      if (peek != 1 && SSL_get_error(tls_->ssl, peek) == SSL_ERROR_WANT_READ) can_read_ = false;
      ERR_clear_error();
    }
    return {IoResult::Kind::ok, got};
  }
  switch (SSL_get_error(tls_->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
      if (hung_up_) return {IoResult::Kind::closed, 0};
      can_read_ = false;
      return {IoResult::Kind::would_block, 0};
    case SSL_ERROR_WANT_WRITE:
      can_write_ = false;
      read_wants_write_ = true;
      return {IoResult::Kind::would_block, 0};
    case SSL_ERROR_ZERO_RETURN: hung_up_ = true; return {IoResult::Kind::closed, 0};
    default:
      error_ = "TLS receive: " + openssl_error();
      hung_up_ = true;
      return {IoResult::Kind::failed, 0};
  }
}

IoResult Stream::write_tls(std::string_view data) {
  if (data.empty()) return {IoResult::Kind::ok, 0};
  ERR_clear_error();
  std::size_t sent = 0;
  const int rc = SSL_write_ex(tls_->ssl, data.data(), data.size(), &sent);
  if (rc == 1) return {IoResult::Kind::ok, sent};
  switch (SSL_get_error(tls_->ssl, rc)) {
    case SSL_ERROR_WANT_WRITE: can_write_ = false; return {IoResult::Kind::would_block, 0};
    case SSL_ERROR_WANT_READ:  // cannot happen without renegotiation
    default:
      error_ = "TLS send: " + openssl_error();
      hung_up_ = true;
      return {IoResult::Kind::failed, 0};
  }
}

std::string Stream::channel_binding() const {
  if (!tls_) return {};
  X509* certificate = tls_->server ? SSL_get_certificate(tls_->ssl) : SSL_get0_peer_certificate(tls_->ssl);
  if (certificate == nullptr) return {};
  int digest_nid = NID_undef;
  OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &digest_nid, nullptr);
  // RFC 5929: MD5 and SHA-1 signatures are hashed with SHA-256.
  const EVP_MD* digest =
      digest_nid == NID_md5 || digest_nid == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(digest_nid);
  if (digest == nullptr) return {};
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (X509_digest(certificate, digest, hash, &length) != 1) return {};
  return std::string(reinterpret_cast<char*>(hash), length);
}

}  // namespace pgmosaic::net
