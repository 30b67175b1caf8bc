#include "router/admin.h"

#include <charconv>

#include "base/log.h"
#include "exec/control.h"
#include "pg/backend.h"
#include "plan/planner.h"
#include "router/auth.h"
#include "router/context.h"
#include "router/layout.h"
#include "router/session.h"
#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

constexpr int64_t kPausePollUs = 20'000;

using Verb = AdminCommand::Verb;

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

Error unknown_command(std::string_view sql) {
  std::string views;
  for (const AdminView& view : admin_views()) views += (views.empty() ? "" : "|") + upper(view.name);
  return make_error("42601", "the admin database does not know the command \"" + std::string(sql.substr(0, 100)) + "\"",
                    "Commands: SHOW " + views +
                        "; FSCK [database]; LAYOUT database; PAUSE [database]; RESUME [database]; RELOAD; SHUTDOWN; "
                        "CANCEL pid; KILL pid.");
}

// What the command returns rows of, or nullptr.
const AdminView* view_of(const AdminCommand& command) {
  if (command.verb == Verb::show) return find_admin_view(command.object);
  if (command.verb == Verb::layout) return &layout_view();
  return command.verb == Verb::fsck ? &fsck_view() : nullptr;
}

// Statements that drivers send on their own account. They change nothing here.
const char* ignored_tag(const std::string& verb) {
  static const std::map<std::string, const char*> kTags = {{"set", "SET"},
                                                           {"reset", "RESET"},
                                                           {"begin", "BEGIN"},
                                                           {"start", "START TRANSACTION"},
                                                           {"commit", "COMMIT"},
                                                           {"end", "COMMIT"},
                                                           {"rollback", "ROLLBACK"},
                                                           {"abort", "ROLLBACK"},
                                                           {"discard", "DISCARD ALL"},
                                                           {"deallocate", "DEALLOCATE ALL"}};
  const auto found = kTags.find(verb);
  return found == kTags.end() ? nullptr : found->second;
}

int16_t format_of(const std::vector<int16_t>& formats, std::size_t column) {
  if (formats.empty()) return 0;
  return formats.size() == 1 ? formats[0] : column < formats.size() ? formats[column] : int16_t{0};
}

void write_columns(std::string& out, const AdminView& view, const std::vector<int16_t>& formats) {
  std::vector<pg::FieldDescription> fields;
  for (const AdminColumn& column : view.columns) {
    pg::FieldDescription field;
    field.name = column.name;
    field.type = column.number ? 20 : 25;
    field.type_size = column.number ? 8 : -1;
    field.format = format_of(formats, fields.size());
    fields.push_back(std::move(field));
  }
  pg::write_row_description(out, fields);
}

void write_row(std::string& out, const AdminView& view, const AdminRow& row, const std::vector<int16_t>& formats) {
  std::vector<std::string> binary(row.size());
  std::vector<std::optional<std::string_view>> values;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (!row[i]) {
      values.push_back(std::nullopt);
    } else if (view.columns[i].number && format_of(formats, i) == 1) {
      append_big_endian(binary[i], static_cast<int64_t>(std::stoll(*row[i])));
      values.push_back(binary[i]);
    } else {
      values.push_back(*row[i]);
    }
  }
  pg::write_data_row(out, values);
}

}  // namespace

Result<AdminCommand> parse_admin_command(std::string_view sql) {
  using Kind = sql::Token::Kind;
  sql::TokenScanner scanner(sql);
  const sql::Token first = scanner.next();
  const sql::Token second = scanner.next();
  if (first.kind != Kind::word) return unknown_command(sql);
  const std::string verb = scanner.name(first);
  AdminCommand command;
  if (const char* tag = ignored_tag(verb)) {
    command.tag = tag;
    return command;
  }
  const bool alone = second.kind == Kind::end || scanner.is_symbol(second, ';');
  if (!alone) {
    const sql::Token third = scanner.next();
    if (third.kind != Kind::end && !scanner.is_symbol(third, ';')) return unknown_command(sql);
  }
  command.tag = upper(verb);
  const bool named = second.kind == Kind::word || second.kind == Kind::quoted;
  if (verb == "show" && named) {
    command.verb = Verb::show;
    command.object = scanner.name(second);
    if (find_admin_view(command.object) == nullptr) return unknown_command(sql);
    return command;
  }
  if ((verb == "fsck" || verb == "pause" || verb == "resume") && (alone || named)) {
    command.verb = verb == "fsck" ? Verb::fsck : verb == "pause" ? Verb::pause : Verb::resume;
    if (named) command.object = scanner.name(second);
    return command;
  }
  if (verb == "layout" && named) {
    command.verb = Verb::layout;
    command.object = scanner.name(second);
    return command;
  }
  if ((verb == "reload" || verb == "shutdown") && alone) {
    command.verb = verb == "reload" ? Verb::reload : Verb::shutdown;
    return command;
  }
  if ((verb == "cancel" || verb == "kill") && second.kind == Kind::number) {
    command.verb = verb == "cancel" ? Verb::cancel : Verb::kill;
    const std::string_view digits = scanner.text(second);
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), command.pid);
    if (parsed.ec == std::errc() && parsed.ptr == digits.data() + digits.size()) return command;
  }
  return unknown_command(sql);
}

