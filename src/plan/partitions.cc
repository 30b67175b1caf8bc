// Partitions that users declare: CREATE TABLE … PARTITION OF, ATTACH and DETACH PARTITION.
//
// Every group has every partition, so that all other statements about them run everywhere as they are. The rows of one
// are on the group where it was placed; elsewhere it refuses rows (docs/design/005).
#include "plan/partitions.h"

#include <algorithm>

#include "plan/planning.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

namespace {

bool is_single(const catalog::Table& table) { return table.colocation >= catalog::kFirstSingleColocation; }

std::vector<std::string> key_names(const catalog::Table& table) {
  std::vector<std::string> names;
  for (int key : table.key_columns) names.push_back(table.columns[static_cast<std::size_t>(key)].name);
  return names;
}

// The shards that the cluster made can be replaced by hash partitions only.
Status check_replacement(const catalog::Table& table, const PgQuery__PartitionBoundSpec* bound) {
  if (bound != nullptr && text_of(bound->strategy) == "h") return {};
  if (table.partition_of != 0)
    return refused("partitions of \"" + table.name + "\", which is a partition spread by a hash",
                   "Create it with PARTITION BY for partitions of its own.");
  return make_error("42P16", "invalid bound specification for a hash partition",
                    "The table is sharded by hash: FOR VALUES WITH (MODULUS m, REMAINDER r), or create it with "
                    "PARTITION BY RANGE or LIST.");
}

// The text for groups of a partition that is spread by a hash: it is partitioned once more.
Result<std::string> spread_text(const PgQuery__CreateStmt* create, const std::vector<std::string>& keys) {
  Arena arena;
  auto* copy = arena.shallow(create);
  auto* spec = arena.make<PgQuery__PartitionSpec>();
  spec->strategy = arena.string("hash");
  std::vector<Node*> parameters;
  for (const std::string& key : keys) {
    auto* element = arena.make<PgQuery__PartitionElem>();
    element->name = arena.string(key);
    parameters.push_back(arena.node(element));
  }
  spec->n_part_params = parameters.size();
  spec->part_params = arena.list(parameters);
  copy->partspec = spec;
  copy->n_options = 0;  // storage is that of leaves
  return deparse_statement(arena.node(copy));
}

// "fillfactor = 70" of WITH (…).
Result<std::string> storage_of(const PgQuery__CreateStmt* create) {
  std::string storage;
  for (const Node* node : each(create->n_options, create->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option == nullptr) continue;
    std::string value;
    if (auto* number = as<PgQuery__Integer>(option->arg)) value = std::to_string(number->ival);
    if (auto* number = as<PgQuery__Float>(option->arg)) value = text_of(number->fval);
    if (auto* word = as<PgQuery__String>(option->arg)) value = text_of(word->sval);
    if (value.empty() && option->arg != nullptr)
      return refused("this storage parameter of a partition", "Set it with ALTER TABLE.");
    storage += (storage.empty() ? "" : ", ") + quote_identifier(text_of(option->defname)) +
               (value.empty() ? "" : " = " + value);
  }
  return storage;
}

Status check_definition(const PgQuery__CreateStmt* create, const catalog::Table* parent, const PlanContext& context) {
  TableUnderDefinition definition;
  definition.kind = parent == nullptr ? TableKind::local : parent->kind;
  definition.schema = text_of(create->relation->schemaname);
  definition.name = text_of(create->relation->relname);
  if (parent != nullptr) {
    definition.colocation = parent->colocation;
    definition.key_columns = key_names(*parent);
  }
  if (reserved_schema(definition.schema))
    return make_error("42939", "schema \"" + definition.schema + "\" is reserved", "Use another schema.");
  for (const Node* node : each(create->n_table_elts, create->table_elts)) {
    if (auto* column = as<PgQuery__ColumnDef>(node)) TRY(check_column(definition, column, context));
    if (auto* constraint = as<PgQuery__Constraint>(node)) TRY(check_constraint(definition, constraint, "", context));
  }
  return {};
}

}  // namespace

