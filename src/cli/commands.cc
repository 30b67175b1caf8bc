#include "cli/commands.h"

#include <algorithm>
#include <cstdio>

#include "base/config.h"
#include "base/log.h"

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
    "  fsck     compare the groups of a running cluster with each other and with the catalog\n"
    "           pgmosaic fsck postgresql://user:password@host:port[/database]\n"
    "  layout   write what pg_dump does not know of a database: how its tables are sharded\n"
    "           pgmosaic layout dump postgresql://user:password@host:port/database\n"
    "  config   print the settings: --markdown (documentation), --sample (a commented file)\n"
    "  version  print the version\n"
    "\n"
    "pgmosaic COMMAND --help says more; that of dev and router lists every setting.\n";

constexpr const char* kDevUsage =
    "Usage: pgmosaic dev --data-dir DIR [--groups 4] [--port 6543] [--NAME VALUE]... [--config FILE]\n"
    "\n"
    "Makes and starts the PostgreSQL servers of a whole cluster under DIR, and the router before them. A second start\n"
    "finds everything again. Ctrl-C or SIGTERM stops it all.\n"
    "\n";
constexpr const char* kRouterUsage =
    "Usage: pgmosaic router --config FILE [--NAME VALUE]...\n"
    "\n"
    "A router before PostgreSQL servers that run elsewhere; FILE names each in a [[group]] section, and the metadata\n"
    "store. SIGHUP reads FILE again, SIGTERM lets transactions end and stops. `pgmosaic config --sample` prints a "
    "FILE.\n"
    "\n";

}  // namespace

int fail(const Error& error) {
  std::fprintf(stderr, "pgmosaic: %s\n", error.message.c_str());
  if (!error.node.empty()) std::fprintf(stderr, "  server: %s\n", error.node.c_str());
  if (!error.detail.empty()) std::fprintf(stderr, "  detail: %s\n", error.detail.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  hint: %s\n", error.hint.c_str());
  return 1;
}

bool asks_for_help(const std::vector<std::string>& arguments) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [](const std::string& argument) { return argument == "--help" || argument == "-h"; });
}

std::optional<Configured> configure(const std::vector<std::string>& arguments, std::string_view section, int& code) {
  code = 2;
  auto command_line = parse_command_line(arguments, section);
  if (!command_line.ok()) {
    fail(command_line.error());
    return std::nullopt;
  }
  if (!command_line->positional.empty()) {
    fail(make_error("42601", "unexpected argument \"" + command_line->positional[0] + "\"",
                    "Settings are given as --name value; --help lists them."));
    return std::nullopt;
  }
  if (command_line->help) {
    std::fputs((section.empty() ? kRouterUsage : kDevUsage), stdout);
    std::fputs(config_help(section).c_str(), stdout);
    code = 0;
    return std::nullopt;
  }
  auto config = load_config(*command_line);
  if (!config.ok()) {
    code = fail(config.error());
    return std::nullopt;
  }
  log_level = config->log.level;
  if (!config->log.file.empty() && !log_to_file(config->log.file)) {
    code = fail(make_error("F0000", "log.file: cannot write \"" + config->log.file + "\""));
    return std::nullopt;
  }
  return Configured{std::move(*command_line), std::move(*config)};
}

int run(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::string command = arguments.empty() ? "" : arguments[0];
  const std::vector<std::string> rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (command == "dev") return run_dev(rest);
  if (command == "router") return run_router(rest);
  if (command == "fsck") return run_fsck(rest);
  if (command == "layout") return run_layout(rest);
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