void AdminConsole::greet(std::string& out) {
  const std::pair<const char*, std::string> parameters[] = {{"server_version", "15.0 (" + std::string(kVersion) + ")"},
                                                            {"server_encoding", "UTF8"},
                                                            {"client_encoding", "UTF8"},
                                                            {"DateStyle", "ISO, MDY"},
                                                            {"IntervalStyle", "postgres"},
                                                            {"TimeZone", "UTC"},
                                                            {"integer_datetimes", "on"},
                                                            {"standard_conforming_strings", "on"},
                                                            {"is_superuser", "on"}};
  for (const auto& [name, value] : parameters) pg::write_parameter_status(out, name, value);
}

net::Task<void> AdminConsole::handle(char type, std::string_view body, std::string& out) {
  cancelled_ = false;
  if (type == 'Q') {
    std::string_view sql = body;
    if (!sql.empty()) sql.remove_suffix(1);
    co_await run_string(sql, out);
    pg::write_ready(out, 'I');
    co_return;
  }
  if (type == 'S') {
    skip_to_sync_ = false;
    portals_.clear();
    pg::write_ready(out, 'I');
    co_return;
  }
  if (skip_to_sync_ || type == 'H' || type == 'd' || type == 'c' || type == 'f') co_return;
  Status status = co_await extended(type, body, out);
  if (status.ok()) co_return;
  pg::write_error(out, status.error());
  if (type == 'F') {
    pg::write_ready(out, 'I');
  } else {
    skip_to_sync_ = true;
  }
}

net::Task<void> AdminConsole::run_string(std::string_view sql, std::string& out) {
  const std::vector<std::string_view> statements = plan::split_statements(sql);
  if (statements.empty()) pg::write_empty(out, 'I');
  for (std::string_view statement : statements) {
    Portal portal;
    portal.sql = statement;
    Status status;
    Result<AdminCommand> command = parse_admin_command(statement);
    if (command.ok()) {
      if (const AdminView* view = view_of(*command)) write_columns(out, *view, {});
      status = co_await execute_portal(portal, 0, out);
    } else {
      status = std::move(command.error());
    }
    if (status.ok()) continue;
    pg::write_error(out, status.error());
    co_return;
  }
}

net::Task<Status> AdminConsole::execute_portal(Portal& portal, int32_t max_rows, std::string& out) {
  if (!portal.done) {
    portal.done = true;
    CO_TRY_ASSIGN(const AdminCommand command, parse_admin_command(portal.sql));
    portal.tag = command.tag;
    portal.view = view_of(command);
    if (command.verb == Verb::show) {
      portal.rows = co_await portal.view->rows(worker_);
    } else if (command.verb == Verb::fsck) {
      CO_TRY(co_await fsck(command.object, portal.rows));
    } else if (command.verb == Verb::layout) {
      CO_TRY(layout(command.object, portal.rows));
    } else {
      CO_TRY(co_await run(command));
    }
  }
  std::size_t count = 0;
  while (portal.next < portal.rows.size()) {
    if (max_rows > 0 && count == static_cast<std::size_t>(max_rows)) {
      pg::write_empty(out, 's');
      co_return Status{};
    }
    write_row(out, *portal.view, portal.rows[portal.next++], portal.formats);
    ++count;
  }
  pg::write_command_complete(out, portal.tag);
  co_return Status{};
}

// --- the extended protocol ---

Status AdminConsole::parse(std::string_view body, std::string& out) {
  pg::ParseMessage message;
  if (!pg::parse_parse(body, message)) return make_error("08P01", "invalid Parse message");
  const std::string name(message.name);
  if (!name.empty() && statements_.contains(name))
    return make_error("42P05", "prepared statement \"" + name + "\" already exists");
  const std::vector<std::string_view> parts = plan::split_statements(message.sql);
  if (parts.size() > 1) return make_error("42601", "cannot insert multiple commands into a prepared statement");
  if (!parts.empty()) TRY(parse_admin_command(parts[0]));
  statements_[name] = parts.empty() ? std::string() : std::string(parts[0]);
  pg::write_empty(out, '1');
  return {};
}