bool spreads_partitions(const catalog::Table& table) {
  return table.kind == TableKind::sharded && table.partitioned && !is_single(table) && !table.key_columns.empty();
}

bool has_leaves(const catalog::Table& table) { return table.kind == TableKind::sharded && !table.shard_prefix.empty(); }

Result<Plan> plan_new_partition(std::string_view sql, const PgQuery__CreateStmt* create, const catalog::Table* parent,
                                const PlanContext& context) {
  TRY(check_definition(create, parent, context));
  Plan plan = everywhere("CREATE TABLE", sql);
  const std::string schema(text_of(create->relation->schemaname)), name(text_of(create->relation->relname));
  if (parent == nullptr || parent->kind != TableKind::sharded) {
    plan.ddl->new_table = Ddl::NewTable{schema, name, parent == nullptr ? TableKind::local : parent->kind};
    return plan;
  }
  const bool replaces = has_leaves(*parent);
  if (replaces) TRY(check_replacement(*parent, create->partbound));
  if (replaces) plan.ddl->replaced_leaves = Ddl::ReplacedLeaves{parent->oid};
  const catalog::Colocation* shards = context.database->colocation(parent->colocation);
  Ddl::NewPartition partition{schema, name, text_of(create->relation->relpersistence) == "u", "", false, false, ""};
  if (!replaces && !is_single(*parent) && (shards == nullptr || !shards->by_partition) && create->partspec == nullptr) {
    TRY_ASSIGN(partition.storage, storage_of(create));
    plan.ddl->home_instead = {std::string(sql)};
    TRY_ASSIGN(plan.ddl->everywhere[0], spread_text(create, key_names(*parent)));
  }
  plan.ddl->new_partitions.push_back(std::move(partition));
  return plan;
}

Result<Plan> plan_listed_partition(const CreateTableText::Partition& partition, const PgQuery__RangeVar* parent,
                                   const std::vector<std::string>& spread_by, const std::string& storage) {
  const std::string schema(text_of(parent->schemaname));
  const std::string prefix = schema.empty() ? "" : quote_identifier(schema) + ".";
  const bool unlogged = text_of(parent->relpersistence) == "u";
  const std::string sql = std::string("CREATE ") + (unlogged ? "UNLOGGED " : "") + "TABLE " + prefix +
                          quote_identifier(partition.name) + " PARTITION OF " + prefix +
                          quote_identifier(text_of(parent->relname)) + " " + partition.bound +
                          (storage.empty() ? "" : " WITH (" + storage + ")");
  TRY_ASSIGN(auto tree, ParseTree::parse(sql));
  auto* create = as<PgQuery__CreateStmt>(tree.statement());
  if (create == nullptr || create->partbound == nullptr)
    return make_error("42601", "syntax error in the bound of partition \"" + partition.name + "\"",
                      "Write it as PostgreSQL's FOR VALUES has it.");
  Plan plan = everywhere("CREATE TABLE", sql);
  if (!spread_by.empty()) {
    plan.ddl->home_instead = {sql};
    TRY_ASSIGN(plan.ddl->everywhere[0], spread_text(create, spread_by));
  }
  plan.ddl->new_partitions.push_back(
      {schema, partition.name, unlogged, spread_by.empty() ? "" : storage, false, false, ""});
  return plan;
}

namespace {

// What may become a partition of a sharded table. True in `adopts`: a local table.
Status check_attached(const catalog::Table& table, const catalog::Table& other, bool replaces,
                      const PlanContext& context, bool& adopts) {
  const catalog::Colocation* shards = context.database->colocation(table.colocation);
  const bool placed = replaces || is_single(table) || (shards != nullptr && shards->by_partition);
  const catalog::Colocation* others = context.database->colocation(other.colocation);
  const bool scattered = other.kind == TableKind::sharded && others != nullptr && others->by_partition;
  if (placed && (other.kind == TableKind::local || scattered)) {
    adopts = true;
    return {};
  }
  const bool alike = other.kind == TableKind::sharded && (placed ? is_single(other) : !is_single(other));
  const bool together = is_single(table) || !placed ? other.colocation == table.colocation : true;
  if (alike && together && (placed || key_names(other) == key_names(table))) return {};
  if (placed)
    return refused("a partition that is not a table of one group", "Attach a local table, or one that was detached.");
  return refused("a partition that is not spread as its table is",
                 "Create it with CREATE TABLE ... PARTITION OF, or with the same SHARD BY HASH, and copy the rows.");
}

}  // namespace

