#include "router/plan_settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "base/bytes.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

const char* const kAskPlanSettings =
    "SHOW search_path; SHOW DateStyle; SHOW bytea_output; SHOW extra_float_digits; SHOW client_encoding; "
    "SHOW server_encoding; SHOW standard_conforming_strings; SHOW escape_string_warning; "
    "SHOW client_min_messages; SHOW default_transaction_isolation; SHOW idle_in_transaction_session_timeout; "
    "SHOW idle_session_timeout";

namespace {

// `"$user", public` as SHOW search_path prints it; "$user" becomes the user's name.
std::vector<std::string> parse_path(std::string_view shown, const std::string& user) {
  std::vector<std::string> path;
  std::string item;
  bool any = false;
  auto finish = [&] {
    if (any && item != "pg_catalog") path.push_back(item == "$user" ? user : item);
    item.clear();
    any = false;
  };
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (shown[i] == '"') {
      any = true;
      for (++i; i < shown.size(); ++i) {
        if (shown[i] == '"') {
          if (i + 1 >= shown.size() || shown[i + 1] != '"') break;
          ++i;
        }
        item += shown[i];
      }
    } else if (shown[i] == ',') {
      finish();
    } else if (shown[i] != ' ') {
      item += shown[i];
      any = true;
    }
  }
  finish();
  return path;
}

// "1500ms", "2s", "5min", as SHOW prints them; "0".
int milliseconds(const std::string& shown) {
  static const std::map<std::string, int, std::less<>> kUnits{{"", 1},         {"ms", 1},        {"s", 1000},
                                                              {"min", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};
  int value = 0;
  const char* end = shown.data() + shown.size();
  const auto [rest, problem] = std::from_chars(shown.data(), end, value);
  const auto unit = kUnits.find(std::string_view(rest, static_cast<std::size_t>(end - rest)));
  return problem != std::errc() || unit == kUnits.end() ? 0 : value * unit->second;
}

template <std::size_t n>
bool is_one_of(std::string_view name, const std::array<std::string_view, n>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::optional<exec::Isolation> isolation_named(std::string_view name) {
  if (name == "serializable") return exec::Isolation::serializable;
  if (name == "repeatable read") return exec::Isolation::repeatable_read;
  if (name == "read committed" || name == "read uncommitted") return exec::Isolation::read_committed;
  return std::nullopt;
}

std::optional<exec::Isolation> isolation_in(std::string_view sql) {
  sql::TokenScanner scanner(sql);
  for (sql::Token token = scanner.next(); token.kind != sql::Token::Kind::end && token.kind != sql::Token::Kind::broken;
       token = scanner.next()) {
    const bool level = scanner.is_word(token, "level");
    if (level && scanner.is_word(scanner.peek(), "serializable")) return exec::Isolation::serializable;
    if (level && scanner.is_word(scanner.peek(), "repeatable")) return exec::Isolation::repeatable_read;
    if (level && scanner.is_word(scanner.peek(), "read")) return exec::Isolation::read_committed;
    // SET transaction_isolation = …
    if (scanner.is_word(token, "serializable")) return exec::Isolation::serializable;
    if (token.kind == sql::Token::Kind::string && token.end - token.begin > 2) {
      const std::size_t begin = std::min<std::size_t>(sql.find('\'', token.begin), token.end - 1) + 1;
      std::string name(sql.substr(begin, token.end - 1 - begin));
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (const auto named = isolation_named(name)) return named;
    }
  }
  return std::nullopt;
}

bool decides_plans(std::string_view name) {
  static constexpr std::array<std::string_view, 13> kNames{"search_path",
                                                           "role",
                                                           "session_authorization",
                                                           "datestyle",
                                                           "bytea_output",
                                                           "extra_float_digits",
                                                           "client_encoding",
                                                           "standard_conforming_strings",
                                                           "escape_string_warning",
                                                           "client_min_messages",
                                                           "default_transaction_isolation",
                                                           kIdleInTransaction,
                                                           kIdleSession};
  return is_one_of(name, kNames);
}

PlanSettings read_plan_settings(const pool::ServerConn::Rows& rows, const std::string& user) {
  static constexpr std::array<std::string_view, 7> kUnscannable{"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK",
                                                                "UHC",  "GB18030",        "JOHAB"};
  auto value = [&rows](std::size_t row) { return row < rows.rows.size() ? rows.rows[row][0].value_or("") : ""; };
  PlanSettings settings;
  settings.search_path = parse_path(value(0), user);
  const std::string client = value(4), server = value(5);
  if (client != server && client != "SQL_ASCII" && server != "SQL_ASCII")
    settings.encoding =
        is_one_of(client, kUnscannable) ? PlanSettings::Encoding::unscannable : PlanSettings::Encoding::other;
  settings.isolation = isolation_named(value(9)).value_or(exec::Isolation::read_committed);
  settings.idle_in_transaction_ms = milliseconds(value(10));
  settings.idle_session_ms = milliseconds(value(11));
  settings.old_strings = value(6) == "off";
  settings.warns_of_escapes = value(7) == "on" && value(8) != "error";
  settings.scannable = settings.encoding != PlanSettings::Encoding::unscannable && !settings.old_strings;
  settings.loss.zones = !value(1).starts_with("ISO");
  settings.loss.floats = std::atoi(value(3).c_str()) <= 0;
  settings.comparable_output = !settings.loss.zones && !settings.loss.floats && value(2) == "hex" &&
                               settings.encoding == PlanSettings::Encoding::server;
  return settings;
}

std::optional<Error> check_encoding(const PlanSettings& settings, std::string_view sql, const sql::Shape& shape) {
  if (settings.encoding == PlanSettings::Encoding::server) return std::nullopt;
  bool understood = true;
  for (const std::string& schema : settings.search_path) understood = understood && is_ascii(schema);
  if (!is_ascii(sql)) {
    understood = understood && settings.encoding != PlanSettings::Encoding::unscannable && shape.complete;
    std::size_t at = 0;
    for (const sql::Literal& literal : shape.literals) {
      understood = understood && is_ascii(sql.substr(at, literal.begin - at));
      at = literal.end;
    }
    understood = understood && is_ascii(sql.substr(at));
  }
  if (understood) return std::nullopt;
  return make_error("0A000",
                    "text beyond ASCII is not supported here with a client_encoding that differs from the server's",
                    "SET client_encoding to the server's encoding; most drivers then convert by themselves.");
}

}  // namespace pgmosaic::router
