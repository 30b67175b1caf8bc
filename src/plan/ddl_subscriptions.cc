// Subscriptions are the home's alone, and right for local tables. Most statements about them cannot run in a
// transaction: router/subscriptions.h runs these, and sees to it that no row is applied before it is known where it
// would go.
#include <algorithm>

#include "plan/ddl_checks.h"
#include "plan/kinds.h"
#include "plan/subscriptions.h"
#include "sql/deparse.h"
#include "sql/tokens.h"

namespace pgmosaic::plan {

using namespace sql;
using catalog::TableKind;

namespace {

const PgQuery__DefElem* option_of(size_t count, Node* const* options, std::string_view name) {
  const PgQuery__DefElem* found = nullptr;
  for (size_t i = 0; i < count; ++i) {
    auto* option = as<PgQuery__DefElem>(options[i]);
    if (option != nullptr && text_of(option->defname) == name) found = option;
  }
  return found;
}

// False also for what PostgreSQL does not take, as it will say.
bool is_on(const PgQuery__DefElem* option, bool by_default) {
  if (option == nullptr) return by_default;
  if (inner(option->arg) == nullptr) return true;
  if (auto* number = as<PgQuery__Integer>(option->arg)) return number->ival == 1;
  std::string word(string_value(option->arg));
  if (auto* type = as<PgQuery__TypeName>(option->arg)) word = last_name(type->n_names, type->names);
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  return word == "true" || word == "on";
}

// The statement with enabled = false.
std::string disabled(std::string_view sql, const PgQuery__CreateSubscriptionStmt* create) {
  auto* enabled = option_of(create->n_options, create->options, "enabled");
  const std::string off = "enabled = false";
  if (create->n_options == 0) return std::string(sql) + "\nWITH (" + off + ")";
  const auto at = [&](const PgQuery__DefElem* option) {
    return std::clamp<std::size_t>(static_cast<std::size_t>(std::max(option->location, 0)), 0, sql.size());
  };
  if (enabled == nullptr) {
    const std::size_t first = at(as<PgQuery__DefElem>(create->options[0]));
    return std::string(sql.substr(0, first)) + off + ", " + std::string(sql.substr(first));
  }
  const std::size_t begin = at(enabled);
  TokenScanner scanner(sql, begin);
  std::size_t end = scanner.next().end;
  if (scanner.is_symbol(scanner.peek(), '=')) {
    scanner.next();
    end = scanner.next().end;
  }
  return std::string(sql.substr(0, begin)) + off + std::string(sql.substr(end));
}

Plan of_home(std::string tag, std::string_view sql, const char* name) {
  Plan plan = at_home(std::move(tag), sql);
  plan.ddl->changes_catalog = true;  // what it applies to is looked at
  plan.ddl->subscription.emplace();
  plan.ddl->subscription->name = std::string(text_of(name));
  return plan;
}

Plan plan_alter(std::string_view sql, const PgQuery__AlterSubscriptionStmt* alter) {
  Plan plan = of_home("ALTER SUBSCRIPTION", sql, alter->subname);
  Ddl::Subscription& subscription = *plan.ddl->subscription;
  using Adds = Ddl::Subscription::Adds;
  switch (alter->kind) {
    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_REFRESH: subscription.adds = Adds::same; break;
    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_SET_PUBLICATION: subscription.adds = Adds::these; break;
    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_ADD_PUBLICATION: subscription.adds = Adds::more; break;
    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_DROP_PUBLICATION: subscription.adds = Adds::fewer; break;
    default: return plan;
  }
  if (!is_on(option_of(alter->n_options, alter->options, "refresh"), true)) subscription.adds = Adds::nothing;
  for (const Node* node : each(alter->n_publication, alter->publication))
    subscription.publications.emplace_back(string_value(node));
  return plan;
}

}  // namespace

std::optional<Plan> plan_subscription(std::string_view sql, const Node* root) {
  if (auto* create = as<PgQuery__CreateSubscriptionStmt>(root)) {
    Plan plan = of_home("CREATE SUBSCRIPTION", sql, create->subname);
    // Without a slot of its own it is a schema change like others.
    const bool connects = is_on(option_of(create->n_options, create->options, "connect"), true);
    plan.ddl->subscription->alone =
        connects && is_on(option_of(create->n_options, create->options, "create_slot"), true);
    if (!plan.ddl->subscription->alone) return plan;
    auto* slot = option_of(create->n_options, create->options, "slot_name");
    const bool no_slot = slot != nullptr && string_value(slot->arg) == "none";  // which cannot be enabled
    plan.ddl->subscription->enables = !no_slot && is_on(option_of(create->n_options, create->options, "enabled"), true);
    plan.ddl->subscription->disabled = plan.ddl->subscription->enables ? disabled(sql, create) : std::string(sql);
    return plan;
  }
  if (auto* alter = as<PgQuery__AlterSubscriptionStmt>(root)) return plan_alter(sql, alter);
  if (auto* drop = as<PgQuery__DropSubscriptionStmt>(root)) return of_home("DROP SUBSCRIPTION", sql, drop->subname);
  return std::nullopt;
}

std::vector<Error> misplaced_subscriptions(const catalog::Database& database,
                                           const std::vector<SubscribedTable>& tables) {
  std::vector<Error> found;
  for (const SubscribedTable& subscribed : tables) {
    const auto table = database.tables_by_oid.find(subscribed.table);
    if (table == database.tables_by_oid.end()) continue;
    const TableKind kind = table->second->kind;
    const std::string whose = "the subscription \"" + subscribed.subscription + "\" would apply rows to ";
    const std::string name = "\"" + table->second->schema + "." + table->second->name + "\"";
    if (kind == TableKind::sharded || kind == TableKind::reference) {
      found.push_back(make_error(
          "0A000", whose + (kind == TableKind::sharded ? "the sharded table " : "the reference table ") + name,
          "It applies them at the home alone: subscribe with a local table, whose rows a client or a job copies."));
    } else if (database.guarded_tables.contains(subscribed.triggers_of)) {
      found.push_back(make_error("0A000", whose + name + ", with triggers that run SQL given as text",
                                 "What they touch is not known when they fire for applied rows: ALTER TABLE ... ENABLE "
                                 "TRIGGER, without ALWAYS or REPLICA."));
    }
  }
  return found;
}

}  // namespace pgmosaic::plan
