"""What catalogs say of one server, they say of the whole cluster."""
import pytest

from harness.pair import filled_databases
from harness.processes import wait_until

SETUP = [
    "CREATE TABLE big (id int PRIMARY KEY, v text) SHARD BY (id)", "CREATE INDEX big_v ON big (v)",
    "CREATE TABLE copied (id int PRIMARY KEY, v text) WITH (table_type = 'reference')",
    "CREATE TABLE here (id int PRIMARY KEY, v text)",
    *[f"INSERT INTO {name} VALUES " + ", ".join(f"({i}, '{'x' * 200}{i}')" for i in range(1, 4001))
      for name in ("big", "copied", "here")],
    "UPDATE big SET v = v WHERE id <= 100", "DELETE FROM big WHERE id > 3990",
    "VACUUM ANALYZE",  # or autovacuum adds a visibility map to the tables of one side first
]


@pytest.fixture(scope="module")
def sides(router, oracle):
    with filled_databases("catalogs", router, oracle, SETUP) as made:
        yield made


def columns(side, sql):
    with side.connect() as connection:
        return [(column.name, column.type_code) for column in connection.execute(sql).description]


SIZES = ["pg_relation_size", "pg_table_size", "pg_total_relation_size", "pg_indexes_size"]


@pytest.mark.parametrize("function", SIZES)
@pytest.mark.parametrize("table", ["big", "copied", "here"])
def test_sizes(sides, function, table):
    for argument in (f"'{table}'", f"'{table}'::regclass", f"'public.{table}'::regclass::oid"):
        mine, theirs = [side.run(f"SELECT {function}({argument})")[0][0] for side in sides]
        assert theirs <= mine < (1 if table != "big" else 3) * theirs + 40 * 8192 * (table == "big") + 1


def test_size_of_an_index(sides):
    mine, theirs = [side.run("SELECT pg_relation_size('big_v')")[0][0] for side in sides]
    assert theirs * 0.6 < mine < theirs * 3


def test_size_of_the_database(sides):
    by_name, by_oid, other = sides[0].run(
        "SELECT pg_database_size(current_database()), (SELECT pg_database_size(oid) FROM pg_database "
        "WHERE datname = current_database()), pg_database_size('template1')")[0]
    assert by_name == by_oid > 3 * other


def test_names_of_columns(sides):
    sql = ("SELECT pg_table_size('big'), pg_size_pretty(pg_total_relation_size(oid)), pg_relation_size(oid, 'main') AS m, "
           "reltuples FROM pg_class WHERE relname = 'big'")
    mine, theirs = [columns(side, sql) for side in sides]
    assert mine == theirs


@pytest.mark.parametrize("table", ["big", "copied", "here"])
def test_row_estimates(sides, table):
    sql = f"SELECT reltuples, relpages > 100, c.relkind FROM pg_class c WHERE relname = '{table}'"
    mine, theirs = [side.run(sql) for side in sides]
    assert mine == theirs


def test_counters(sides):
    sql = ("SELECT relname, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup > 3900, last_analyze IS NOT NULL "
           "FROM pg_stat_user_tables s ORDER BY relname")
    for side in sides:
        wait_until(lambda: side.run(sql)[0][1:4] == (4000, 100, 10), "the counters to be told")
    mine, theirs = [side.run(sql) for side in sides]
    assert mine == theirs


def test_all_catalog_columns_are_there(sides):
    for relation in ("pg_class", "pg_stat_user_tables", "pg_stat_all_tables"):
        extra = ", reltuples" if relation == "pg_class" else ""
        mine, theirs = [columns(side, f"SELECT *{extra} FROM {relation} LIMIT 0") for side in sides]
        assert mine == theirs


def test_nothing_of_ours_is_shown(sides):
    for sql in ["SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
                "SELECT relname, relkind, relispartition FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
                "SELECT conrelid::regclass::text, conname, contype FROM pg_constraint WHERE conrelid >= 16384 "
                "AND connamespace <> 'pg_catalog'::regnamespace ORDER BY 1, 2",
                "SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
                "SELECT routine_name FROM information_schema.routines WHERE specific_schema NOT IN "
                "('pg_catalog', 'information_schema')",
                "SELECT relname FROM pg_stat_user_indexes JOIN pg_statio_user_tables USING (relname) ORDER BY 1",
                "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema !~ '^pg_' "
                "AND table_schema <> 'information_schema' ORDER BY 1, 2",
                "SELECT count(*) FROM pg_inherits", "SELECT spcname FROM pg_tablespace ORDER BY 1",
                "SELECT count(*) FROM pg_database WHERE datname LIKE 'pgmosaic%'",
                "SELECT count(*) FROM pg_proc WHERE oid >= 16384 AND pronamespace::regnamespace::text !~ '^pg_'",
                "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 2"]:
        mine, theirs = [side.run(sql) for side in sides]
        assert mine == theirs, sql
