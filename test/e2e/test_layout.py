"""CREATE LAYOUT, and a dump that is restored with `pgmosaic layout dump`: the tables are sharded as they were."""
import os
import subprocess

import psycopg
import pytest

from harness import fsck
from harness.cluster import PASSWORD, program
from harness.pair import databases
from harness.processes import PATIENCE, postgres_program

TABLES = ("SELECT schema_name, table_name, table_type, distribution_column, shard_count FROM pgmosaic.tables "
          "WHERE table_name <> 'kept' ORDER BY 1, 2")
TOGETHER = ("SELECT array_agg(schema_name || '.' || table_name ORDER BY schema_name, table_name) FROM pgmosaic.tables "
            "WHERE distribution_column <> '' GROUP BY colocation_id ORDER BY 1")

SCHEMA = [
    "CREATE SCHEMA \"Odd one\"",
    "CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL) "
    "SHARD BY (id) WITH (shard_count = 8, fillfactor = 80)",
    "CREATE TABLE orders (customer_id bigint REFERENCES customer (id), id serial, total numeric DEFAULT 0 CHECK (total >= 0), "
    "PRIMARY KEY (customer_id, id)) SHARD BY (customer_id) WITH (shard_count = 8)",
    "CREATE UNLOGGED TABLE \"Odd one\".\"T 1\" (\"K k\" text, \"b,\"\"c\" int) SHARD BY (\"b,\"\"c\", \"K k\") WITH (shard_count = 3)",
    # Apart from the others and together with each other, the first by name last.
    "CREATE TABLE z_apart (id bigint PRIMARY KEY) SHARD BY (id) WITH (shard_count = 8, colocate_with = 'none')",
    "CREATE TABLE \"Odd one\".y (id bigint, v int) SHARD BY (id) WITH (colocate_with = 'public.z_apart')",
    "CREATE TABLE a_apart (id bigint) SHARD BY (id) WITH (colocate_with = 'z_apart')",
    "CREATE TABLE alone (id bigint) SHARD BY (id) WITH (shard_count = 8, colocate_with = 'none')",
    "CREATE TABLE country (code char(2) PRIMARY KEY, name text) WITH (table_type = 'reference')",
    "CREATE TABLE visit (at date) PARTITION BY RANGE (at) WITH (table_type = 'reference')",
    "CREATE TABLE visit_26 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE TABLE note (id serial PRIMARY KEY, body text)",
    "CREATE TABLE event (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
    "CREATE TABLE event_24 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "CREATE TABLE event_rest PARTITION OF event DEFAULT",
    "CREATE TABLE metric (host int, at date, v int DEFAULT 5, PRIMARY KEY (host, at)) SHARD BY HASH (host) PARTITION BY RANGE (at) "
    "(PARTITION metric_old VALUES LESS THAN ('2025-01-01'), PARTITION metric_new VALUES LESS THAN (MAXVALUE))",
    "CREATE TABLE region (code text, v int) PARTITION BY LIST (code)", "CREATE TABLE region_eu PARTITION OF region FOR VALUES IN ('de')",
    "CREATE TABLE score (k int, v int) SHARD BY RANGE (k) (SHARD 'low' VALUES FROM 0 TO 10, SHARD 'high' VALUES FROM 10 TO UNBOUNDED)",
    "CREATE TABLE bucket (k int, v int) SHARD BY HASH (k)",
    "CREATE TABLE bucket_0 PARTITION OF bucket FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE bucket_1 PARTITION OF bucket FOR VALUES WITH (MODULUS 2, REMAINDER 1)", "CREATE INDEX ON metric (v)",
    "INSERT INTO event SELECT i, '2024-06-01'::date + i * 10 FROM generate_series(1, 50) i", "INSERT INTO region VALUES ('de', 1)",
    "INSERT INTO metric SELECT i, '2024-06-01'::date + i * 10 FROM generate_series(1, 50) i",
    "INSERT INTO score SELECT i, i FROM generate_series(0, 30) i", "INSERT INTO bucket SELECT i, i FROM generate_series(0, 30) i",
    "CREATE INDEX by_name ON customer (lower(name))", "CREATE VIEW names AS SELECT name FROM customer",
    "CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM note",
    "ALTER TABLE orders ADD FOREIGN KEY (customer_id, id) REFERENCES orders (customer_id, id)",
    "INSERT INTO customer (name) SELECT 'c' || i FROM generate_series(1, 60) i",
    "INSERT INTO orders (customer_id, total) SELECT i % 60 + 1, i FROM generate_series(1, 200) i",
    "INSERT INTO \"Odd one\".\"T 1\" VALUES ('a', 1), ('b', 2), (NULL, NULL)",
    "INSERT INTO z_apart SELECT generate_series(1, 20)", "INSERT INTO country VALUES ('de', 'Germany'), ('fr', 'France')",
    "INSERT INTO visit VALUES ('2026-05-05')", "INSERT INTO note (body) VALUES ('x'), ('y')",
]
ROWS = ["SELECT * FROM customer ORDER BY id", "SELECT * FROM orders ORDER BY 1, 2", 'SELECT * FROM "Odd one"."T 1" ORDER BY 1, 2',
        "SELECT * FROM z_apart ORDER BY 1", "SELECT * FROM country ORDER BY 1", "SELECT * FROM visit", "SELECT * FROM note ORDER BY 1",
        "SELECT * FROM event ORDER BY 1", "SELECT * FROM metric ORDER BY 1", "SELECT * FROM region", "SELECT * FROM score ORDER BY 1",
        "SELECT * FROM bucket ORDER BY 1", "SELECT name, total FROM customer c JOIN orders o ON o.customer_id = c.id ORDER BY 1, 2"]


