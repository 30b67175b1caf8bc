// The home says which columns the query has, and the table is made of them on every group as any other is. Rows that
// the home can compute and keeps it inserts itself; all others the router reads, and copies them into the new table.
#include "router/create_as.h"

#include "pg/backend.h"
#include "router/new_tables.h"
#include "router/prepared_sql.h"
#include "router/view_use.h"
#include "router/worker.h"
#include "sql/dialect.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

constexpr std::size_t kMostBytes = 256 << 20;  // of rows between reading and writing them

// Rows as COPY reads them.
class Spool final : public exec::RowSink {
 public:
  Spool(std::string& rows, std::string& notices) : rows_(rows), notices_(notices) {}
  bool put(std::string_view messages) override {
    pg::MessageView message;
    uint32_t length = 0;
    for (; pg::peek_message(messages, message, length) == pg::FrameStatus::complete; messages.remove_prefix(length)) {
      if (message.type == 'N') notices_ += message.whole;
      if (message.type == 'D') row(message.body);
    }
    return rows_.size() <= kMostBytes;
  }
  net::Task<bool> throttle() override { co_return true; }

 private:
  void row(std::string_view body) {
    pg::parse_data_row(body, values_);
    bool first = true;
    for (const auto& value : values_) {
      if (!std::exchange(first, false)) rows_ += '\t';
      value ? add(*value) : void(rows_ += "\\N");
    }
    rows_ += '\n';
  }
  void add(std::string_view value) {
    for (char c : value) {
      switch (c) {
        case '\\': rows_ += "\\\\"; break;
        case '\n': rows_ += "\\n"; break;
        case '\r': rows_ += "\\r"; break;
        case '\t': rows_ += "\\t"; break;
        default: rows_ += c;
      }
    }
  }
  std::string& rows_;
  std::string& notices_;
  std::vector<std::optional<std::string_view>> values_;
};

// CREATE TABLE … AS EXECUTE name (…), with the name that groups know.
std::string with_statement(std::string_view text, const std::string& name) {
  sql::TokenScanner scanner(text);
  bool behind_as = false;
  int depth = 0;
  for (sql::Token token = scanner.next(); token.kind != sql::Token::Kind::end; token = scanner.next()) {
    if (scanner.is_symbol(token, '(')) ++depth;
    if (scanner.is_symbol(token, ')')) --depth;
    if (depth == 0 && behind_as && scanner.is_word(token, "execute")) {
      const sql::Token named = scanner.next();
      return std::string(text.substr(0, named.begin)) + name + std::string(text.substr(named.end));
    }
    behind_as = depth == 0 && scanner.is_word(token, "as");
    if (token.kind == sql::Token::Kind::broken) break;
  }
  return std::string(text);
}

std::string name_for_copy(const plan::Ddl::FromQuery& from) {
  return qualified_name(from.temporary ? "pg_temp" : from.schema, from.table);
}

}  // namespace

std::string columns_question(const std::string& relation) {
  return "SELECT columns, exact FROM pg_catalog.pgmosaic_columns(" + relation + ")";
}

namespace {

// The same as an expression. Without a schema it is where new tables are made, and not found elsewhere.
std::string name_at_home(const plan::Ddl::FromQuery& from) {
  if (from.temporary || !from.schema.empty()) return pool::quote_literal(name_for_copy(from));
  return "pg_catalog.format('%I.%I', pg_catalog.current_schema(), " + pool::quote_literal(from.table) + ")";
}

}  // namespace

net::Task<Result<TableFromQuery::Source>> TableFromQuery::source() {
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  Source source;
  if (from.like) co_return source;
  if (!from.execute) {
    source.sql = from.query;
    const std::vector<pg::Oid> no_types;
    CO_TRY_ASSIGN(source.plan, co_await ViewUse(s_).plan(source.sql, no_types));
    if (source.plan->kind == plan::PlanKind::unsupported) co_return Error(*source.plan->error);
    const plan::Target::Kind where = source.plan->target.kind;
    const bool filled = !source.plan->virtual_relations.empty() && !from.explain &&
                        source.plan->kind == plan::PlanKind::route && !source.plan->guarded &&
                        (where == plan::Target::Kind::home || where == plan::Target::Kind::any);
    source.at_home = from.at_home || filled;  // with what the groups have answered in it
    CO_TRY_ASSIGN(source.text, co_await s_.text_for_group(*source.plan, source.sql));
    source.sample = source.text;
    co_return source;
  }
  CO_TRY_ASSIGN(source.statement, co_await PreparedSql(s_).named(*from.execute));
  Prepared& statement = *source.statement;
  source.plan = statement.plan;
  source.sql = statement.sql;
  const plan::Target::Kind where = source.plan->target.kind;
  source.at_home =
      runs_on_groups(*source.plan) && (where == plan::Target::Kind::home || where == plan::Target::Kind::any);
  CO_TRY_ASSIGN(const std::vector<pg::Oid> types, co_await PreparedSql(s_).types(*from.execute, statement));
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  CO_TRY_ASSIGN(const std::string text, co_await s_.text_for_group(*source.plan, statement.sql));
  const uint32_t number = s_.worker_.statement_id(text, types, s_.plan_context_id_);
  const std::string name = "pgm_" + std::to_string(number);
  CO_TRY(co_await PreparedSql(s_).ready_on(**home, number, name, text, types));
  source.text = source.sample = name;
  for (std::size_t i = 0; i < types.size(); ++i) source.sample += i == 0 ? "(NULL" : ", NULL";
  if (!types.empty()) source.sample += ")";
  co_return source;
}

