#include "pg/scram.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

namespace pgmosaic::pg {
namespace {

constexpr std::string_view kSalt = "0123456789abcdef";

ScramVerifier verifier_of(std::string_view password) {
  auto verifier = make_verifier(password, kScramIterations, kSalt);
  EXPECT_TRUE(verifier.ok());
  return *verifier;
}

std::string base64(std::string_view text) {
  std::string out(text.size() * 2 + 4, '\0');
  out.resize(static_cast<size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                                 reinterpret_cast<const unsigned char*>(text.data()),
                                                 static_cast<int>(text.size()))));
  return out;
}

std::string from_base64(std::string_view text) {
  const auto verifier = parse_verifier("SCRAM-SHA-256$1:" + std::string(text) + "$" + base64(std::string(32, 'a')) +
                                       ":" + base64(std::string(32, 'b')));
  return verifier.value().salt;
}

// Runs one exchange; the result is the client's opinion or the first error.
Status exchange(ScramClient& client, ScramServer& server) {
  TRY_ASSIGN(const std::string server_first, server.first(client.first()));
  TRY_ASSIGN(const std::string client_final, client.final(server_first));
  TRY_ASSIGN(const std::string server_final, server.final(client_final));
  return client.verify(server_final);
}

std::string sqlstate(const Status& status) { return status.ok() ? "00000" : status.error().sqlstate; }