Status AdminConsole::bind(std::string_view body, std::string& out) {
  pg::BindMessage message;
  if (!pg::parse_bind(body, message)) return make_error("08P01", "invalid Bind message");
  const auto statement = statements_.find(std::string(message.statement));
  if (statement == statements_.end())
    return make_error("26000", "prepared statement \"" + std::string(message.statement) + "\" does not exist");
  if (!message.values.empty()) return make_error("08P01", "commands of the admin database take no parameters");
  Portal portal;
  portal.sql = statement->second;
  portal.formats = message.result_formats;
  portals_[std::string(message.portal)] = std::move(portal);
  pg::write_empty(out, '2');
  return {};
}

Status AdminConsole::describe(std::string_view body, std::string& out) {
  pg::TargetMessage target;
  if (!pg::parse_target(body, target)) return make_error("08P01", "invalid Describe message");
  const std::string name(target.name);
  std::string sql;
  std::vector<int16_t> formats;
  if (target.kind == 'S') {
    const auto statement = statements_.find(name);
    if (statement == statements_.end())
      return make_error("26000", "prepared statement \"" + name + "\" does not exist");
    sql = statement->second;
    pg::MessageWriter(out, 't').int16(0);
  } else {
    const auto portal = portals_.find(name);
    if (portal == portals_.end()) return make_error("34000", "portal \"" + name + "\" does not exist");
    sql = portal->second.sql;
    formats = portal->second.formats;
  }
  const Result<AdminCommand> command = parse_admin_command(sql);
  const AdminView* view = command.ok() ? view_of(*command) : nullptr;
  if (view != nullptr) {
    write_columns(out, *view, formats);
  } else {
    pg::write_empty(out, 'n');
  }
  return {};
}

Status AdminConsole::close(std::string_view body, std::string& out) {
  pg::TargetMessage target;
  if (!pg::parse_target(body, target)) return make_error("08P01", "invalid Close message");
  const std::string name(target.name);
  target.kind == 'S' ? statements_.erase(name) : portals_.erase(name);
  pg::write_empty(out, '3');
  return {};
}

net::Task<Status> AdminConsole::extended(char type, std::string_view body, std::string& out) {
  switch (type) {
    case 'P': co_return parse(body, out);
    case 'B': co_return bind(body, out);
    case 'D': co_return describe(body, out);
    case 'C': co_return close(body, out);
    case 'E': {
      pg::ExecuteMessage message;
      if (!pg::parse_execute(body, message)) co_return make_error("08P01", "invalid Execute message");
      const auto portal = portals_.find(std::string(message.portal));
      if (portal == portals_.end())
        co_return make_error("34000", "portal \"" + std::string(message.portal) + "\" does not exist");
      if (portal->second.sql.empty()) {
        pg::write_empty(out, 'I');
        co_return Status{};
      }
      co_return co_await execute_portal(portal->second, message.max_rows, out);
    }
    case 'F': co_return make_error("0A000", "the admin database has no functions");
    default: co_return make_error("08P01", fmt::format("invalid frontend message type {}", static_cast<int>(type)));
  }
}

// --- commands ---

net::Task<Status> AdminConsole::run(const AdminCommand& command) {
  RouterContext& context = worker_.context;
  switch (command.verb) {
    case Verb::show:
    case Verb::fsck:
    case Verb::layout:
    case Verb::ignored: break;
    case Verb::pause: co_return co_await pause(command.object);
    case Verb::resume:
      log_info("router", "resume {}", command.object.empty() ? "all databases" : command.object);
      co_await resume(command.object);
      break;
    case Verb::reload: {
      Status result;
      net::Latch answered(1);
      net::EventLoop& loop = worker_.loop;
      std::function<void(Status)> done = [&result, &answered, &loop](Status status) {
        auto shared = std::make_shared<Status>(std::move(status));
        loop.post([&result, &answered, shared] {
          result = std::move(*shared);
          answered.done();
        });
      };
      context.request_reload(done);
      co_await answered;
      co_return result;
    }
    case Verb::shutdown: context.request_shutdown(); break;
    case Verb::cancel:
    case Verb::kill:
      if (!context.sessions.signal(command.pid, command.verb == Verb::kill))
        co_return make_error("42704", "no client has the pid " + std::to_string(command.pid),
                             "SHOW CLIENTS lists them.");
      break;
  }
  co_return Status{};
}

