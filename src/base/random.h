// Random bytes for nonces, keys, salts and names, from the kernel's generator (getrandom). Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace pgmosaic {

void fill_random(void* out, size_t size);
std::string random_bytes(size_t size);
// 2 * `bytes` lower-case hexadecimal digits.
std::string random_hex(size_t bytes);
uint64_t random_u64();

}  // namespace pgmosaic