// A statement whose answer the client gets: notices, the command tag, and rows where it is an EXPLAIN.
net::Task<Status> TableFromQuery::at_home(const std::string& text, std::string& tag) {
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  auto rows = co_await (*home)->conn->query(text);
  if (!rows.ok()) co_return std::move(rows.error());
  s_.out_ += rows->notices;
  tag = rows->tag;
  if (!ddl_.shows_rows) co_return Status{};
  if (!s_.extended_ || s_.extended_->command_bind == nullptr) pg::write_row_description(s_.out_, rows->fields);
  for (const auto& row : rows->rows) {
    std::vector<std::optional<std::string_view>> values;
    for (const auto& value : row) values.push_back(value ? std::optional<std::string_view>(*value) : std::nullopt);
    pg::write_data_row(s_.out_, values);
  }
  co_return Status{};
}

// The columns as the home sees them: it makes the table and takes it back.
net::Task<Result<TableFromQuery::Columns>> TableFromQuery::columns(const Source& source) {
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  auto backend = co_await s_.backends_.get(s_.snapshot_->home);
  if (!backend.ok()) co_return std::move(backend.error());
  pool::ServerConn& home = *(*backend)->conn;
  if (!from.explain && !from.like && !sql::is_create_table(from.sql))
    CO_TRY(co_await s_.check_with_postgres(from.sql));  // SELECT INTO
  const std::string execute = from.execute ? "EXECUTE " : "";
  const std::string text = from.plain + (from.like ? "" : execute + source.sample + " WITH NO DATA");
  auto saved = co_await home.query("SAVEPOINT pgmosaic_columns");
  if (!saved.ok()) co_return std::move(saved.error());
  auto made = co_await home.query(text);
  if (!made.ok()) {
    made.error().position = position_in(from.sql, text, made.error().position);
    co_return std::move(made.error());
  }
  const std::string question = columns_question(name_at_home(from) + "::pg_catalog.regclass");
  auto columns = co_await home.query(question);
  if (!columns.ok()) co_return std::move(columns.error());
  auto undone = co_await home.query("ROLLBACK TO SAVEPOINT pgmosaic_columns; RELEASE SAVEPOINT pgmosaic_columns");
  if (!undone.ok()) co_return std::move(undone.error());
  const auto& row = columns->rows.at(0);
  co_return Columns{row[0].value_or(""), row[1] == "t"};
}

Status TableFromQuery::check_styles(const Columns& columns) const {
  const PlanSettings& settings = *s_.plan_settings_;
  if (settings.encoding != PlanSettings::Encoding::unscannable &&
      (columns.exact || (!settings.loss.floats && !settings.loss.zones)))
    return {};
  return make_error("0A000", "a table or materialized view whose rows are read first, with these settings",
                    "RESET extra_float_digits, DateStyle and client_encoding.");
}

net::Task<Status> TableFromQuery::read_rows(const Source& source, std::string& rows) {
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  Execution execution;
  pg::BindMessage bind;
  if (source.statement) {
    CO_TRY(co_await PreparedSql(s_).bind(*from.execute, from.query, *source.statement, execution, bind));
  } else {
    execution.sql = source.sql;
    sql::scan_shape(source.sql, execution.shape);
    execution.values = s_.values_of(source.sql, execution.shape, nullptr, *source.plan);
    CO_TRY_ASSIGN(execution.where, co_await s_.locate(*source.plan, execution));
  }
  std::string before = std::exchange(s_.out_, {});
  Spool spool(rows, before);
  s_.rows_to_ = &spool;
  const bool hold_complete = std::exchange(s_.hold_complete_, false);
  Status status = co_await s_.run_multi(*source.plan, execution);
  s_.hold_complete_ = hold_complete;
  s_.rows_to_ = nullptr;
  s_.out_ = std::move(before);
  if (rows.size() > kMostBytes)
    co_return make_error("54000", "a table or materialized view of more rows than the router can keep",
                         "Create the table first, and fill it in several steps or with COPY.");
  if (!status.ok()) status.error().position = 0;  // it counts in the query alone
  co_return status;
}

