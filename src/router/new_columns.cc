#include "router/new_columns.h"

#include "pool/settings.h"
#include "router/new_tables.h"

namespace pgmosaic::router {

namespace {

constexpr int kCarriedRows = 1000;  // per statement

using Rows = pool::ServerConn::Rows;

// Asks all of them at once.
net::Task<Result<std::vector<Rows>>> ask_all(const std::vector<exec::Backend*>& backends,
                                             const std::vector<std::string>& texts) {
  for (std::size_t i = 0; i < backends.size(); ++i) {
    backends[i]->conn->add_internal_query(texts[i]);
    backends[i]->conn->flush();
  }
  std::vector<Rows> all(backends.size());
  Status result;
  for (std::size_t i = 0; i < backends.size(); ++i) {
    Status status = co_await backends[i]->conn->drain(&all[i]);
    if (!status.ok() && result.ok()) result = std::move(status);
  }
  if (!result.ok()) co_return std::move(result.error());
  co_return all;
}

net::Task<Result<std::vector<Rows>>> ask_all(const std::vector<exec::Backend*>& backends, const std::string& text) {
  const std::vector<std::string> texts(backends.size(), text);
  co_return co_await ask_all(backends, texts);
}

// Numbers of a sequence, as runs of consecutive ones: at which draw each begins, and with which number.
//   $SEQUENCE$: as nextval() takes it, $COUNT$, $STEP$: its increment
constexpr const char* kDraw = R"(
WITH drawn AS MATERIALIZED (
  SELECT k, pg_catalog.nextval($SEQUENCE$) AS v FROM pg_catalog.generate_series(1, $COUNT$::pg_catalog.int8) AS k)
SELECT pg_catalog.min(k), (pg_catalog.min(k) * ($STEP$)::pg_catalog.numeric + island)::pg_catalog.int8
FROM (SELECT k, v::pg_catalog.numeric - ($STEP$)::pg_catalog.numeric * k AS island FROM drawn) AS d
GROUP BY island ORDER BY 1)";

// The value of the row that is looked at now.
//   $NAME$: of the function and of the sequence that counts the rows, $ROWS$: of the table, $TYPE$, $VALUE$: an
//   expression over its row r and the place p
constexpr const char* kFunction = R"(
CREATE FUNCTION $NAME$() RETURNS $TYPE$ LANGUAGE plpgsql AS $pgmosaic$
DECLARE
  p CONSTANT pg_catalog.int8 := pg_catalog.nextval('$NAME$'::pg_catalog.regclass);
  r record;
BEGIN
  SELECT * INTO STRICT r FROM $ROWS$ AS f WHERE f.n OPERATOR(pg_catalog.<=) p ORDER BY f.n DESC LIMIT 1;
  RETURN $VALUE$;
END $pgmosaic$)";

constexpr const char* kWideSequence = " MINVALUE -9223372036854775808 MAXVALUE 9223372036854775807";

std::string with(std::string text, std::initializer_list<std::pair<std::string_view, std::string>> values) {
  for (const auto& [mark, value] : values)
    for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + value.size()))
      text.replace(at, mark.size(), value);
  return text;
}

std::string literal(const std::string& text) { return pool::quote_literal(text); }

// A value in text means the same under every setting.
bool exact_text(const std::string& type) {
  for (const char* exact :
       {"text", "name", "character varying", "smallint", "integer", "bigint", "numeric", "boolean", "uuid", "oid"})
    if (type == exact) return true;
  return false;
}

}  // namespace

// Named after the table, which is locked.
std::string NewColumns::filler(std::size_t number, const char* suffix) const {
  return "pgmosaic_shards.pgmosaic_fill_" + std::to_string(plan_.table) + "_" + std::to_string(number) + suffix;
}

void NewColumns::put(std::string& text, char kind, std::size_t number, const std::string& value) const {
  const std::string mark = "'/*" + plan_.mark + kind + std::to_string(number) + "*/'";
  if (const std::size_t at = text.find(mark); at != std::string::npos) text.replace(at, mark.size(), value);
}

