#include "cli/client.h"

#include <charconv>
#include <cstdlib>
#include <map>

#include "net/tls.h"

namespace pgmosaic::cli {

namespace {

constexpr int kConnectTimeoutMs = 10000;
constexpr uint16_t kDefaultPort = 6543;

Error bad_url(const std::string& why) {
  return make_error("42601", "this is no URL of a router: " + why,
                    "Write postgresql://user:password@host:port/database.");
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low < 0) {
      out += text[i];
    } else {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

// Cuts off what stands before the first `separator`, or all; false: there is none.
bool cut(std::string_view& text, char separator, std::string_view& head) {
  const std::size_t at = text.find(separator);
  head = text.substr(0, at);
  text.remove_prefix(at == text.npos ? text.size() : at + 1);
  return at != std::string_view::npos;
}

using Fields = std::map<std::string, std::string>;

Status read_url(std::string_view url, Fields& fields) {
  if (!url.starts_with("postgresql://") && !url.starts_with("postgres://"))
    return bad_url("\"" + std::string(url) + "\"");
  url.remove_prefix(url.find("://") + 3);
  auto put = [&fields](const char* name, std::string_view value) {
    if (!value.empty()) fields[name] = percent_decoded(value);
  };
  std::string_view place, authority;
  std::string_view query = url;
  cut(query, '?', place);
  std::string_view database = place;
  cut(database, '/', authority);
  put("database", database);
  if (const std::size_t at = authority.rfind('@'); at != authority.npos) {
    std::string_view password = authority.substr(0, at), user;
    cut(password, ':', user);
    put("user", user);
    put("password", password);
    authority.remove_prefix(at + 1);
  }
  const std::size_t colon = authority.rfind(':');
  const bool has_port = colon != authority.npos && authority.find(']', colon) == authority.npos;
  if (has_port) put("port", authority.substr(colon + 1));
  std::string_view host = has_port ? authority.substr(0, colon) : authority;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  put("host", host);
  while (!query.empty()) {
    std::string_view value, name;
    cut(query, '&', value);
    cut(value, '=', name);
    if (name != "sslmode" && name != "sslrootcert" && name != "host" && name != "port" && name != "user" &&
        name != "password" && name != "dbname")
      return bad_url("it has the parameter \"" + std::string(name) + "\"");
    put(name == "dbname" ? "database" : std::string(name).c_str(), value);
  }
  return {};
}

void take_environment(Fields& fields) {
  const std::pair<const char*, const char*> kVariables[] = {{"host", "PGHOST"},
                                                            {"port", "PGPORT"},
                                                            {"user", "PGUSER"},
                                                            {"password", "PGPASSWORD"},
                                                            {"database", "PGDATABASE"},
                                                            {"sslmode", "PGSSLMODE"},
                                                            {"sslrootcert", "PGSSLROOTCERT"}};
  for (const auto& [name, variable] : kVariables) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') fields.try_emplace(name, value);
  }
}

Status choose_tls(const Fields& fields, pool::Endpoint& endpoint) {
  auto value = [&fields](const char* name) {
    const auto found = fields.find(name);
    return found == fields.end() ? std::string() : found->second;
  };
  const std::string mode = value("sslmode");
  if (mode == "disable") return {};
  const bool verify = mode == "verify-full" || mode == "verify-ca";
  if (!verify && mode != "require" && mode != "prefer" && mode != "allow" && !mode.empty())
    return bad_url("sslmode is \"" + mode + "\"");
  if (verify && value("sslrootcert").empty())
    return make_error("F0000", "sslmode=" + mode + " needs sslrootcert",
                      "Name the file of the authority's certificate.");
  TRY_ASSIGN(endpoint.tls, net::TlsContext::client(verify ? value("sslrootcert") : ""));
  endpoint.tls_required = verify || mode == "require";
  return {};
}

net::Task<void> run(net::EventLoop& loop, const Target& target, const std::string& database, const Work& work,
                    Status& result) {
  auto conn =
      co_await pool::ServerConn::connect(loop, target.endpoint, target.credentials, database, kConnectTimeoutMs);
  if (conn.ok())
    result = co_await work(**conn);
  else
    result = std::move(conn.error());
  loop.stop();
}

}  // namespace

Result<Target> read_target(const std::vector<std::string>& arguments) {
  Fields fields;
  Target target;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--admin-database" && i + 1 < arguments.size()) {
      target.admin_database = arguments[++i];
    } else if (arguments[i].starts_with("-") || !fields.empty()) {
      return make_error("42601", "unexpected argument \"" + arguments[i] + "\"", "--help lists the arguments.");
    } else {
      TRY(read_url(arguments[i], fields));
      fields.try_emplace("", "");  // there was one
    }
  }
  take_environment(fields);
  target.endpoint.host = fields.contains("host") ? fields["host"] : "127.0.0.1";
  target.endpoint.port = kDefaultPort;
  if (const std::string& port = fields["port"]; !port.empty()) {
    const auto [end, problem] = std::from_chars(port.data(), port.data() + port.size(), target.endpoint.port);
    if (problem != std::errc() || end != port.data() + port.size()) return bad_url("its port is \"" + port + "\"");
  }
  target.credentials.user = fields.contains("user") ? fields["user"] : "postgres";
  target.credentials.password = fields["password"];
  target.database = fields["database"];
  TRY(choose_tls(fields, target.endpoint));
  return target;
}

Status with_connection(const Target& target, const std::string& database, const Work& work) {
  net::EventLoop loop;
  Status result;
  net::spawn(run(loop, target, database, work, result));
  loop.run();
  return result;
}

}  // namespace pgmosaic::cli
