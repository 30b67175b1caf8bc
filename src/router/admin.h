// The admin database: a console for operators, spoken to with psql or any driver (docs/operations.md).
//
// A session that logs in to `admin_database` has no backends; it owns an AdminConsole, which answers its messages, in
// the simple and (without parameters) the extended protocol. Belongs to the session's thread; what concerns other
// workers runs on theirs.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/task.h"
#include "pg/frontend.h"
#include "pg/message.h"

namespace pgmosaic::router {

class Worker;

inline constexpr std::string_view kVersion = "pgmosaic 0.1.0";

struct AdminCommand {
  enum class Verb : uint8_t { show, fsck, layout, pause, resume, reload, shutdown, cancel, kill, ignored };
  Verb verb = Verb::ignored;
  std::string object;  // SHOW: the view's name; FSCK, LAYOUT, PAUSE, RESUME: database, empty: all
  uint32_t pid = 0;    // CANCEL, KILL
  std::string tag;     // for the client
};
// Errors: 42601 with the list of commands as its hint.
Result<AdminCommand> parse_admin_command(std::string_view sql);

using AdminRow = std::vector<std::optional<std::string>>;
struct AdminColumn {
  std::string name;
  bool number = false;  // bigint, else text
};
// What SHOW can show; admin_views.cc.
struct AdminView {
  std::string name, description;
  std::vector<AdminColumn> columns;
  net::Task<std::vector<AdminRow>> (*rows)(Worker& worker) = nullptr;
};
const std::vector<AdminView>& admin_views();
const AdminView* find_admin_view(std::string_view name);
// The rows that FSCK and LAYOUT return.
const AdminView& fsck_view();
const AdminView& layout_view();

class AdminConsole {
 public:
  // `abandoned` tells whether the client has gone or must go.
  AdminConsole(Worker& worker, std::function<bool()> abandoned) : worker_(worker), abandoned_(std::move(abandoned)) {}

  // What a client hears after authentication, up to BackendKeyData.
  static void greet(std::string& out);
  // Answers one message (any type but Terminate). `body` must outlive the task.
  net::Task<void> handle(char type, std::string_view body, std::string& out);
  // Ends a PAUSE that waits.
  void cancel() { cancelled_ = true; }

 private:
  struct Portal {
    std::string sql;
    std::vector<int16_t> formats;
    bool done = false;
    const AdminView* view = nullptr;
    std::vector<AdminRow> rows;
    std::size_t next = 0;
    std::string tag;
  };
  net::Task<void> run_string(std::string_view sql, std::string& out);
  net::Task<Status> extended(char type, std::string_view body, std::string& out);
  net::Task<Status> execute_portal(Portal& portal, int32_t max_rows, std::string& out);
  Status parse(std::string_view body, std::string& out);
  Status bind(std::string_view body, std::string& out);
  Status describe(std::string_view body, std::string& out);
  Status close(std::string_view body, std::string& out);
  net::Task<Status> run(const AdminCommand& command);
  net::Task<Status> fsck(const std::string& database, std::vector<AdminRow>& rows);
  Status layout(const std::string& database, std::vector<AdminRow>& rows);
  net::Task<Status> pause(const std::string& database);
  net::Task<void> resume(const std::string& database);

  Worker& worker_;
  std::function<bool()> abandoned_;
  bool cancelled_ = false;
  bool skip_to_sync_ = false;
  std::map<std::string, std::string> statements_;
  std::map<std::string, Portal> portals_;
};

}  // namespace pgmosaic::router
