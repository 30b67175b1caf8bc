// Arbitrary bytes as every kind of message: nothing is read outside of them, and what is accepted survives being
// written and read again.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "pg/backend.h"
#include "pg/frontend.h"

namespace {

using namespace pgmosaic;
using namespace pgmosaic::pg;

std::string_view body_of(const std::string& bytes) {
  MessageView view;
  uint32_t length = 0;
  CHECK(peek_message(bytes, view, length) == FrameStatus::complete && length == bytes.size());
  return view.body;
}

void startup(std::string_view bytes) {
  const auto length = startup_length(bytes);
  if (!length.ok() || *length == 0) return;
  CHECK(*length <= bytes.size());
  const auto packet = parse_startup(bytes.substr(0, *length));
  if (!packet.ok() || packet->kind != StartupPacket::Kind::startup) return;
  std::string again;
  write_startup(again, packet->parameters);
  const auto second = parse_startup(again);
  CHECK(second.ok() && second->parameters == packet->parameters);
}

void frontend(std::string_view body) {
  ParseMessage parse;
  if (parse_parse(body, parse)) {
    std::string again;
    write_parse(again, parse.name, parse.sql, parse.types);
    CHECK(body_of(again) == body);
  }
  BindMessage bind;
  if (parse_bind(body, bind)) {
    std::string again;
    write_bind(again, bind.portal, bind.statement, bind.after_names);
    CHECK(body_of(again) == body);
    for (std::size_t i = 0; i < bind.values.size(); ++i) bind.binary(i);
  }
  TargetMessage target;
  if (parse_target(body, target)) {
    std::string again;
    write_describe(again, target.kind, target.name);
    CHECK(body_of(again) == body);
  }
  ExecuteMessage execute;
  if (parse_execute(body, execute)) {
    std::string again;
    write_execute(again, execute.portal, execute.max_rows);
    CHECK(body_of(again) == body);
  }
}

void backend(std::string_view body) {
  std::vector<FieldDescription> fields;
  if (parse_row_description(body, fields)) {
    std::string again;
    write_row_description(again, fields);
    CHECK(body_of(again) == body);
  }
  std::vector<std::optional<std::string_view>> values, second;
  if (parse_data_row(body, values)) {
    std::string again;
    write_data_row(again, values);
    CHECK(parse_data_row(body_of(again), second) && second == values);
  }
  std::vector<Oid> types;
  parse_parameter_description(body, types);
  const Error error = parse_error(body);
  std::string again;
  write_error(again, error);
  CHECK(parse_error(body_of(again)).message == error.message);
  tag_rows(body);
}

// The bytes as a connection receives them, in pieces whose sizes the first byte chooses.
void stream(std::string_view bytes) {
  if (bytes.empty()) return;
  const std::size_t piece = static_cast<unsigned char>(bytes[0]) % 32 + 1;
  InBuffer in;
  std::string scratch;
  std::size_t consumed = 0;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    scratch.assign(bytes.substr(at, piece));
    in.feed(scratch);
    MessageView view;
    uint32_t length = 0;
    FrameStatus status;
    while ((status = peek_message(in.view(), view, length)) == FrameStatus::complete) {
      CHECK(view.whole == bytes.substr(consumed, length));
      frontend(view.body);
      in.consume(length);
      consumed += length;
    }
    if (status == FrameStatus::malformed) return;
    in.own();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  startup(bytes);
  frontend(bytes);
  backend(bytes);
  stream(bytes);
  return 0;
}
