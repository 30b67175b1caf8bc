// Opening a ServerConn: TLS, start-up packet, authentication, and CancelRequests.
#include "net/tls.h"
#include "pg/frontend.h"
#include "pg/md5.h"
#include "pool/server_conn.h"

namespace pgmosaic::pool {

namespace {

constexpr int kCancelTimeoutMs = 5000;

std::string where(const Endpoint& endpoint) { return endpoint.host + " port " + std::to_string(endpoint.port); }

// Asks for TLS as libpq does; 'S' starts the handshake, 'N' goes on in the clear unless TLS is required.
net::Task<Status> negotiate_tls(net::Stream& stream, const Endpoint& endpoint) {
  std::string request;
  pg::write_ssl_request(request);
  if (!co_await stream.write_all(request))
    co_return make_error("08001", "connection to " + where(endpoint) + " was lost");
  char answer = 0;
  for (;;) {
    const net::IoResult result = stream.read(&answer, 1);
    if (result.kind == net::IoResult::Kind::ok) break;
    net::WaitStatus waited = net::WaitStatus::interrupted;
    if (result.kind == net::IoResult::Kind::would_block) waited = co_await stream.readable();
    if (waited == net::WaitStatus::interrupted)
      co_return make_error("08001", "connection to " + where(endpoint) + " was lost during TLS negotiation");
  }
  if (answer == 'S') {
    Status status = co_await stream.start_tls(*endpoint.tls, false, endpoint.host);
    co_return status;
  }
  if (endpoint.tls_required)
    co_return make_error("08001", "the PostgreSQL at " + where(endpoint) + " does not support TLS",
                         "Enable ssl on that server, or set the group's tls to \"prefer\" or \"off\".");
  co_return Status{};
}

}  // namespace

net::Task<Result<std::unique_ptr<ServerConn>>> ServerConn::connect(net::EventLoop& loop, Endpoint endpoint,
                                                                   Credentials credentials, std::string database,
                                                                   int timeout_ms) {
  auto stream = co_await net::connect(loop, endpoint.host, endpoint.port, timeout_ms);
  if (!stream.ok()) co_return std::move(stream.error());
  std::unique_ptr<ServerConn> conn(new ServerConn(std::move(endpoint), std::move(*stream)));
  net::Stream* raw = conn->stream_.get();
  bool timed_out = false;
  auto timer = loop.start_timer(int64_t{timeout_ms} * 1000, [raw, &timed_out] {
    timed_out = true;
    raw->interrupt();
  });
  Status status = co_await conn->login(credentials, endpoint.database_name(database));
  if (timed_out) {
    co_return make_error("08001", "no answer from the PostgreSQL at " + where(conn->endpoint_) + " within " +
                                      std::to_string(timeout_ms) + " ms");
  }
  loop.cancel_timer(timer);
  if (!status.ok()) co_return std::move(status.error());
  conn->in_.own();
  co_return conn;
}

net::Task<Result<std::unique_ptr<ServerConn>>> ServerConn::over(net::EventLoop& loop, int fd, std::string user,
                                                                std::string database) {
  Endpoint endpoint;
  endpoint.host = "/";  // a Unix socket
  std::unique_ptr<ServerConn> conn(new ServerConn(std::move(endpoint), std::make_unique<net::Stream>(loop, fd)));
  const Credentials credentials{std::move(user), {}, {}};
  CO_TRY(co_await conn->login(credentials, database));
  conn->in_.own();
  co_return conn;
}

net::Task<Status> ServerConn::login(const Credentials& credentials, const std::string& database) {
  if (endpoint_.tls != nullptr && endpoint_.host[0] != '/') CO_TRY(co_await negotiate_tls(*stream_, endpoint_));
  std::string startup;
  pg::write_startup(startup, {{"user", credentials.user}, {"database", database}});
  if (!co_await stream_->write_all(startup))
    co_return make_error("08001", "connection to " + where(endpoint_) + " was lost");
  CO_TRY(co_await authenticate(credentials));
  for (;;) {
    auto message = co_await next_message();
    if (!message.ok()) co_return std::move(message.error());
    pg::FieldReader reader(message->body);
    switch (message->type) {
      case 'S': {
        std::string name(reader.string());
        parameters[name] = std::string(reader.string());
        break;
      }
      case 'K':
        pid = static_cast<uint32_t>(reader.int32());
        secret = static_cast<uint32_t>(reader.int32());
        break;
      case 'Z': co_return Status{};
      case 'E': co_return pg::parse_error(message->body);
      default: break;
    }
  }
}

net::Task<Status> ServerConn::authenticate(const Credentials& credentials) {
  pg::ScramClient::Options options;
  options.channel_binding = stream_->channel_binding();
  std::unique_ptr<pg::ScramClient> scram;
  for (;;) {
    auto message = co_await next_message();
    if (!message.ok()) co_return std::move(message.error());
    if (message->type == 'E') co_return pg::parse_error(message->body);
    if (message->type == 'N') continue;
    if (message->type != 'R') co_return make_error("08P01", "unexpected message during login at " + where(endpoint_));
    pg::FieldReader reader(message->body);
    const int32_t method = reader.int32();
    std::string out;
    if (method == 0) {
      co_return Status{};
    } else if (method == 3 && !credentials.password.empty()) {
      pg::write_password(out, credentials.password + '\0');
    } else if (method == 5 && !(credentials.md5.empty() && credentials.password.empty())) {
      const std::string verifier =
          credentials.md5.empty() ? pg::md5_verifier(credentials.password, credentials.user) : credentials.md5;
      pg::write_password(out, pg::md5_response(verifier, reader.bytes(pg::kMd5SaltBytes)) + '\0');
    } else if (method == 10) {
      if (!credentials.md5.empty())
        co_return make_error(
            "28000",
            "the PostgreSQL at " + where(endpoint_) + " does not take the md5 password of user \"" + credentials.user +
                "\"",
            "Use method md5, which takes SCRAM as well, in that server's pg_hba.conf, or give the user "
            "the password again under password_encryption = 'scram-sha-256'.");
      if (credentials.password.empty() && credentials.keys.client_key.empty())
        co_return make_error(
            "28000",
            "the PostgreSQL at " + where(endpoint_) + " asks for a password, the router has none for user \"" +
                credentials.user + "\"",
            "Clients of a router log in with scram-sha-256, so that it can pass the login on. Programs take "
            "the password from their URL or PGPASSWORD.");
      bool plus = false;
      for (std::string_view name = reader.string(); !name.empty(); name = reader.string())
        if (name == pg::kScramSha256Plus) plus = true;
      if (stream_->tls() && plus && !options.channel_binding.empty()) options.binding = pg::ScramClient::Binding::used;
      scram = credentials.password.empty() ? std::make_unique<pg::ScramClient>(credentials.keys, options)
                                           : std::make_unique<pg::ScramClient>(credentials.password, options);
      std::string first = scram->first();
      pg::MessageWriter(out, 'p').string(scram->mechanism()).value(first);
    } else if (method == 11 && scram != nullptr) {
      CO_TRY_ASSIGN(std::string answer, scram->final(reader.rest()));
      pg::write_password(out, answer);
    } else if (method == 12 && scram != nullptr) {
      CO_TRY(scram->verify(reader.rest()));
      continue;
    } else {
      co_return make_error(
          "28000",
          "the PostgreSQL at " + where(endpoint_) + " asks for an authentication method that the router does not speak",
          "Use scram-sha-256, certificates, peer or trust in that server's pg_hba.conf.");
    }
    if (!co_await stream_->write_all(out))
      co_return make_error("08001", "connection to " + where(endpoint_) + " was lost");
  }
}

net::Task<bool> cancel_backend(net::EventLoop& loop, Endpoint endpoint, uint32_t pid, uint32_t secret) {
  auto stream = co_await net::connect(loop, endpoint.host, endpoint.port, kCancelTimeoutMs);
  if (!stream.ok()) co_return true;  // nothing was sent
  net::Stream& raw = **stream;
  auto timer = loop.start_timer(int64_t{kCancelTimeoutMs} * 1000, [&raw] { raw.interrupt(); });
  bool good = true;
  if (endpoint.tls != nullptr && endpoint.host[0] != '/') {
    Status status = co_await negotiate_tls(raw, endpoint);
    good = status.ok();
  }
  std::string request;
  pg::write_cancel(request, pid, secret);
  if (good) good = co_await raw.write_all(request);
  if (good) {
    char byte;
    while (raw.read(&byte, 1).kind == net::IoResult::Kind::would_block) {
      const net::WaitStatus waited = co_await raw.readable();
      if (waited == net::WaitStatus::interrupted) co_return false;  // the timer has fired and is gone
    }
  }
  loop.cancel_timer(timer);
  co_return good;
}

}  // namespace pgmosaic::pool
