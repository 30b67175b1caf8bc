// CREATE INDEX, DROP INDEX and REINDEX, with and without CONCURRENTLY.
//
// What runs concurrently is no transaction: PostgreSQL commits its steps, and a failure leaves an INVALID index. For
// tables with rows on several groups the router does likewise (router/index_work.h).
#include "plan/partitions.h"
#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;
using Verb = Ddl::IndexWork::Verb;

namespace {

// The statement without its keyword CONCURRENTLY; an index cannot have that name.
std::string without_concurrently(std::string_view sql) {
  TokenScanner scanner(sql);
  for (Token token = scanner.next(); token.kind != Token::Kind::end && token.kind != Token::Kind::broken;
       token = scanner.next())
    if (scanner.is_word(token, "concurrently"))
      return std::string(sql.substr(0, token.begin)) + std::string(sql.substr(token.end));
  return std::string(sql);
}

// PostgreSQL does it, or says why not.
Plan at_home(std::string tag) {
  Plan plan;
  plan.command = std::move(tag);
  plan.returns_rows = false;
  plan.target.kind = Target::Kind::home;
  plan.effects.writes = true;
  plan.no_transaction = true;
  return plan;
}

Plan work(std::string tag, std::string alone, Ddl::IndexWork index) {
  Plan plan = everywhere(std::move(tag), "");
  plan.ddl->alone = std::move(alone);
  plan.ddl->gentle = index.concurrently;
  plan.ddl->index = std::move(index);
  return plan;
}

Plan plan_concurrent(std::string_view sql, const PgQuery__IndexStmt* index, const catalog::Table* table) {
  // A table that is partitioned for its user, too: PostgreSQL refuses it.
  if (table == nullptr || table->kind == TableKind::view || table->partitioned) return at_home("CREATE INDEX");
  Plan plan = work("CREATE INDEX", "CREATE INDEX CONCURRENTLY",
                   {Verb::create, true, table->oid, std::string(text_of(index->idxname)), std::string(sql), ""});
  plan.ddl->home_instead = {without_concurrently(sql)};
  return plan;
}

Plan plan_create(std::string_view sql, const PgQuery__IndexStmt* index, const PlanContext& context) {
  const catalog::Table* table = lookup(context, index->relation);
  if (index->unique) {
    std::vector<std::string> columns;
    for (const Node* node : each(index->n_index_params, index->index_params))
      if (auto* element = as<PgQuery__IndexElem>(node)) columns.emplace_back(text_of(element->name));
    auto status = check_unique(under_definition(table, index->relation, context), columns, "a unique index");
    if (!status) return unsupported(status.error());
  }
  if (index->concurrent) return plan_concurrent(sql, index, table);
  Plan plan = everywhere("CREATE INDEX", sql);
  plan.ddl->unknown_relation = table == nullptr;
  return plan;
}

bool is_on(const PgQuery__DefElem* option) {
  if (inner(option->arg) == nullptr) return true;
  if (auto* number = as<PgQuery__Integer>(option->arg)) return number->ival != 0;
  auto* word = as<PgQuery__String>(option->arg);
  return word == nullptr || (text_of(word->sval) != "off" && text_of(word->sval) != "false");
}

std::optional<Plan> plan_rebuild(std::string_view sql, const PgQuery__ReindexStmt* reindex,
                                 const PlanContext& context) {
  if (reindex->relation == nullptr) return std::nullopt;
  Ddl::IndexWork index{Verb::rebuild_index, is_concurrent(reindex), 0, "", std::string(sql), ""};
  for (const Node* node : each(reindex->n_params, reindex->params)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr) continue;
    if (auto* name = as<PgQuery__String>(option->arg); name != nullptr && text_of(option->defname) == "tablespace")
      index.options = "(TABLESPACE " + quote_identifier(text_of(name->sval)) + ") ";
  }
  if (reindex->kind == PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_TABLE) {
    const catalog::Table* table = lookup(context, reindex->relation);
    const bool spread = table != nullptr && !table->partitioned &&
                        (table->kind == TableKind::sharded || table->kind == TableKind::reference);
    if (!spread) return std::nullopt;
    index.verb = Verb::rebuild_table;
    index.table = table->oid;
  }
  const std::string schema(text_of(reindex->relation->schemaname));
  index.name =
      (schema.empty() ? "" : quote_identifier(schema) + ".") + quote_identifier(text_of(reindex->relation->relname));
  const std::string alone = index.concurrently ? "REINDEX CONCURRENTLY" : "REINDEX";
  return work("REINDEX", alone, std::move(index));
}

}  // namespace

bool is_concurrent(const PgQuery__ReindexStmt* reindex) {
  bool concurrent = false;
  for (const Node* node : each(reindex->n_params, reindex->params))
    if (auto* option = as<PgQuery__DefElem>(node); option != nullptr && text_of(option->defname) == "concurrently")
      concurrent = is_on(option);
  return concurrent;
}

std::optional<Plan> plan_index(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto* create = as<PgQuery__IndexStmt>(root)) return plan_create(sql, create, context);
  if (auto* reindex = as<PgQuery__ReindexStmt>(root)) return plan_rebuild(sql, reindex, context);
  return std::nullopt;
}

// The home says which indexes there are. A group may lack one, or have parts of it that belong to no index yet, where
// CREATE INDEX CONCURRENTLY was interrupted.
Status drop_indexes(Plan& plan, const PgQuery__DropStmt* drop) {
  Ddl& ddl = *plan.ddl;
  ddl.drops_indexes = true;
  if (drop->concurrent) {
    if (drop->n_objects != 1)
      return make_error("0A000", "DROP INDEX CONCURRENTLY does not support dropping multiple objects");
    if (drop->behavior == PG_QUERY__DROP_BEHAVIOR__DROP_CASCADE)
      return make_error("0A000", "DROP INDEX CONCURRENTLY does not support CASCADE");
    ddl.alone = "DROP INDEX CONCURRENTLY";
    ddl.gentle = true;
    auto* list = as<PgQuery__List>(drop->objects[0]);
    for (const std::string& name : list == nullptr ? std::vector<std::string>() : names_of(list->n_items, list->items))
      ddl.not_partitioned += (ddl.not_partitioned.empty() ? "" : ".") + quote_identifier(name);
  }
  Arena arena;
  auto* others = arena.shallow(drop);
  others->missing_ok = 1;
  others->concurrent = 0;
  ddl.home_instead = {drop->concurrent ? without_concurrently(ddl.everywhere[0]) : ddl.everywhere[0]};
  TRY_ASSIGN(ddl.everywhere[0], deparse_statement(arena.node(others)));
  return {};
}

}  // namespace pgmosaic::plan