net::Task<Result<NewColumns::Columns>> NewColumns::columns_at_home() {
  const std::string question =
      "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), coalesce(a.attnum = ANY "
      "(i.indkey::pg_catalog.int2[]), false), a.attnum FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_index i "
      "ON i.indrelid = a.attrelid AND i.indisprimary WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = " +
      std::to_string(plan_.table);
  auto rows = co_await home().query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  Columns columns;
  for (const auto& row : rows->rows) columns[*row[0]] = {*row[3], *row[1], row[2] == "t"};
  co_return columns;
}

net::Task<Status> NewColumns::before() {
  counts_.clear();
  restore_.clear();
  drop_.clear();
  limits_.clear();
  CO_TRY_ASSIGN(columns_, co_await columns_at_home());
  co_return Status{};
}

bool NewColumns::was_there(const std::string& column) const {
  const auto before = columns_.find(column), now = now_.find(column);
  return before != columns_.end() && now != now_.end() && before->second.number == now->second.number;
}

net::Task<Status> NewColumns::begun(const std::vector<exec::Backend*>& groups, std::vector<std::string>& texts) {
  CO_TRY_ASSIGN(now_, co_await columns_at_home());
  CO_TRY(co_await compute_once(texts));
  if (plan_.values.empty()) co_return Status{};
  CO_TRY(co_await lock_and_count(groups));
  for (std::size_t i = 0; i < plan_.values.size(); ++i) {
    if (was_there(plan_.values[i].column)) {  // IF NOT EXISTS
      for (std::string& text : texts) put(text, 'v', i, "NULL");
    } else if (plan_.copies) {
      CO_TRY(co_await carry(i, groups, texts));
    } else {
      CO_TRY(co_await draw(i, groups, texts));
    }
  }
  co_return co_await settle(groups, false);
}

// What all rows get alike.
net::Task<Status> NewColumns::compute_once(std::vector<std::string>& texts) {
  for (std::size_t i = 0; i < plan_.once.size(); ++i) {
    const std::string& expression = plan_.once[i];
    const std::string question =
        "SELECT pg_catalog.pg_typeof(" + expression + "), (" + expression + ")::pg_catalog.text";
    auto rows = co_await home().query(question);
    if (!rows.ok()) co_return std::move(rows.error());
    const std::string type = *rows->rows.at(0)[0];
    std::optional<std::string> value = rows->rows[0][1];
    if (!exact_text(type)) {
      CO_TRY_ASSIGN(const std::string restore, co_await write_exactly(home()));
      auto exact = co_await home().query(question);
      if (!exact.ok()) co_return std::move(exact.error());
      value = exact->rows.at(0)[1];
      auto restored = co_await home().query(restore);
      if (!restored.ok()) co_return std::move(restored.error());
    }
    const std::string constant = (value ? literal(*value) : "NULL") + "::" + type;
    for (std::string& text : texts) put(text, 'o', i, constant);
  }
  co_return Status{};
}

// The groups' rows, which are looked at in their order, and those of the home, are read and written exactly meanwhile.
net::Task<Status> NewColumns::lock_and_count(const std::vector<exec::Backend*>& groups) {
  const std::string lock = "LOCK TABLE " + plan_.name + " IN ACCESS EXCLUSIVE MODE";
  auto locked = co_await ask_all(groups, lock);
  if (!locked.ok()) co_return std::move(locked.error());
  CO_TRY(co_await settle(groups, true));
  const std::string count = "SELECT pg_catalog.count(*) FROM " + plan_.name;
  CO_TRY_ASSIGN(const std::vector<Rows> counted, co_await ask_all(groups, count));
  for (const Rows& rows : counted) counts_.push_back(std::stoll(*rows.rows.at(0)[0]));
  co_return Status{};
}

net::Task<Status> NewColumns::settle(const std::vector<exec::Backend*>& groups, bool exactly) {
  std::vector<pool::ServerConn*> all;
  for (exec::Backend* group : groups) all.push_back(group->conn.get());
  all.push_back(&home());
  if (exactly) restore_.clear();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (exactly) {
      CO_TRY_ASSIGN(std::string restore, co_await write_exactly(*all[i]));
      restore_.push_back(std::move(restore));
    } else {
      const std::string text = restore_[i];
      auto restored = co_await all[i]->query(text);
      if (!restored.ok()) co_return std::move(restored.error());
    }
  }
  co_return Status{};
}

