#include "pg/md5.h"

#include <gtest/gtest.h>

namespace pgmosaic::pg {
namespace {

TEST(Md5, VerifiersAreAsPostgresqlsOwn) {
  EXPECT_EQ(md5_verifier("foo", "regress_passwd1"), "md5cd3578025fe2c3d7ed1b9a9b26238b70");
  EXPECT_TRUE(is_md5_verifier("md5cd3578025fe2c3d7ed1b9a9b26238b70"));
  EXPECT_FALSE(is_md5_verifier("md5CD3578025FE2C3D7ED1B9A9B26238B70"));
  EXPECT_FALSE(is_md5_verifier("md5cd3578025fe2c3d7ed1b9a9b26238b7"));
  EXPECT_FALSE(is_md5_verifier("xyzcd3578025fe2c3d7ed1b9a9b26238b70"));
}

TEST(Md5, TheResponseDependsOnTheSalt) {
  const std::string verifier = md5_verifier("foo", "regress_passwd1");
  const std::string response = md5_response(verifier, std::string_view("\0\1\2\3", 4));
  EXPECT_EQ(response, "md5073fecba0cd5578c677c00e1b0cb22c3");
  EXPECT_NE(response, md5_response(verifier, std::string_view("\0\1\2\4", 4)));
}

}  // namespace
}  // namespace pgmosaic::pg
