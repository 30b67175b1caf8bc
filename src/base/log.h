// Structured log lines: `2026-01-31 12:00:00.123 INFO router: message key=value`. Thread-safe.
// The level check is inline, so a disabled line costs one relaxed load and formats nothing.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <string>
#include <string_view>

namespace pgmosaic {

enum class LogLevel { debug, info, warning, error };

extern std::atomic<LogLevel> log_level;

// Parses debug|info|warning|error; false if it is none of them.
bool parse_log_level(std::string_view text, LogLevel& level);
// Sends the log to a file (appending) instead of standard error. False if it cannot be opened.
bool log_to_file(const std::string& path);
void log_line(LogLevel level, std::string_view room, std::string_view text);

template <class... Args>
void log_at(LogLevel level, std::string_view room, fmt::format_string<Args...> format, Args&&... args) {
  if (level < log_level.load(std::memory_order_relaxed)) return;
  log_line(level, room, fmt::format(format, std::forward<Args>(args)...));
}

#define PGM_LOG_FUNCTION(name)                                                                 \
  template <class... Args>                                                                     \
  void log_##name(std::string_view room, fmt::format_string<Args...> format, Args&&... args) { \
    log_at(LogLevel::name, room, format, std::forward<Args>(args)...);                         \
  }
PGM_LOG_FUNCTION(debug)
PGM_LOG_FUNCTION(info)
PGM_LOG_FUNCTION(warning)
PGM_LOG_FUNCTION(error)
#undef PGM_LOG_FUNCTION

}  // namespace pgmosaic
