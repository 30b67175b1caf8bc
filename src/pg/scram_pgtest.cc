// SCRAM against a real server: it takes our verifiers, and recovered keys log in to it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>

#include "base/bytes.h"
#include "base/random.h"
#include "harness/pg_connection.h"
#include "harness/postgres_server.h"
#include "pg/scram.h"

namespace pgmosaic::pg {
namespace {

// Just enough of the protocol, over a blocking socket.
class LoginSocket {
 public:
  explicit LoginSocket(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~LoginSocket() { close(fd_); }
  LoginSocket(const LoginSocket&) = delete;
  LoginSocket& operator=(const LoginSocket&) = delete;

  // "success", or the error's SQLSTATE, or what our side refused.
  std::string log_in(const std::string& user, ScramClient& client) {
    send('\0', std::string("\0\x03\0\0", 4) + text("user") + text(user) + text("database") + text("postgres") + '\0');
    std::string answer = receive('R');
    if (!answer.starts_with(number(10))) return answer;
    EXPECT_NE(answer.find(std::string(client.mechanism()) + '\0'), std::string::npos);
    const std::string first = client.first();
    send('p', text(std::string(client.mechanism())) + number(static_cast<uint32_t>(first.size())) + first);
    answer = receive('R');
    if (!answer.starts_with(number(11))) return answer;
    auto final = client.final(answer.substr(4));
    if (!final.ok()) return final.error().message;
    send('p', *final);
    answer = receive('R');
    if (!answer.starts_with(number(12))) return answer;
    const Status verified = client.verify(answer.substr(4));
    if (!verified.ok()) return verified.error().message;
    return receive('R') == number(0) ? "success" : "no AuthenticationOk";
  }

 private:
  static std::string text(const std::string& value) { return value + '\0'; }
  static std::string number(uint32_t value) {
    value = htonl(value);
    return std::string(reinterpret_cast<const char*>(&value), 4);
  }
  void send(char type, const std::string& body) {
    const std::string message =
        (type == '\0' ? "" : std::string(1, type)) + number(static_cast<uint32_t>(body.size() + 4)) + body;
    CHECK(write(fd_, message.data(), message.size()) == static_cast<ssize_t>(message.size()));
  }
  std::string read_bytes(size_t size) {
    std::string bytes(size, '\0');
    for (size_t got = 0; got < size;) {
      const ssize_t more = read(fd_, bytes.data() + got, size - got);
      CHECK(more > 0);
      got += static_cast<size_t>(more);
    }
    return bytes;
  }
  // Body of the next message; of an ErrorResponse, its SQLSTATE.
  std::string receive(char expected) {
    const std::string header = read_bytes(5);
    const std::string body = read_bytes(load_big_endian<uint32_t>(header.data() + 1) - 4);
    if (header[0] == expected) return body;
    const size_t code = body.find(std::string("\0C", 2));
    return header[0] == 'E' && code != body.npos ? body.substr(code + 2, 5) : "unexpected message";
  }

  int fd_;
};

class ScramServerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = std::make_unique<test::PostgresServer>();
    test::PgConnection admin(server_->conninfo());
    admin.execute("CREATE ROLE ann LOGIN");
    // Everybody but the superuser needs SCRAM.
    admin.execute("COPY (VALUES ('host all postgres all trust'), ('host all all all scram-sha-256')) TO '" +
                  admin.value("SHOW hba_file") + "'");
    admin.execute("SELECT pg_reload_conf()");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (login("ann", "")) CHECK(std::chrono::steady_clock::now() < deadline);
  }
  static void TearDownTestSuite() { server_.reset(); }

  static std::string conninfo(const std::string& user, const std::string& password) {
    return "host=127.0.0.1 port=" + std::to_string(server_->port()) + " dbname=postgres sslmode=disable user=" + user +
           " password='" + password + "'";
  }
  static bool login(const std::string& user, const std::string& password) {
    PGconn* connection = PQconnectdb(conninfo(user, password).c_str());
    const bool ok = PQstatus(connection) == CONNECTION_OK;
    PQfinish(connection);
    return ok;
  }
  static void set_password(const std::string& password_or_verifier) {
    test::PgConnection admin(server_->conninfo());
    admin.execute("ALTER ROLE ann PASSWORD '" + password_or_verifier + "'");
  }
  static std::string stored_verifier() {
    return test::PgConnection(server_->conninfo()).value("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'");
  }

