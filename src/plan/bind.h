// Names bound to tables and columns, and what the statement says about them: the planner's own small tree.
//
// A Statement is one analysis of one parse tree. Every query block (SELECT, VALUES, arm of a UNION, DML) is a Level;
// every FROM item that yields rows is an Instance; a column of an instance is a Var. Conditions that must hold are
// Facts. Whatever cannot be bound safely stays unknown and proves nothing.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "plan/facts.h"
#include "plan/plan.h"
#include "plan/planner.h"
#include "sql/ast.h"
#include "sql/parse.h"
#include "sql/shape.h"

namespace pgmosaic::plan {

struct Level;

// A column of an instance or of a query's result.
struct OutputColumn {
  std::string name;
  catalog::Oid type = 0;  // base type; 0: unknown
  int32_t typmod = -1;
  catalog::Oid collation = 0;
  bool bytewise = true;
  bool not_null = false;
  Var var;                          // result columns that are plain columns
  const sql::Node* expr = nullptr;  // result columns
};

struct Instance {
  enum class Placement : uint8_t {
    sharded,
    sharded_view,  // a view that reads sharded tables: where its rows are cannot be told
    reference,
    home,     // local tables, system catalogs, tables the catalog does not know
    free,     // functions, VALUES, virtual relations: every group computes the same
    derived,  // rows of `level`
  };
  int id = 0;
  Placement placement = Placement::free;
  std::string alias;
  std::string schema;  // of a table without alias
  const catalog::Table* table = nullptr;
  Level* level = nullptr;
  std::vector<OutputColumn> columns;
  bool columns_known = true;
  bool in_view = false;  // the statement does not name it
  bool hidden = false;   // inside a join that has an alias of its own
  bool lateral = false;
  int region = -1;
  std::string display;  // for messages
};

// A nullable side of an outer join.
struct Region {
  int parent = -1;
  bool discharged = false;  // a condition in WHERE removes the rows that it filled with NULLs
};

struct FromNode {
  enum class Kind : uint8_t { leaf, inner, left, full };  // RIGHT is LEFT with its sides exchanged
  Kind kind = Kind::leaf;
  int instance = -1;
  std::unique_ptr<FromNode> left, right;
  int region = -1;          // where the join stands
  int nullable_left = -1;   // full
  int nullable_right = -1;  // left, full
  // JOIN … USING: merged columns come first in *.
  std::vector<OutputColumn> merged;
  bool swapped = false;  // RIGHT JOIN
};

struct SubLinkUse {
  Level* level = nullptr;
  const PgQuery__SubLink* link = nullptr;
  bool positive = false;    // stands where NULL and false have the same effect (WHERE, ON; under AND/OR only)
  std::vector<Var> tested;  // (x, y) IN (SELECT …)
};

// Name -> CTE, innermost first.
struct CteScope {
  const CteScope* outer = nullptr;
  const PgQuery__CommonTableExpr* cte = nullptr;
  bool recursive = false;
  const CteScope* visible = nullptr;  // what its own query sees
  Level* parent = nullptr;
};

// How certain keys are distributed over groups, computed by distribution.cc.
struct KeyVar {
  Var var;
  bool strict = true;  // false: NULL or the key (nullable side of an outer join)
};
struct Distribution {
  enum class Kind : uint8_t {
    replicated,   // every group computes the same rows
    partitioned,  // each group computes its share; the shares together are the rows
    bad,          // neither: `reason` says why
  };
  Kind kind = Kind::replicated;
  catalog::ColocationId colocation = 0;
  std::vector<std::vector<KeyVar>> keys;  // per key column, the columns that tell the group
  std::string reason, hint;
};

struct Level {
  int id = 0;
  Level* parent = nullptr;  // whose columns may be referenced from here
  const CteScope* ctes = nullptr;
  const PgQuery__SelectStmt* select = nullptr;
  std::vector<Level*> arms;  // of a set operation
  std::vector<std::unique_ptr<FromNode>> from;
  std::vector<int> instances;
  std::vector<OutputColumn> merged;  // of JOIN … USING, innermost joins last
  std::vector<Region> regions;
  std::vector<Fact> facts;
  std::vector<SubLinkUse> sublinks;
  std::vector<OutputColumn> outputs;
  bool outputs_known = true;
  std::vector<const PgQuery__FuncCall*> aggregates, windows;
  bool recursive = false;
  bool writes = false;           // DML
  bool order_sensitive = false;  // volatile functions, TABLESAMPLE, aggregates that depend on the order of rows
  // The enclosing level's columns that are this level's results (the columns of the derived table, or x in
  // x IN (SELECT …)): a condition on them is a condition on this level's rows where the level lets it through.
  std::vector<Var> outer_columns;

  bool aggregated() const { return !aggregates.empty() || has_group() || (select && select->having_clause); }
  bool has_group() const { return select != nullptr && select->n_group_clause > 0; }
  bool set_operation() const { return !arms.empty(); }
  bool limited() const {
    return select != nullptr && (select->limit_count != nullptr || select->limit_offset != nullptr);
  }

  Distribution from_distribution;  // of FROM and WHERE
};

class Statement {
 public:
  Statement(std::string_view sql, const PlanContext& context);