// --- numbers ---

// As nextval() takes it.
net::Task<Result<std::string>> NewColumns::own_sequence(const std::string& column) {
  const std::string question =
      "SELECT d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND "
      "a.attnum = d.refobjsubid JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid WHERE d.deptype IN ('a', 'i') "
      "AND "
      "d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid AND d.refobjid = " +
      std::to_string(plan_.table) + " AND a.attname = " + literal(column);
  auto rows = co_await home().query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty())
    co_return make_error("0A000", "ADD COLUMN \"" + column + "\" whose sequence is changed by the same statement",
                         "ALTER the column in a statement of its own.");
  co_return *rows->rows[0][0] + "::pg_catalog.oid::pg_catalog.regclass";
}

net::Task<Status> NewColumns::draw(std::size_t number, const std::vector<exec::Backend*>& groups,
                                   std::vector<std::string>& texts) {
  const Values& values = plan_.values[number];
  std::string sequence = literal(values.sequence) + "::pg_catalog.regclass";
  if (values.sequence.empty()) {
    CO_TRY_ASSIGN(sequence, co_await own_sequence(values.column));
  }
  const std::string ask_step = "SELECT seqincrement FROM pg_catalog.pg_sequence WHERE seqrelid = " + sequence;
  auto steps = co_await home().query(ask_step);
  if (!steps.ok()) co_return std::move(steps.error());
  if (steps->rows.empty()) co_return make_error("42809", literal(values.sequence) + " is not a sequence");
  const std::string step = *steps->rows[0][0], name = filler(number), table = filler(number, "_rows");
  bool functions = false;
  std::vector<std::string> makes;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    Rows runs;
    if (counts_[i] > 0) {
      const std::string question =
          with(kDraw, {{"$SEQUENCE$", sequence}, {"$COUNT$", std::to_string(counts_[i])}, {"$STEP$", step}});
      CO_TRY_ASSIGN(runs, co_await home().query(question));
    }
    const bool straight = runs.rows.size() < 2;
    const std::string first = runs.rows.empty() ? "1" : *runs.rows[0][1];
    const std::string count = std::to_string(counts_[i]);
    std::string make = "CREATE SEQUENCE " + name + kWideSequence;
    make += straight ? " INCREMENT " + step + " START " + first + ";" : " START 1;";
    // Too many: there are rows that were not counted.
    limits_[number].push_back("is_called AND (last_value - " + (straight ? first : "1") + ") / " +
                              (straight ? "(" + step + ")" : "1") + " >= " + count);
    if (!straight) {
      make += "CREATE TABLE " + table + " (n bigint PRIMARY KEY, v bigint);INSERT INTO " + table + " VALUES ";
      for (const auto& row : runs.rows) make += (&row == &runs.rows[0] ? "(" : ", (") + *row[0] + ", " + *row[1] + ")";
      make += ";" + with(kFunction, {{"$NAME$", name},
                                     {"$ROWS$", table},
                                     {"$TYPE$", "pg_catalog.int8"},
                                     {"$VALUE$", "r.v + (" + step + ") * (p - r.n)"}});
      functions = true;
    }
    makes.push_back(std::move(make));
    put(texts[i], 'v', number, straight ? "pg_catalog.nextval('" + name + "'::pg_catalog.regclass)" : name + "()");
  }
  if (functions) drop_ += "DROP FUNCTION IF EXISTS " + name + "();DROP TABLE IF EXISTS " + table + ";";
  drop_ += "DROP SEQUENCE " + name + ";";
  co_return co_await run_on_groups(groups, makes, nullptr);
}

