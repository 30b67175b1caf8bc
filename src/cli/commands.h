// The subcommands of the pgmosaic binary: dev, router, config.
#pragma once

#include <string>
#include <vector>

namespace pgmosaic::cli {

// Exit code of the process: 0, 1 (it failed), 2 (wrong usage).
int run(int argc, char** argv);
int run_dev(const std::vector<std::string>& arguments);
int run_router(const std::vector<std::string>& arguments);

}  // namespace pgmosaic::cli