  // Binds a query and everything in it. `parent`: the level whose columns it may reference.
  Level* bind_select(const PgQuery__SelectStmt* select, Level* parent, const CteScope* ctes);
  // A level for DML: target table first, then FROM/USING.
  Level* new_level(Level* parent, const CteScope* ctes);
  const CteScope* bind_with(const PgQuery__WithClause* with, Level* parent, const CteScope* ctes);
  Instance& add_table(Level* level, const PgQuery__RangeVar* range, int region);
  void bind_from(Level* level, size_t count, sql::Node* const* items);
  // MERGE: the source keeps its rows, the target is the nullable side of a join on `condition`.
  Instance& bind_merge(Level* level, const PgQuery__MergeStmt* merge);
  // The target of UPDATE or DELETE: a view is bound as its query where PostgreSQL writes to its table by itself.
  Instance& add_target(Level* level, const PgQuery__RangeVar* range);
  // Conditions and sub-queries of an expression. bind_where also discharges regions.
  void bind_where(Level* level, const sql::Node* where);
  void bind_expression(Level* level, const sql::Node* expression, bool positive = false);
  void bind_targets(Level* level, size_t count, sql::Node* const* targets);

  Var resolve(const PgQuery__ColumnRef* column, const Level* level) const;
  const OutputColumn* column(Var var) const;
  Instance& instance(int id) { return instances[id]; }
  const Instance& instance(int id) const { return instances[id]; }
  // Name of the table without alias lookups, through search_path; null if the catalog has none.
  const catalog::Table* find_table(const PgQuery__RangeVar* range) const;
  // Columns that * stands for; false if not all are known.
  bool expand_star(const Level* level, std::string_view qualifier, std::vector<OutputColumn>& out) const;

  // Constants and parameters of an expression (predicates.cc).
  bool read_constant(const sql::Node* node, ConstValue& out) const;
  bool read_literal(const PgQuery__AConst* constant, ConstValue& out) const;
  bool read_parameter(const PgQuery__ParamRef* parameter, ConstValue& out) const;
  // A literal's number in the shape by its byte offset; -1: none begins there.
  int literal_at(int location, bool& negated) const;
  // True if the value means the same for a column of this base type as the column's hash function takes it.
  bool usable(const ConstValue& value, catalog::Oid base_type) const;
  // A parameter whose type PostgreSQL infers: every place it is used at must be a comparison of this family.
  bool parameter_type_certain(const ConstValue& value, catalog::Oid base_type) const;
  // True if it is usable for the column; notes which type a parameter gets from standing there.
  bool comparable(const ConstValue& value, Var var) const;
  void note_literal(const sql::Node* node);  // its text decided the plan

  const PlanContext& context;
  std::string text;
  sql::Shape shape;
  std::deque<Instance> instances;
  std::deque<Level> levels;
  // What was seen anywhere in the statement.
  std::vector<int> sharded;                // instances
  std::vector<sql::ParseTree> view_trees;  // of views that are bound as their queries
  std::vector<std::string> home_tables;    // display names of home relations
  std::vector<std::string> temporary_tables;
  bool reads_reference = false;
  bool row_locks = false;
  bool dml_in_cte = false;
  bool reference_write_in_cte = false;
  std::vector<Level*> dml_levels;   // of data-modifying WITH
  bool too_complex = false;         // something could not be bound at all: refuse
  bool constants_by_value = false;  // literal numbers do not refer to the client's text
  bool huge_literal = false;        // a literal's size decided something: do not cache
  std::vector<std::string> virtual_relations;
  std::set<uint32_t> structural;  // literal numbers

 private:
  std::unique_ptr<FromNode> bind_item(Level* level, const sql::Node* item, int region);
  std::unique_ptr<FromNode> bind_join(Level* level, const PgQuery__JoinExpr* join, int region);
  void bind_using(Level* level, const PgQuery__JoinExpr* join, FromNode& node, int first, int middle, int last);
  std::unique_ptr<FromNode> bind_derived(Level* level, Level* inner_level, const PgQuery__Alias* alias, int region,
                                         bool lateral);
  std::unique_ptr<FromNode> bind_cte(Level* level, const PgQuery__RangeVar* range, const CteScope* scope, int region);
  bool bind_view(Instance& view);  // false: its query is not known
  std::unique_ptr<FromNode> bind_free(Level* level, const PgQuery__Alias* alias, int region);
  void bind_inserted(Level* level, const PgQuery__InsertStmt* insert);
  Level* bind_dml_cte(const sql::Node* query, Level* parent, const CteScope* ctes);
  void bind_arms(Level* level);
  void bind_values(Level* level);
  void bind_sublink(Level* level, const PgQuery__SubLink* link, bool positive);
  Instance& add_instance(Level* level, int region);
  void describe_table(Instance& instance, const catalog::Table* table);
  void discharge(Level* level);
  void collect_facts(Level* level, const sql::Node* condition, int region, int region2, std::vector<Fact>& out);
  void collect_equality(Level* level, const sql::Node* left, const sql::Node* right, const Fact& blank,
                        std::vector<Fact>& out);
  void collect_bound(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out);
  void collect_between(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out);
  void add_bound(Var column, const sql::Node* value, std::string_view op, const Fact& blank, std::vector<Fact>& out);
  void collect_in(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out);
  void collect_any(Level* level, const PgQuery__AExpr* expr, const Fact& blank, std::vector<Fact>& out);
  void collect_or(Level* level, const PgQuery__BoolExpr* expr, const Fact& blank, std::vector<Fact>& out);
  Var column_of(Level* level, const sql::Node* node) const;
  bool star_of(const FromNode& node, std::vector<OutputColumn>& out) const;
  Var resolve_here(const std::vector<std::string>& names, const Level* level, bool& unsure) const;

  std::deque<CteScope> cte_scopes_;
  mutable std::map<int, std::map<int, uint32_t>> parameter_uses_;  // parameter -> location -> family
  std::map<int, std::set<int>> parameter_locations_;
  int depth_ = 0, inside_views_ = 0;

 public:
  void count_parameters(const sql::Node* root);
  int parameter_count() const { return parameter_locations_.empty() ? 0 : parameter_locations_.rbegin()->first; }
};

}  // namespace pgmosaic::plan
