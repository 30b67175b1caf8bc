// CREATE TABLE in our dialect: what each group runs, and which kind of table it makes.
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/key_notices.h"
#include "plan/partitions.h"
#include "plan/planning.h"
#include "plan/types.h"
#include "sql/deparse.h"
#include "sql/dialect.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

namespace {

class CreateTablePlanner {
 public:
  CreateTablePlanner(const CreateTableText& text, const PgQuery__CreateStmt* create, const PlanContext& context)
      : text_(text), create_(create), context_(context) {}

  Result<Plan> run();

 private:
  Status choose_kind();
  void choose_key();
  bool names_all_columns() const;
  Status check_key_types();
  Result<std::string> expressions() const;
  Status check_elements();
  Status check_one_primary_key();
  void note_primary_key(const PgQuery__Constraint* constraint, std::string_view column);
  bool makes_sequences() const;
  const PgQuery__ColumnDef* column(std::string_view name) const;
  Error misuse(std::string message, std::string hint) const {
    return make_error("42601", std::move(message), std::move(hint));
  }

  const CreateTableText& text_;
  const PgQuery__CreateStmt* create_;
  const PlanContext& context_;
  Result<Plan> with_partitions(Plan plan) const;

  TableUnderDefinition table_;
  bool by_partition_ = false;  // its shards are the partitions that the user declares
};

const PgQuery__ColumnDef* CreateTablePlanner::column(std::string_view name) const {
  for (const Node* node : each(create_->n_table_elts, create_->table_elts)) {
    auto* definition = as<PgQuery__ColumnDef>(node);
    if (definition != nullptr && text_of(definition->colname) == name) return definition;
  }
  return nullptr;
}

bool CreateTablePlanner::makes_sequences() const {
  return std::any_of(create_->table_elts, create_->table_elts + create_->n_table_elts, [](const Node* node) {
    auto* definition = as<PgQuery__ColumnDef>(node);
    return as<PgQuery__TableLikeClause>(node) != nullptr || (definition != nullptr && makes_sequence(definition));
  });
}

// PostgreSQL has none in partition keys.
static bool is_generated(const PgQuery__ColumnDef* column) {
  return std::any_of(column->constraints, column->constraints + column->n_constraints, [](const Node* node) {
    auto* constraint = as<PgQuery__Constraint>(node);
    return constraint != nullptr && constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_GENERATED;
  });
}

// The first column of the primary key, without one the first column that can be hashed.
void CreateTablePlanner::choose_key() {
  for (const Node* node : each(create_->n_table_elts, create_->table_elts)) {
    auto* definition = as<PgQuery__ColumnDef>(node);
    auto* constraint = as<PgQuery__Constraint>(node);
    if (constraint != nullptr && constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY && constraint->n_keys > 0)
      table_.key_columns = {std::string(string_value(constraint->keys[0]))};
    for (size_t i = 0; definition != nullptr && i < definition->n_constraints; ++i) {
      auto* inline_constraint = as<PgQuery__Constraint>(definition->constraints[i]);
      if (inline_constraint != nullptr && inline_constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY)
        table_.key_columns = {std::string(text_of(definition->colname))};
    }
  }
  for (const Node* node : each(create_->n_table_elts, create_->table_elts)) {
    auto* definition = as<PgQuery__ColumnDef>(node);
    catalog::Oid type = 0;
    if (table_.key_columns.empty() && definition != nullptr && !is_generated(definition) &&
        classify_key_type(definition->type_name, type) == KeyType::hashable)
      table_.key_columns = {std::string(text_of(definition->colname))};
  }
}

Status CreateTablePlanner::choose_kind() {
  std::string type = text_.table_type.value_or("");
  bool keyed = text_.keyed();
  // PARTITION BY HASH is PostgreSQL's own where the table is not to be sharded.
  const bool own = !text_.by_hash.empty() &&
                   (type == "local" || type == "reference" || (type.empty() && !context_.partitions_sharded));
  if (own) {
    if (type == "reference") table_.kind = TableKind::reference;
    return {};
  }
  if (text_.by_hash_error) return *text_.by_hash_error;
  if (keyed && !type.empty() && type != "sharded")
    return misuse("a " + type + " table has no distribution key", "Leave out SHARD BY, or table_type.");
  if (text_.shard_by_bounds && !type.empty() && type != "sharded")
    return misuse("a " + type + " table has no shards", "Write PARTITION BY, or leave out table_type.");
  if (text_.partitioned && !keyed) {
    const bool spread = type == "sharded" || text_.shard_by_bounds || (type.empty() && context_.partitions_sharded);
    if (spread && (text_.shard_count || text_.colocate_with))
      return misuse(std::string(text_.shard_count ? "shard_count" : "colocate_with") + " is for tables sharded by hash",
                    "The shards of this table are its partitions.");
    table_.by_partition = by_partition_ = spread;
    if (spread) table_.kind = TableKind::sharded;
    if (spread) return {};
  }
  bool sharded = keyed || type == "sharded" || (type.empty() && context_.default_sharded && !text_.partitioned);
  if (!sharded && (text_.shard_count || text_.colocate_with))
    return misuse(std::string(text_.shard_count ? "shard_count" : "colocate_with") + " is for sharded tables",
                  type == "reference" ? "Every group has all rows of a reference table: leave it out."
                                      : "Add SHARD BY HASH (column), or leave it out.");
  if (type == "reference") table_.kind = TableKind::reference;
  if (!sharded) return {};
  table_.key_columns = text_.key_columns;
  table_.by_expression = !text_.key_expressions.empty();
  if (!keyed) choose_key();
  if (table_.key_columns.empty() && !table_.by_expression) {
    if (type.empty()) return {};  // only by default: a table without a hashable column stays local
    return misuse("the table has no column that can be its distribution key", "Name one with SHARD BY HASH (column).");
  }
  table_.kind = TableKind::sharded;
  table_.shard_count = text_.shard_count.value_or(context_.default_shard_count);
  table_.colocate_with = text_.colocate_with.value_or("");
  return {};
}

// None comes from elsewhere: INHERITS, OF, LIKE.
bool CreateTablePlanner::names_all_columns() const {
  const auto elements = each(create_->n_table_elts, create_->table_elts);
  return create_->n_inh_relations == 0 && create_->of_typename == nullptr &&
         std::none_of(elements.begin(), elements.end(),
                      [](const Node* node) { return as<PgQuery__TableLikeClause>(node) != nullptr; });
}

Status CreateTablePlanner::check_key_types() {
  for (const std::string& key : table_.key_columns) {
    if (std::count(table_.key_columns.begin(), table_.key_columns.end(), key) > 1)
      return misuse("column \"" + key + "\" appears twice in the distribution key", "Name each column once.");
    const PgQuery__ColumnDef* definition = column(key);
    if (definition == nullptr && names_all_columns())
      return make_error("42703", "column \"" + key + "\" named in partition key does not exist",
                        "SHARD BY names columns of the table.");
    catalog::Oid type = 0;
    KeyType known = definition == nullptr ? KeyType::unknown : classify_key_type(definition->type_name, type);
    // What the text does not tell (domains, %TYPE, LIKE, collations) the executor asks the home, once it has the table.
    if (known == KeyType::refused) return key_type_refused(key);
    table_.key_types.push_back(type);
  }
  return {};
}

// Whether text || column is the same on every day and server, which PostgreSQL only knows of column::text.
static bool has_immutable_text(catalog::Oid type) {
  return is_integer(type) || type == oid::numeric || type == oid::uuid || type == oid::boolean;
}

// The key for PARTITION BY HASH (…). `a || id` becomes `a || id::text`.
Result<std::string> CreateTablePlanner::expressions() const {
  if (text_.partitioned)
    return make_error("0A000", "SHARD BY an expression together with PARTITION BY is not supported",
                      "Shard by columns.");
  auto tree = ParseTree::parse("SELECT " + text_.key_expressions);
  auto* select = tree ? as<PgQuery__SelectStmt>(tree->statement()) : nullptr;
  if (select == nullptr || select->n_from_clause > 0)
    return make_error("42601", "syntax error in the distribution key", "Write SHARD BY HASH (expression, ...).");
  std::string list;
  for (const Node* node : each(select->n_target_list, select->target_list)) {
    auto* target = as<PgQuery__ResTarget>(node);
    if (target == nullptr) continue;
    Arena arena;
    bool within = false;  // an operand of ||
    const Node* cast = arena.copy(target->val, [&](const Node* part) -> Node* {
      auto* expr = as<PgQuery__AExpr>(part);
      if (expr != nullptr) within = last_name(expr->n_name, expr->name) == "||";
      auto* reference = as<PgQuery__ColumnRef>(part);
      catalog::Oid type = 0;
      const PgQuery__ColumnDef* definition =
          reference == nullptr ? nullptr : column(string_value(reference->fields[reference->n_fields - 1]));
      if (!within || definition == nullptr || classify_key_type(definition->type_name, type) == KeyType::refused ||
          !has_immutable_text(type))
        return nullptr;
      return arena.cast(const_cast<Node*>(part), {"pg_catalog", "text"});
    });
    TRY_ASSIGN(const std::string text, deparse_expression(cast));
    list += (list.empty() ? "" : ", ") + (as<PgQuery__ColumnRef>(target->val) != nullptr ? text : "(" + text + ")");
  }
  return list;
}

// As PostgreSQL says it, before we look at which columns a key has.
Status CreateTablePlanner::check_one_primary_key() {
  int count = 0;
  auto look = [&](const Node* node) -> Status {
    auto* constraint = as<PgQuery__Constraint>(node);
    if (constraint == nullptr || constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY || ++count < 2) return {};
    Error error = make_error("42P16", "multiple primary keys for table \"" + table_.name + "\" are not allowed");
    const std::string sql = text_.plain_sql();
    error.position = characters(std::string_view(sql).substr(0, static_cast<std::size_t>(constraint->location))) + 1;
    return error;
  };
  for (const Node* node : each(create_->n_table_elts, create_->table_elts)) {
    TRY(look(node));
    auto* definition = as<PgQuery__ColumnDef>(node);
    if (definition == nullptr) continue;
    for (const Node* constraint : each(definition->n_constraints, definition->constraints)) TRY(look(constraint));
  }
  return {};
}

// What a foreign key to the table itself means where it lists no columns.
void CreateTablePlanner::note_primary_key(const PgQuery__Constraint* constraint, std::string_view column) {
  if (constraint == nullptr || constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY) return;
  table_.primary_key = names_of(constraint->n_keys, constraint->keys);
  if (table_.primary_key.empty()) table_.primary_key.emplace_back(column);
}

Status CreateTablePlanner::check_elements() {
  bool spread = table_.kind != TableKind::local;
  for (const Node* node : each(create_->n_inh_relations, create_->inh_relations)) {
    auto* parent = as<PgQuery__RangeVar>(node);
    for (const std::string& schema : context_.search_path) {
      const catalog::Table* table =
          parent == nullptr
              ? nullptr
              : context_.database->find(
                    *text_of(parent->schemaname).data() != '\0' ? std::string(text_of(parent->schemaname)) : schema,
                    text_of(parent->relname));
      if (table != nullptr && table->kind != TableKind::local)
        return make_error("0A000", "INHERITS from a sharded or reference table is not supported",
                          "Use CREATE TABLE ... (LIKE ...).");
    }
  }
  if (spread && create_->n_inh_relations > 0)
    return make_error("0A000", "INHERITS for sharded and reference tables is not supported",
                      "Repeat the columns, or use LIKE.");
  TRY(check_one_primary_key());
  for (const Node* node : each(create_->n_table_elts, create_->table_elts)) {
    note_primary_key(as<PgQuery__Constraint>(node), "");
    auto* column = as<PgQuery__ColumnDef>(node);
    for (size_t i = 0; column != nullptr && i < column->n_constraints; ++i)
      note_primary_key(as<PgQuery__Constraint>(column->constraints[i]), text_of(column->colname));
  }
  for (const Node* node : each(create_->n_table_elts, create_->table_elts)) {
    if (auto* definition = as<PgQuery__ColumnDef>(node)) TRY(check_column(table_, definition, context_));
    if (auto* constraint = as<PgQuery__Constraint>(node)) TRY(check_constraint(table_, constraint, "", context_));
    auto* like = as<PgQuery__TableLikeClause>(node);
    if (like == nullptr || !spread) continue;
    constexpr uint32_t kDefaults = 1u << 3, kIdentity = 1u << 5;
    const catalog::Table* source = lookup(context_, like->relation);
    bool same_kind = source != nullptr && source->kind == table_.kind;
    if ((like->options & (kDefaults | kIdentity)) && !same_kind)
      return make_error("0A000", "LIKE ... INCLUDING DEFAULTS or IDENTITY from a table of another kind",
                        "Its defaults may use a sequence: leave them out of INCLUDING.");
  }
  for (const Node* node : each(create_->n_constraints, create_->constraints))
    if (auto* constraint = as<PgQuery__Constraint>(node)) TRY(check_constraint(table_, constraint, "", context_));
  return {};
}

Result<Plan> CreateTablePlanner::run() {
  const PgQuery__RangeVar* relation = create_->relation;
  table_.schema = text_of(relation->schemaname);
  table_.name = text_of(relation->relname);
  if (reserved_schema(table_.schema))
    return make_error("42939", "schema \"" + table_.schema + "\" is reserved", "Use another schema.");
  if (text_of(relation->relpersistence) == "t" || table_.schema == "pg_temp") {
    if (text_.has_clause())
      return make_error("0A000", "a temporary table cannot be sharded or a reference table",
                        "Leave out SHARD BY and table_type; it lives in the session's home group.");
    return temporary("CREATE TABLE");
  }
  TRY(choose_kind());
  if (table_.kind == TableKind::sharded) TRY(check_key_types());
  TRY(check_elements());

  Plan plan;
  plan.kind = PlanKind::ddl;
  plan.command = "CREATE TABLE";
  plan.returns_rows = false;
  plan.effects.writes = true;
  plan.target.kind = Target::Kind::everywhere;
  Ddl& ddl = plan.ddl.emplace();
  ddl.tag = "CREATE TABLE";
  ddl.seals_sequences = makes_sequences();
  if (table_.kind != TableKind::sharded) {
    ddl.everywhere = {text_.declared_sql()};
    ddl.new_table = Ddl::NewTable{table_.schema, table_.name, table_.kind};
    return with_partitions(std::move(plan));
  }
  std::string keys;
  for (const std::string& key : table_.key_columns) keys += (keys.empty() ? "" : ", ") + quote_identifier(key);
  if (table_.by_expression) {
    TRY_ASSIGN(keys, expressions());
  }
  if (!text_.method.empty())
    return make_error("0A000", "an access method for a sharded table is not supported", "Leave out USING.");
  if (by_partition_ || text_.partitioned) {
    ddl.everywhere = {text_.head + text_.tail};
  } else {
    ddl.everywhere = {text_.head + " PARTITION BY HASH (" + keys + ")" + text_.tail};
    ddl.home_instead = {text_.plain_sql()};  // as declared
  }
  Ddl::NewSharded& sharded = ddl.new_sharded.emplace();
  sharded.schema = table_.schema;
  sharded.table = table_.name;
  sharded.key_columns = table_.key_columns;
  sharded.shard_count = table_.shard_count;
  sharded.if_not_exists = create_->if_not_exists;
  sharded.unlogged = text_of(relation->relpersistence) == "u";
  sharded.storage = text_.storage;
  sharded.colocate_with = table_.colocate_with.empty() ? table_.must_colocate_with : table_.colocate_with;
  sharded.by_partition = by_partition_;
  sharded.by_expression = table_.by_expression;
  sharded.in_partitions = !by_partition_ && text_.partitioned;
  if (!table_.by_expression) ddl.notices = key_notices(create_, table_.key_columns);
  return with_partitions(std::move(plan));
}

// The partitions that are listed in the statement follow it.
Result<Plan> CreateTablePlanner::with_partitions(Plan plan) const {
  if (text_.partitions.empty()) return plan;
  if (create_->if_not_exists)
    return make_error("0A000", "IF NOT EXISTS together with a list of partitions is not supported",
                      "Create the partitions with statements of their own.");
  Ddl& ddl = *plan.ddl;
  const bool sharded = table_.kind == TableKind::sharded;
  for (const CreateTableText::Partition& partition : text_.partitions) {
    TRY_ASSIGN(const Plan one, plan_listed_partition(partition, create_->relation,
                                                     sharded ? table_.key_columns : std::vector<std::string>(),
                                                     sharded ? text_.storage : ""));
    ddl.home_instead.resize(ddl.everywhere.size());
    ddl.everywhere.push_back(one.ddl->everywhere[0]);
    ddl.home_instead.push_back(one.ddl->home_instead.empty() ? "" : one.ddl->home_instead[0]);
    if (sharded) ddl.new_partitions.push_back(one.ddl->new_partitions[0]);
  }
  return plan;
}

// CREATE TABLE … PARTITION OF: the partition is where its table is.
Plan plan_partition(std::string_view sql, const PgQuery__CreateStmt* create, const PlanContext& context) {
  const catalog::Table* table = lookup(context, as<PgQuery__RangeVar>(create->inh_relations[0]));
  auto plan = plan_new_partition(sql, create, table, context);
  return plan.ok() ? std::move(*plan) : unsupported(plan.error());
}

}  // namespace

