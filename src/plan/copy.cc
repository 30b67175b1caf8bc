// COPY: FROM STDIN is split as a stream by key; TO STDOUT concatenates the groups' streams.
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;
using Placement = Instance::Placement;

namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return result;
}

// The value of an option as text; "true" where none is given.
std::string option_text(const PgQuery__DefElem* option) {
  if (inner(option->arg) == nullptr) return "true";
  if (auto* string = as<PgQuery__String>(option->arg)) return std::string(text_of(string->sval));
  if (auto* boolean = as<PgQuery__Boolean>(option->arg)) return boolean->boolval ? "true" : "false";
  if (auto* integer = as<PgQuery__Integer>(option->arg)) return std::to_string(integer->ival);
  return {};
}

Status read_options(const PgQuery__CopyStmt* copy, CopyIn& out) {
  bool null_given = false, delimiter_given = false, escape_given = false;
  for (const Node* node : each(copy->n_options, copy->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr) continue;
    std::string name = lower(text_of(option->defname)), value = option_text(option);
    if (name == "format") {
      std::string format = lower(value);
      out.format = format == "csv"      ? CopyIn::Format::csv
                   : format == "binary" ? CopyIn::Format::binary
                                        : CopyIn::Format::text;
    } else if (name == "delimiter" && value.size() == 1) {
      out.delimiter = value[0];
      delimiter_given = true;
    } else if (name == "null") {
      out.null_text = value;
      null_given = true;
    } else if (name == "quote" && value.size() == 1) {
      out.quote = value[0];
    } else if (name == "escape" && value.size() == 1) {
      out.escape = value[0];
      escape_given = true;
    } else if (name == "header") {
      std::string flag = lower(value);
      out.header = flag == "true" || flag == "on" || flag == "1" || flag == "match";
    } else if (name == "encoding") {
      return make_error("0A000", "COPY with ENCODING into a sharded table is not supported",
                        "Set client_encoding instead.");
    }
  }
  if (out.format == CopyIn::Format::csv) {
    if (!delimiter_given) out.delimiter = ',';
    if (!null_given) out.null_text = "";
    if (!escape_given) out.escape = out.quote;
  }
  return {};
}

// The columns that FORCE_NULL or FORCE_NOT_NULL lists.
std::vector<std::string> forced_columns(const PgQuery__CopyStmt* copy, std::string_view option_name) {
  for (const Node* node : each(copy->n_options, copy->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr || lower(text_of(option->defname)) != option_name) continue;
    if (auto* list = as<PgQuery__List>(option->arg)) return names_of(list->n_items, list->items);
  }
  return {};
}

// Columns of a row of COPY without a column list.
std::vector<std::string> copied_columns(const catalog::Table& table) {
  std::vector<std::string> names;
  for (const catalog::Column& column : table.columns)
    if (!column.generated) names.push_back(column.name);
  return names;
}

// PostgreSQL refuses FREEZE for partitioned tables, as our sharded ones are. It only spares a later VACUUM's work (as
// `pgbench -i` does), so the groups get the statement without it. Empty: there is none.
Result<std::string> without_freeze(const PgQuery__CopyStmt* copy) {
  Arena arena;
  std::vector<Node*> options;
  for (std::size_t i = 0; i < copy->n_options; ++i) {
    auto* option = as<PgQuery__DefElem>(copy->options[i]);
    if (option == nullptr || lower(text_of(option->defname)) != "freeze") options.push_back(copy->options[i]);
  }
  if (options.size() == copy->n_options) return std::string();
  PgQuery__CopyStmt* plain = arena.shallow(copy);
  plain->n_options = options.size();
  plain->options = arena.list(options);
  return deparse_statement(arena.node(plain));
}

Plan copy_plan(PlanKind kind) {
  Plan plan;
  plan.command = "COPY";
  plan.returns_rows = false;
  plan.kind = kind;
  return plan;
}

