#include "pg/backend.h"

#include <charconv>

namespace pgmosaic::pg {

bool parse_row_description(std::string_view body, std::vector<FieldDescription>& fields) {
  FieldReader reader(body);
  const int count = reader.int16();
  fields.clear();
  for (int i = 0; i < count && !reader.bad(); ++i) {
    FieldDescription field;
    field.name = reader.string();
    field.table = static_cast<Oid>(reader.int32());
    field.attribute = reader.int16();
    field.type = static_cast<Oid>(reader.int32());
    field.type_size = reader.int16();
    field.typmod = reader.int32();
    field.format = reader.int16();
    fields.push_back(std::move(field));
  }
  return count >= 0 && reader.done();
}

bool parse_parameter_description(std::string_view body, std::vector<Oid>& types) {
  FieldReader reader(body);
  const int count = reader.uint16();
  types.clear();
  for (int i = 0; i < count && !reader.bad(); ++i) types.push_back(static_cast<Oid>(reader.int32()));
  return reader.done();
}

bool parse_data_row(std::string_view body, std::vector<std::optional<std::string_view>>& values) {
  FieldReader reader(body);
  const int count = reader.int16();
  values.clear();
  for (int i = 0; i < count && !reader.bad(); ++i) {
    const int32_t length = reader.int32();
    if (length < 0) {
      values.emplace_back(std::nullopt);
    } else {
      values.emplace_back(reader.bytes(static_cast<std::size_t>(length)));
    }
  }
  return count >= 0 && reader.done();
}

Error parse_error(std::string_view body) {
  Error error;
  FieldReader reader(body);
  for (;;) {
    const char code = static_cast<char>(reader.int8());
    if (code == 0 || reader.bad()) break;
    std::string_view value = reader.string();
    switch (code) {
      case 'C': error.sqlstate = value; break;
      case 'M': error.message = value; break;
      case 'D': error.detail = value; break;
      case 'H': error.hint = value; break;
      case 'P': std::from_chars(value.data(), value.data() + value.size(), error.position); break;
      case 'S':
      case 'V': break;  // said anew when it is passed on
      default: error.fields.append(1, code).append(value).append(1, '\0'); break;
    }
  }
  return error;
}

bool is_fatal(std::string_view body) {
  FieldReader reader(body);
  for (char code = static_cast<char>(reader.int8()); code != 0 && !reader.bad();
       code = static_cast<char>(reader.int8())) {
    const std::string_view value = reader.string();
    if (code == 'V') return value == "FATAL" || value == "PANIC";
  }
  return false;
}

std::optional<uint64_t> tag_rows(std::string_view tag) {
  const std::size_t blank = tag.rfind(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  uint64_t rows = 0;
  const char* end = tag.data() + tag.size();
  const auto [stop, problem] = std::from_chars(tag.data() + blank + 1, end, rows);
  if (problem != std::errc() || stop != end) return std::nullopt;
  return rows;
}

namespace {

void write_fields(std::string& out, char type, std::string_view severity, std::string_view sqlstate,
                  std::string_view message, std::string_view detail, std::string_view hint, int position,
                  std::string_view fields) {
  MessageWriter writer(out, type);
  auto field = [&writer](char code, std::string_view value) {
    if (!value.empty()) writer.byte(code).string(value);
  };
  field('S', severity);
  field('V', severity);
  field('C', sqlstate);
  field('M', message);
  field('D', detail);
  field('H', hint);
  if (position > 0) field('P', std::to_string(position));
  writer.bytes(fields).byte('\0');
}

}  // namespace

void write_error(std::string& out, const Error& error, std::string_view severity) {
  write_fields(out, 'E', severity, error.sqlstate, error.message, error.detail, error.hint, error.position,
               error.fields);
}

void write_notice(std::string& out, std::string_view sqlstate, std::string_view message, std::string_view detail,
                  std::string_view hint, std::string_view severity, int position) {
  write_fields(out, 'N', severity, sqlstate, message, detail, hint, position, {});
}

void write_ready(std::string& out, char transaction_status) { MessageWriter(out, 'Z').byte(transaction_status); }
void write_command_complete(std::string& out, std::string_view tag) { MessageWriter(out, 'C').string(tag); }
void write_parameter_status(std::string& out, std::string_view name, std::string_view value) {
  MessageWriter(out, 'S').string(name).string(value);
}

void write_row_description(std::string& out, const std::vector<FieldDescription>& fields) {
  MessageWriter writer(out, 'T');
  writer.int16(static_cast<int16_t>(fields.size()));
  for (const FieldDescription& field : fields) {
    writer.string(field.name).int32(static_cast<int32_t>(field.table)).int16(field.attribute);
    writer.int32(static_cast<int32_t>(field.type)).int16(field.type_size).int32(field.typmod).int16(field.format);
  }
}

void write_text_row_description(std::string& out, const std::vector<std::string>& names) {
  std::vector<FieldDescription> fields;
  for (const std::string& name : names) {
    FieldDescription field;
    field.name = name;
    field.type = 25;
    field.type_size = -1;
    fields.push_back(std::move(field));
  }
  write_row_description(out, fields);
}

void write_data_row(std::string& out, const std::vector<std::optional<std::string_view>>& values) {
  MessageWriter writer(out, 'D');
  writer.int16(static_cast<int16_t>(values.size()));
  for (const auto& value : values) {
    if (value) {
      writer.value(*value);
    } else {
      writer.int32(-1);
    }
  }
}

void write_text_row(std::string& out, const std::vector<std::string>& values) {
  MessageWriter writer(out, 'D');
  writer.int16(static_cast<int16_t>(values.size()));
  for (const std::string& value : values) writer.value(value);
}

}  // namespace pgmosaic::pg