def run(command, endpoint, check=True):
    environment = {**os.environ, **endpoint.environment(), "LC_ALL": "C.UTF-8"}
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True,
                          timeout=120 * PATIENCE, check=False)
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def psql(endpoint, *arguments):
    return run([postgres_program("psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", *arguments], endpoint)


@pytest.fixture(scope="module")
def source(router):
    with databases("layout_source", router) as [made]:
        made.run(*SCHEMA)
        yield made


@pytest.fixture
def target(make_dev_cluster):
    """A second cluster, of another number of groups."""
    return make_dev_cluster(groups=2, name="restored").endpoint


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_dump_and_restore(source, target, form, tmp_path):
    layout, dump = tmp_path / "layout.sql", tmp_path / "dump"
    layout.write_text(run([program(), "layout", "dump", source.url()], source).stdout)
    run([postgres_program("pg_dump"), f"--format={form}", f"--file={dump}"], source)
    psql(target, "-f", layout)
    if form == "plain":
        psql(target, "-f", dump)
    else:
        run([postgres_program("pg_restore"), "--jobs=2", "--exit-on-error", "-d", target.database, dump], target)
    for query in [TABLES, TOGETHER, *ROWS]:
        assert target.run(query) == source.run(query), query
    assert fsck.differences(target) == []
    again = run([program(), "layout", "dump"], target).stdout  # where to comes from PGHOST, …
    assert sorted(again.splitlines()) == sorted(layout.read_text().splitlines())
    # It goes on as it went at the source.
    target.run("INSERT INTO customer (name) VALUES ('next')", "INSERT INTO orders (customer_id) VALUES (61)")
    assert target.run("SELECT max(id) FROM customer") == [(61,)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        target.run("INSERT INTO orders (customer_id) VALUES (1000)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        target.run("INSERT INTO country VALUES ('de', 'again')")
    pending = "SHOW LAYOUTS"
    admin = target.change(database="pgmosaic")
    assert len(admin.run(pending)) == len(layout.read_text().splitlines()) - 2
    target.run("DROP LAYOUT ALL")
    assert admin.run(pending) == []


def kinds(endpoint):
    return {row[1]: row[2] for row in endpoint.run(TABLES)}


def test_the_commands(router):
    with databases("layouts", router) as [side]:
        side.run("CREATE SCHEMA \"S\"", "CREATE LAYOUT FOR public.a SHARD BY HASH (k) WITH (shard_count = 3)",
                 "CREATE LAYOUT FOR \"S\".\"T.'\"\"1\" SHARD BY (\"K k\")",
                 "create layout for public.b with (table_type = 'reference');",
                 "CREATE LAYOUT FOR public.c WITH (table_type = 'reference')", "CREATE LAYOUT FOR public.c SHARD BY (id)",
                 "CREATE LAYOUT FOR public.d SHARD BY (id)", "DROP LAYOUT FOR public.d", "DROP LAYOUT FOR public.nothing")
        shown = [row[1:] for row in router.change(database="pgmosaic").run("SHOW LAYOUTS") if row[0] == side.database]
        assert shown == [("S", "T.'\"1", 'SHARD BY ("K k")'), ("public", "a", "SHARD BY HASH (k) WITH (shard_count = 3)"),
                         ("public", "b", "with (table_type = 'reference')"), ("public", "c", "SHARD BY (id)")]
        side.run("CREATE TABLE public.a (id int, k int) -- a comment", "CREATE TABLE public.b (id int);",
                 "CREATE TABLE IF NOT EXISTS \"S\".\"T.'\"\"1\" (\"K k\" text); CREATE TABLE \"S\".b (id int)",
                 "CREATE TABLE public.c (id int) WITH (table_type = 'local')", "CREATE TABLE public.d (id int)",
                 "CREATE TEMP TABLE a (k int)")
        assert side.run("SELECT schema_name, table_name, table_type, distribution_column, shard_count FROM pgmosaic.tables "
                        "ORDER BY 1, 2") == [
            ("S", "T.'\"1", "sharded", "K k", 16), ("S", "b", "local", None, None), ("public", "a", "sharded", "k", 3),
            ("public", "b", "reference", None, None), ("public", "c", "local", None, None),
            ("public", "d", "local", None, None)]
        side.run("DROP TABLE public.a, c", "CREATE TABLE a (k int)")
        assert kinds(side)["a"] == "local"  # it names no schema
        side.run("DROP TABLE a", "DROP LAYOUT ALL", "CREATE TABLE public.a (k int)", "CREATE TABLE public.c (id int)")
        assert kinds(side)["a"] == kinds(side)["c"] == "local"
        assert fsck.differences(side) == []


def test_what_is_refused(router):
    with databases("layouts_refused", router) as [side]:
        for wrong, sqlstate in [
                ("CREATE LAYOUT FOR public.a", "42601"), ("CREATE LAYOUT a SHARD BY (id)", "42601"), ("DROP LAYOUT", "42601"),
                ("CREATE LAYOUT FOR public.a SHARD BY (id", "42601"), ("CREATE LAYOUT FOR public.a WITH (fillfactor = 10)", "42601"),
                ("CREATE LAYOUT FOR public.a SHARD BY (id) WITH (shard_count = 0)", "22023"), ("DROP LAYOUT FOR public.a b", "42601"),
                ("DROP LAYOUT FOR a", "42601"), ("CREATE LAYOUT FOR a SHARD BY (id)", "42601"),
                ("CREATE LAYOUT FOR public.a PARTITION BY RANGE (id)", "42601"),
                ("CREATE LAYOUT FOR public.a SHARD BY (id) AS x", "42601")]:
            with pytest.raises(psycopg.Error) as raised:
                side.run(wrong)
            assert raised.value.sqlstate == sqlstate, wrong
        with side.connect(autocommit=False) as connection, pytest.raises(psycopg.errors.ActiveSqlTransaction):
            connection.execute("CREATE LAYOUT FOR public.a SHARD BY (id)")
        side.run("CREATE LAYOUT FOR public.a SHARD BY (gone)")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            side.run("CREATE TABLE public.a (id int)")
        side.run(f"CREATE ROLE layout_plain LOGIN PASSWORD '{PASSWORD}'")
        try:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                side.change(user="layout_plain", password=PASSWORD).run("DROP LAYOUT ALL")
        finally:
            side.run("DROP ROLE layout_plain")


def test_layouts_outlive_the_router_and_go_with_their_database(make_server, make_router):
    router = make_router([make_server("layout-g1")])
    router.endpoint.run("CREATE DATABASE d")
    d = router.endpoint.change(database="d")
    d.run("CREATE LAYOUT FOR public.t SHARD BY (id)")
    router.kill()
    router.start()
    d.run("CREATE TABLE public.t (id int)")
    assert kinds(d) == {"t": "sharded"}
    router.endpoint.drop_database("d")
    router.endpoint.run("CREATE DATABASE d")
    d.run("CREATE TABLE public.t (id int)")
    assert kinds(d) == {"t": "local"}


def test_wrong_usage(router):
    for arguments in ([], ["restore"], ["dump", router.url().rsplit("/", 1)[0]], ["dump", "x"], ["dump", "--x"]):
        done = subprocess.run([program(), "layout", *arguments], capture_output=True, text=True, timeout=30 * PATIENCE)
        assert done.returncode == 2 and done.stdout == "" and done.stderr, arguments
    assert run([program(), "layout", "dump", router.change(database="nowhere").url()], router, check=False).returncode == 1
