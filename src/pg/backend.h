// Messages that a server (backend) sends: decoding (replies of the groups) and encoding (the router's own replies).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "pg/message.h"

namespace pgmosaic::pg {

using Oid = uint32_t;

struct FieldDescription {
  std::string name;
  Oid table = 0;
  int16_t attribute = 0;
  Oid type = 0;
  int16_t type_size = 0;
  int32_t typmod = -1;
  int16_t format = 0;
};

bool parse_row_description(std::string_view body, std::vector<FieldDescription>& fields);
bool parse_parameter_description(std::string_view body, std::vector<Oid>& types);
// nullopt: NULL. The vector is reused.
bool parse_data_row(std::string_view body, std::vector<std::optional<std::string_view>>& values);
// ErrorResponse or NoticeResponse.
Error parse_error(std::string_view body);
// True of an ErrorResponse after which the server closes the connection.
bool is_fatal(std::string_view body);
// Rows in a command tag ("INSERT 0 5" -> 5, "SELECT 3" -> 3); nullopt if the tag has none.
std::optional<uint64_t> tag_rows(std::string_view tag);

void write_error(std::string& out, const Error& error, std::string_view severity = "ERROR");
void write_notice(std::string& out, std::string_view sqlstate, std::string_view message, std::string_view detail = {},
                  std::string_view hint = {}, std::string_view severity = "NOTICE", int position = 0);
void write_ready(std::string& out, char transaction_status);
void write_command_complete(std::string& out, std::string_view tag);
void write_parameter_status(std::string& out, std::string_view name, std::string_view value);
void write_row_description(std::string& out, const std::vector<FieldDescription>& fields);
// Columns of type text.
void write_text_row_description(std::string& out, const std::vector<std::string>& names);
void write_data_row(std::string& out, const std::vector<std::optional<std::string_view>>& values);
void write_text_row(std::string& out, const std::vector<std::string>& values);
inline void write_empty(std::string& out, char type) { MessageWriter(out, type); }  // ParseComplete and the like

}  // namespace pgmosaic::pg
