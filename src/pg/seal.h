// Secrets that are kept where others can read: AES-256-GCM, as hexadecimal digits of nonce, tag and text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pgmosaic::pg {

// `secret`: of any length. `about`: what the text belongs to; another one does not open it.
std::string seal(std::string_view secret, std::string_view about, std::string_view text);
// nullopt: sealed with another secret, about something else, or damaged.
std::optional<std::string> unseal(std::string_view secret, std::string_view about, std::string_view sealed);

std::string to_hex(std::string_view bytes);
std::optional<std::string> from_hex(std::string_view digits);

}  // namespace pgmosaic::pg
