// From the first byte to ReadyForQuery: TLS, start-up packet, authentication, greeting.
#include <cctype>

#include "base/log.h"
#include "base/random.h"
#include "pg/md5.h"
#include "pg/scram.h"
#include "router/auth.h"
#include "router/session.h"
#include "router/worker.h"

namespace pgmosaic::router {

namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// "-c name=value --name=value" of the start-up parameter `options`; a backslash keeps the next character.
std::map<std::string, std::string> parse_options(std::string_view options) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (options[i] == '\\' && i + 1 < options.size()) {
      word += options[++i];
      in_word = true;
    } else if (std::isspace(static_cast<unsigned char>(options[i]))) {
      if (in_word) words.push_back(std::exchange(word, {}));
      in_word = false;
    } else {
      word += options[i];
      in_word = true;
    }
  }
  if (in_word) words.push_back(word);
  std::map<std::string, std::string> result;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string assignment;
    if (words[i] == "-c" && i + 1 < words.size()) {
      assignment = words[++i];
    } else if (words[i].starts_with("-c")) {
      assignment = words[i].substr(2);
    } else if (words[i].starts_with("--")) {
      assignment = words[i].substr(2);
    } else {
      continue;
    }
    const std::size_t equals = assignment.find('=');
    if (equals == std::string::npos) continue;
    std::string name = lower(assignment.substr(0, equals));
    for (char& c : name)
      if (c == '-') c = '_';
    result[name] = assignment.substr(equals + 1);
  }
  return result;
}

}  // namespace

net::Task<bool> Session::login() {
  if (!co_await startup()) co_return false;
  Status status = co_await authenticate();
  if (status.ok()) {
    if (backends_.database() == worker_.config->admin_database) {
      status = co_await greet_admin();
    } else {
      status = co_await greet();
    }
  }
  if (!status.ok()) {
    log_info("router", "login refused user={} database={} address={}: {}", backends_.user(), backends_.database(),
             peer_.address, status.error().message);
    put_error(std::move(status.error()), "FATAL");
    co_return false;
  }
  co_return true;
}

net::Task<bool> Session::startup() {
  bool negotiated = false;
  for (;;) {
    auto length = pg::startup_length(in_.view());
    if (!length.ok()) {
      put_error(std::move(length.error()), "FATAL");
      co_return false;
    }
    if (*length == 0) {
      if (!co_await next_input()) co_return false;
      continue;
    }
    auto packet = pg::parse_startup(in_.view().substr(0, *length));
    in_.consume(*length);
    if (!packet.ok()) {
      put_error(std::move(packet.error()), "FATAL");
      co_return false;
    }
    using Kind = pg::StartupPacket::Kind;
    if (packet->kind == Kind::cancel) {
      worker_.context.sessions.cancel(packet->cancel_pid, packet->cancel_secret);
      co_return false;
    }
    if (packet->kind == Kind::gssenc) {
      out_ += 'N';
      continue;
    }
    if (packet->kind == Kind::ssl) {
      const bool offer = worker_.context.tls != nullptr && !negotiated && !peer_.local;
      negotiated = true;
      if (!offer) {
        out_ += 'N';
        continue;
      }
      if (!in_.empty()) {  // bytes sent before the handshake must not be taken for encrypted ones
        put_error(make_error("08P01", "received unencrypted data after SSL request"), "FATAL");
        co_return false;
      }
      out_ += 'S';
      if (!co_await flush_out()) co_return false;
      Status tls = co_await client_.start_tls(*worker_.context.tls, true);
      if (!tls.ok()) {
        log_info("router", "address={}: {}", peer_.address, tls.error().message);
        client_gone_ = true;
        co_return false;
      }
      continue;
    }
    auto& parameters = packet->parameters;
    std::vector<std::string> unknown_options;
    for (const auto& [name, value] : parameters)
      if (name.starts_with("_pq_.")) unknown_options.push_back(name);
    if (packet->protocol != pg::kProtocolVersion3 || !unknown_options.empty()) {
      pg::MessageWriter writer(out_, 'v');
      writer.int32(static_cast<int32_t>(pg::kProtocolVersion3)).int32(static_cast<int32_t>(unknown_options.size()));
      for (const std::string& name : unknown_options) writer.string(name);
    }
    const std::string user = parameters["user"];
    const std::string database = parameters["database"].empty() ? user : parameters["database"];
    const std::string replication = lower(parameters["replication"]);
    auto options = parse_options(parameters["options"]);
    for (const char* name : {"user", "database", "replication", "options"}) parameters.erase(name);
    for (auto& [name, value] : options) startup_settings_[name] = pool::set_statement(name, value);
    for (auto& [name, value] : parameters)
      if (!name.starts_with("_pq_.")) startup_settings_[lower(name)] = pool::set_statement(lower(name), value);
    application_name_ = parameters["application_name"];
    backends_.open_session(user, database, worker_.settings.intern(startup_settings_));
    backends_.keep_all(worker_.config->pool.mode == PoolMode::session);
    if (user.empty()) {
      put_error(make_error("28000", "no PostgreSQL user name specified in startup packet"), "FATAL");
      co_return false;
    }
    if (!replication.empty() && replication != "off" && replication != "false" && replication != "0" &&
        replication != "no") {
      put_error(make_error("0A000", "replication connections go to a group's own PostgreSQL, not through the router"),
                "FATAL");
      co_return false;
    }
    co_return true;
  }
}

