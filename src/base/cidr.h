// IP networks as access rules write them: 10.0.0.0/8, ::1/128, a single address, or "all".
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace pgmosaic {

class Network {
 public:
  // Every address of both families.
  Network() = default;

  // nullopt: not an address, or bits set behind the prefix.
  static std::optional<Network> parse(std::string_view text);

  // `address` is an IP address in text form; an IPv4 address inside IPv6 (::ffff:a.b.c.d) counts as IPv4.
  bool contains(std::string_view address) const;

  bool operator==(const Network&) const = default;

 private:
  struct Address {
    int family = 0;
    std::array<unsigned char, 16> bytes{};
    bool operator==(const Address&) const = default;
  };
  static std::optional<Address> parse_address(std::string_view text);

  Address base_;
  int prefix_ = 0;
  bool all_ = true;
};

}  // namespace pgmosaic
