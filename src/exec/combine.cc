#include "exec/combine.h"

#include <algorithm>

namespace pgmosaic::exec {

namespace {

using Event = RowReader::Event;

// Names of types that need no question to a server.
const char* builtin_type_name(pg::Oid type, int32_t typmod) {
  if (typmod != -1) return nullptr;
  switch (type) {
    case 16: return "boolean";
    case 17: return "bytea";
    case 20: return "bigint";
    case 21: return "smallint";
    case 23: return "integer";
    case 25: return "text";
    case 26: return "oid";
    case 700: return "real";
    case 701: return "double precision";
    case 1043: return "character varying";
    case 1082: return "date";
    case 1114: return "timestamp without time zone";
    case 1184: return "timestamp with time zone";
    case 1186: return "interval";
    case 1700: return "numeric";
    case 2950: return "uuid";
    default: return nullptr;
  }
}

// format_type() of each column on the backend that runs the final statement.
net::Task<Result<std::vector<std::string>>> type_names(Backend& backend,
                                                       const std::vector<pg::FieldDescription>& fields) {
  std::vector<std::string> names;
  std::string question;
  for (const auto& field : fields) {
    const char* name = builtin_type_name(field.type, field.typmod);
    names.push_back(name != nullptr ? name : "");
    // "unknown" cannot be a column of the final statement's input; its values are text
    if (name == nullptr && field.type == 705) names.back() = "text";
    if (!names.back().empty()) continue;
    question += (question.empty() ? "SELECT " : ", ");
    question += "pg_catalog.format_type(" + std::to_string(backend.conn->type_here(field.type)) + ", " +
                std::to_string(field.typmod) + ")";
  }
  if (!question.empty()) {
    // With an empty search_path every name comes out qualified; format_type qualifies what is not visible anyway.
    auto rows = co_await backend.conn->query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    std::size_t column = 0;
    for (std::string& name : names)
      if (name.empty()) name = rows->rows[0][column++].value_or("text");
  }
  co_return names;
}

// Arrays and composites may contain what is written inexactly.
Status check_loss(const std::vector<pg::FieldDescription>& fields, OutputLoss loss) {
  if (!loss.floats && !loss.zones) return {};
  for (const auto& field : fields) {
    const bool simple = builtin_type_name(field.type, -1) != nullptr || field.type == 705 || field.type == 1042;
    const bool floats = field.type == 700 || field.type == 701, zones = field.type == 1184;
    if (loss.floats && (floats || !simple))
      return make_error("0A000",
                        "not supported over several groups with extra_float_digits below 1: intermediate results "
                        "of this type would be rounded",
                        "RESET extra_float_digits, or pin the tables to one key.");
    if (loss.zones && (zones || !simple))
      return make_error("0A000",
                        "not supported over several groups with this DateStyle: intermediate results of this type "
                        "would lose their time zone",
                        "SET DateStyle = 'ISO', or pin the tables to one key.");
  }
  return {};
}

}  // namespace

void PartialRows::add(const std::vector<std::optional<std::string_view>>& values) {
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::string& array = columns_[i];
    array += array.empty() ? '{' : ',';
    if (i >= values.size() || !values[i]) {
      array += "NULL";
      bytes_ += 5;
      continue;
    }
    array += '"';
    for (char c : *values[i]) {
      if (c == '"' || c == '\\') array += '\\';
      array += c;
    }
    array += '"';
    bytes_ += values[i]->size() + 3;
  }
}

std::vector<std::optional<std::string>> PartialRows::take() {
  std::vector<std::optional<std::string>> arrays;
  for (std::string& array : columns_) {
    if (array.empty()) array = "{";
    arrays.emplace_back(std::move(array) + "}");
  }
  columns_.clear();
  return arrays;
}

std::string partial_relation(const std::vector<std::string>& types, int first) {
  std::string list, arrays, names;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const std::string number = std::to_string(i + 1);
    const char* comma = i == 0 ? "" : ", ";
    list += comma + ("u" + number) + "::" + types[i] + " AS c" + number;
    arrays += comma + ("$" + std::to_string(first + static_cast<int>(i))) + "::pg_catalog.text[]";
    names += comma + ("u" + number);
  }
  return "(SELECT " + list + " FROM unnest(" + arrays + ") AS u(" + names + ")) AS pgmosaic_partial";
}

net::Task<Result<GatherResult>> combine(std::vector<RowReader>& readers, const plan::Combine& combine, Request request,
                                        bool describe, OutputLoss loss, RowSink& sink) {
  PartialRows partial(combine.partial_columns);
  std::vector<pg::FieldDescription> fields;
  std::vector<std::optional<std::string_view>> values;
  std::optional<Error> error;
  for (RowReader& reader : readers) {
    while (!error) {
      auto event = co_await reader.next();
      if (!event.ok()) {
        error = std::move(event.error());
        break;
      }
      if (*event == Event::end) break;
      if (*event == Event::description && fields.empty()) pg::parse_row_description(reader.message().body, fields);
      if (*event != Event::row) continue;
      pg::parse_data_row(reader.message().body, values);
      partial.add(values);
      if (partial.bytes() > kMaxPartialBytes)
        error = make_error(
            "54000",
            "the groups' intermediate result is larger than " + std::to_string(kMaxPartialBytes >> 20) + " MiB",
            "Add a filter or a LIMIT, or group by the distribution column.");
    }
    if (error) break;
  }
  if (error) {
    for (RowReader& reader : readers) (void)(co_await reader.finish());
    co_return std::move(*error);
  }
  CO_TRY(check_loss(fields, loss));
  Backend& backend = readers[0].backend();
  auto types = co_await type_names(backend, fields);
  if (!types.ok()) co_return std::move(types.error());
  // Describe columns of the first reader belong to the first reader's server, which is the one that runs the rest.
  const int first = static_cast<int>(request.bind != nullptr ? request.bind->values.size() : 0) + 1;
  const std::string sql = combine.final_prefix + partial_relation(*types, first) + combine.final_suffix;
  const auto arrays = partial.take();
  request.sql = sql;
  request.extended = true;
  request.extra = &arrays;
  request.client_formats = true;
  std::vector<RowReader> last;
  last.emplace_back(backend);
  last[0].send(request);
  GatherOptions options;
  options.describe = describe;
  co_return co_await gather(last, options, sink);
}

}  // namespace pgmosaic::exec
