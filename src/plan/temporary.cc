// Schema changes of temporary objects, and of what hangs on them: only the session's backend of the home has them, and
// it runs the statement as it is. So does the home with those of large objects. Temporary tables and views that are
// made are in create_table.cc and ddl.cc.
#include <algorithm>
#include <set>

#include "plan/ddl_checks.h"
#include "plan/planning.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

constexpr std::string_view kTemporarySchema = "pg_temp";

// What a statement names, against the names of the session's temporary relations.
class Names {
 public:
  Names(const Node* root, const PlanContext& context) : context_(context) {
    walk(root, [this](const Message* message) {
      if (auto* with = as<PgQuery__CommonTableExpr>(message)) with_.insert(text_of(with->ctename));
      return true;
    });
  }

  bool relation(const PgQuery__RangeVar* range) const {
    if (range == nullptr) return false;
    return is_temporary(range) || (text_of(range->schemaname).empty() && hides(text_of(range->relname)));
  }
  bool relation(const std::vector<std::string>& names) const {
    return names.size() == 1 ? hides(names[0]) : in_schema(names);
  }
  static bool in_schema(const std::vector<std::string>& names) {
    return names.size() > 1 && names[0] == kTemporarySchema;
  }
  bool type(const PgQuery__TypeName* type) const {
    if (type == nullptr) return false;
    std::vector<std::string> names = names_of(type->n_names, type->names);
    if (type->pct_type && names.size() > 1) names.pop_back();  // table.column%TYPE
    return relation(names);
  }
  // In what a view reads, a function takes and gives, …
  bool anywhere(const Node* root, const PgQuery__RangeVar* made = nullptr) const {
    bool found = false;
    walk(root, [&](const Message* message) {
      auto* range = as<PgQuery__RangeVar>(message);
      auto* function = as<PgQuery__ObjectWithArgs>(message);
      found = found || (range != made && relation(range)) || type(as<PgQuery__TypeName>(message)) ||
              (function != nullptr && in_schema(names_of(function->n_objname, function->objname)));
      return !found;
    });
    return found || is_temporary(made);
  }
  // An object of COMMENT, DROP, OWNER TO, …
  bool object(PgQuery__ObjectType type, const Node* object) const {
    auto* list = as<PgQuery__List>(object);
    if (list == nullptr) return anywhere(object);
    std::vector<std::string> names = names_of(list->n_items, list->items);
    switch (type) {
      case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE:
      case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW:
      case PG_QUERY__OBJECT_TYPE__OBJECT_INDEX:
      case PG_QUERY__OBJECT_TYPE__OBJECT_SEQUENCE: return relation(names);
      case PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN:
      case PG_QUERY__OBJECT_TYPE__OBJECT_TABCONSTRAINT:
      case PG_QUERY__OBJECT_TYPE__OBJECT_TRIGGER:
      case PG_QUERY__OBJECT_TYPE__OBJECT_RULE:
      case PG_QUERY__OBJECT_TYPE__OBJECT_POLICY:
        if (!names.empty()) names.pop_back();
        return relation(names);
      case PG_QUERY__OBJECT_TYPE__OBJECT_DOMCONSTRAINT: return anywhere(list->items[0]);
      default: return in_schema(names);
    }
  }
  template <class IsOne>
  static bool all(size_t count, Node* const* nodes, IsOne is_one) {
    return count > 0 && std::all_of(nodes, nodes + count, is_one);
  }
  bool all_relations(size_t count, Node* const* nodes) const {
    return all(count, nodes, [this](const Node* node) {
      auto* vacuum = as<PgQuery__VacuumRelation>(node);
      return relation(vacuum != nullptr ? vacuum->relation : as<PgQuery__RangeVar>(node));
    });
  }

 private:
  bool hides(std::string_view name) const {
    return context_.temporary != nullptr && context_.temporary->contains(name) && !with_.contains(name);
  }
  const PlanContext& context_;
  std::set<std::string_view> with_;
};

// An ALTER TABLE that names a temporary one anywhere is of one, or PostgreSQL refuses it.
bool alters(const Names& names, const PgQuery__AlterTableStmt* alter) {
  bool found = names.relation(alter->relation);
  for (const Node* node : each(alter->n_cmds, alter->cmds))
    walk(node, [&](const Message* message) {
      found = found || names.relation(as<PgQuery__RangeVar>(message));
      return !found;
    });
  return found;
}