// Columns that COPY leaves out and whose default only the home can compute. Nullopt: the router fills them in.
std::optional<Plan> fill_missing(const PgQuery__CopyStmt* copy, const Instance& table, const PlanContext& context,
                                 CopyIn& in) {
  const std::vector<std::string> names = names_of(copy->n_attlist, copy->attlist);
  if (names.empty()) return std::nullopt;
  for (std::size_t i = 0; i < table.table->columns.size(); ++i) {
    const catalog::Column& column = table.table->columns[i];
    if (std::find(names.begin(), names.end(), column.name) != names.end()) continue;
    const auto& keys = table.table->key_columns;
    const bool key = std::find(keys.begin(), keys.end(), static_cast<int>(i)) != keys.end();
    if (!default_asks_home(column, table.placement == Placement::reference, context) &&
        !(key && column.has_default && !column.generated))
      continue;
    auto filled = filled_column(column, context);
    const bool binary = in.format == CopyIn::Format::binary;
    // What a function asks of its backend about a sequence, this backend would have to draw.
    if (!filled || (binary && (filled->sequence == 0 || filled->most == 0)) ||
        (filled->sequence != 0 && context.database->sequences.asked_unseen))
      return unsupported(
          "COPY without a value for column \"" + column.name + "\", whose default the groups cannot compute",
          "List the column in COPY, with its values in the data; reserve numbers of a sequence with "
          "setval() before.");
    in.filled.push_back(std::move(*filled));
  }
  in.given = names.size();
  return std::nullopt;
}

// What the groups are sent: the columns that are filled in stand in front.
Result<std::string> with_filled(const PgQuery__CopyStmt* copy, const CopyIn& in, bool sharded) {
  Arena arena;
  std::vector<Node*> columns;
  for (const CopyIn::Filled& filled : in.filled) columns.push_back(arena.string_node(filled.name));
  for (std::size_t i = 0; i < copy->n_attlist; ++i) columns.push_back(copy->attlist[i]);
  std::vector<Node*> options;
  for (std::size_t i = 0; i < copy->n_options; ++i) {
    auto* option = as<PgQuery__DefElem>(copy->options[i]);
    const bool freeze = option != nullptr && lower(text_of(option->defname)) == "freeze";
    if (!freeze || !sharded) options.push_back(copy->options[i]);
  }
  PgQuery__CopyStmt* written = arena.shallow(copy);
  written->n_attlist = columns.size();
  written->attlist = arena.list(columns);
  written->n_options = options.size();
  written->options = arena.list(options);
  return deparse_statement(arena.node(written));
}

// The columns of a row as the groups get it.
std::vector<std::string> behind_filled(const CopyIn& in, std::vector<std::string> names) {
  std::vector<std::string> all;
  for (const CopyIn::Filled& filled : in.filled) all.push_back(filled.name);
  std::move(names.begin(), names.end(), std::back_inserter(all));
  return all;
}

