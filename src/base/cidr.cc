#include "base/cidr.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>

namespace pgmosaic {

namespace {

bool bit(const std::array<unsigned char, 16>& bytes, int index) {
  return (bytes[static_cast<size_t>(index) / 8] >> (7 - index % 8) & 1) != 0;
}

}  // namespace

std::optional<Network::Address> Network::parse_address(std::string_view text) {
  const std::string copy(text.substr(0, text.find('%')));
  Address address;
  if (inet_pton(AF_INET, copy.c_str(), address.bytes.data()) == 1) {
    address.family = AF_INET;
    return address;
  }
  if (inet_pton(AF_INET6, copy.c_str(), address.bytes.data()) != 1) return std::nullopt;
  address.family = AF_INET6;
  constexpr std::array<unsigned char, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(kMapped.begin(), kMapped.end(), address.bytes.begin())) {
    Address inner;
    inner.family = AF_INET;
    std::copy_n(address.bytes.begin() + 12, 4, inner.bytes.begin());
    return inner;
  }
  return address;
}

std::optional<Network> Network::parse(std::string_view text) {
  if (text == "all") return Network();
  const size_t slash = text.find('/');
  const auto base = parse_address(text.substr(0, slash));
  if (!base) return std::nullopt;
  const int width = base->family == AF_INET ? 32 : 128;
  Network network;
  network.all_ = false;
  network.base_ = *base;
  network.prefix_ = width;
  if (slash != text.npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), network.prefix_);
    if (ec != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    if (network.prefix_ < 0 || network.prefix_ > width) return std::nullopt;
  }
  for (int i = network.prefix_; i < width; ++i)
    if (bit(network.base_.bytes, i)) return std::nullopt;
  return network;
}

bool Network::contains(std::string_view text) const {
  if (all_) return true;
  const auto address = parse_address(text);
  if (!address || address->family != base_.family) return false;
  for (int i = 0; i < prefix_; ++i)
    if (bit(address->bytes, i) != bit(base_.bytes, i)) return false;
  return true;
}

}  // namespace pgmosaic
