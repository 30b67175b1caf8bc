#include "control/introspect.h"

#include <algorithm>
#include <array>
#include <set>

#include "catalog/partition_bounds.h"
#include "control/introspect_sequences.h"
#include "control/subscriptions.h"
#include "plan/function_body.h"
#include "plan/publications.h"
#include "plan/rewrite_rules.h"

namespace pgmosaic::control {

namespace {

using catalog::Oid;
using Rows = pool::ServerConn::Rows;

// Compiling these queries takes ten times as long as running them.
constexpr const char* kLook =
    "SET search_path = ''; SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET standard_conforming_strings = on; SET jit "
    "= off";
constexpr const char* kLookInTransaction =
    "SAVEPOINT pgmosaic_look; SET LOCAL search_path = ''; SET LOCAL DateStyle = 'ISO'; SET LOCAL TimeZone = 'UTC'; "
    "SET LOCAL standard_conforming_strings = on; SET LOCAL jit = off";
constexpr const char* kEndLook = "ROLLBACK TO SAVEPOINT pgmosaic_look; RELEASE SAVEPOINT pgmosaic_look";

constexpr const char* kTables = R"(
SELECT c.oid, n.nspname, c.relname, c.relkind,
       EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t
               WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND ((t.tgtype & 1) = 0 OR c.relkind = 'v'))
         OR c.relkind = 'v' AND EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1'),
       EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
       c.relrowsecurity,
       CASE WHEN pg_catalog.has_schema_privilege(c.relowner, c.relnamespace, 'USAGE')
                 AND (SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(c.relowner, c.oid, r))
                      FROM pg_catalog.unnest('{SELECT,UPDATE,DELETE}'::pg_catalog.text[]) r)
            THEN pg_catalog.pg_get_userbyid(c.relowner) ELSE '' END,
       (SELECT r.xmin::pg_catalog.text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '1' AND c.relkind = 'v')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND n.nspname !~ '^pg_(toast_)?temp_')";

// A collation is bytewise if comparing two strings is comparing their bytes.
constexpr const char* kColumns = R"(
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull,
       (a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' OR y.typdefaultbin IS NOT NULL),
       CASE WHEN a.attcollation IN (0, 950, 951) THEN true
            WHEN a.attcollation = 100 THEN d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
            ELSE l.collprovider = 'c' AND l.collisdeterministic AND l.collcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') END,
       (d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')),
       a.attgenerated <> '',
       CASE WHEN a.attgenerated = '' THEN coalesce(pg_catalog.pg_get_expr(f.adbin, 0),
                                                   pg_catalog.pg_get_expr(y.typdefaultbin, 0)) END,
       pg_catalog.format_type(a.atttypid, -1), a.attidentity,
       CASE WHEN a.attidentity <> ''
            THEN (SELECT s.objid FROM pg_catalog.pg_depend s
                  WHERE s.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND s.deptype = 'i'
                    AND s.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND s.refobjid = a.attrelid
                    AND s.refobjsubid = a.attnum)
            WHEN a.atthasdef AND a.attgenerated = ''
            THEN (SELECT s.refobjid FROM pg_catalog.pg_depend s
                       JOIN pg_catalog.pg_class q ON q.oid = s.refobjid AND q.relkind = 'S'
                  WHERE s.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND s.objid = f.oid
                    AND s.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass LIMIT 1) END
FROM pg_catalog.pg_attribute a
     LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
     CROSS JOIN (SELECT * FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) d
     LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
ORDER BY a.attrelid, a.attnum)";

constexpr const char* kUnique = R"(
SELECT i.indrelid, x.relname,
       CASE WHEN i.indexprs IS NULL AND i.indpred IS NULL AND i.indisvalid
            THEN pg_catalog.array_to_string((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1], ' ') ELSE '' END,
       i.indisprimary
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
     JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast'))";

constexpr const char* kForeignKeys = R"(
SELECT k.conrelid, k.conname, k.confrelid,
       (SELECT pg_catalog.string_agg(a.attname, '_' ORDER BY o.number)
        FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY o (attnum, number)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.attnum)
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0)";