net::Task<Result<std::string>> Session::password_message() {
  for (;;) {
    pg::MessageView message;
    uint32_t length = 0;
    const pg::FrameStatus frame = pg::peek_message(in_.view(), message, length);
    if (frame == pg::FrameStatus::malformed || length > pg::kMaxStartupLength * 7 ||
        (frame == pg::FrameStatus::complete && message.type != 'p'))
      co_return make_error("08P01", "expected a password message");
    if (frame == pg::FrameStatus::complete) {
      std::string body(message.body);
      in_.consume(length);
      in_.own();
      co_return body;
    }
    if (!co_await next_input()) co_return make_error("08006", "the client went away during login");
  }
}

net::Task<Status> Session::authenticate() {
  in_.own();
  const std::string user = backends_.user(), database = backends_.database();
  if (inner_) {
    if (trusted_) backends_.trust();
    pg::MessageWriter(out_, 'R').int32(0);
    co_return Status{};
  }
  const auto config = worker_.config;
  if (config->tls.mode == TlsMode::require && !client_.tls() && !peer_.local)
    co_return make_error("28000", "this router requires TLS", "Connect with sslmode=require.");
  const AuthRule* rule = find_auth_rule(config->auth, peer_.address, client_.tls(), database, user);
  if (rule == nullptr || rule->method == AuthMethod::reject || user == config->internal.user)
    co_return make_error("28000",
                         "no [[auth]] rule of the router admits user \"" + user + "\" to database \"" + database +
                             "\" from " + (peer_.local ? "the local socket" : "host \"" + peer_.address + "\"") +
                             (client_.tls() ? ", SSL on" : ", SSL off"),
                         "Add a rule to the router's configuration.");
  if (rule->method == AuthMethod::trust) {
    trusted_ = true;
    backends_.trust();
    pg::MessageWriter(out_, 'R').int32(0);
    co_return Status{};
  }
  auto record = co_await lookup_user(worker_, user);
  if (!record.ok()) co_return std::move(record.error());
  if (rule->method == AuthMethod::md5 && !record->md5.empty()) {
    const std::string salt = random_bytes(pg::kMd5SaltBytes);
    pg::MessageWriter(out_, 'R').int32(5).bytes(salt);
    auto response = co_await password_message();
    if (!response.ok()) co_return std::move(response.error());
    CO_TRY(check_md5_response(*record, user, *response, salt));
    pg::MessageWriter(out_, 'R').int32(0);
    worker_.pool.set_credentials({user, {}, {}, record->md5});
    co_return Status{};
  }
  const std::string binding = client_.channel_binding();
  {
    pg::MessageWriter writer(out_, 'R');
    writer.int32(10);
    if (!binding.empty()) writer.string(pg::kScramSha256Plus);
    writer.string(pg::kScramSha256).byte('\0');
  }
  auto initial = co_await password_message();
  if (!initial.ok()) co_return std::move(initial.error());
  pg::FieldReader reader(*initial);
  const std::string mechanism(reader.string());
  const int32_t size = reader.int32();
  const std::string first(size >= 0 ? reader.bytes(static_cast<std::size_t>(size)) : std::string_view());
  if (reader.bad() || (mechanism != pg::kScramSha256 && (mechanism != pg::kScramSha256Plus || binding.empty())))
    co_return make_error("08P01", "client selected an invalid SASL authentication mechanism");
  const bool known = record->exists && !record->expired && record->verifier.has_value();
  pg::ScramServer::Options options;
  options.user = user;
  options.known_user = known;
  options.verifier = known ? *record->verifier : pg::mock_verifier(user, worker_.context.mock_secret);
  options.plus = mechanism == pg::kScramSha256Plus;
  if (!binding.empty()) options.channel_binding = binding;
  pg::ScramServer server(std::move(options));
  CO_TRY_ASSIGN(std::string challenge, server.first(first));
  pg::MessageWriter(out_, 'R').int32(11).bytes(challenge);
  auto answer = co_await password_message();
  if (!answer.ok()) co_return std::move(answer.error());
  CO_TRY_ASSIGN(std::string last, server.final(*answer));
  if (!record->can_login) co_return make_error("28000", "role \"" + user + "\" is not permitted to log in");
  pg::MessageWriter(out_, 'R').int32(12).bytes(last);
  pg::MessageWriter(out_, 'R').int32(0);
  worker_.pool.set_credentials({user, {}, server.keys()});
  co_return Status{};
}

net::Task<Status> Session::greet() {
  RouterContext& context = worker_.context;
  if (!inner_ && context.clients.load() > worker_.config->max_client_connections)
    co_return make_error("53300", "sorry, too many clients already", "Raise max_client_connections of the router.");
  std::string key = backends_.user() + '\0' + backends_.database() + '\0' + (trusted_ ? "trusted" : "");
  for (const auto& [name, sql] : startup_settings_) key += '\0' + sql;
  auto known = worker_.greetings.find(key);
  if (known != worker_.greetings.end() && worker_.snapshot->database(backends_.database()) == nullptr) {
    worker_.greetings.erase(known);  // dropped since: PostgreSQL says so
    known = worker_.greetings.end();
  }
  if (known == worker_.greetings.end()) {
    auto conn = co_await backends_.borrow(worker_.snapshot->home);
    if (!conn.ok()) co_return std::move(conn.error());
    Status applied = co_await (*conn)->drain();
    Greeting greeting;
    for (const auto& [name, value] : (*conn)->parameters)
      pg::write_parameter_status(greeting.parameter_status, name, value);
    backends_.give_back();
    if (!applied.ok()) co_return applied;
    known = worker_.greetings.emplace(key, std::move(greeting)).first;
  }
  out_ += known->second.parameter_status;
  std::tie(pid_, secret_) = context.sessions.add(&worker_, this);
  backends_.set_client_pid(pid_);
  pg::MessageWriter(out_, 'K').int32(static_cast<int32_t>(pid_)).int32(static_cast<int32_t>(secret_));
  pg::write_ready(out_, 'I');
  co_return Status{};
}

}  // namespace pgmosaic::router
