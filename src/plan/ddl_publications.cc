// Publications: the home has them as declared, and publishes the rows of local and reference tables. Every other group
// publishes its rows of sharded tables, under the tables' own names: of the tables a statement lists, a group's
// publication has the sharded ones only – it has copies of reference tables, which would be published once per group.
// A publication of all tables, or of a schema's, lists none, and so is empty there: see misplaced_publications().
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/kinds.h"
#include "plan/publications.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

constexpr std::string_view kViaRoot = "publish_via_partition_root";

// The sharded tables of a list.
std::vector<Node*> sharded_ones(Arena& arena, size_t count, Node* const* objects, const PlanContext& context) {
  std::vector<Node*> found;
  for (size_t i = 0; i < count; ++i) {
    auto* object = as<PgQuery__PublicationObjSpec>(objects[i]);
    if (object == nullptr || object->pubtable == nullptr) continue;
    const catalog::Table* table = lookup(context, object->pubtable->relation);
    if (table == nullptr || table->kind != catalog::TableKind::sharded) continue;
    auto* copy = arena.shallow(object);
    copy->pubtable = arena.shallow(object->pubtable);
    copy->pubtable->relation = arena.shallow(object->pubtable->relation);
    copy->pubtable->relation->inh = 1;
    found.push_back(arena.node(copy));
  }
  return found;
}

// Leaves publish as their table does.
std::vector<Node*> group_options(Arena& arena, size_t count, Node* const* options, bool create) {
  std::vector<Node*> kept;
  for (size_t i = 0; i < count; ++i) {
    auto* option = as<PgQuery__DefElem>(options[i]);
    if (option == nullptr || text_of(option->defname) != kViaRoot) kept.push_back(options[i]);
  }
  if (create) {
    auto* via_root = arena.make<PgQuery__DefElem>();
    via_root->defname = arena.string(kViaRoot);
    via_root->arg = arena.string_node("true");
    via_root->defaction = PG_QUERY__DEF_ELEM_ACTION__DEFELEM_UNSPEC;
    kept.push_back(arena.node(via_root));
  }
  return kept;
}

std::string without_tables(std::string_view publication) {
  return "DO LANGUAGE plpgsql $pgmosaic$ DECLARE t record; BEGIN FOR t IN SELECT r.prrelid::pg_catalog.regclass AS "
         "name "
         "FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname "
         "= " +
         quote_literal(publication) + " LOOP EXECUTE pg_catalog.format('ALTER PUBLICATION %I DROP TABLE %s', " +
         quote_literal(publication) + ", t.name); END LOOP; END $pgmosaic$";
}

Result<std::string> group_text(const PgQuery__CreatePublicationStmt* create, const PlanContext& context) {
  Arena arena;
  auto* copy = arena.shallow(create);
  const std::vector<Node*> tables = sharded_ones(arena, create->n_pubobjects, create->pubobjects, context);
  const std::vector<Node*> options = group_options(arena, create->n_options, create->options, true);
  copy->for_all_tables = 0;
  copy->n_pubobjects = tables.size();
  copy->pubobjects = arena.list(tables);
  copy->n_options = options.size();
  copy->options = arena.list(options);
  return deparse_statement(arena.node(copy));
}

// Empty: nothing to do.
Result<std::string> group_text(const PgQuery__AlterPublicationStmt* alter, const PlanContext& context) {
  Arena arena;
  auto* copy = arena.shallow(alter);
  if (alter->n_options > 0) {
    const std::vector<Node*> options = group_options(arena, alter->n_options, alter->options, false);
    if (options.empty()) return std::string();
    copy->n_options = options.size();
    copy->options = arena.list(options);
    return deparse_statement(arena.node(copy));
  }
  const std::vector<Node*> tables = sharded_ones(arena, alter->n_pubobjects, alter->pubobjects, context);
  if (tables.empty())
    return alter->action == PG_QUERY__ALTER_PUBLICATION_ACTION__AP_SetObjects ? without_tables(text_of(alter->pubname))
                                                                              : std::string();
  copy->n_pubobjects = tables.size();
  copy->pubobjects = arena.list(tables);
  return deparse_statement(arena.node(copy));
}

Plan on_groups(std::string tag, std::string_view sql, Result<std::string> text) {
  if (!text) return unsupported(text.error());
  Plan plan = everywhere(std::move(tag), *text);
  plan.ddl->home_instead = {std::string(sql)};
  return plan;
}

}  // namespace

std::optional<Plan> plan_publication(std::string_view sql, const Node* root, const PlanContext& context) {
  if (auto* create = as<PgQuery__CreatePublicationStmt>(root))
    return on_groups("CREATE PUBLICATION", sql, group_text(create, context));
  if (auto* alter = as<PgQuery__AlterPublicationStmt>(root))
    return on_groups("ALTER PUBLICATION", sql, group_text(alter, context));
  return std::nullopt;
}

std::vector<Error> misplaced_publications(const catalog::Database& database,
                                          const std::vector<WidePublication>& publications) {
  std::vector<Error> found;
  for (const WidePublication& publication : publications) {
    const bool covers = std::any_of(database.tables_by_oid.begin(), database.tables_by_oid.end(), [&](const auto& one) {
      return one.second->kind == catalog::TableKind::sharded &&
             (publication.schema.empty() || one.second->schema == publication.schema);
    });
    if (!covers) continue;
    const std::string of = publication.schema.empty() ? "all tables" : "all tables of schema " + publication.schema;
    found.push_back(make_error(
        "0A000", "the publication \"" + publication.name + "\" of " + of + ", with sharded tables among them",
        "Name the tables: CREATE PUBLICATION ... FOR TABLE ...",
        "Each group publishes its rows of the sharded tables that a publication names."));
  }
  return found;
}

}  // namespace pgmosaic::plan