constexpr const char* kViewReads = R"(
SELECT DISTINCT v.oid, d.refobjid
FROM pg_catalog.pg_class v JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> v.oid
WHERE v.relkind = 'v')";

constexpr const char* kPartitions = R"(
SELECT c.oid, i.inhparent, pg_catalog.pg_get_expr(c.relpartbound, 0)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
WHERE c.relispartition AND NOT i.inhdetachpending
ORDER BY c.oid)";

// The columns of each partition key, those within its expressions last, and how each of its parts compares: o as its
// bytes are ordered, e equal where they are, x otherwise.
constexpr const char* kPartitionKeys = R"(
SELECT p.partrelid, p.partstrat,
       pg_catalog.array_to_string(pg_catalog.array_remove(p.partattrs::pg_catalog.int2[], 0::pg_catalog.int2), ' '),
       (SELECT pg_catalog.string_agg(d.objsubid::pg_catalog.text, ' ' ORDER BY d.objsubid)
        FROM pg_catalog.pg_depend d
        WHERE p.partexprs IS NOT NULL AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
              AND d.objid = p.partrelid AND d.objsubid > 0 AND d.refclassid = d.classid AND d.refobjid = d.objid
              AND d.refobjsubid = 0 AND NOT d.objsubid = ANY (p.partattrs::pg_catalog.int2[])),
       (SELECT pg_catalog.string_agg(
            CASE WHEN NOT o.opcdefault THEN 'x'
                 WHEN k.coll IN (0, 950, 951) THEN 'o'
                 WHEN k.coll = 100 THEN CASE WHEN d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
                                             THEN 'o' ELSE 'e' END
                 WHEN NOT l.collisdeterministic THEN 'x'
                 WHEN l.collprovider = 'c' AND l.collcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') THEN 'o'
                 ELSE 'e' END, '' ORDER BY k.n)
        FROM ROWS FROM (pg_catalog.unnest(p.partclass::pg_catalog.oid[]), pg_catalog.unnest(p.partcollation::pg_catalog.oid[]))
                  WITH ORDINALITY AS k (class, coll, n)
             JOIN pg_catalog.pg_opclass o ON o.oid = k.class LEFT JOIN pg_catalog.pg_collation l ON l.oid = k.coll)
FROM pg_catalog.pg_partitioned_table p
     CROSS JOIN (SELECT * FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) d)";

constexpr const char* kSuperusers = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper";

constexpr const char* kDomains = "SELECT oid, typbasetype FROM pg_catalog.pg_type WHERE typtype = 'd'";

// Which kind of pg::TypeForm, and the type inside.
constexpr const char* kTypes = R"(
SELECT t.oid, n.nspname, t.typname,
       CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc THEN 'a'
            ELSE t.typtype::pg_catalog.text END,
       coalesce(r.rngsubtype, m.rngtypid, t.typbasetype)
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
     LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
     LEFT JOIN pg_catalog.pg_range m ON m.rngmultitypid = t.oid
WHERE t.oid >= 16384 AND n.nspname NOT IN ('information_schema', 'pg_toast')
  AND n.nspname !~ '^pg_(toast_)?temp_')";

constexpr const char* kFunctions = R"(
SELECT p.proname, l.lanname, coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc),
       p.provolatile, p.prokind = 'a',
       EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                 AND d.refobjid = p.oid AND d.classid <> 'pg_catalog.pg_proc'::pg_catalog.regclass
                 AND d.classid <> 'pg_catalog.pg_trigger'::pg_catalog.regclass
                 AND d.classid <> 'pg_catalog.pg_event_trigger'::pg_catalog.regclass
                 AND d.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass),
       CASE WHEN p.prokind = 'a'
            THEN (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(f.proname), ' ')
                  FROM pg_catalog.pg_aggregate g JOIN pg_catalog.pg_proc f
                       ON f.oid IN (g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggmtransfn, g.aggmfinalfn)
                  WHERE g.aggfnoid = p.oid) END,
       )" PGMOSAIC_CALLED_UNSEEN R"(
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema'))";

constexpr const char* kTriggers = R"(
SELECT t.tgrelid, p.proname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal
UNION ALL
SELECT 0, p.proname FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid)";