Plan copy_in(const PgQuery__CopyStmt* copy, const Instance& table, const PlanContext& context) {
  Plan plan = copy_plan(PlanKind::copy_in);
  plan.effects.writes = true;
  CopyIn& in = plan.copy_in.emplace();
  if (table.placement == Placement::sharded || table.placement == Placement::reference) {
    in.name = table.table->name;
    // What is wrong with the options of a stream that is not taken apart PostgreSQL says.
    Status read = read_options(copy, in);
    if (auto refused = fill_missing(copy, table, context, in)) return std::move(*refused);
    if (!read.ok() && (table.placement == Placement::sharded || !in.filled.empty())) return unsupported(read.error());
  }
  switch (table.placement) {
    case Placement::home:
      if (table.table != nullptr && context.database->guarded_tables.contains(table.table->oid))
        return unsupported("COPY into a table whose triggers run SQL given as text", "INSERT the rows.");
      plan.target.kind = Target::Kind::home;
      return plan;
    case Placement::sharded: break;
    case Placement::reference: {
      plan.target.kind = Target::Kind::everywhere;
      plan.reference_write = true;
      in.table = table.table->oid;
      if (in.filled.empty()) return plan;
      in.columns = behind_filled(in, names_of(copy->n_attlist, copy->attlist));
      auto text = with_filled(copy, in, false);
      if (!text.ok()) return unsupported(text.error());
      plan.rewritten_sql = std::move(*text);
      return plan;
    }
    default: return unsupported("COPY into a view over sharded tables", "Copy into the table itself.");
  }
  if (table.table->has_statement_triggers)
    return unsupported("COPY into a sharded table with statement-level triggers",
                       "They would fire once per group: use row-level triggers.");
  auto text = in.filled.empty() ? without_freeze(copy) : with_filled(copy, in, true);
  if (!text.ok()) return unsupported(text.error());
  plan.rewritten_sql = std::move(*text);
  in.table = table.table->oid;
  in.colocation = table.table->colocation;
  plan.target = Target{Target::Kind::all, in.colocation, {}};
  std::vector<std::string> names = names_of(copy->n_attlist, copy->attlist);
  for (const std::string& name : names) {
    if (table.table->column_index(name) >= 0) continue;
    plan.target.kind = Target::Kind::home;  // which says that there is no such column
    plan.rewritten_sql.clear();
    in.filled.clear();
    return plan;
  }
  if (names.empty()) names = copied_columns(*table.table);
  in.columns = names = behind_filled(in, std::move(names));
  const auto force_null = forced_columns(copy, "force_null"), force_not_null = forced_columns(copy, "force_not_null");
  auto contains = [](const std::vector<std::string>& list, const std::string& name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  for (int key : table.table->key_columns) {
    const catalog::Column& column = table.table->columns[key];
    auto it = std::find(names.begin(), names.end(), column.name);
    if (it == names.end())
      return unsupported("COPY without the distribution column \"" + column.name + "\"",
                         "List the distribution column among the columns of COPY.");
    in.key_fields.push_back(static_cast<int>(it - names.begin()));
    in.force_null.push_back(contains(force_null, column.name));
    in.force_not_null.push_back(contains(force_not_null, column.name));
    in.key_types.push_back(column.base_type != 0 ? column.base_type : column.type);
    in.key_typmods.push_back(column.typmod);
  }
  return plan;
}

// Format and header, for the executor: each group's stream has a header or a binary frame of its own.
void describe_stream(const PgQuery__CopyStmt* copy, Plan& plan) {
  CopyIn options;
  (void)read_options(copy, options).ok();  // what it refuses matters only for streams that are split
  plan.copy_in.emplace();
  plan.copy_in->format = options.format;
  plan.copy_in->header = options.header;
}

// PostgreSQL does not copy out of a partitioned table by its name.
std::string copy_as_select(std::string_view sql, const PgQuery__CopyStmt* copy, const Instance& table) {
  TokenScanner scanner(sql);
  Token token = scanner.next();
  int depth = 0;
  for (; token.kind != Token::Kind::end && token.kind != Token::Kind::broken; token = scanner.next()) {
    if (scanner.is_symbol(token, '(')) ++depth;
    if (scanner.is_symbol(token, ')')) --depth;
    if (depth == 0 && scanner.is_word(token, "to")) break;
  }
  std::vector<std::string> names = names_of(copy->n_attlist, copy->attlist);
  if (names.empty()) names = copied_columns(*table.table);
  std::string columns;
  for (const std::string& name : names) columns += (columns.empty() ? "" : ", ") + quote_identifier(name);
  return "COPY (SELECT " + columns + " FROM " + quote_identifier(table.table->schema) + "." +
         quote_identifier(table.table->name) + ") " + std::string(sql.substr(token.begin));
}

Plan copy_table_out(std::string_view sql, const PgQuery__CopyStmt* copy, const Instance& table) {
  Plan plan = copy_plan(PlanKind::copy_out);
  describe_stream(copy, plan);
  switch (table.placement) {
    case Placement::home: plan.target.kind = Target::Kind::home; break;
    case Placement::reference: plan.target.kind = Target::Kind::any; break;
    case Placement::sharded:
      plan.target = Target{Target::Kind::all, table.table->colocation, {}};
      plan.rewritten_sql = copy_as_select(sql, copy, table);
      plan.read_tables = quote_identifier(table.table->schema) + "." + quote_identifier(table.table->name);
      break;
    default: return unsupported("COPY of a view over sharded tables", "Use COPY (SELECT ...) TO STDOUT.");
  }
  return plan;
}

// COPY (SELECT …) TO … with another query.
std::string with_query(std::string_view sql, const std::string& query) {
  TokenScanner scanner(sql);
  scanner.next();
  const Token open = scanner.next();
  int depth = 1;
  for (Token token = scanner.next(); token.kind != Token::Kind::end; token = scanner.next()) {
    if (scanner.is_symbol(token, '(')) ++depth;
    if (scanner.is_symbol(token, ')') && --depth == 0)
      return std::string(sql.substr(0, open.end)) + query + std::string(sql.substr(token.begin));
  }
  return std::string(sql);
}

Plan copy_query_out(std::string_view sql, const PgQuery__CopyStmt* copy, const PlanContext& context) {
  Plan query = plan_tree(sql, copy->query, context);
  if (query.kind == PlanKind::unsupported) return query;
  if (query.kind == PlanKind::ddl) return Plan();  // SELECT INTO: PostgreSQL refuses it
  const bool at_home = query.target.kind == Target::Kind::home || query.target.kind == Target::Kind::any;
  if (query.kind != PlanKind::route || query.reference_write || (query.effects.writes && !at_home))
    return unsupported("COPY of a statement that writes", "Run the statement and copy its result separately.");
  Plan plan;
  plan.kind = PlanKind::copy_out;
  plan.command = "COPY";
  plan.returns_rows = false;
  plan.target = query.target;
  plan.effects = query.effects;
  plan.guarded = query.guarded;
  plan.multi_group_error = query.multi_group_error;
  plan.read_tables = query.read_tables;
  describe_stream(copy, plan);
  if (!query.virtual_relations.empty()) {
    plan.rewritten_sql = with_query(sql, query.rewritten_sql);
    plan.virtual_relations = query.virtual_relations;
  }
  bool plain = query.gather && query.gather->sql.empty() && query.gather->merge.empty() &&
               !query.gather->limit.constant && query.gather->limit.parameter == 0 && !query.gather->offset.constant &&
               query.gather->offset.parameter == 0;
  bool several = query.target.kind == Target::Kind::all || query.target.kind == Target::Kind::keys ||
                 query.target.kind == Target::Kind::everywhere;
  if (several && !plain && !plan.multi_group_error)
    plan.multi_group_error =
        make_error("0A000", "not supported over several groups: COPY of a query with ORDER BY, LIMIT or aggregates",
                   "Copy the plain rows, or pin the query to one key.");
  return plan;
}

// A file or program of the home's server, for what the home has.
Plan copy_on_server(std::string_view sql, const PgQuery__CopyStmt* copy, const PlanContext& context) {
  Target target;
  if (copy->relation == nullptr) {
    Plan query = plan_tree(sql, copy->query, context);
    if (query.kind == PlanKind::unsupported) return query;
    if (query.kind == PlanKind::ddl) return Plan();  // SELECT INTO: PostgreSQL refuses it
    target = query.target;
  } else {
    Planning p(sql, context, nullptr);
    const Instance& table = p.statement.add_table(p.statement.new_level(nullptr, nullptr), copy->relation, -1);
    target.kind = table.placement == Placement::home ? Target::Kind::home : Target::Kind::everywhere;
  }
  if (target.kind != Target::Kind::home && target.kind != Target::Kind::any)
    return unsupported("COPY of a sharded or reference table with a file or program of the server",
                       "Use COPY ... FROM STDIN or TO STDOUT; psql's \\copy does so with a file of the client.");
  Plan plan;
  plan.command = "COPY";
  plan.returns_rows = false;
  plan.effects.writes = copy->is_from != 0;
  add_effects(lookup(context, copy->relation), plan.effects);
  plan.target.kind = Target::Kind::home;
  return plan;
}

}  // namespace

Plan plan_copy(std::string_view sql, const Node* root, const PlanContext& context) {
  auto* copy = as<PgQuery__CopyStmt>(root);
  const bool server_side = copy->is_program || !text_of(copy->filename).empty();
  if (server_side) return copy_on_server(sql, copy, context);
  if (copy->relation == nullptr) return copy_query_out(sql, copy, context);
  if (find_virtual(copy->relation))
    return unsupported("COPY of " + std::string(text_of(copy->relation->relname)),
                       "Use COPY (SELECT ...) TO STDOUT or SELECT.");
  Planning p(sql, context, root);
  Level* level = p.statement.new_level(nullptr, nullptr);
  Instance& table = p.statement.add_table(level, copy->relation, -1);
  Plan plan = copy->is_from ? copy_in(copy, table, context) : copy_table_out(sql, copy, table);
  add_effects(table.table, plan.effects);
  return plan;
}

}  // namespace pgmosaic::plan
