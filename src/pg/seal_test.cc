#include "pg/seal.h"

#include <gtest/gtest.h>

namespace pgmosaic::pg {

TEST(Seal, OpensWithTheSameSecretAndAboutTheSame) {
  for (const std::string text : {"", "key", "a text of more than one block of sixteen bytes"}) {
    const std::string sealed = seal("secret", "saga 1", text);
    EXPECT_EQ(unseal("secret", "saga 1", sealed), text);
    EXPECT_EQ(unseal("another", "saga 1", sealed), std::nullopt);
    EXPECT_EQ(unseal("secret", "saga 2", sealed), std::nullopt);
    EXPECT_NE(seal("secret", "saga 1", text), sealed);
  }
}

TEST(Seal, RefusesWhatIsDamaged) {
  std::string sealed = seal("secret", "saga", "text");
  EXPECT_EQ(unseal("secret", "saga", sealed.substr(2)), std::nullopt);
  sealed.back() = sealed.back() == '0' ? '1' : '0';
  EXPECT_EQ(unseal("secret", "saga", sealed), std::nullopt);
  EXPECT_EQ(unseal("secret", "saga", "xyz"), std::nullopt);
  EXPECT_EQ(unseal("secret", "saga", ""), std::nullopt);
}

TEST(Hex, GoesBothWays) {
  EXPECT_EQ(to_hex(std::string("\0\xff", 2)), "00ff");
  EXPECT_EQ(from_hex("00ff"), std::string("\0\xff", 2));
  EXPECT_EQ(from_hex("0"), std::nullopt);
}

}  // namespace pgmosaic::pg
