// pgmosaic router: the router over attached groups.
#include <cstdio>

#include "base/config.h"
#include "base/log.h"
#include "cli/commands.h"
#include "control/preflight.h"
#include "meta/single_user.h"
#include "meta/sqlite_store.h"
#include "router/server.h"

namespace pgmosaic::cli {

namespace {

Result<std::string> internal_password(const Config& config) {
  if (config.internal.password_file.empty()) return config.internal.password;
  FILE* file = std::fopen(config.internal.password_file.c_str(), "r");
  if (file == nullptr)
    return make_error("F0000", "internal.password_file: cannot read \"" + config.internal.password_file + "\"");
  char line[1024] = "";
  if (std::fgets(line, sizeof line, file) == nullptr) line[0] = '\0';
  std::fclose(file);
  std::string password = line;
  while (!password.empty() && (password.back() == '\n' || password.back() == '\r')) password.pop_back();
  return password;
}

Result<std::vector<control::GroupEndpoint>> endpoints(const Config& config) {
  std::vector<control::GroupEndpoint> result;
  bool any_home = false;
  for (const GroupConfig& group : config.groups) any_home = any_home || group.home;
  for (const GroupConfig& group : config.groups) {
    control::GroupEndpoint entry;
    entry.group = {static_cast<catalog::GroupId>(result.size() + 1), group.name, group.host,
                   static_cast<uint16_t>(group.port), group.home || (!any_home && result.empty())};
    entry.endpoint.host = group.host;
    entry.endpoint.port = static_cast<uint16_t>(group.port);
    if (group.tls != GroupTls::off) {
      TRY_ASSIGN(entry.endpoint.tls, net::TlsContext::client(group.tls == GroupTls::verify ? group.ca_file : ""));
      entry.endpoint.tls_required = group.tls != GroupTls::prefer;
    }
    result.push_back(std::move(entry));
  }
  return result;
}

}  // namespace

int run_router(const std::vector<std::string>& arguments) {
  int code = 0;
  auto configured = configure(arguments, {}, code);
  if (!configured) return code;
  const Config* config = &configured->config;
  if (config->groups.empty())
    return fail(
        make_error("F0000", "no [[group]] is configured", "Name at least one PostgreSQL server, or use pgmosaic dev."));
  auto password = internal_password(*config);
  if (!password.ok()) return fail(password.error());
  auto groups = endpoints(*config);
  if (!groups.ok()) return fail(groups.error());
  pool::Credentials internal{config->internal.user, *password, {}};
  auto alone = meta::SingleUser::take(config->metadata.path);
  if (!alone.ok()) return fail(alone.error());
  Status checked = control::preflight(*config, *groups, internal);
  if (!checked.ok()) return fail(checked.error());
  auto store = meta::open_sqlite_store(config->metadata.path);
  if (!store.ok()) return fail(store.error());
  router::Server server(*config, configured->command_line, **store, *groups, internal);
  Status status = server.run(
      [&](uint16_t port) {
        std::printf("ready: router on %s port %u, %zu groups\n",
                    config->listen.empty() ? config->unix_socket_dir.c_str() : config->listen[0].c_str(), port,
                    groups->size());
        std::fflush(stdout);
      },
      nullptr);
  return status.ok() ? 0 : fail(status.error());
}

}  // namespace pgmosaic::cli