// RFC 7677, section 3.
TEST(Scram, matches_the_published_exchange) {
  const std::string salt = from_base64("W22ZaJ0SNY7soEsUEjb6gQ==");
  ScramClient client("pencil", {.user = "user", .nonce = "rOprNGfwEbeRWgbNEkqO"});
  auto verifier = make_verifier("pencil", 4096, salt);
  ASSERT_TRUE(verifier.ok());
  ScramServer server({.user = "user", .verifier = *verifier, .nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"});

  const std::string client_first = client.first();
  EXPECT_EQ(client_first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  auto server_first = server.first(client_first);
  ASSERT_TRUE(server_first.ok());
  EXPECT_EQ(*server_first, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
  auto client_final = client.final(*server_first);
  ASSERT_TRUE(client_final.ok());
  EXPECT_EQ(*client_final,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
  auto server_final = server.final(*client_final);
  ASSERT_TRUE(server_final.ok());
  EXPECT_EQ(*server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  EXPECT_TRUE(client.verify(*server_final).ok());
}

TEST(Scram, recovered_keys_log_in_elsewhere_with_the_same_verifier_only) {
  const ScramVerifier verifier = verifier_of("secret");
  ScramClient client("secret", {});
  ScramServer router({.user = "ann", .verifier = verifier});
  ASSERT_EQ(sqlstate(exchange(client, router)), "00000");

  ScramClient pass_through(router.keys(), {});
  ScramServer group({.user = "ann", .verifier = verifier});
  EXPECT_EQ(sqlstate(exchange(pass_through, group)), "00000");
  EXPECT_EQ(group.client_key(), router.client_key());

  ScramClient again(router.keys(), {});
  auto other = make_verifier("secret", kScramIterations, "another salt");
  ScramServer drifted({.user = "ann", .verifier = *other});
  EXPECT_EQ(sqlstate(exchange(again, drifted)), "28P01");
}

TEST(Scram, a_wrong_password_and_an_unknown_user_look_alike) {
  ScramClient wrong("guess", {});
  ScramServer known({.user = "ann", .verifier = verifier_of("secret")});
  const Status first = exchange(wrong, known);
  ASSERT_EQ(sqlstate(first), "28P01");
  EXPECT_EQ(first.error().message, "password authentication failed for user \"ann\"");

  const ScramVerifier mock = mock_verifier("ann", "cluster secret");
  EXPECT_EQ(mock, mock_verifier("ann", "cluster secret"));
  EXPECT_NE(mock.salt, mock_verifier("bob", "cluster secret").salt);
  EXPECT_EQ(mock.salt.size(), 16U);
  ScramClient guess("guess", {});
  ScramServer unknown({.user = "ann", .verifier = mock, .known_user = false});
  const Status second = exchange(guess, unknown);
  ASSERT_EQ(sqlstate(second), "28P01");
  EXPECT_EQ(second.error().message, first.error().message);
}

TEST(Scram, a_right_proof_for_an_unknown_user_fails) {
  ScramClient client("secret", {});
  ScramServer server({.user = "ann", .verifier = verifier_of("secret"), .known_user = false});
  EXPECT_EQ(sqlstate(exchange(client, server)), "28P01");
}

TEST(Scram, verifier_text_round_trips) {
  const ScramVerifier verifier = verifier_of("secret");
  const std::string text = format_verifier(verifier);
  EXPECT_TRUE(text.starts_with("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$"));
  EXPECT_EQ(parse_verifier(text), verifier);
  const std::string key = base64(std::string(32, 'k'));
  for (const std::string& bad :
       {std::string("md5abc"), std::string("SCRAM-SHA-256$"), "SCRAM-SHA-256$0:c2FsdA==$" + key + ":" + key,
        "SCRAM-SHA-256$4096:c2FsdA==$" + key, "SCRAM-SHA-256$4096:c2FsdA=$" + key + ":" + key,
        "SCRAM-SHA-256$4096:c2FsdA==$c2hvcnQ=:" + key, "SCRAM-SHA-256$4096$" + key + ":" + key,
        "SCRAM-SHA-256$4096:c2 sdA==$" + key + ":" + key}) {
    EXPECT_FALSE(parse_verifier(bad).has_value()) << bad;
  }
}

TEST(Scram, channel_binding_is_checked) {
  const ScramVerifier verifier = verifier_of("secret");
  ScramClient bound("secret", {.binding = ScramClient::Binding::used, .channel_binding = "certificate hash"});
  EXPECT_EQ(bound.mechanism(), kScramSha256Plus);
  ScramServer server({.user = "ann", .verifier = verifier, .plus = true, .channel_binding = "certificate hash"});
  EXPECT_EQ(sqlstate(exchange(bound, server)), "00000");

  ScramClient in_the_middle("secret", {.binding = ScramClient::Binding::used, .channel_binding = "other hash"});
  ScramServer second({.user = "ann", .verifier = verifier, .plus = true, .channel_binding = "certificate hash"});
  EXPECT_EQ(sqlstate(exchange(in_the_middle, second)), "28000");
}

TEST(Scram, a_downgrade_is_noticed) {
  const ScramVerifier verifier = verifier_of("secret");
  ScramClient tricked("secret", {.binding = ScramClient::Binding::not_offered});
  ScramServer offers({.user = "ann", .verifier = verifier, .channel_binding = "hash"});
  EXPECT_EQ(sqlstate(exchange(tricked, offers)), "28000");

  ScramClient honest("secret", {.binding = ScramClient::Binding::not_offered});
  ScramServer plain({.user = "ann", .verifier = verifier});
  EXPECT_EQ(sqlstate(exchange(honest, plain)), "00000");

  ScramClient simple("secret", {});
  ScramServer offers_too({.user = "ann", .verifier = verifier, .channel_binding = "hash"});
  EXPECT_EQ(sqlstate(exchange(simple, offers_too)), "00000");
}

TEST(Scram, the_client_notices_a_server_without_the_verifier) {
  ScramVerifier forged = verifier_of("secret");
  forged.server_key.assign(32, 'x');
  ScramClient client("secret", {});
  ScramServer impostor({.user = "ann", .verifier = forged});
  EXPECT_EQ(sqlstate(exchange(client, impostor)), "28000");
}

TEST(Scram, malformed_client_first_messages) {
  const auto state = [](std::string_view message, bool plus = false) {
    ScramServer server({.user = "ann",
                        .verifier = verifier_of("secret"),
                        .plus = plus,
                        .channel_binding = plus ? std::optional<std::string>("hash") : std::nullopt});
    auto reply = server.first(message);
    return reply.ok() ? std::string("00000") : reply.error().sqlstate;
  };
  EXPECT_EQ(state("n,,n=,r=abc"), "00000");
  EXPECT_EQ(state("n,,n=ann,r=abc,x=extension"), "00000");
  for (std::string_view bad : {"", "n", "n,", "n,,", "n,,n=", "n,,n=,", "n,,n=,r=", "n,,r=abc", "x,,n=,r=abc",
                               "nn,,n=,r=a", "n,n=,r=abc", "p=tls-server-end-point,,n=,r=abc", "n,,n=,r=a\x01"}) {
    EXPECT_EQ(state(bad), "08P01") << bad;
  }
  EXPECT_EQ(state("n,a=other,n=,r=abc"), "0A000");
  EXPECT_EQ(state("n,,m=ext,n=,r=abc"), "0A000");
  EXPECT_EQ(state("p=tls-unique,,n=,r=abc", true), "08P01");
  EXPECT_EQ(state("n,,n=,r=abc", true), "08P01");
  EXPECT_EQ(state("p=tls-server-end-point,,n=,r=abc", true), "00000");
}

TEST(Scram, malformed_client_final_messages) {
  const auto state = [](std::string_view message) {
    ScramServer server({.user = "ann", .verifier = verifier_of("secret"), .nonce = "def"});
    EXPECT_TRUE(server.first("n,,n=,r=abc").ok());
    auto reply = server.final(message);
    return reply.ok() ? std::string("00000") : reply.error().sqlstate;
  };
  const std::string proof = base64(std::string(32, 'p'));
  EXPECT_EQ(state("c=biws,r=abcdef,p=" + proof), "28P01");
  EXPECT_EQ(state("c=biws,r=abcdef,x=ext,p=" + proof), "28P01");
  EXPECT_EQ(state("c=biws,r=abcdeX,p=" + proof), "08P01");
  EXPECT_EQ(state("c=eSws,r=abcdef,p=" + proof), "28000");
  for (const std::string& bad :
       {std::string(), std::string("c=biws,r=abcdef"), "r=abcdef,p=" + proof, std::string("c=biws,r=abcdef,p="),
        std::string("c=biws,r=abcdef,p=YWJj"), "p=" + proof, "c=biws,r=abcdef,p=" + proof + "x"}) {
    EXPECT_EQ(state(bad), "08P01") << bad;
  }
}

TEST(Scram, malformed_server_messages) {
  const auto state = [](std::string_view message) {
    ScramClient client("secret", {.nonce = "abc"});
    (void)client.first();
    auto reply = client.final(message);
    return reply.ok() ? std::string("00000") : reply.error().sqlstate;
  };
  EXPECT_EQ(state("r=abcdef,s=c2FsdA==,i=1"), "00000");
  for (std::string_view bad :
       {"", "r=abcdef", "r=abcdef,s=c2FsdA==", "r=abc,s=c2FsdA==,i=1", "r=xbcdef,s=c2FsdA==,i=1", "r=abcdef,s=!!!!,i=1",
        "r=abcdef,s=c2FsdA==,i=0", "r=abcdef,s=c2FsdA==,i=99999999999", "r=abcdef,s=c2FsdA==,i=1x"}) {
    EXPECT_EQ(state(bad), "08P01") << bad;
  }
  ScramClient client("secret", {.nonce = "abc"});
  (void)client.first();
  ASSERT_TRUE(client.final("r=abcdef,s=c2FsdA==,i=1").ok());
  EXPECT_EQ(sqlstate(client.verify("e=other-error")), "28000");
  EXPECT_EQ(sqlstate(client.verify("v=")), "28000");
  EXPECT_EQ(sqlstate(client.verify("nonsense")), "08P01");
}

TEST(Scram, passwords_that_need_normalization_are_refused) {
  EXPECT_TRUE(saslprep_is_identity("plain ASCII \x01~"));
  EXPECT_TRUE(saslprep_is_identity("grün, Привет, 東京, 한국, €"));
  EXPECT_TRUE(saslprep_is_identity("not utf8 \xff\xfe"));
  EXPECT_TRUE(saslprep_is_identity("cut \xe6\x9d"));
  EXPECT_FALSE(saslprep_is_identity("no\u00a0break"));
  EXPECT_FALSE(saslprep_is_identity("soft\u00adhyphen"));
  EXPECT_FALSE(saslprep_is_identity("u\u0308"));
  EXPECT_FALSE(saslprep_is_identity("\ufb01ne"));
  auto refused = make_verifier("\ufb01ne", kScramIterations, kSalt);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().sqlstate, "0A000");
}

std::string self_signed_certificate(const EVP_MD* digest) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_sign(certificate, key, digest);
  unsigned char* der = nullptr;
  const int length = i2d_X509(certificate, &der);
  std::string out(reinterpret_cast<char*>(der), static_cast<size_t>(length));
  OPENSSL_free(der);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return out;
}

std::string digest_of(std::string_view text, const EVP_MD* digest) {
  std::string out(EVP_MAX_MD_SIZE, '\0');
  unsigned length = 0;
  EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(out.data()), &length, digest, nullptr);
  out.resize(length);
  return out;
}

TEST(Scram, end_point_hash_follows_the_certificates_signature) {
  const std::string sha512 = self_signed_certificate(EVP_sha512());
  auto binding = tls_server_end_point(sha512);
  ASSERT_TRUE(binding.ok());
  EXPECT_EQ(*binding, digest_of(sha512, EVP_sha512()));
  const std::string sha1 = self_signed_certificate(EVP_sha1());
  binding = tls_server_end_point(sha1);
  ASSERT_TRUE(binding.ok());
  EXPECT_EQ(*binding, digest_of(sha1, EVP_sha256()));
  EXPECT_FALSE(tls_server_end_point("no certificate").ok());
}

}  // namespace
}  // namespace pgmosaic::pg
