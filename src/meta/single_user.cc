#include "meta/single_user.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pgmosaic::meta {

Result<SingleUser> SingleUser::take(const std::string& path) {
  const std::string lock = path + ".lock";
  const int fd = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return make_error("58030", "cannot open " + lock + ": " + std::strerror(errno));
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return SingleUser(fd);
  close(fd);
  return make_error("F0000", "another router serves the metadata store " + path,
                    "Stop it first. Several routers over one store come in a later version.");
}

SingleUser::~SingleUser() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace pgmosaic::meta