// A group has seen rows that it had not when they were counted: its snapshot is older than the lock.
net::Task<Status> NewColumns::check_draws(const std::vector<exec::Backend*>& groups) {
  for (const auto& [number, limits] : limits_) {
    std::vector<std::string> texts;
    for (const std::string& limit : limits) texts.push_back("SELECT " + limit + " FROM " + filler(number));
    CO_TRY_ASSIGN(const std::vector<Rows> answers, co_await ask_all(groups, texts));
    for (const Rows& answer : answers)
      if (answer.rows.at(0)[0] == "t")
        co_return make_error("40001", "could not serialize access due to concurrent update", "Retry the transaction.");
  }
  co_return Status{};
}

// --- copies ---

// What tells the rows of a copy apart: the primary key, or all of the row, as far as this statement leaves it alone.
Result<std::string> NewColumns::row_key() const {
  std::string key, row;
  bool whole_key = true, changed = false;
  for (const auto& [name, column] : columns_) {
    const auto found = now_.find(name);
    const bool there = was_there(name), same = there && found->second.type == column.type;
    changed = changed || (there && !same);
    whole_key = whole_key && (same || !column.key);
    if (!same) continue;
    if (column.key) key += (key.empty() ? "" : ", ") + pool::quote_identifier(name);
    row += (row.empty() ? "" : ", ") + pool::quote_identifier(name);
  }
  if (!key.empty() && whole_key) return "ROW(" + key + ")::pg_catalog.text";
  if (changed)
    return make_error("0A000", "ADD COLUMN of a reference table without primary key, and ALTER COLUMN TYPE, at once",
                      "Use two statements.");
  return "ROW(" + row + ")::pg_catalog.text";
}

net::Task<Status> NewColumns::load(const std::string& table, const std::string& column, const std::string& key,
                                   const std::vector<exec::Backend*>& groups) {
  const std::string declare = "DECLARE pgmosaic_carried NO SCROLL CURSOR FOR SELECT " + key +
                              ", pg_catalog.row_number() OVER (PARTITION BY " + key + " ORDER BY ctid), " +
                              pool::quote_identifier(column) + "::pg_catalog.text FROM " + plan_.name;
  auto declared = co_await home().query(declare);
  if (!declared.ok()) co_return std::move(declared.error());
  const std::string fetch = "FETCH " + std::to_string(kCarriedRows) + " FROM pgmosaic_carried";
  for (;;) {
    CO_TRY_ASSIGN(const Rows rows, co_await home().query(fetch));
    if (rows.rows.empty()) break;
    std::string insert = "INSERT INTO " + table + " VALUES ";
    for (const auto& row : rows.rows)
      insert += (&row == &rows.rows.front() ? "(" : ", (") + literal(row[0].value_or("")) + ", " + *row[1] + ", " +
                (row[2] ? literal(*row[2]) : "NULL") + ")";
    const std::vector<std::string> texts(groups.size(), insert);
    CO_TRY(co_await run_on_groups(groups, texts, nullptr));
  }
  auto closed = co_await home().query("CLOSE pgmosaic_carried");
  if (!closed.ok()) co_return std::move(closed.error());
  co_return Status{};
}

net::Task<Status> NewColumns::carry(std::size_t number, const std::vector<exec::Backend*>& groups,
                                    std::vector<std::string>& texts) {
  const std::string& column = plan_.values[number].column;
  const auto made = now_.find(column);
  if (made == now_.end()) co_return make_error("42703", "column \"" + column + "\" does not exist");
  CO_TRY_ASSIGN(const std::string key, row_key());
  const std::string name = filler(number), carried = filler(number, "_load"), rows = filler(number, "_rows");
  const std::string prepare = "SET LOCAL synchronize_seqscans = off;CREATE SEQUENCE " + name + ";CREATE TABLE " +
                              carried + " (key text, twin bigint, v " + made->second.type + ")";
  std::vector<std::string> all(groups.size(), prepare);
  CO_TRY(co_await run_on_groups(groups, all, nullptr));
  CO_TRY(co_await load(carried, column, key, groups));
  const std::string order =
      "CREATE TABLE " + rows +
      " AS SELECT pg_catalog.row_number() OVER (ORDER BY t.place) AS n, l.v FROM "
      "(SELECT ctid AS place, " +
      key + " AS key, pg_catalog.row_number() OVER (PARTITION BY " + key + " ORDER BY ctid) AS twin FROM " +
      plan_.name + ") AS t JOIN " + carried + " AS l USING (key, twin);ALTER TABLE " + rows + " ADD PRIMARY KEY (n);" +
      with(kFunction, {{"$NAME$", name}, {"$ROWS$", rows}, {"$TYPE$", made->second.type}, {"$VALUE$", "r.v"}}) +
      ";SELECT pg_catalog.count(*) FROM " + rows;
  CO_TRY_ASSIGN(const std::vector<Rows> counted, co_await ask_all(groups, order));
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (std::stoll(*counted[i].rows.at(0)[0]) != counts_[i])
      co_return make_error("XX001", "the copies of " + plan_.name + " differ", "`pgmosaic fsck` tells what else does.");
    limits_[number].push_back("is_called AND last_value > " + std::to_string(counts_[i]));
    put(texts[i], 'v', number, name + "()");
  }
  drop_ += "DROP FUNCTION " + name + "();DROP TABLE " + carried + ", " + rows + ";DROP SEQUENCE " + name + ";";
  co_return Status{};
}