Plan plan_create_table(std::string_view sql, const PlanContext& context) {
  auto text = read_create_table(sql);
  if (!text) return unsupported(text.error());
  std::string plain = *text ? (*text)->plain_sql() : std::string(sql);
  auto tree = ParseTree::parse(plain);
  if (!tree) {
    if (*text && (*text)->has_clause()) {
      Error error = tree.error();
      error.position = 0;  // the text was changed
      return unsupported(error);
    }
    Plan plan;  // PostgreSQL says what is wrong
    plan.target.kind = Target::Kind::any;
    return plan;
  }
  if (tree->statement_count() != 1)
    return unsupported("several statements where one is expected", "Send them one by one.");
  auto* create = as<PgQuery__CreateStmt>(tree->statement());
  auto* from_query = as<PgQuery__CreateTableAsStmt>(tree->statement());
  if (from_query != nullptr && *text) {
    if (!(*text)->by_hash.empty()) return Plan();  // PostgreSQL's syntax error
    if (auto error = touching_shards(tree->statement(), context.database)) return unsupported(std::move(*error));
    if (auto plan = plan_asking(plain, tree->statement(), context)) return std::move(*plan);
    Plan plan = plan_create_as(sql, **text, from_query, context);
    refuse_session_views(plan, tree->statement());
    note_draws(plan, tree->statement(), context);
    return plan;
  }
  if (create == nullptr) {
    if (auto plan = plan_asking(plain, tree->statement(), context)) return std::move(*plan);
    Plan plan = plan_tree(sql, tree->statement(), context);
    refuse_session_views(plan, tree->statement());
    note_draws(plan, tree->statement(), context);
    return plan;
  }
  if (is_temporary(create->relation) && (!*text || !(*text)->has_clause())) return temporary("CREATE TABLE");
  if (*text && !is_temporary(create->relation) && likes_temporary(create, context))
    return plan_create_like(**text, create);
  if (create->partbound != nullptr) return plan_partition(sql, create, context);
  if (!*text && create->of_typename != nullptr && text_of(create->relation->relpersistence) != "t") {
    Plan plan = everywhere("CREATE TABLE", sql);  // CREATE TABLE … OF type: local
    plan.ddl->new_table = Ddl::NewTable{std::string(text_of(create->relation->schemaname)),
                                        std::string(text_of(create->relation->relname)), TableKind::local};
    return plan;
  }
  if (!*text) return unsupported("this form of CREATE TABLE", "List the columns in parentheses.");
  if (auto error = touching_shards(tree->statement(), context.database)) return unsupported(std::move(*error));
  auto plan = CreateTablePlanner(**text, create, context).run();
  if (!plan) return unsupported(plan.error());
  refuse_session_views(*plan, tree->statement());
  return std::move(*plan);
}

}  // namespace pgmosaic::plan
