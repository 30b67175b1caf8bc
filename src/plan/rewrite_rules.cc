#include "plan/rewrite_rules.h"

#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/function_traits.h"
#include "plan/kinds.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

namespace {

constexpr const char* kHint =
    "Use a trigger, or statements of their own; or keep the tables local: WITH (table_type = "
    "'local').";

// Which kinds of tables a name stands for, through views.
struct Reach {
  bool sharded = false, reference = false;
};

Reach reach_of(const catalog::Table* table, const catalog::Database& database) {
  Reach reach;
  if (table == nullptr) return reach;
  reach.sharded = table->kind == TableKind::sharded;
  reach.reference = table->kind == TableKind::reference;
  for (const auto& [schema, name] : table->depends_on) {
    const catalog::Table* read = database.find(schema, name);
    reach.sharded = reach.sharded || (read != nullptr && read->kind == TableKind::sharded);
    reach.reference = reach.reference || (read != nullptr && read->kind == TableKind::reference);
  }
  return reach;
}

std::string quoted(const PgQuery__RangeVar* range) { return "\"" + std::string(text_of(range->relname)) + "\""; }

// The table that an action writes; null: it only reads.
const PgQuery__RangeVar* written(const Message* action) {
  if (auto* insert = as<PgQuery__InsertStmt>(action)) return insert->relation;
  if (auto* update = as<PgQuery__UpdateStmt>(action)) return update->relation;
  if (auto* remove = as<PgQuery__DeleteStmt>(action)) return remove->relation;
  return nullptr;
}

Status check_table(const PgQuery__RuleStmt* rule, const PlanContext& context) {
  const Reach reach = reach_of(lookup(context, rule->relation), *context.database);
  if (rule->event == PG_QUERY__CMD_TYPE__CMD_SELECT) {  // it makes a table a view
    const catalog::Table* table = lookup(context, rule->relation);
    const bool spread = table != nullptr && (table->kind == TableKind::sharded || table->kind == TableKind::reference);
    return spread ? Status(refused(
                        "a rule that makes the sharded or reference table " + quoted(rule->relation) + " a view",
                        "DROP TABLE, then CREATE VIEW."))
                  : Status();
  }
  if (reach.sharded || reach.reference)
    return refused("a rule on " + quoted(rule->relation) + ", which is or reads a sharded or reference table", kHint);
  return {};
}

Status check_actions(const PgQuery__RuleStmt* rule, const PlanContext& context) {
  Status status;
  walk(reinterpret_cast<const Message*>(rule), [&](const Message* message) {
    const PgQuery__RangeVar* target = written(message);
    if (target != nullptr && reach_of(lookup(context, target), *context.database).reference && status.ok())
      status = refused("a rule that writes to " + quoted(target) + ", which is or reads a reference table", kHint);
    auto* range = as<PgQuery__RangeVar>(message);
    if (range == nullptr || range == rule->relation || !status.ok()) return status.ok();
    if (find_virtual(range))
      status = refused("a rule over pgmosaic's own relations", "Query them directly.");
    else if (reach_of(lookup(context, range), *context.database).sharded)
      status = refused("a rule whose actions touch " + quoted(range) + ", which is or reads a sharded table", kHint);
    return status.ok();
  });
  return status;
}

Status check_rule(const PgQuery__RuleStmt* rule, const PlanContext& context) {
  TRY(check_table(rule, context));
  if (rule->event == PG_QUERY__CMD_TYPE__CMD_SELECT) return {};
  return check_actions(rule, context);
}

void note_effects(const PgQuery__RuleStmt* rule, catalog::Oid table, const catalog::Database& database,
                  RuleFacts& facts) {
  walk(reinterpret_cast<const Message*>(rule), [&](const Message* message) {
    if (as<PgQuery__NotifyStmt>(message) != nullptr) facts.notifying.insert(table);
    if (auto* call = as<PgQuery__FuncCall>(message)) {
      const FunctionTraits traits = function_traits(call, &database);
      if (traits.not_preparable || traits.pins) facts.notifying.insert(table);
      if (traits.taints || traits.pins || traits.sets_config) facts.tainting.insert(table);
    }
    return true;
  });
}

}  // namespace

RuleFacts read_rules(const std::vector<RuleText>& rules, const catalog::Database& database) {
  RuleFacts facts;
  PlanContext context;
  context.database = &database;
  for (const RuleText& text : rules) {
    auto tree = ParseTree::parse(text.definition);
    auto* rule = tree && tree->statement_count() == 1 ? as<PgQuery__RuleStmt>(tree->statement()) : nullptr;
    if (rule == nullptr) {  // of a newer PostgreSQL
      facts.misplaced.push_back(refused("a rule that cannot be read: " + text.definition, kHint));
      continue;
    }
    if (auto status = check_rule(rule, context); !status.ok()) facts.misplaced.push_back(std::move(status.error()));
    note_effects(rule, text.table, database, facts);
  }
  return facts;
}

Plan plan_rule(std::string_view sql, const PgQuery__RuleStmt* rule, const PlanContext& context) {
  if (auto status = check_rule(rule, context); !status.ok()) return unsupported(std::move(status.error()));
  Plan plan = everywhere("CREATE RULE", sql);
  plan.ddl->unknown_relation = lookup(context, rule->relation) == nullptr;
  return plan;
}

}  // namespace pgmosaic::plan