// New objects: their name is in pg_temp, or they are made of what is.
bool makes(const Names& names, const Node* root) {
  auto qualified = [](size_t count, Node* const* parts) { return Names::in_schema(names_of(count, parts)); };
  if (auto* view = as<PgQuery__ViewStmt>(root)) return names.anywhere(root, view->view);
  if (auto* create = as<PgQuery__CreateTableAsStmt>(root))
    return create->objtype == PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW && names.anywhere(root, create->into->rel);
  if (auto* create = as<PgQuery__CompositeTypeStmt>(root)) return names.anywhere(root, create->typevar);
  if (auto* create = as<PgQuery__CreateFunctionStmt>(root))
    return qualified(create->n_funcname, create->funcname) || names.anywhere(root);
  if (auto* create = as<PgQuery__CreateDomainStmt>(root))
    return qualified(create->n_domainname, create->domainname) || names.anywhere(root);
  if (auto* alter = as<PgQuery__AlterDomainStmt>(root)) return qualified(alter->n_type_name, alter->type_name);
  if (auto* create = as<PgQuery__CreateEnumStmt>(root)) return qualified(create->n_type_name, create->type_name);
  if (auto* alter = as<PgQuery__AlterEnumStmt>(root)) return qualified(alter->n_type_name, alter->type_name);
  if (auto* create = as<PgQuery__CreateRangeStmt>(root)) return qualified(create->n_type_name, create->type_name);
  if (auto* create = as<PgQuery__DefineStmt>(root))
    return qualified(create->n_defnames, create->defnames) || names.anywhere(root);
  if (auto* index = as<PgQuery__IndexStmt>(root)) return names.relation(index->relation);
  if (auto* trigger = as<PgQuery__CreateTrigStmt>(root)) return names.relation(trigger->relation);
  if (auto* rule = as<PgQuery__RuleStmt>(root)) return names.relation(rule->relation);
  if (auto* policy = as<PgQuery__CreatePolicyStmt>(root)) return names.relation(policy->table);
  if (auto* policy = as<PgQuery__AlterPolicyStmt>(root)) return names.relation(policy->table);
  if (auto* create = as<PgQuery__CreateStatsStmt>(root))
    return qualified(create->n_defnames, create->defnames) ||
           names.all_relations(create->n_relations, create->relations);
  return as<PgQuery__CreateCastStmt>(root) != nullptr && names.anywhere(root);
}

bool changes(const Names& names, const Node* root) {
  if (auto* alter = as<PgQuery__AlterTableStmt>(root)) return alters(names, alter);
  if (auto* alter = as<PgQuery__AlterSeqStmt>(root)) return names.relation(alter->sequence);
  if (auto* rename = as<PgQuery__RenameStmt>(root))
    return names.relation(rename->relation) || names.object(rename->rename_type, rename->object);
  if (auto* alter = as<PgQuery__AlterObjectSchemaStmt>(root))
    return names.relation(alter->relation) || names.object(alter->object_type, alter->object);
  if (auto* alter = as<PgQuery__AlterOwnerStmt>(root))
    return names.relation(alter->relation) || names.object(alter->object_type, alter->object);
  if (auto* comment = as<PgQuery__CommentStmt>(root)) return names.object(comment->objtype, comment->object);
  if (auto* alter = as<PgQuery__AlterFunctionStmt>(root)) return names.anywhere(root) && alter->func != nullptr;
  if (auto* drop = as<PgQuery__DropStmt>(root))
    return Names::all(drop->n_objects, drop->objects,
                      [&](const Node* node) { return names.object(drop->remove_type, node); });
  if (auto* grant = as<PgQuery__GrantStmt>(root))
    return Names::all(grant->n_objects, grant->objects,
                      [&](const Node* node) { return names.object(grant->objtype, node); });
  if (auto* vacuum = as<PgQuery__VacuumStmt>(root)) return names.all_relations(vacuum->n_rels, vacuum->rels);
  if (auto* lock = as<PgQuery__LockStmt>(root)) return names.all_relations(lock->n_relations, lock->relations);
  if (auto* truncate = as<PgQuery__TruncateStmt>(root))
    return names.all_relations(truncate->n_relations, truncate->relations);
  if (auto* cluster = as<PgQuery__ClusterStmt>(root)) return names.relation(cluster->relation);
  if (auto* reindex = as<PgQuery__ReindexStmt>(root)) return names.relation(reindex->relation);
  return false;
}

}  // namespace

static bool of_large_object(const Node* root) {
  PgQuery__ObjectType type = PG_QUERY__OBJECT_TYPE__OBJECT_TABLE;
  if (auto* grant = as<PgQuery__GrantStmt>(root)) type = grant->objtype;
  if (auto* comment = as<PgQuery__CommentStmt>(root)) type = comment->objtype;
  if (auto* alter = as<PgQuery__AlterOwnerStmt>(root)) type = alter->object_type;
  return type == PG_QUERY__OBJECT_TYPE__OBJECT_LARGEOBJECT;
}

Plan refuse_temporary_view() {
  return unsupported("a temporary view over sharded tables",
                     "The session's own server has none of their rows: make a view that is not temporary.");
}

std::optional<Plan> plan_temporary(const Node* root, const PlanContext& context) {
  if (of_large_object(root)) {
    Plan plan = temporary(construct_name(root));
    plan.effects.pins = plan.effects.not_preparable = false;
    return plan;
  }
  const Names names(root, context);
  if (!changes(names, root) && !makes(names, root)) return std::nullopt;
  auto* view = as<PgQuery__ViewStmt>(root);
  if (view != nullptr && reads_shards(view->query, context)) return refuse_temporary_view();
  return temporary(construct_name(root));
}

bool likes_temporary(const PgQuery__CreateStmt* create, const PlanContext& context) {
  const Names names(nullptr, context);
  return std::any_of(create->table_elts, create->table_elts + create->n_table_elts, [&](const Node* node) {
    auto* like = as<PgQuery__TableLikeClause>(node);
    return like != nullptr && names.relation(like->relation);
  });
}

}  // namespace pgmosaic::plan
