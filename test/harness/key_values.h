// Random literals of the types that can be distribution keys, for tests that hold ours against PostgreSQL's reading.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace pgmosaic::test {

using Texts = std::vector<std::string>;

class Random {
 public:
  uint64_t below(uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit - 1)(engine_); }
  char pick(std::string_view from) { return from[below(from.size())]; }
  // Small and large magnitudes alike.
  int64_t integer(int bits) {
    const auto value = static_cast<int64_t>(engine_() >> (64 - bits)) >> below(static_cast<uint64_t>(bits));
    return below(2) == 0 ? value : -value;
  }
  std::string digits(size_t size) {
    std::string out;
    for (size_t i = 0; i < size; ++i) out += pick("0123456789");
    return out;
  }
  std::string word(size_t most) {
    static const Texts pieces = {"a",  "B", "z9", " ", "  ", "ä",  "€",  "😀",
                                 "\\", "'", "\"", ",", "{",  "\n", "\t", "customer-"};
    std::string out;
    while (out.size() < most && below(10) > 0) out += pieces[below(pieces.size())];
    return out;
  }
  std::string two(uint64_t limit, uint64_t from = 0) {
    const uint64_t value = from + below(limit);
    return (value < 10 ? "0" : "") + std::to_string(value);
  }
  std::string date(uint64_t last_year) {
    std::string year = std::to_string(1 + below(below(3) == 0 ? last_year : 2999));
    if (year.size() < 4) year.insert(0, 4 - year.size(), '0');
    return year + "-" + two(12, 1) + "-" + two(28, 1);
  }
  std::string time() {
    std::string text = two(24) + ":" + two(60);
    if (below(4) > 0) text += ":" + two(60);
    if (text.size() == 8 && below(2) == 0) text += "." + digits(1 + below(6));
    return text;
  }
  std::string zone() {
    std::string text = below(2) == 0 ? "+" : "-";
    text += two(16);
    if (below(2) == 0) text += ":" + two(60);
    if (text.size() == 6 && below(3) == 0) text += ":" + two(60);
    return below(8) == 0 ? "Z" : text;
  }

 private:
  std::mt19937_64 engine_{20240506};
};

struct KeyType {
  uint32_t oid;
  std::string name;
  std::function<std::string(Random&)> make;  // a literal that PostgreSQL accepts
};

inline std::string make_bool(Random& random) {
  static const Texts words = {"t", "f", "true", "false", "TRUE", "yes", "no", "on", "off", "1", "0", " y ", "of"};
  return words[random.below(words.size())];
}

inline std::string make_bytea(Random& random) {
  std::string text = "\\x";
  for (uint64_t n = random.below(40); n > 0; --n) {
    text += random.pick("0123456789abcdefABCDEF");
    text += random.pick("0123456789abcdefABCDEF");
  }
  if (random.below(2) == 0) return text;
  text.clear();
  for (uint64_t n = random.below(20); n > 0; --n)
    text += random.below(3) == 0   ? "\\\\"
            : random.below(2) == 0 ? "\\" + std::to_string(100 + random.below(8) * 10)
                                   : "q";
  return text;
}

inline std::string make_numeric(Random& random) {
  if (random.below(50) == 0) return random.below(2) == 0 ? "NaN" : "-Infinity";
  std::string text = random.below(3) == 0 ? "-" : "";
  text += std::string(random.below(3), '0') + random.digits(random.below(25)) + std::string(random.below(6), '0');
  if (random.below(2) == 0)
    text +=
        "." + std::string(random.below(9), '0') + random.digits(random.below(12)) + std::string(random.below(4), '0');
  if (text.find_first_of("0123456789") == std::string::npos) text += "0";
  if (random.below(4) == 0) text += "e" + std::to_string(static_cast<int>(random.below(60)) - 30);
  return text;
}

inline std::string make_timestamp(Random& random) {
  if (random.below(60) == 0) return random.below(2) == 0 ? "infinity" : "-infinity";
  std::string text = random.date(294275);
  if (random.below(10) > 0) text += (random.below(3) == 0 ? "T" : " ") + random.time();
  return text;
}

inline std::string make_timestamptz(Random& random) {
  std::string text = make_timestamp(random);
  if (text.find(':') != std::string::npos && random.below(4) > 0) text += random.zone();
  return text;
}

inline std::string make_uuid(Random& random) {
  std::string text;
  const bool hyphens = random.below(2) == 0;
  for (int i = 0; i < 32; ++i) {
    if (hyphens && (i == 8 || i == 12 || i == 16 || i == 20)) text += '-';
    text += random.pick("0123456789abcdefABCDEF");
  }
  return random.below(5) == 0 ? "{" + text + "}" : text;
}

inline const std::vector<KeyType>& key_types() {
  static const std::vector<KeyType> types = {
      {16, "bool", make_bool},
      {17, "bytea", make_bytea},
      {20, "int8", [](Random& r) { return std::to_string(r.integer(64)); }},
      {21, "int2", [](Random& r) { return std::to_string(r.integer(15)); }},
      {23, "int4", [](Random& r) { return std::to_string(r.integer(31)); }},
      {25, "text", [](Random& r) { return r.word(60); }},
      {1042, "bpchar", [](Random& r) { return r.word(30) + std::string(r.below(4), ' '); }},
      {1043, "varchar", [](Random& r) { return r.word(40); }},
      {1082, "date", [](Random& r) { return r.below(60) == 0 ? "infinity" : r.date(5874896); }},
      {1114, "timestamp", make_timestamp},
      {1184, "timestamptz", make_timestamptz},
      {1700, "numeric", make_numeric},
      {2950, "uuid", make_uuid},
  };
  return types;
}

inline std::string array_literal(const Texts& values) {
  std::string out = "{";
  for (const std::string& value : values) {
    out += out.size() > 1 ? ",\"" : "\"";
    for (const char c : value) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    out += '"';
  }
  return out + "}";
}

inline Texts make_values(const KeyType& type, Random& random, int count) {
  Texts values;
  for (int i = 0; i < count; ++i) values.push_back(type.make(random));
  return values;
}

}  // namespace pgmosaic::test
