// CREATE and ALTER SEQUENCE. A sequence counts on the home. The other groups have one of the same name, so that views,
// functions and defaults that name it can be made there; it is sealed (Ddl::seals_sequences): nextval() there is an
// error.
#include "plan/planning.h"
#include "sql/deparse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

Plan sequence_ddl(std::string tag, std::string_view sql) {
  Plan plan = everywhere(std::move(tag), sql);
  plan.ddl->seals_sequences = true;
  plan.ddl->changes_catalog = true;  // who owns it decides which column it fills
  return plan;
}

// Of the options only who owns it matters to the sealed ones; its bounds would not go with where those stand.
Plan plan_alter_sequence(std::string_view sql, const PgQuery__AlterSeqStmt* alter) {
  Arena arena;
  std::vector<Node*> kept;
  for (Node* node : each(alter->n_options, alter->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    if (option != nullptr && text_of(option->defname) == "owned_by") kept.push_back(node);
  }
  Plan plan = sequence_ddl("ALTER SEQUENCE", sql);
  if (kept.size() == alter->n_options) return plan;
  plan.ddl->home_instead = {std::string(sql)};
  plan.ddl->everywhere[0].clear();
  if (kept.empty()) return plan;
  auto* others = arena.shallow(alter);
  others->n_options = kept.size();
  others->options = arena.list(kept);
  auto text = deparse_statement(arena.node(others));
  if (!text) return unsupported(text.error());
  plan.ddl->everywhere[0] = std::move(*text);
  return plan;
}

}  // namespace

std::optional<Plan> plan_sequence(std::string_view sql, const Node* root) {
  if (auto* create = as<PgQuery__CreateSeqStmt>(root)) {
    if (is_temporary(create->sequence)) return temporary("CREATE SEQUENCE");
    return sequence_ddl("CREATE SEQUENCE", sql);
  }
  if (auto* alter = as<PgQuery__AlterSeqStmt>(root)) return plan_alter_sequence(sql, alter);
  return std::nullopt;
}

// RESTART IDENTITY is the home's: the sequences of the other groups stay sealed.
Plan plan_restart(std::string_view sql, const PgQuery__TruncateStmt* truncate) {
  Arena arena;
  auto* others = arena.shallow(truncate);
  others->restart_seqs = 0;
  auto text = deparse_statement(arena.node(others));
  if (!text) return unsupported(text.error());
  Plan plan = everywhere("TRUNCATE TABLE", *text);
  plan.ddl->changes_catalog = false;
  plan.ddl->home_instead = {std::string(sql)};
  plan.effects.draws.sets = true;
  return plan;
}

// ALTER TABLE … ALTER COLUMN … SET GENERATED …: likewise, for identity columns.
Status strip_identity_options(Plan& plan, const PgQuery__AlterTableStmt* alter) {
  Arena arena;
  std::vector<Node*> commands;
  bool changed = false;
  for (Node* node : each(alter->n_cmds, alter->cmds)) {
    auto* command = as<PgQuery__AlterTableCmd>(node);
    auto* options = command == nullptr || command->subtype != PG_QUERY__ALTER_TABLE_TYPE__AT_SetIdentity
                        ? nullptr
                        : as<PgQuery__List>(command->def);
    if (options == nullptr) {
      commands.push_back(node);
      continue;
    }
    changed = true;
    std::vector<Node*> kept;
    for (Node* option : each(options->n_items, options->items))
      if (auto* element = as<PgQuery__DefElem>(option); element != nullptr && text_of(element->defname) == "generated")
        kept.push_back(option);
    if (kept.empty()) continue;
    auto* list = arena.shallow(options);
    list->n_items = kept.size();
    list->items = arena.list(kept);
    auto* copy = arena.shallow(command);
    copy->def = arena.node(list);
    commands.push_back(arena.node(copy));
  }
  if (!changed) return {};
  if (plan.ddl->home_instead.empty()) plan.ddl->home_instead = {plan.ddl->everywhere[0]};
  plan.ddl->everywhere[0].clear();
  if (commands.empty()) return {};
  auto* others = arena.shallow(alter);
  others->n_cmds = commands.size();
  others->cmds = arena.list(commands);
  TRY_ASSIGN(plan.ddl->everywhere[0], deparse_statement(arena.node(others)));
  return {};
}

}  // namespace pgmosaic::plan