static Status plan_attach(const catalog::Table* table, const PgQuery__AlterTableCmd* command,
                          const PlanContext& context, Ddl& ddl) {
  auto* partition = as<PgQuery__PartitionCmd>(command->def);
  if (partition == nullptr || table == nullptr) return {};
  const bool replaces = has_leaves(*table);
  if (replaces) TRY(check_replacement(*table, partition->bound));
  const catalog::Table* other = lookup(context, partition->name);
  if (other == nullptr) return {};  // PostgreSQL says so
  if (table->kind != TableKind::sharded) {
    if (other->kind != table->kind)
      return refused("a partition of another kind than its table",
                     "Make both local, or both reference tables: WITH (table_type = '...').");
    return {};
  }
  if (other->foreign)
    return refused("a foreign table as a partition of a sharded table",
                   "Leave the table local: WITH (table_type = 'local').");
  bool adopts = false;
  if (replaces) ddl.replaced_leaves = Ddl::ReplacedLeaves{table->oid};
  TRY(check_attached(*table, *other, replaces, context, adopts));
  if (adopts)
    ddl.new_partitions.push_back({other->schema, other->name, false, "", true, other->kind == TableKind::sharded,
                                  quote_identifier(table->schema) + "." + quote_identifier(table->name)});
  return {};
}

static Status plan_detach(const catalog::Table* table, const PgQuery__AlterTableStmt* alter,
                          const PgQuery__AlterTableCmd* command, Ddl& ddl) {
  auto* partition = as<PgQuery__PartitionCmd>(command->def);
  if (partition == nullptr || table == nullptr) return {};
  if (has_leaves(*table))
    return refused("the partitions of a sharded table are its shards",
                   "They are attached and detached by the cluster alone.");
  if (!partition->concurrent) return {};
  // The schema change gives way to others by itself: it is detached without CONCURRENTLY, in one transaction.
  Arena arena;
  auto* plain = arena.shallow(partition);
  plain->concurrent = false;
  auto* plain_command = arena.shallow(command);
  plain_command->def = arena.node(plain);
  auto* copy = arena.shallow(alter);
  copy->cmds = arena.list({arena.node(plain_command)});
  TRY_ASSIGN(ddl.everywhere[0], deparse_statement(arena.node(copy)));
  ddl.alone = "ALTER TABLE ... DETACH CONCURRENTLY";
  ddl.object = quote_identifier(table->schema) + "." + quote_identifier(table->name);
  return {};
}

Status change_partition(const catalog::Table* table, const PgQuery__AlterTableStmt* alter, const PlanContext& context,
                        Ddl& ddl) {
  for (const Node* node : each(alter->n_cmds, alter->cmds)) {
    auto* command = as<PgQuery__AlterTableCmd>(node);
    if (command == nullptr) continue;
    if (command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_AttachPartition && ddl.tag == "ALTER TABLE")
      TRY(plan_attach(table, command, context, ddl));
    if (command->subtype == PG_QUERY__ALTER_TABLE_TYPE__AT_DetachPartition)
      TRY(plan_detach(table, alter, command, ddl));
  }
  return {};
}

Status include_leaves(const catalog::Table* table, const PgQuery__AlterTableStmt* alter, std::string_view sql,
                      Ddl& ddl) {
  if (table == nullptr || !has_leaves(*table) || alter->relation->inh) return {};
  Arena arena;
  auto* copy = arena.shallow(alter);
  copy->relation = arena.shallow(alter->relation);
  copy->relation->inh = true;
  ddl.home_instead = {std::string(sql)};
  TRY_ASSIGN(ddl.everywhere[0], deparse_statement(arena.node(copy)));
  return {};
}

}  // namespace pgmosaic::plan
