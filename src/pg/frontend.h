// Messages that a client (frontend) sends: decoding (router as server) and encoding (router as client of the groups).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "pg/message.h"

namespace pgmosaic::pg {

using Oid = uint32_t;

// Start-up packet after its length: one of four requests.
struct StartupPacket {
  enum class Kind : uint8_t { startup, ssl, gssenc, cancel } kind = Kind::startup;
  uint32_t protocol = 0;
  std::map<std::string, std::string> parameters;  // startup: user, database, options and settings
  uint32_t cancel_pid = 0, cancel_secret = 0;
};

// Size of the start-up packet at the front of `bytes`; 0: more bytes needed. Errors 08P01 for impossible lengths.
Result<uint32_t> startup_length(std::string_view bytes);
// `packet` includes the length word. Errors: 08P01 (malformed), 0A000 (unsupported protocol version).
Result<StartupPacket> parse_startup(std::string_view packet);

struct ParseMessage {
  std::string_view name, sql;
  std::vector<Oid> types;
};
struct BindMessage {
  std::string_view portal, statement;
  std::string_view after_names;  // everything behind the two names, for forwarding under another name
  std::vector<int16_t> formats;
  std::vector<std::optional<std::string_view>> values;  // nullopt: NULL
  std::vector<int16_t> result_formats;
  bool binary(std::size_t parameter) const {
    if (formats.empty()) return false;
    return formats[formats.size() == 1 ? 0 : parameter] == 1;
  }
  bool binary_results() const {
    for (int16_t format : result_formats)
      if (format == 1) return true;
    return false;
  }
};
struct TargetMessage {  // Describe and Close
  char kind = 'S';      // S: statement, P: portal
  std::string_view name;
};
struct ExecuteMessage {
  std::string_view portal;
  int32_t max_rows = 0;
};

// false: malformed (08P01). Vectors of the out parameter are reused.
bool parse_parse(std::string_view body, ParseMessage& message);
bool parse_bind(std::string_view body, BindMessage& message);
bool parse_target(std::string_view body, TargetMessage& message);
bool parse_execute(std::string_view body, ExecuteMessage& message);

void write_startup(std::string& out, const std::map<std::string, std::string>& parameters);
void write_cancel(std::string& out, uint32_t pid, uint32_t secret);
void write_ssl_request(std::string& out);
void write_query(std::string& out, std::string_view sql);
void write_parse(std::string& out, std::string_view name, std::string_view sql, const std::vector<Oid>& types);
// `after_names` as in BindMessage.
void write_bind(std::string& out, std::string_view portal, std::string_view statement, std::string_view after_names);
// Text parameters, all results in `result_format`.
void write_bind_text(std::string& out, std::string_view portal, std::string_view statement,
                     const std::vector<std::optional<std::string>>& values, int16_t result_format);
void write_describe(std::string& out, char kind, std::string_view name);
void write_execute(std::string& out, std::string_view portal, int32_t max_rows);
void write_close(std::string& out, char kind, std::string_view name);
void write_sync(std::string& out);
void write_flush(std::string& out);
void write_copy_data(std::string& out, std::string_view data);
void write_copy_done(std::string& out);
void write_copy_fail(std::string& out, std::string_view reason);
void write_password(std::string& out, std::string_view data);

}  // namespace pgmosaic::pg
