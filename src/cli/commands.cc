#include "cli/commands.h"

#include <cstdio>

#include "base/config.h"

namespace pgmosaic::cli {

namespace {

constexpr const char* kUsage =
    "pgmosaic: many PostgreSQL servers answer as one\n"
    "\n"
    "Usage: pgmosaic COMMAND [OPTIONS]\n"
    "\n"
    "Commands:\n"
    "  dev      a whole cluster on this machine: N PostgreSQL servers and the router, in one process tree\n"
    "           pgmosaic dev --data-dir DIR [--groups 4] [--port 6543]\n"
    "  router   a router over PostgreSQL servers that run elsewhere\n"
    "           pgmosaic router --config FILE\n"
    "  config   print the settings: --markdown (documentation), --sample (a commented file)\n"
    "  version  print the version\n"
    "\n"
    "pgmosaic COMMAND --help lists every setting.\n";

}  // namespace

int run(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string command = arguments.empty() ? "" : arguments[0];
  const std::vector<std::string> rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (command == "dev") return run_dev(rest);
  if (command == "router") return run_router(rest);
  if (command == "config") {
    const std::string how = rest.empty() ? "--markdown" : rest[0];
    if (how != "--markdown" && how != "--sample") {
      std::fputs(kUsage, stderr);
      return 2;
    }
    std::fputs((how == "--sample" ? config_sample() : config_markdown()).c_str(), stdout);
    return 0;
  }
  if (command == "version" || command == "--version") {
    std::puts("pgmosaic 0.1.0");
    return 0;
  }
  const bool unknown = !command.empty() && command != "help" && command != "--help" && command != "-h";
  if (unknown) std::fprintf(stderr, "pgmosaic: unknown command \"%s\"\n\n", command.c_str());
  const bool asked = command == "help" || command == "--help" || command == "-h";
  std::fputs(kUsage, asked ? stdout : stderr);
  return asked ? 0 : 2;
}

}  // namespace pgmosaic::cli