constexpr const char* kRules = R"(
SELECT ev_class, pg_catalog.pg_get_ruledef(oid) FROM pg_catalog.pg_rewrite WHERE rulename <> '_RETURN' AND oid >= 16384)";

// Publications of all tables, and of all tables of a schema.
constexpr const char* kWidePublications = R"(
SELECT pubname, '' FROM pg_catalog.pg_publication WHERE puballtables
UNION ALL
SELECT p.pubname, n.nspname
FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid
     JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid)";

// All of it is one statement, which sees one state of the catalogs: tables come and go beside it.
enum class Part : uint8_t {
  tables,
  domains,
  columns,
  unique,
  view_reads,
  functions,
  superusers,
  types,
  triggers,
  partitions,
  partition_keys,
  rules,
  wide_publications,
  subscribed,
  sequences,
  unseen_calls,
  cascades,
  foreign_keys,
};

struct PartQuery {
  const char* sql;
  int columns;
};
constexpr std::array<PartQuery, 18> kParts{{{kTables, 9},
                                            {kDomains, 2},
                                            {kColumns, 15},
                                            {kUnique, 4},
                                            {kViewReads, 2},
                                            {kFunctions, 8},
                                            {kSuperusers, 1},
                                            {kTypes, 5},
                                            {kTriggers, 2},
                                            {kPartitions, 3},
                                            {kPartitionKeys, 5},
                                            {kRules, 2},
                                            {kWidePublications, 2},
                                            {kSubscribed, 3},
                                            {kSequences, 3},
                                            {kUnseenCalls, 2},
                                            {kCascades, 3},
                                            {kForeignKeys, 4}}};
constexpr int kMostColumns = 15;

// SELECT <part>, <columns as text, padded with NULL> FROM (…) UNION ALL …
std::string everything() {
  std::string sql;
  for (std::size_t part = 0; part < kParts.size(); ++part) {
    sql += (part == 0 ? "" : " UNION ALL ") + std::string("SELECT ") + std::to_string(part);
    std::string names;
    for (int i = 1; i <= kMostColumns; ++i) {
      const std::string name = "c" + std::to_string(i);
      sql += i <= kParts[part].columns ? ", " + name + "::pg_catalog.text" : ", NULL";
      if (i <= kParts[part].columns) names += (i == 1 ? "" : ", ") + name;
    }
    sql += std::string(" FROM (") + kParts[part].sql + ") AS x (" + names + ")";
  }
  return sql;
}

std::array<Lines, kParts.size()> split_parts(Rows&& all) {
  std::array<Lines, kParts.size()> parts;
  for (auto& row : all.rows) {
    Lines& lines = parts[std::stoul(*row[0])];
    row.erase(row.begin());
    lines.push_back(std::move(row));
  }
  // A table's columns in their order, partitions in that of their OIDs.
  const auto number = [](const std::optional<std::string>& text) { return std::stoul(*text); };
  auto& columns = parts[static_cast<std::size_t>(Part::columns)];
  std::stable_sort(columns.begin(), columns.end(), [&](const auto& a, const auto& b) {
    return std::pair(number(a[0]), number(a[1])) < std::pair(number(b[0]), number(b[1]));
  });
  auto& partitions = parts[static_cast<std::size_t>(Part::partitions)];
  std::sort(partitions.begin(), partitions.end(),
            [&](const auto& a, const auto& b) { return number(a[0]) < number(b[0]); });
  return parts;
}

Oid oid_of(const std::optional<std::string>& text) { return text ? static_cast<Oid>(std::stoul(*text)) : 0; }
bool flag(const std::optional<std::string>& text) { return text && *text == "true"; }

