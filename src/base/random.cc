#include "base/random.h"

#include <sys/random.h>

#include <cerrno>

#include "base/check.h"

namespace pgmosaic {

void fill_random(void* out, size_t size) {
  auto* next = static_cast<unsigned char*>(out);
  while (size > 0) {
    const ssize_t got = getrandom(next, size, 0);
    if (got < 0) {
      CHECK(errno == EINTR);
      continue;
    }
    next += got;
    size -= static_cast<size_t>(got);
  }
}

std::string random_bytes(size_t size) {
  std::string bytes(size, '\0');
  fill_random(bytes.data(), size);
  return bytes;
}

std::string random_hex(size_t bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * bytes);
  for (const char c : random_bytes(bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

uint64_t random_u64() {
  uint64_t value = 0;
  fill_random(&value, sizeof value);
  return value;
}

}  // namespace pgmosaic
