// The subcommands of the pgmosaic binary: dev, router, fsck, layout, config.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/config.h"

namespace pgmosaic::cli {

// Exit code of the process: 0, 1 (it failed), 2 (wrong usage); run_fsck() has codes of its own.
int run(int argc, char** argv);
int run_dev(const std::vector<std::string>& arguments);
int run_router(const std::vector<std::string>& arguments);
int run_fsck(const std::vector<std::string>& arguments);
int run_layout(const std::vector<std::string>& arguments);

bool asks_for_help(const std::vector<std::string>& arguments);
// Says on stderr what went wrong. Result: 1.
int fail(const Error& error);
struct Configured {
  CommandLine command_line;
  Config config;
};
// The configuration that the arguments name, with the log going where it says. nullopt: the process ends with `code`,
// after --help or an error that was told. `section`: see parse_command_line().
std::optional<Configured> configure(const std::vector<std::string>& arguments, std::string_view section, int& code);

}  // namespace pgmosaic::cli