// --- the columns as they are declared ---

// What the groups run so that the column is what it is at home.
net::Task<Result<std::string>> NewColumns::settings_of(const plan::Ddl::NewColumns::Column& column) {
  const std::string question = R"(
SELECT a.attidentity, pg_catalog.pg_get_expr(f.adbin, f.adrelid), q.sequence, q.options, q.kind,
       pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)), q.type
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
     LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
     LEFT JOIN LATERAL (
       SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(k.relname),
              pg_catalog.format('INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s %s', s.seqincrement, s.seqmin,
                                s.seqmax, s.seqstart, s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END),
              CASE WHEN k.relpersistence = 'u' THEN 'UNLOGGED ' ELSE '' END || 'SEQUENCE ',
              pg_catalog.format_type(s.seqtypid, NULL)
       FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
            JOIN pg_catalog.pg_class k ON k.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace
       WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid
             AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
       LIMIT 1) AS q (sequence, options, kind, type) ON true
WHERE a.attrelid = )" + std::to_string(plan_.table) +
                               " AND a.attname = " + literal(column.name);
  auto rows = co_await home().query(question);
  if (!rows.ok()) co_return std::move(rows.error());
  if (rows->rows.empty()) co_return std::string();
  const auto& row = rows->rows[0];
  const std::string alter = "ALTER TABLE " + plan_.name + " ALTER COLUMN " + pool::quote_identifier(column.name) + " ";
  std::string text = alter + (row[1] ? "SET DEFAULT " + *row[1] : "DROP DEFAULT") + ";";
  if (!column.own_sequence || !row[2]) co_return text;
  const std::string &sequence = *row[2], &options = *row[3];
  if (*row[0] == "")
    co_return "CREATE " + *row[4] + sequence + " AS " + *row[6] + " " + options + ";ALTER SEQUENCE " + sequence +
        " OWNER TO " + *row[5] + ";ALTER SEQUENCE " + sequence + " OWNED BY " + plan_.name + "." +
        pool::quote_identifier(column.name) + ";" + text;
  text += "ALTER TABLE ONLY " + alter.substr(std::string("ALTER TABLE ").size()) + "ADD GENERATED " +
          (*row[0] == "a" ? "ALWAYS" : "BY DEFAULT") + " AS IDENTITY (SEQUENCE NAME " + sequence + " " + options + ");";
  co_return text;
}

net::Task<Status> NewColumns::done(const std::vector<exec::Backend*>& groups) {
  CO_TRY(co_await check_draws(groups));
  CO_TRY(co_await settle(groups, true));  // defaults hold constants
  std::string text;
  for (const auto& column : plan_.columns) {
    if (was_there(column.name)) continue;
    CO_TRY_ASSIGN(const std::string settings, co_await settings_of(column));
    text += settings;
  }
  const std::vector<std::string> texts(groups.size(), text + drop_);
  CO_TRY(co_await run_on_groups(groups, texts, nullptr));
  co_return co_await settle(groups, false);
}

}  // namespace pgmosaic::router
