// ALTER TABLE of what only tables with rows of their own have – storage parameters, persistence, access method, … –:
// on the groups, where a sharded table is partitioned, its leaves change.
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/kinds.h"
#include "plan/partitions.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

constexpr std::string_view kLeaf = "pgmosaic_leaf";

bool of_leaves(const PgQuery__AlterTableCmd* command) {
  switch (command->subtype) {
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetCompression:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ResetOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetRelOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ResetRelOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetLogged:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetUnLogged:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetAccessMethod:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetTableSpace:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ReplicaIdentity: return true;
    default: return false;
  }
}

// The parent has it as well, for leaves to come.
bool of_parent(const PgQuery__AlterTableCmd* command) {
  switch (command->subtype) {
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetCompression:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ResetOptions:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_SetTableSpace:
    case PG_QUERY__ALTER_TABLE_TYPE__AT_ReplicaIdentity: return true;
    default: return !of_leaves(command);
  }
}

Result<std::string> with_commands(const PgQuery__AlterTableStmt* alter, PgQuery__RangeVar* relation,
                                  const std::vector<Node*>& commands, Arena& arena) {
  auto* copy = arena.shallow(alter);
  copy->relation = relation;
  copy->missing_ok = 0;
  copy->n_cmds = commands.size();
  copy->cmds = arena.list(commands);
  return deparse_statement(arena.node(copy));
}

// " SET (fillfactor=70)"
Result<std::string> commands_text(const PgQuery__AlterTableStmt* alter, const std::vector<Node*>& commands,
                                  Arena& arena) {
  auto* leaf = arena.shallow(alter->relation);
  leaf->catalogname = leaf->schemaname = arena.string("");
  leaf->relname = arena.string(kLeaf);
  leaf->inh = 1;
  TRY_ASSIGN(const std::string text, with_commands(alter, leaf, commands, arena));
  const std::string before = "ALTER TABLE " + std::string(kLeaf);
  CHECK(text.starts_with(before));
  return text.substr(before.size());
}

}  // namespace

Status alter_leaves(const catalog::Table* table, const PgQuery__AlterTableStmt* alter, std::string_view sql, Ddl& ddl) {
  if (table == nullptr || !has_leaves(*table)) return {};
  std::vector<Node*> leaves, parent;
  for (size_t i = 0; i < alter->n_cmds; ++i) {
    auto* command = as<PgQuery__AlterTableCmd>(alter->cmds[i]);
    if (command == nullptr) continue;
    if (of_leaves(command)) leaves.push_back(alter->cmds[i]);
    if (of_parent(command)) parent.push_back(alter->cmds[i]);
    auto* identity = as<PgQuery__ReplicaIdentityStmt>(command->def);
    if (identity != nullptr && text_of(identity->identity_type) == "i")
      return refused("REPLICA IDENTITY USING INDEX of a sharded table",
                     "Each shard has an index of its own: use REPLICA IDENTITY FULL, or make it the primary key.");
  }
  if (leaves.empty()) return {};
  if (ddl.everywhere[0] != sql)
    return refused("storage and other changes of a sharded table in one ALTER TABLE", "Write two statements.");
  Arena arena;
  TRY_ASSIGN(const std::string commands, commands_text(alter, leaves, arena));
  const std::string name = quote_identifier(table->schema) + "." + quote_identifier(table->name);
  std::string text =
      "DO LANGUAGE plpgsql $pgmosaic$ DECLARE leaf record; BEGIN FOR leaf IN SELECT t.relid FROM "
      "pg_catalog.pg_partition_tree(" +
      quote_literal(name) +
      ") t WHERE t.isleaf LOOP EXECUTE pg_catalog.format('ALTER TABLE %s', leaf.relid) "
      "|| " +
      quote_literal(commands) + "; END LOOP; END $pgmosaic$";
  if (!parent.empty()) {
    auto* whole = arena.shallow(alter->relation);
    whole->inh = 1;
    TRY_ASSIGN(const std::string first, with_commands(alter, whole, parent, arena));
    text = first + "; " + text;
  }
  ddl.home_instead = {std::string(sql)};
  ddl.everywhere[0] = std::move(text);
  return {};
}

}  // namespace pgmosaic::plan