pg::TypeForm form_of(const std::string& kind, Oid inner) {
  using Kind = pg::TypeForm::Kind;
  if (kind == "a") return {Kind::array, 0};
  if (kind == "c") return {Kind::composite, 0};
  if (kind == "r") return {Kind::range, inner};
  if (kind == "m") return {Kind::multirange, inner};
  if (kind == "d") return {Kind::domain, inner};
  return {};
}

struct Draft {
  std::shared_ptr<catalog::Table> table;
  std::vector<int> attnums;  // of table->columns
  std::set<Oid> reads;       // views
};
using Drafts = std::map<Oid, Draft>;

void add_tables(const Lines& rows, Drafts& drafts) {
  for (const auto& row : rows) {
    auto table = std::make_shared<catalog::Table>();
    table->oid = oid_of(row[0]);
    table->schema = *row[1];
    table->name = *row[2];
    table->partitioned = *row[3] == "p";
    table->foreign = table->not_preparable = *row[3] == "f";
    table->kind = *row[3] == "v" ? catalog::TableKind::view : catalog::TableKind::local;
    table->has_statement_triggers = flag(row[4]);
    table->has_triggers = flag(row[5]);
    table->row_security = flag(row[6]);
    table->owner = *row[7];
    table->definition = row[8].value_or("");
    drafts[table->oid].table = std::move(table);
  }
}

void add_columns(const Lines& rows, const Lines& domains, Drafts& drafts, catalog::Database& database) {
  std::map<Oid, Oid> base;
  for (const auto& row : domains) base[oid_of(row[0])] = oid_of(row[1]);
  for (const auto& row : rows) {
    auto draft = drafts.find(oid_of(row[0]));
    if (draft == drafts.end()) continue;
    catalog::Column column;
    column.name = *row[2];
    column.type = column.base_type = oid_of(row[3]);
    for (auto domain = base.find(column.base_type); domain != base.end(); domain = base.find(column.base_type))
      column.base_type = domain->second;
    column.typmod = std::stoi(*row[4]);
    column.collation = oid_of(row[5]);
    column.not_null = flag(row[6]);
    column.has_default = flag(row[7]);
    column.bytewise_collation = flag(row[8]);
    database.bytewise_default = flag(row[9]);
    column.generated = flag(row[10]);
    column.default_sql = row[11].value_or("");
    column.type_name = *row[12];
    using Identity = catalog::Column::Identity;
    column.identity = *row[13] == "a" ? Identity::always : *row[13] == "d" ? Identity::by_default : Identity::none;
    const bool of_sequence = column.identity != Identity::none || (column.default_sql.starts_with("nextval('") &&
                                                                   column.default_sql.ends_with("'::regclass)"));
    if (of_sequence) column.sequence = oid_of(row[14]);
    draft->second.table->columns.push_back(std::move(column));
    draft->second.attnums.push_back(std::stoi(*row[1]));
  }
}

void add_types(const Lines& rows, catalog::UserTypes& types) {
  for (const auto& row : rows) {
    const Oid oid = oid_of(row[0]);
    types.by_name[{*row[1], *row[2]}] = oid;
    const pg::TypeForm form = form_of(*row[3], oid_of(row[4]));
    if (form.kind != pg::TypeForm::Kind::plain) types.forms[oid] = form;
  }
}

int position_of(const Draft& draft, int attnum) {
  for (std::size_t i = 0; i < draft.attnums.size(); ++i)
    if (draft.attnums[i] == attnum) return static_cast<int>(i);
  return -1;
}

