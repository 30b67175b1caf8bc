// One statement on its way through the planner: what the phases hand to each other. Internal to plan/.
#pragma once

#include <string>
#include <string_view>

#include "plan/bind.h"
#include "plan/distribution.h"
#include "plan/plan.h"
#include "plan/planner.h"
#include "sql/parse.h"

namespace pgmosaic::sql {
struct CreateTableText;
}

namespace pgmosaic::plan {

struct Planning {
  Planning(std::string_view sql, const PlanContext& plan_context, const sql::Node* root)
      : context(plan_context), statement(sql, plan_context), distribution(statement), root(root) {
    statement.count_parameters(root);
  }
  const PlanContext& context;
  Statement statement;
  DistributionAnalysis distribution;
  const sql::Node* root;  // the statement's tree
  Plan plan;

  // Traits of all functions called anywhere.
  bool home_functions = false;
  std::string home_only_function, user_function, server_function;
  bool key_expression = false;     // an INSERT whose shard only a PostgreSQL can tell
  std::size_t pulled_columns = 0;  // != 0: an INSERT … SELECT whose rows the home can compute, of so many columns
};

// planner.cc: plans a parsed statement (not EXPLAIN's or PREPARE's shell around it).
Plan plan_tree(std::string_view sql, const sql::Node* root, const PlanContext& context);

Plan unsupported(Error error);
Plan unsupported(std::string message, std::string hint);

// effects.cc
// Refuses objects of the database that read what the router has in place of a PostgreSQL.
void refuse_session_views(Plan& plan, const sql::Node* root);
void scan_functions(Planning& p, const sql::Node* root);
void add_effects(const catalog::Table* table, Effects& effects);  // of a table that is read or written; null: none
// Of a statement that is bound; see Plan::result_signature.
uint64_t result_signature(const Planning& p);
// Where the statement goes, by pins and the kinds of its tables; sets plan.kind = unsupported on a mixture that no
// group can answer.
void choose_target(Planning& p);
// What a read locks before it takes its snapshots.
std::string tables_of(const Statement& statement);
// The statement cannot run over several groups; the first reason wins.
void forbid_several_groups(Planning& p, std::string reason, std::string hint = {});
// Reasons that come from the distribution of `top` and from functions.
void check_several_groups(Planning& p, const Distribution& distribution);
// A ctid names a row of one leaf only: over several groups it is refused.
void forbid_physical_places(Planning& p, const sql::Node* root);
// row_moves.cc
// Sets plan.key_change of an UPDATE of distribution columns. `constants`: see KeyChange.
void plan_key_change(Planning& p, const Level* level, const Instance& target, const PgQuery__UpdateStmt* update,
                     KeyTuple constants);
// The value that SET gives a column, also where it gives several at once; null: it cannot be told.
const sql::Node* assigned_value(const PgQuery__ResTarget* assignment);
void set_cacheable(Planning& p);
// A string literal of a cached write might be 'now' the next time.
void set_reference_cacheable(Planning& p);

// One file per class of statements.
void plan_select(Planning& p, const PgQuery__SelectStmt* select);
void plan_insert(Planning& p, const PgQuery__InsertStmt* insert);
void plan_update(Planning& p, const PgQuery__UpdateStmt* update);
void plan_delete(Planning& p, const PgQuery__DeleteStmt* remove);
void plan_merge(Planning& p, const PgQuery__MergeStmt* merge);
Plan plan_copy(std::string_view sql, const sql::Node* root, const PlanContext& context);
Plan plan_explain(std::string_view sql, const sql::Node* root, const PlanContext& context);
// nullopt: not a statement of that class.
std::optional<Plan> plan_session_command(std::string_view sql, const sql::Node* root, const PlanContext& context);
std::optional<Plan> plan_ddl(std::string_view sql, const sql::Node* root, const PlanContext& context);
Plan plan_create_table(std::string_view sql, const PlanContext& context);
std::optional<Plan> plan_utility(std::string_view sql, const sql::Node* root, const PlanContext& context);
// ddl.cc
Plan everywhere(std::string tag, std::string_view sql);  // a schema change that every group runs as it is
Plan temporary(std::string command);                     // of an object of the session: on its home backend
bool is_temporary(const PgQuery__RangeVar* range);
Plan refuse_temporary_view();  // over sharded tables
// create_as.cc
Plan plan_create_as(std::string_view sql, const sql::CreateTableText& text, const PgQuery__CreateTableAsStmt* create,
                    const PlanContext& context);
// REQUIRES: likes_temporary(create)
Plan plan_create_like(const sql::CreateTableText& text, const PgQuery__CreateStmt* create);
// nullopt: no INTO.
std::optional<Plan> plan_select_into(std::string_view sql, const PgQuery__SelectStmt* select,
                                     const PlanContext& context);
// temporary.cc
// Changes of temporary and large objects, and new ones that are made of temporary ones; nullopt: none of these.
std::optional<Plan> plan_temporary(const sql::Node* root, const PlanContext& context);
// CREATE TABLE … (LIKE …) of a temporary one.
bool likes_temporary(const PgQuery__CreateStmt* create, const PlanContext& context);
// ddl_objects.cc
std::optional<Plan> plan_object(std::string_view sql, const sql::Node* root, const PlanContext& context);
Plan plan_materialized_view(std::string_view sql, const PgQuery__CreateTableAsStmt* create, const PlanContext& context);
// code.cc
std::optional<Plan> plan_code(std::string_view sql, const sql::Node* root, const PlanContext& context);  // DO and CALL
// ddl_columns.cc
// What the groups run for ALTER TABLE: the statement itself, or one with marks in it for ddl.new_columns.
Result<const PgQuery__AlterTableStmt*> fill_new_columns(std::string_view sql, const catalog::Table* table,
                                                        const PgQuery__AlterTableStmt* alter,
                                                        const PlanContext& context, sql::Arena& arena, Ddl& ddl);
// ddl_indexes.cc
// CREATE INDEX and REINDEX; nullopt: neither, or each group does it by itself.
std::optional<Plan> plan_index(std::string_view sql, const sql::Node* root, const PlanContext& context);
bool is_concurrent(const PgQuery__ReindexStmt* reindex);
Status drop_indexes(Plan& plan, const PgQuery__DropStmt* drop);  // what DROP INDEX needs besides
// numbers.cc
// Statements that call currval() or lastval(); nullopt: others.
std::optional<Plan> plan_asking(std::string_view sql, const sql::Node* root, const PlanContext& context);
// An expression of PostgreSQL's with such calls as the home is asked them.
std::string asking_expression(const std::string& expression, const PlanContext& context);
// Sets plan.effects.draws.
void note_draws(Plan& plan, const sql::Node* root, const PlanContext& context);
// Of a query or expression that the home runs.
catalog::Draws draws_of(const sql::Node* root, const PlanContext& context);
// The sequence of nextval('name'); null: not such a call, or not known for sure.
const catalog::Sequence* drawn_from(const sql::Node* expression, const PlanContext& context);
// code.cc
struct FunctionText;
FunctionText text_of_block(const PgQuery__DoStmt* block);
// ddl_sequences.cc
std::optional<Plan> plan_sequence(std::string_view sql, const sql::Node* root);
Plan plan_restart(std::string_view sql, const PgQuery__TruncateStmt* truncate);  // TRUNCATE … RESTART IDENTITY
Status strip_identity_options(Plan& plan, const PgQuery__AlterTableStmt* alter);
// fill.cc
// Whether a column's default must be computed once, by the home: it draws from a sequence, or `differs` – the groups
// would compute it several times – and it depends on more than its text.
bool default_asks_home(const catalog::Column& column, bool differs, const PlanContext& context);
Plan plan_pull(std::string_view sql, const PgQuery__InsertStmt* insert, const PlanContext& context,
               std::size_t columns);
// dml.cc
std::string left_to_home(const catalog::Table& table, const std::vector<int>& given, const PlanContext& context);
// The greatest number of a column's integer type; 0: it has another type.
int64_t greatest_number(const catalog::Column& column);
// Whether COPY can leave the column to the home, and how; nullopt: it cannot.
std::optional<CopyIn::Filled> filled_column(const catalog::Column& column, const PlanContext& context);
// nullopt: nothing to compute first. `keys`: also what stands for the distribution columns.
std::optional<Plan> plan_fill(std::string_view sql, const sql::Node* root, const PlanContext& context, bool keys);
// nullopt: reads no virtual relation.
std::optional<Plan> plan_virtual_relations(std::string_view sql, const sql::Node* root, const PlanContext& context);

bool find_virtual(const PgQuery__RangeVar* range);
// (query) AS alias, in place of a relation in FROM. `keep` holds what the result points into.
sql::Node* in_place_of(sql::Arena& arena, const PgQuery__RangeVar* range, const std::string& query,
                       std::vector<sql::ParseTree>& keep);

// rules/: how the answers of several groups become one. Each sets plan.gather, plan.combine or plan.multi_group_error.
void gather_select(Planning& p, Level* top);
// rules/: sets plan.point where the statement reads one row by primary key.
void find_point_read(Planning& p, const Level* top);
void find_point_write(Planning& p, const Level* level, const PgQuery__UpdateStmt* update);
void find_point_write(Planning& p, const Level* level, const PgQuery__DeleteStmt* remove);

// Error texts that several files use.
std::string construct_name(const sql::Node* root);

}  // namespace pgmosaic::plan
