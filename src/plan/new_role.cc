#include "plan/new_role.h"

#include "plan/planning.h"
#include "sql/deparse.h"
#include "sql/parse.h"

namespace pgmosaic::plan {

using namespace sql;

namespace {

std::string role_list(Arena& arena, const PgQuery__DefElem* option, const std::string& granted) {
  auto* list = as<PgQuery__List>(option->arg);
  if (list == nullptr) return {};
  auto* grant = arena.make<PgQuery__GrantRoleStmt>();
  grant->is_grant = 1;
  grant->behavior = PG_QUERY__DROP_BEHAVIOR__DROP_RESTRICT;
  grant->n_granted_roles = 1;
  auto* privilege = arena.make<PgQuery__AccessPriv>();
  privilege->priv_name = arena.string(granted);
  Node* granted_role = arena.node(privilege);
  grant->granted_roles = &granted_role;
  grant->n_grantee_roles = list->n_items;
  grant->grantee_roles = list->items;
  auto text = deparse_statement(arena.node(grant));
  return text ? *text : std::string();
}

}  // namespace

Result<RoleSteps> role_in_steps(std::string_view sql) {
  TRY_ASSIGN(const ParseTree tree, ParseTree::parse(sql));
  auto* create = as<PgQuery__CreateRoleStmt>(tree.statement());
  CHECK(create != nullptr);
  RoleSteps steps;
  steps.name = text_of(create->role);
  Arena arena;
  auto* spec = arena.make<PgQuery__RoleSpec>();
  spec->roletype = PG_QUERY__ROLE_SPEC_TYPE__ROLESPEC_CSTRING;
  spec->rolename = create->role;
  std::vector<Node*> attributes;
  bool login = create->stmt_type == PG_QUERY__ROLE_STMT_TYPE__ROLESTMT_USER;
  std::string memberships;
  for (Node* node : each(create->n_options, create->options)) {
    auto* option = as<PgQuery__DefElem>(node);
    const std::string_view name = text_of(option->defname);
    if (name == "canlogin") login = false;
    if (name == "sysid") continue;
    if (name == "addroleto") {
      auto* list = as<PgQuery__List>(option->arg);
      for (size_t i = 0; list != nullptr && i < list->n_items; ++i) {
        auto* role = as<PgQuery__RoleSpec>(list->items[i]);
        if (role == nullptr) continue;
        Node* member = arena.node(spec);
        auto* of_one = arena.make<PgQuery__List>();
        of_one->n_items = 1;
        of_one->items = &member;
        auto* to_new = arena.make<PgQuery__DefElem>();
        to_new->arg = arena.node(of_one);
        memberships += ";" + role_list(arena, to_new, std::string(text_of(role->rolename)));
      }
    } else if (name == "rolemembers") {
      memberships += ";" + role_list(arena, option, steps.name);
    } else if (name == "adminmembers") {
      memberships += ";" + role_list(arena, option, steps.name) + " WITH ADMIN OPTION";
    } else {
      attributes.push_back(node);
    }
  }
  if (!attributes.empty()) {
    auto* alter = arena.make<PgQuery__AlterRoleStmt>();
    alter->role = spec;
    alter->action = 1;
    alter->n_options = attributes.size();
    alter->options = attributes.data();
    TRY_ASSIGN(const std::string text, deparse_statement(arena.node(alter)));
    steps.attributes = ";" + text;
  }
  Node* none = nullptr;
  if (login) {
    auto* alter = arena.make<PgQuery__AlterRoleStmt>();
    alter->role = spec;
    alter->action = 1;
    alter->options = &none;
    TRY_ASSIGN(const std::string text, deparse_statement(arena.node(alter)));
    steps.attributes += ";" + text + " LOGIN";
  }
  steps.attributes += memberships;
  if (!steps.attributes.empty()) steps.attributes.erase(0, 1);
  return steps;
}

}  // namespace pgmosaic::plan