  static std::unique_ptr<test::PostgresServer> server_;
};

std::unique_ptr<test::PostgresServer> ScramServerTest::server_;

TEST_F(ScramServerTest, a_real_server_takes_our_verifier) {
  for (const std::string& password : {std::string("pencil"), std::string("grün, 東京"), std::string("not utf8 \xff")}) {
    auto verifier = make_verifier(password, kScramIterations, random_bytes(16));
    ASSERT_TRUE(verifier.ok());
    set_password(format_verifier(*verifier));
    EXPECT_EQ(stored_verifier(), format_verifier(*verifier)) << "taken as it is, not hashed as a password";
    EXPECT_TRUE(login("ann", password));
    EXPECT_FALSE(login("ann", password + "x"));
  }
}

// Where SASLprep leaves a password alone, the server's own hash is ours.
TEST_F(ScramServerTest, our_verifier_is_the_one_the_server_makes) {
  for (const std::string& password :
       {std::string("pencil"), std::string("grün, Привет, 東京, 한국, €"), std::string("tab\tbell\a")}) {
    ASSERT_TRUE(saslprep_is_identity(password));
    set_password(password);
    const auto made = parse_verifier(stored_verifier());
    ASSERT_TRUE(made.has_value());
    auto ours = make_verifier(password, made->iterations, made->salt);
    ASSERT_TRUE(ours.ok());
    EXPECT_EQ(format_verifier(*ours), stored_verifier()) << password;
  }
}

std::string utf8(uint32_t c) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3f)); };
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xc0 | c >> 6), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xe0 | c >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | c >> 18), tail(12), tail(6), tail(0)};
}

// No character that we let pass is changed by NFKC, alone or beside others.
TEST_F(ScramServerTest, characters_that_pass_are_stable_under_nfkc) {
  std::string forward, backward, beside_letters;
  int passed = 0;
  for (uint32_t c = 1; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    const std::string text = utf8(c);
    if (!saslprep_is_identity(text)) continue;
    ++passed;
    forward += text;
    backward.insert(0, text);
    beside_letters += "A" + text + "k";
  }
  EXPECT_GT(passed, 30000);
  test::PgConnection admin(server_->conninfo());
  for (const std::string& text : {forward, backward, beside_letters}) {
    const test::PgResult result = admin.query("SELECT normalize($1, NFKC) = $1", {text});
    EXPECT_STREQ(PQgetvalue(result.get(), 0, 0), "t");
  }
}

TEST_F(ScramServerTest, our_client_logs_in_with_a_password) {
  set_password("pencil");
  ScramClient right("pencil", {});
  EXPECT_EQ(LoginSocket(server_->port()).log_in("ann", right), "success");
  ScramClient wrong("pen", {});
  EXPECT_EQ(LoginSocket(server_->port()).log_in("ann", wrong), "28P01");
}

// A client logs in to us; our server recovers its key, and the key opens the real server, which has the same verifier
// but has never talked to that client.
TEST_F(ScramServerTest, recovered_keys_log_in) {
  auto verifier = make_verifier("pencil", kScramIterations, random_bytes(16));
  ASSERT_TRUE(verifier.ok());
  set_password(format_verifier(*verifier));
  ScramClient client("pencil", {});
  ScramServer router({.user = "ann", .verifier = *verifier});
  auto server_first = router.first(client.first());
  ASSERT_TRUE(server_first.ok());
  auto client_final = client.final(*server_first);
  ASSERT_TRUE(client_final.ok());
  ASSERT_TRUE(router.final(*client_final).ok());

  ScramClient pass_through(router.keys(), {});
  EXPECT_EQ(LoginSocket(server_->port()).log_in("ann", pass_through), "success");

  // The same password under another salt is another key.
  set_password("pencil");
  ScramClient stale(router.keys(), {});
  EXPECT_EQ(LoginSocket(server_->port()).log_in("ann", stale), "28P01");
}

}  // namespace
}  // namespace pgmosaic::pg