// "1 3 4"
std::vector<int> numbers_of(const std::string& text) {
  std::vector<int> numbers;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    numbers.push_back(std::stoi(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return numbers;
}

void add_unique_keys(const Lines& rows, Drafts& drafts) {
  for (const auto& row : rows) {
    auto draft = drafts.find(oid_of(row[0]));
    if (draft == drafts.end()) continue;
    catalog::UniqueKey key;
    key.name = *row[1];
    key.primary = flag(row[3]);
    for (const int attnum : numbers_of(*row[2])) {
      const int position = position_of(draft->second, attnum);
      if (position >= 0) key.columns.push_back(position);
    }
    draft->second.table->unique_keys.push_back(std::move(key));
  }
}

void add_foreign_keys(const Lines& rows, Drafts& drafts) {
  for (const auto& row : rows) {
    const auto draft = drafts.find(oid_of(row[0]));
    if (draft == drafts.end()) continue;
    catalog::Table& table = *draft->second.table;
    table.foreign_keys.push_back({*row[1], oid_of(row[2]), table.name + "_" + row[3].value_or("") + "_fkey"});
  }
}

void add_single_colocation(catalog::Database& database, catalog::GroupId group) {
  catalog::Colocation& colocation = database.colocations[catalog::single_colocation(group)];
  if (!colocation.shards.empty()) return;
  colocation.id = catalog::single_colocation(group);
  colocation.explicit_only = true;
  colocation.shards.push_back({0, 1, 0, group, 0});
}

// The shards and bounds of tables that are sharded by the partitions their users declare, and where those are.
void add_partitions(const Lines& rows, const Lines& keys, Drafts& drafts, catalog::Database& database) {
  std::map<Oid, std::vector<std::pair<Oid, std::string>>> partitions;  // of each parent: partition and bound
  for (const auto& row : rows) {
    const Oid oid = oid_of(row[0]), parent = oid_of(row[1]);
    if (auto draft = drafts.find(oid); draft != drafts.end()) draft->second.table->partition_of = parent;
    partitions[parent].emplace_back(oid, row[2].value_or(""));
  }
  for (auto& [oid, draft] : drafts)
    if (draft.table->colocation >= catalog::kFirstSingleColocation)
      add_single_colocation(database, draft.table->colocation - catalog::kFirstSingleColocation);
  for (const auto& row : keys) {
    auto draft = drafts.find(oid_of(row[0]));
    if (draft == drafts.end()) continue;
    catalog::Table& table = *draft->second.table;
    const auto found = database.colocations.find(table.colocation);
    if (found == database.colocations.end() || !found->second.by_partition) continue;
    catalog::Colocation& colocation = found->second;
    colocation.table = table.oid;
    table.key_columns.clear();
    for (int attnum : numbers_of(*row[2])) table.key_columns.push_back(position_of(draft->second, attnum));
    const std::string within = row[3].value_or(""), compared = row[4].value_or("");
    std::vector<catalog::PartitionBounds::KeyColumn> key;
    for (std::size_t i = 0; i < table.key_columns.size(); ++i) {
      using Compared = catalog::PartitionBounds::KeyColumn::Compared;
      const char how = i < compared.size() ? compared[i] : 'x';
      key.push_back(
          {table.columns[static_cast<std::size_t>(table.key_columns[i])].base_type, how == 'o'   ? Compared::by_order
                                                                                    : how == 'e' ? Compared::by_equality
                                                                                                 : Compared::unknown});
    }
    const bool expressions = compared.size() != key.size();
    for (int attnum : numbers_of(within)) table.key_columns.push_back(position_of(draft->second, attnum));
    colocation.shards.clear();
    std::vector<std::string> texts;
    for (const auto& [oid, bound] : partitions[table.oid]) {
      const auto partition = drafts.find(oid);
      if (partition == drafts.end() || partition->second.table->colocation < catalog::kFirstSingleColocation) continue;
      const catalog::GroupId group = partition->second.table->colocation - catalog::kFirstSingleColocation;
      colocation.shards.push_back({0, 0, 0, group, oid});
      texts.push_back(bound);
    }
    using Method = catalog::PartitionBounds::Method;
    const Method method = *row[1] == "r" ? Method::range : *row[1] == "l" ? Method::list : Method::hash;
    colocation.bounds = std::make_shared<const catalog::PartitionBounds>(method, std::move(key), texts, !expressions);
  }
}

// Base relations of a view, through other views.
void collect_reads(Oid view, const Drafts& drafts, std::set<Oid>& visited,
                   std::vector<std::pair<std::string, std::string>>& found) {
  if (!visited.insert(view).second) return;
  for (Oid read : drafts.at(view).reads) {
    auto draft = drafts.find(read);
    if (draft == drafts.end()) continue;  // a system catalog
    if (draft->second.table->kind == catalog::TableKind::view) {
      collect_reads(read, drafts, visited, found);
    } else if (visited.insert(read).second) {
      found.emplace_back(draft->second.table->schema, draft->second.table->name);
    }
  }
}

// Views are as what they read.
void note_special_tables(const Drafts& drafts, catalog::Database& database) {
  for (const auto& [oid, draft] : drafts) {
    std::set<Oid> visited, pending = draft.reads;
    while (!pending.empty()) {
      const Oid read = *pending.begin();
      pending.erase(pending.begin());
      const auto other = drafts.find(read);
      if (other == drafts.end() || !visited.insert(read).second) continue;
      draft.table->not_preparable = draft.table->not_preparable || other->second.table->not_preparable;
      draft.table->taints = draft.table->taints || other->second.table->taints;
      pending.insert(other->second.reads.begin(), other->second.reads.end());
    }
    database.special_tables = database.special_tables || draft.table->not_preparable || draft.table->taints;
  }
}

// Which rules are where they must not be.
std::vector<Error> add_rules(const Lines& rows, Drafts& drafts, catalog::Database& database) {
  if (rows.empty()) return {};
  std::vector<plan::RuleText> rules;
  for (const auto& row : rows)
    if (row[1]) rules.push_back({oid_of(row[0]), *row[1]});  // else it has just been dropped
  plan::RuleFacts facts = plan::read_rules(rules, database);
  for (Oid oid : facts.notifying)
    if (auto draft = drafts.find(oid); draft != drafts.end()) draft->second.table->not_preparable = true;
  for (Oid oid : facts.tainting)
    if (auto draft = drafts.find(oid); draft != drafts.end()) draft->second.table->taints = true;
  note_special_tables(drafts, database);
  return std::move(facts.misplaced);
}

// Functions of triggers, publications, subscriptions and rules that would see a part of the rows.
void find_misplaced(const Lines& triggers, const Lines& publications, const Lines& subscribed, const Lines& rules,
                    Drafts& drafts, catalog::Database& database) {
  std::vector<std::pair<Oid, std::string>> called;
  for (const auto& row : triggers) called.emplace_back(oid_of(row[0]), *row[1]);
  database.misplaced = plan::misplaced_functions(database, called);
  for (const auto& [table, name] : called) {
    const auto function = database.user_functions.find(name);
    if (table != 0 && function != database.user_functions.end() &&
        function->second.touches == catalog::UserFunction::Touches::unknown)
      database.guarded_tables.insert(table);
  }
  std::vector<plan::WidePublication> wide;
  for (const auto& row : publications) wide.push_back({*row[0], *row[1]});
  for (Error& error : plan::misplaced_publications(database, wide)) database.misplaced.push_back(std::move(error));
  for (Error& error : plan::misplaced_subscriptions(database, subscribed_tables(subscribed)))
    database.misplaced.push_back(std::move(error));
  for (Error& error : add_rules(rules, drafts, database)) database.misplaced.push_back(std::move(error));
}

uint64_t identities_of(const catalog::Database& database) {
  std::hash<std::string> hash;
  uint64_t sum = 0;
  auto add = [&](const std::string& schema, const std::string& name, Oid oid) {
    sum = (sum ^ hash(schema)) * 0x9E3779B97F4A7C15ull;
    sum = (sum ^ hash(name)) * 0xFF51AFD7ED558CCDull + oid;
  };
  for (const auto& [schema, tables] : database.schemas)
    for (const auto& [name, table] : tables) add(schema, name + '\0' + table->shard_prefix, table->oid);
  for (const auto& [name, oid] : database.types.by_name) add(name.first, name.second, oid);
  return sum;
}

// Views, and what they read.
std::vector<std::pair<Oid, Oid>> reads_of(const Drafts& drafts) {
  std::vector<std::pair<Oid, Oid>> reads;
  for (const auto& [oid, draft] : drafts)
    for (Oid read : draft.reads) reads.emplace_back(oid, read);
  return reads;
}

}  // namespace

net::Task<Result<std::shared_ptr<catalog::Database>>> introspect(pool::ServerConn& home, std::string name,
                                                                 const std::function<Result<Records>()>& read_records) {
  auto database = std::make_shared<catalog::Database>();
  database->name = std::move(name);
  Drafts drafts;
  // Names in what the catalogs return come out qualified.
  const bool in_transaction = home.transaction_status == 'T';
  CO_TRY_ASSIGN(Rows begun, co_await home.query(in_transaction ? kLookInTransaction : kLook));
  (void)begun;
  const std::string question = everything();
  CO_TRY_ASSIGN(Rows all, co_await home.query(question));
  if (in_transaction) {
    auto ended = co_await home.query(kEndLook);
    if (!ended.ok()) co_return std::move(ended.error());
  }
  CO_TRY_ASSIGN(Records known, read_records());
  auto parts = split_parts(std::move(all));
  const auto part = [&](Part which) -> const Lines& { return parts[static_cast<std::size_t>(which)]; };
  add_tables(part(Part::tables), drafts);
  add_types(part(Part::types), database->types);
  add_columns(part(Part::columns), part(Part::domains), drafts, *database);
  add_unique_keys(part(Part::unique), drafts);
  add_foreign_keys(part(Part::foreign_keys), drafts);
  for (const auto& row : part(Part::view_reads))
    if (auto draft = drafts.find(oid_of(row[0])); draft != drafts.end()) draft->second.reads.insert(oid_of(row[1]));
  for (const auto& record : known.tables) {
    auto draft = drafts.find(record.oid);
    if (draft == drafts.end()) continue;  // dropped
    catalog::Table& table = *draft->second.table;
    table.kind = record.kind;
    table.colocation = record.colocation;
    table.shard_prefix = record.shard_prefix;
    const auto shards = std::find_if(known.colocations.begin(), known.colocations.end(),
                                     [&](const catalog::Colocation& one) { return one.id == record.colocation; });
    if (shards != known.colocations.end() && shards->computed) shards->table = record.oid;
    if (record.group != 0) table.colocation = catalog::single_colocation(record.group);
    for (int attnum : record.key_columns) {
      const int position = position_of(draft->second, attnum);
      if (position < 0)
        co_return make_error("XX001", "the distribution column of table \"" + table.name + "\" is gone",
                             "`pgmosaic fsck` tells what else differs.");
      table.key_columns.push_back(position);
    }
  }
  for (auto& colocation : known.colocations) database->colocations[colocation.id] = std::move(colocation);
  add_partitions(part(Part::partitions), part(Part::partition_keys), drafts, *database);
  for (auto& [oid, draft] : drafts) {
    if (draft.table->kind != catalog::TableKind::view) continue;
    std::set<Oid> visited;
    collect_reads(oid, drafts, visited, draft.table->depends_on);
  }
  note_special_tables(drafts, *database);
  for (auto& [oid, draft] : drafts) {
    database->schemas[draft.table->schema][draft.table->name] = draft.table;
    database->tables_by_oid[oid] = draft.table;
  }
  for (const auto& row : part(Part::superusers)) database->superusers.insert(*row[0]);
  std::vector<plan::FunctionText> texts;
  for (const auto& row : part(Part::functions))
    texts.push_back(
        {*row[0], *row[1], *row[2], (*row[3])[0], flag(row[4]), flag(row[5]), row[6].value_or(""), flag(row[7])});
  database->user_functions = plan::read_functions(texts, *database);
  find_misplaced(part(Part::triggers), part(Part::wide_publications), part(Part::subscribed), part(Part::rules), drafts,
                 *database);
  add_sequences(part(Part::sequences), *database);
  add_draws(std::move(texts), part(Part::triggers), part(Part::rules), part(Part::unseen_calls), part(Part::cascades),
            reads_of(drafts), *database);
  database->identities = identities_of(*database);
  co_return database;
}

}  // namespace pgmosaic::control
