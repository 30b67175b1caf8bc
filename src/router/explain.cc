#include "router/explain.h"

#include <algorithm>

#include "plan/explain_plan.h"
#include "plan/virtual_relations.h"
#include "router/move_rows.h"
#include "router/prepared_sql.h"
#include "router/session_views.h"
#include "router/worker.h"
#include "sql/tokens.h"

namespace pgmosaic::router {

namespace {

void put_line(std::string& out, const std::string& line) { pg::write_text_row(out, {line}); }

std::string group_names(const catalog::Snapshot& snapshot, const std::vector<exec::GroupId>& groups) {
  std::string names;
  for (exec::GroupId group : groups) names += (names.empty() ? "" : ", ") + snapshot.group(group)->name;
  return names;
}

// "json" of EXPLAIN (FORMAT JSON); empty: text.
std::string format_of(const std::string& explain_prefix) {
  sql::TokenScanner scanner(explain_prefix);
  for (sql::Token token = scanner.next(); token.kind != sql::Token::Kind::end; token = scanner.next()) {
    if (!scanner.is_word(token, "format")) continue;
    std::string format;
    for (char c : scanner.text(scanner.next()))
      if (std::isalpha(static_cast<unsigned char>(c)))
        format += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return format;
  }
  return {};
}

bool analyzes(const std::string& explain_prefix) {
  sql::TokenScanner scanner(explain_prefix);
  for (sql::Token token = scanner.next(); token.kind != sql::Token::Kind::end; token = scanner.next())
    if (scanner.is_word(token, "analyze") || scanner.is_word(token, "analyse")) return true;
  return false;
}

// What the home runs by itself PostgreSQL explains, in its own words.
bool is_plain(const plan::Plan& inner) {
  return runs_on_groups(inner) &&
         (inner.target.kind == plan::Target::Kind::home || inner.target.kind == plan::Target::Kind::any);
}

// What the router does with the answers of several groups.
const char* way_over_groups(const plan::Plan& plan) {
  if (!plan.returns_rows || plan.effects.writes) return "Modify";
  if (plan.combine) return "Combine";
  return plan.gather && !plan.gather->merge.empty() ? "Gather Merge" : "Gather";
}

}  // namespace

void put_plan_description(std::string& out, const std::string& explain_prefix) {
  constexpr pg::Oid kText = 25, kJson = 114, kXml = 142;
  const std::string format = format_of(explain_prefix);
  pg::FieldDescription field;
  field.name = "QUERY PLAN";
  field.type = format == "json" ? kJson : format == "xml" ? kXml : kText;
  field.type_size = -1;
  pg::write_row_description(out, {field});
}

void Explainer::describe() {
  if (s_.extended_ && s_.extended_->command_bind != nullptr) return;  // Describe has told
  put_plan_description(s_.out_, plan_.explain_prefix);
}

net::Task<Status> Explainer::run() {
  if (plan_.inner == nullptr) co_return co_await execute();
  const plan::Plan& inner = *plan_.inner;
  if (inner.kind == plan::PlanKind::session || inner.kind == plan::PlanKind::ddl ||
      inner.kind == plan::PlanKind::copy_in)
    co_return make_error("0A000", "EXPLAIN of this statement is not supported yet",
                         "EXPLAIN a SELECT, INSERT, UPDATE or DELETE.");
  Execution execution;
  execution.sql = plan_.session ? std::string_view(plan_.session->sql) : sql_.substr(plan_.explain_prefix.size());
  sql::scan_shape(execution.sql, execution.shape);
  execution.values = s_.values_of(execution.sql, execution.shape, nullptr, inner);
  CO_TRY_ASSIGN(execution.where, co_await s_.locate(inner, execution));
  co_return co_await show(inner, execution, {});
}

// EXPLAIN EXECUTE: each group is told what it would run as a prepared statement, whose generic plan it may have.
net::Task<Status> Explainer::execute() {
  PreparedSql prepared(s_);
  CO_TRY_ASSIGN(const PreparedPtr statement, co_await prepared.named(*plan_.session));
  const plan::PlanPtr inner = statement->plan;
  if (inner->kind != plan::PlanKind::route && inner->kind != plan::PlanKind::insert_split)
    co_return make_error("0A000", "EXPLAIN of this prepared statement is not supported yet",
                         "EXPLAIN a SELECT, INSERT, UPDATE or DELETE.");
  pg::BindMessage bind;
  Execution execution;
  const std::string_view call = sql_.substr(plan_.explain_prefix.size());
  Status bound = co_await prepared.bind(*plan_.session, call, *statement, execution, bind);
  if (!bound.ok()) {
    if (bound.error().position > 0) bound.error().position += characters(plan_.explain_prefix);
    co_return bound;
  }
  std::string arguments;
  for (const auto& value : bind.values)
    arguments += (arguments.empty() ? "(" : ", ") + (value ? pool::quote_literal(*value) : "NULL");
  if (!arguments.empty()) arguments += ")";
  execution.prepared_name = statement->wire_name;
  execution.prepared_number = statement->id;
  co_return co_await show(*inner, execution, std::move(arguments));
}

// INSERT of several rows.
net::Task<Status> Explainer::split(const plan::Plan& inner, const Execution& execution) {
  if (plan_.effects.writes)
    co_return make_error("0A000", "EXPLAIN ANALYZE of an INSERT of several rows",
                         "EXPLAIN shows where the rows go; to time the INSERT, run it.");
  std::vector<Split> parts;
  std::vector<std::size_t> order;
  Execution own = execution;
  CO_TRY(co_await s_.split_insert(inner, own, parts, order));
  std::vector<exec::GroupId> targets;
  for (const Split& part : parts) targets.push_back(part.group);
  describe();
  put_line(s_.out_, "Insert split over " + std::to_string(targets.size()) +
                        (targets.size() == 1 ? " group: " : " groups: ") + group_names(*s_.snapshot_, targets));
  s_.put_complete("EXPLAIN");
  co_return Status{};
}

net::Task<Status> Explainer::show(const plan::Plan& inner, const Execution& execution, std::string arguments) {
  const bool executes = execution.extended();
  Way way;
  way.arguments = std::move(arguments);
  way.alone = executes && is_plain(inner);
  way.groups = execution.where.groups;
  if (execution.where.single()) way.groups = {execution.where.one};
  if (way.alone) way.groups = {s_.snapshot_->home};
  const bool several = way.groups.size() > 1;
  const bool moves = !keeps_group(inner, execution, *s_.database_);
  if (moves && plan_.effects.writes)
    co_return make_error("0A000", "EXPLAIN ANALYZE of an UPDATE that may move rows to other groups",
                         "EXPLAIN shows what the groups do with rows that stay; to time the UPDATE, run it.");
  if (several && inner.multi_group_error) co_return Error(*inner.multi_group_error);
  const std::string format = format_of(plan_.explain_prefix);
  way.structured = !format.empty() && format != "text";
  if (way.structured && (several || inner.kind == plan::PlanKind::insert_split))
    co_return make_error("0A000", "EXPLAIN over several groups in another format than text", "Leave FORMAT out.");
  if (inner.kind == plan::PlanKind::insert_split) co_return co_await split(inner, execution);
  const bool declares = plan_.session && plan_.session->kind == plan::SessionCommand::Kind::declare_cursor;
  way.text = execution.sql;
  if (several || !declares) {
    CO_TRY_ASSIGN(way.text, co_await s_.text_for_group(inner, execution.sql, several));
  }
  if (executes && way.text == execution.sql && !execution.prepared_name.empty()) {
    way.number = execution.prepared_number;
    way.statement = execution.prepared_name;
  } else if (executes) {
    way.number = s_.worker_.statement_id(way.text, execution.types, s_.plan_context_id_);
    way.statement = "pgm_" + std::to_string(way.number);
  }
  std::string lines;
  if (!way.structured && !way.alone)
    put_line(lines, (several ? way_over_groups(inner) + (" over " + std::to_string(way.groups.size()) + " groups: ")
                             : "Route to group: ") +
                        group_names(*s_.snapshot_, way.groups));
  CO_TRY(co_await ask_watching(inner, execution, way, lines));
  if (moves && !way.structured) put_line(lines, "Rows that then belong to another group move there");
  describe();
  s_.out_ += lines;
  s_.put_complete("EXPLAIN");
  co_return Status{};
}

// ANALYZE of a write to several groups must not miss rows that move, as the write itself (Session::run_parts).
net::Task<Status> Explainer::ask_watching(const plan::Plan& inner, const Execution& execution, const Way& way,
                                          std::string& lines) {
  const bool writes = way.groups.size() > 1 && plan_.effects.writes;
  const bool reads = way.groups.size() > 1 && !writes && s_.worker_.config->sharding.untorn_reads;
  const bool within = s_.backends_.in_transaction();
  const bool own = (writes || reads) && !within;
  if (!within && analyzes(plan_.explain_prefix) && way.groups.size() > 1 &&
      s_.plan_settings_->isolation == exec::Isolation::serializable)
    co_return exec::beyond_one_group();
  if (within && analyzes(plan_.explain_prefix)) CO_TRY(s_.backends_.may_reach(way.groups));
  MoveLog& log = s_.worker_.context.moves;
  const MoveLog::Key key(s_.backends_.database(), inner.written);
  const std::size_t said = s_.out_.size();
  std::optional<MovesGiveWay> gives_way;
  for (int attempt = 1;; ++attempt) {
    const MoveWatch watch(log, key.first, writes ? inner.written : 0);
    if (own) s_.begin_transaction(reads ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN", true);
    if (own && reads) s_.backends_.set_isolation(exec::Isolation::repeatable_read, way.groups);
    std::string answers;
    Status status = co_await ask(inner, execution, way, answers);
    const bool missed = status.ok() ? watch.moved() : moved_between_leaves(status.error());
    if (missed && status.ok()) status = moved_beside();
    if (own) status = co_await s_.end_own_transaction(std::move(status));
    if (!missed || !own || attempt >= kAttempts || s_.cancelled_ || s_.client_gone_) {
      lines += answers;
      co_return status;
    }
    if (s_.out_.size() > said) s_.out_.resize(said);  // notices of the attempt
    if (!gives_way) gives_way.emplace(log, key);
    co_await moves_settled(s_.worker_.loop, log, key);
  }
}

// Each group's own plan.
net::Task<Status> Explainer::ask(const plan::Plan& inner, const Execution& execution, const Way& way,
                                 std::string& lines) {
  const bool executes = !way.statement.empty();
  const bool several = way.groups.size() > 1;
  const std::string text = plan_.explain_prefix + (executes ? "EXECUTE " + way.statement + way.arguments : way.text);
  const char* indent = way.structured || way.alone ? "" : several ? "        " : "  ";
  for (exec::GroupId group : way.groups) {
    auto backend = co_await s_.backends_.get(group);
    if (!backend.ok()) co_return std::move(backend.error());
    s_.note_effects(**backend, executes && plan_.effects.writes ? inner.effects : plan_.effects);
    if (executes)
      CO_TRY(co_await PreparedSql(s_).ready_on(**backend, way.number, way.statement, way.text, execution.types));
    auto rows = co_await (*backend)->conn->query(text);
    if (!rows.ok()) {
      rows.error().position = position_in(sql_, text, rows.error().position);
      co_return std::move(rows.error());
    }
    if (group == way.groups.front()) s_.out_ += rows->notices;
    if (several) put_line(lines, "  ->  Group " + s_.snapshot_->group(group)->name);
    for (const auto& row : rows->rows) put_line(lines, indent + row[0].value_or(""));
  }
  co_return Status{};
}

net::Task<Result<std::string>> Session::text_for_group(const plan::Plan& plan, std::string_view sql, bool several) {
  std::string text = plan.rewritten_sql.empty() ? std::string(sql) : plan.rewritten_sql;
  if (several && plan.combine) {
    text = plan.combine->partial_sql;
  } else if (several && plan.gather && !plan.gather->sql.empty()) {
    text = plan.gather->sql;
  }
  for (const std::string& relation : plan.virtual_relations) {
    if (relation == plan::kNumbers) {
      text = numbers_.put_into(std::move(text), backends_.held(snapshot_->home), staged_ != nullptr);
      continue;
    }
    CO_TRY_ASSIGN(std::string rows, co_await SessionViews(*this).rows(relation));
    std::string doubled;
    for (char c : rows) {
      if (c == '\'') doubled += c;
      doubled += c;
    }
    const std::string marker = plan::virtual_marker(relation);
    for (std::size_t at = text.find(marker); at != std::string::npos; at = text.find(marker, at + doubled.size()))
      text.replace(at, marker.size(), doubled);
  }
  co_return text;
}

}  // namespace pgmosaic::router
