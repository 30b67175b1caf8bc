#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>

namespace pgmosaic {

std::atomic<LogLevel> log_level{LogLevel::info};

namespace {

constexpr const char* kPattern = "%Y-%m-%d %H:%M:%S.%e %v";

std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto created = spdlog::stderr_logger_mt("pgmosaic");
    created->set_pattern(kPattern);
    return created;
  }();
  return instance;
}

std::string_view level_name(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "DEBUG";
    case LogLevel::info: return "INFO";
    case LogLevel::warning: return "WARNING";
    case LogLevel::error: return "ERROR";
  }
  return "INFO";
}

}  // namespace

bool parse_log_level(std::string_view text, LogLevel& level) {
  for (LogLevel candidate : {LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error}) {
    std::string name(level_name(candidate));
    for (char& c : name) c = static_cast<char>(c - 'A' + 'a');
    if (text == name) {
      level = candidate;
      return true;
    }
  }
  return false;
}

bool log_to_file(const std::string& path) {
  try {
    auto created = spdlog::basic_logger_mt("pgmosaic-file", path);
    created->set_pattern(kPattern);
    created->flush_on(spdlog::level::info);
    logger() = created;
    return true;
  } catch (const spdlog::spdlog_ex&) {
    return false;
  }
}

void log_line(LogLevel level, std::string_view room, std::string_view text) {
  logger()->info("{} {}: {}", level_name(level), room, text);
}

}  // namespace pgmosaic