net::Task<Status> AdminConsole::fsck(const std::string& database, std::vector<AdminRow>& rows) {
  const catalog::SnapshotPtr snapshot = worker_.snapshot;
  if (!database.empty() && snapshot->database(database) == nullptr)
    co_return make_error("3D000", "database \"" + database + "\" does not exist");
  for (const auto& [name, known] : snapshot->databases) {
    if (!database.empty() && name != database) continue;
    CO_TRY_ASSIGN(const auto differences, co_await worker_.context.control->check(worker_.loop, name));
    for (const exec::Difference& each : differences)
      rows.push_back({each.database, each.group, each.object, each.text});
  }
  co_return Status{};
}

Status AdminConsole::layout(const std::string& database, std::vector<AdminRow>& rows) {
  const catalog::Database* known = worker_.snapshot->database(database);
  if (known == nullptr) return make_error("3D000", "database \"" + database + "\" does not exist");
  const bool all = worker_.config->sharding.default_table_type == DefaultTableType::sharded;
  for (std::string& command : layout_commands(*known, all)) rows.push_back({std::move(command)});
  return {};
}

// Holds back clients that want a backend, waits until those at work have given theirs back, closes the idle ones.
net::Task<Status> AdminConsole::pause(const std::string& database) {
  if (!database.empty() && worker_.snapshot->database(database) == nullptr)
    co_return make_error("3D000", "database \"" + database + "\" does not exist");
  log_info("router", "pause {}", database.empty() ? "all databases" : database);
  std::function<void(Worker&)> stop = [&database](Worker& worker) { worker.pool.pause(database); };
  co_await worker_.context.on_each_worker(worker_.loop, stop);
  for (;;) {
    std::atomic<int> in_use{0};
    std::function<void(Worker&)> count = [&database, &in_use](Worker& worker) {
      in_use += worker.pool.in_use(database);
    };
    co_await worker_.context.on_each_worker(worker_.loop, count);
    if (in_use == 0) break;
    if (cancelled_ || abandoned_()) {
      co_await resume(database);
      co_return make_error("57014", "PAUSE was canceled; the router goes on as before");
    }
    co_await worker_.loop.sleep(kPausePollUs);
  }
  std::function<void(Worker&)> close_idle = [&database](Worker& worker) {
    std::vector<std::string> names = {database};
    if (database.empty()) {
      names.clear();
      for (const auto& [key, entry] : worker.pool.entries()) names.push_back(entry->database);
    }
    for (const std::string& name : names) worker.pool.close_idle_of(name);
  };
  co_await worker_.context.on_each_worker(worker_.loop, close_idle);
  co_return Status{};
}

net::Task<void> AdminConsole::resume(const std::string& database) {
  std::function<void(Worker&)> go_on = [&database](Worker& worker) { worker.pool.resume(database); };
  co_await worker_.context.on_each_worker(worker_.loop, go_on);
}

// --- the session around it ---

// In place of greet(): who may use the console, and its welcome.
net::Task<Status> Session::greet_admin() {
  const Config& config = *worker_.config;
  bool admitted = false;
  if (trusted_) {
    const AuthRule* rule =
        find_auth_rule(config.auth, peer_.address, client_.tls(), backends_.database(), backends_.user());
    admitted = rule != nullptr && rule->database == config.admin_database;
  }
  if (!admitted) {
    auto record = co_await lookup_user(worker_, backends_.user());
    if (!record.ok()) co_return std::move(record.error());
    admitted = record->exists && record->superuser;
  }
  if (!admitted)
    co_return make_error("42501", "permission denied for database \"" + backends_.database() + "\"",
                         "The admin database is for superusers, and for users whom a trust rule for it names.");
  std::function<bool()> abandoned = [this] { return client_gone_ || closing_; };
  admin_ = std::make_unique<AdminConsole>(worker_, std::move(abandoned));
  AdminConsole::greet(out_);
  std::tie(pid_, secret_) = worker_.context.sessions.add(&worker_, this);
  pg::MessageWriter(out_, 'K').int32(static_cast<int32_t>(pid_)).int32(static_cast<int32_t>(secret_));
  pg::write_ready(out_, 'I');
  co_return Status{};
}

net::Task<bool> Session::admin_message(pg::MessageView message) {
  const char type = message.type;
  if (type == 'X') co_return false;
  const std::string body(message.body);
  in_.own();
  state_ = State::active;
  active_since_us_ = worker_.loop.now_us();
  if (type == 'Q') last_query_ = body.substr(0, std::min<std::size_t>(body.size() - (body.empty() ? 0 : 1), 1024));
  co_await admin_->handle(type, body, out_);
  state_ = State::idle;
  co_return !client_gone_;
}

}  // namespace pgmosaic::router