net::Task<Status> TableFromQuery::copy_rows(std::string_view rows) {
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  if (rows.empty()) co_return Status{};
  const std::string text = "COPY " + name_for_copy(from) + " FROM STDIN";
  plan::PlanPtr plan;
  if (from.temporary) {
    plan::Plan at_home;
    at_home.kind = plan::PlanKind::copy_in;
    at_home.target.kind = plan::Target::Kind::home;
    at_home.copy_in.emplace();
    plan = std::make_shared<const plan::Plan>(std::move(at_home));
  } else {
    plan = s_.plan_text(text, {});
  }
  if (plan->kind == plan::PlanKind::unsupported) co_return Error(*plan->error);
  if (plan->kind != plan::PlanKind::copy_in)
    co_return make_error("0A000", "CREATE TABLE ... AS cannot fill this table",
                         "Create the table first, then insert the rows.");
  s_.copy_source_ = rows;
  Status status = co_await s_.run_copy_in(text, *plan);
  s_.copy_source_.reset();
  co_return status;
}

net::Task<Result<bool>> TableFromQuery::exists() {
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  const std::string question = "SELECT pg_catalog.to_regclass(" + name_at_home(from) + ") IS NOT NULL";
  auto rows = co_await s_.backends_.held(s_.snapshot_->home)->conn->query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  co_return rows->rows[0][0] == "t";
}

// Where the home can compute the rows.
std::string TableFromQuery::text_at_home(const Source& source) const {
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  if (from.execute) return with_statement(from.home, source.text);
  if (!source.at_home || source.plan->virtual_relations.empty()) return from.home;
  return from.plain + source.text + (from.no_data ? " WITH NO DATA" : "");
}

net::Task<Status> TableFromQuery::run(std::string& tag) {
  if (ddl_.view_rows) co_return co_await run_view(tag);
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  auto home = co_await s_.backends_.get(s_.snapshot_->home);
  if (!home.ok()) co_return std::move(home.error());
  CO_TRY_ASSIGN(const Source source, co_await this->source());
  const std::string home_text = text_at_home(source);
  CO_TRY_ASSIGN(const bool there, co_await exists());
  if (from.explain_only || (there && from.if_not_exists)) {
    if (from.explain_only && !source.at_home)
      co_return make_error("0A000", "EXPLAIN of a CREATE TABLE ... AS EXECUTE over several groups",
                           "EXPLAIN EXECUTE the statement in it.");
    co_return co_await at_home(home_text, tag);
  }
  plan::Effects effects;
  effects.writes = true;
  effects.taints = source.plan && source.plan->effects.taints;
  effects.pins = from.temporary;
  effects.not_preparable = from.temporary || s_.temporary_.any;
  bool by_home = source.at_home;
  plan::Ddl made;
  Columns columns;
  if (!from.temporary || !by_home) {
    CO_TRY_ASSIGN(columns, co_await this->columns(source));
  }
  if (!from.temporary) {
    const plan::PlanPtr plan = s_.plan_text(from.create + " (" + columns.text + ")" + from.clauses, {});
    if (plan->kind == plan::PlanKind::unsupported) co_return Error(*plan->error);
    if (plan->kind != plan::PlanKind::ddl || plan->ddl->from_query)
      co_return make_error("XX000", "a table's columns cannot be read");
    made = *plan->ddl;
    by_home = by_home && made.new_table && made.new_table->kind == catalog::TableKind::local;
  }
  s_.note_effects(**home, effects);
  if (from.explain && !by_home)
    co_return make_error("0A000", "EXPLAIN ANALYZE of a CREATE TABLE ... AS of a sharded table, or from one",
                         "EXPLAIN ANALYZE the query in it.");
  std::string rows;
  if (!by_home && !from.no_data) {
    CO_TRY(check_styles(columns));
    CO_TRY(co_await read_rows(source, rows));
  }
  if (from.temporary) {
    CO_TRY(co_await make_temporary(source, by_home, tag));
  } else {
    if (by_home) made.home_instead = {home_text};
    made.shows_rows = ddl_.shows_rows;
    if (by_home && !made.shows_rows) made.tag = "SELECT";
    CO_TRY(co_await s_.apply_ddl(made, tag, nullptr));
    put_key_notices(s_.out_, made, *s_.worker_.config, *s_.backends_.settings());
  }
  if (by_home) co_return Status{};
  const auto count = static_cast<std::size_t>(std::count(rows.begin(), rows.end(), '\n'));
  tag = from.like ? "CREATE TABLE" : from.no_data ? "CREATE TABLE AS" : "SELECT " + std::to_string(count);
  co_return co_await copy_rows(rows);
}

net::Task<Status> TableFromQuery::make_temporary(const Source& source, bool by_home, std::string& tag) {
  const plan::Ddl::FromQuery& from = *ddl_.from_query;
  std::string text = from.plain + (from.execute ? "EXECUTE " : "") + source.sample + " WITH NO DATA";
  if (by_home) text = text_at_home(source);
  co_return co_await at_home(text, tag);
}

}  // namespace pgmosaic::router
