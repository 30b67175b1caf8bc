#include "pg/frontend.h"

namespace pgmosaic::pg {

Result<uint32_t> startup_length(std::string_view bytes) {
  if (bytes.size() < 4) return uint32_t{0};
  const uint32_t length = load_big_endian<uint32_t>(bytes.data());
  if (length < 8 || length > kMaxStartupLength)
    return make_error("08P01", "invalid length of startup packet",
                      "Connect with a client that speaks the PostgreSQL protocol.");
  return bytes.size() < length ? uint32_t{0} : length;
}

Result<StartupPacket> parse_startup(std::string_view packet) {
  FieldReader reader(packet.substr(4));
  StartupPacket result;
  result.protocol = static_cast<uint32_t>(reader.int32());
  switch (result.protocol) {
    case kSslRequest: result.kind = StartupPacket::Kind::ssl; return result;
    case kGssEncRequest: result.kind = StartupPacket::Kind::gssenc; return result;
    case kCancelRequest:
      result.kind = StartupPacket::Kind::cancel;
      result.cancel_pid = static_cast<uint32_t>(reader.int32());
      result.cancel_secret = static_cast<uint32_t>(reader.int32());
      if (!reader.done()) return make_error("08P01", "invalid length of cancel request");
      return result;
    default: break;
  }
  if (result.protocol >> 16 != 3)
    return make_error("0A000", "unsupported frontend protocol " + std::to_string(result.protocol >> 16) + "." +
                                   std::to_string(result.protocol & 0xffff) + ": server supports 3.0 to 3.0");
  for (;;) {
    std::string_view name = reader.string();
    if (reader.bad()) return make_error("08P01", "invalid startup packet layout: expected terminator as last byte");
    if (name.empty()) break;
    std::string_view value = reader.string();
    if (reader.bad()) return make_error("08P01", "invalid startup packet layout: expected terminator as last byte");
    result.parameters[std::string(name)] = std::string(value);
  }
  if (!reader.done()) return make_error("08P01", "invalid startup packet layout: expected terminator as last byte");
  return result;
}

bool parse_parse(std::string_view body, ParseMessage& message) {
  FieldReader reader(body);
  message.name = reader.string();
  message.sql = reader.string();
  const int count = reader.uint16();
  message.types.clear();
  for (int i = 0; i < count && !reader.bad(); ++i) message.types.push_back(static_cast<Oid>(reader.int32()));
  return reader.done();
}

namespace {

bool read_formats(FieldReader& reader, std::vector<int16_t>& formats) {
  formats.clear();
  const int count = reader.uint16();
  for (int i = 0; i < count && !reader.bad(); ++i) {
    formats.push_back(reader.int16());
    if (formats.back() != 0 && formats.back() != 1) return false;
  }
  return !reader.bad();
}

}  // namespace

bool parse_bind(std::string_view body, BindMessage& message) {
  FieldReader reader(body);
  message.portal = reader.string();
  message.statement = reader.string();
  message.after_names = reader.rest();
  if (!read_formats(reader, message.formats)) return false;
  const int count = reader.uint16();
  message.values.clear();
  for (int i = 0; i < count && !reader.bad(); ++i) {
    const int32_t length = reader.int32();
    if (length < -1) return false;
    if (length == -1) {
      message.values.emplace_back(std::nullopt);
    } else {
      message.values.emplace_back(reader.bytes(static_cast<std::size_t>(length)));
    }
  }
  if (message.formats.size() > 1 && message.formats.size() != message.values.size()) return false;
  return read_formats(reader, message.result_formats) && reader.done();
}

bool parse_target(std::string_view body, TargetMessage& message) {
  FieldReader reader(body);
  message.kind = static_cast<char>(reader.int8());
  message.name = reader.string();
  return reader.done() && (message.kind == 'S' || message.kind == 'P');
}

bool parse_execute(std::string_view body, ExecuteMessage& message) {
  FieldReader reader(body);
  message.portal = reader.string();
  message.max_rows = reader.int32();
  return reader.done();
}

void write_startup(std::string& out, const std::map<std::string, std::string>& parameters) {
  const std::size_t start = out.size();
  out.append(4, '\0');
  append_big_endian<uint32_t>(out, kProtocolVersion3);
  for (const auto& [name, value] : parameters) {
    out.append(name).push_back('\0');
    out.append(value).push_back('\0');
  }
  out.push_back('\0');
  store_big_endian<uint32_t>(out.data() + start, static_cast<uint32_t>(out.size() - start));
}

void write_cancel(std::string& out, uint32_t pid, uint32_t secret) {
  append_big_endian<uint32_t>(out, 16);
  append_big_endian<uint32_t>(out, kCancelRequest);
  append_big_endian<uint32_t>(out, pid);
  append_big_endian<uint32_t>(out, secret);
}

void write_ssl_request(std::string& out) {
  append_big_endian<uint32_t>(out, 8);
  append_big_endian<uint32_t>(out, kSslRequest);
}

void write_query(std::string& out, std::string_view sql) { MessageWriter(out, 'Q').string(sql); }

void write_parse(std::string& out, std::string_view name, std::string_view sql, const std::vector<Oid>& types) {
  MessageWriter writer(out, 'P');
  writer.string(name).string(sql).int16(static_cast<int16_t>(types.size()));
  for (Oid type : types) writer.int32(static_cast<int32_t>(type));
}

void write_bind(std::string& out, std::string_view portal, std::string_view statement, std::string_view after_names) {
  MessageWriter(out, 'B').string(portal).string(statement).bytes(after_names);
}

void write_bind_text(std::string& out, std::string_view portal, std::string_view statement,
                     const std::vector<std::optional<std::string>>& values, int16_t result_format) {
  MessageWriter writer(out, 'B');
  writer.string(portal).string(statement).int16(0).int16(static_cast<int16_t>(values.size()));
  for (const auto& value : values) {
    if (value) {
      writer.value(*value);
    } else {
      writer.int32(-1);
    }
  }
  writer.int16(1).int16(result_format);
}

void write_describe(std::string& out, char kind, std::string_view name) {
  MessageWriter(out, 'D').byte(kind).string(name);
}
void write_execute(std::string& out, std::string_view portal, int32_t max_rows) {
  MessageWriter(out, 'E').string(portal).int32(max_rows);
}
void write_close(std::string& out, char kind, std::string_view name) {
  MessageWriter(out, 'C').byte(kind).string(name);
}
void write_sync(std::string& out) { MessageWriter(out, 'S'); }
void write_flush(std::string& out) { MessageWriter(out, 'H'); }
void write_copy_data(std::string& out, std::string_view data) { MessageWriter(out, 'd').bytes(data); }
void write_copy_done(std::string& out) { MessageWriter(out, 'c'); }
void write_copy_fail(std::string& out, std::string_view reason) { MessageWriter(out, 'f').string(reason); }
void write_password(std::string& out, std::string_view data) { MessageWriter(out, 'p').bytes(data); }

}  // namespace pgmosaic::pg
