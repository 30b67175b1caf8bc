"""FSCK and `pgmosaic fsck`: every kind of difference that somebody makes on a group is named, and nothing else is."""
import subprocess

import psycopg
import pytest

from harness import fsck
from harness.cluster import PASSWORD, PostgresServer, Router, program
from harness.processes import PATIENCE
from harness.wire import Session

SCHEMA = [
    "CREATE ROLE app", "CREATE SCHEMA shop", "CREATE TYPE shop.mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN shop.price AS numeric CHECK (VALUE >= 0)",
    "CREATE TABLE shop.customer (id bigint PRIMARY KEY, name text NOT NULL, m shop.mood DEFAULT 'ok', p shop.price) "
    "SHARD BY (id) WITH (shard_count = 4)",
    "CREATE TABLE \"Odd one\" (\"K k\" int, v int, PRIMARY KEY (\"K k\")) SHARD BY (\"K k\") WITH (shard_count = 3)",
    "CREATE UNLOGGED TABLE quick (id int) SHARD BY (id) WITH (shard_count = 2, fillfactor = 70)",
    "CREATE TABLE country (code char(2) PRIMARY KEY, name text) WITH (table_type = 'reference')",
    "CREATE TABLE note (id serial PRIMARY KEY, body text COLLATE \"C\", at timestamptz DEFAULT now())",
    "CREATE TABLE bare (id int)", "CREATE TABLE visit (at date) PARTITION BY RANGE (at) WITH (table_type = 'local')",
    "CREATE TABLE trip (at date) PARTITION BY RANGE (at)",
    "CREATE TABLE trip_old PARTITION OF trip FOR VALUES FROM (MINVALUE) TO ('2026-01-01')",
    "CREATE TABLE trip_26 PARTITION OF trip FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (at)",
    "CREATE TABLE trip_26_all PARTITION OF trip_26 DEFAULT",
    "CREATE TABLE by_word (w text, n int) SHARD BY HASH (lower(w))",
    "CREATE TABLE reading (host int, at date) SHARD BY HASH (host) PARTITION BY RANGE (at)",
    "CREATE TABLE reading_26 PARTITION OF reading FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE TABLE visit_26 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE INDEX by_name ON shop.customer (lower(name)) WHERE id > 0",
    "CREATE VIEW notes AS SELECT id, body FROM note", "CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM note",
    "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n'",
    "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER stamped BEFORE INSERT ON country FOR EACH ROW EXECUTE FUNCTION stamp()",
    "CREATE SEQUENCE s INCREMENT 5",
    "ALTER TABLE note ENABLE ROW LEVEL SECURITY", "CREATE POLICY mine ON note USING (true)",
    "GRANT SELECT ON shop.customer TO app", "GRANT USAGE ON SCHEMA shop TO app", "ALTER TABLE note OWNER TO app",
    "INSERT INTO shop.customer (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')", "INSERT INTO note (body) VALUES ('x')",
    "INSERT INTO country VALUES ('de', 'Germany')",
    # What was there for a while leaves nothing behind.
    "CREATE TABLE gone (id int) SHARD BY (id)", "DROP TABLE gone", "CREATE TABLE gone (id int)", "DROP TABLE gone",
    "BEGIN; CREATE TABLE gone (id int) SHARD BY (id); DROP TABLE gone; COMMIT",
    "CREATE SCHEMA short", "CREATE TABLE short.t (id int) SHARD BY (id)",
    "CREATE TABLE short.r (id int) WITH (table_type = 'reference')", "DROP SCHEMA short CASCADE",
]


@pytest.fixture(scope="module")
def servers():
    made = [PostgresServer(f"fsck-g{number}").start() for number in (1, 2)]
    yield made
    for server in made:
        server.stop()


@pytest.fixture(scope="module")
def router(servers):
    made = Router(servers, name="fsck-router").start()
    made.endpoint.run(*SCHEMA)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def sites(servers):
    """The databases behind the router."""
    home, second = [server.endpoint for server in servers]
    return {"home": home, "g1": home.change(database="pgmosaic_shards_postgres"), "g2": second}


def run(*arguments):
    done = subprocess.run([program(), "fsck", *arguments], capture_output=True, text=True, timeout=60 * PATIENCE)
    return done.returncode, done.stdout, done.stderr


def found(router):
    return fsck.differences(router.endpoint)


def leaf(sites, group, table):
    """A leaf that the group has, as an SQL name."""
    return sites[group].run("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = "
                            f"'{table}'::regclass ORDER BY 1 LIMIT 1")[0][0]


def test_a_sound_cluster(router):
    assert found(router) == []
    assert run(router.endpoint.url()) == (0, "", "")


# What is done to a group, how it is undone, and (object, difference) of what FSCK then says of that group.
DAMAGE = [
    ("CREATE TABLE mine (id int)", "DROP TABLE mine", [("table public.mine", "is not on the home")]),
    ("ALTER TABLE bare RENAME TO naked", "ALTER TABLE naked RENAME TO bare",
     [("table public.bare", "is missing"), ("table public.naked", "is not on the home")]),
    ("ALTER TABLE country ADD extra int", "ALTER TABLE country DROP extra",
     [("column public.country.extra", "is not on the home")]),
    ("ALTER TABLE country ALTER name TYPE varchar(20)", "ALTER TABLE country ALTER name TYPE text",
     [("column public.country.name", "type is character varying(20), on the home text")]),
    ("ALTER TABLE country ALTER name SET NOT NULL", "ALTER TABLE country ALTER name DROP NOT NULL",
     [("column public.country.name", "not null is yes, on the home none")]),
    ("ALTER TABLE country ALTER name SET DEFAULT 'x'", "ALTER TABLE country ALTER name DROP DEFAULT",
     [("column public.country.name", "default is 'x'::text, on the home none")]),
    ("ALTER TABLE country ALTER name TYPE text COLLATE \"C\"", "ALTER TABLE country ALTER name TYPE text",
     [("column public.country.name", "collation is \"C\", on the home none")]),
    ("ALTER TABLE shop.customer DROP CONSTRAINT customer_pkey", "ALTER TABLE shop.customer ADD PRIMARY KEY (id)",
     [("constraint customer_pkey on shop.customer", "is missing")]),
    ("ALTER TABLE country ADD CHECK (name <> '')", "ALTER TABLE country DROP CONSTRAINT country_name_check",
     [("constraint country_name_check on public.country", "is not on the home")]),
    ("DROP INDEX shop.by_name", "CREATE INDEX by_name ON shop.customer (lower(name)) WHERE id > 0",
     [("index shop.by_name", "is missing")]),
    ("DROP INDEX shop.by_name; CREATE INDEX by_name ON ONLY shop.customer (lower(name)) WHERE id > 0",
     "DROP INDEX shop.by_name; CREATE INDEX by_name ON shop.customer (lower(name)) WHERE id > 0",
     [("index shop.by_name", "validity is invalid, on the home none")]),
    ("CREATE OR REPLACE VIEW notes AS SELECT id, 'y' || body AS body FROM note",
     "CREATE OR REPLACE VIEW notes AS SELECT id, body FROM note", [("view public.notes", "definition differs from the home's")]),
    ("CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 3 * n'",
     "CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n'",
     [("function public.twice(n integer)", "definition differs from the home's")]),
    ("ALTER TYPE shop.mood RENAME VALUE 'sad' TO 'bad'", "ALTER TYPE shop.mood RENAME VALUE 'bad' TO 'sad'",
     [("type shop.mood", "labels is 'bad', 'ok', on the home 'sad', 'ok'")]),
    ("ALTER DOMAIN shop.price DROP CONSTRAINT price_check", "ALTER DOMAIN shop.price ADD CHECK (VALUE >= 0)",
     [("constraint price_check on shop.price", "is missing")]),
    ("DROP TRIGGER stamped ON country",
     "CREATE TRIGGER stamped BEFORE INSERT ON country FOR EACH ROW EXECUTE FUNCTION stamp()",
     [("trigger stamped on public.country", "is missing")]),
    ("ALTER TABLE country DISABLE TRIGGER stamped", "ALTER TABLE country ENABLE TRIGGER stamped",
     [("trigger stamped on public.country", "state is disabled, on the home none")]),
    ("ALTER SEQUENCE s CYCLE", "ALTER SEQUENCE s NO CYCLE",
     [("sequence public.s", "is not at its end: numbers could be given out twice")]),
    ("SELECT setval('s', 1)", "SELECT setval('s', 9223372036854775807)",
     [("sequence public.s", "is not at its end: numbers could be given out twice")]),
    ("ALTER TABLE country OWNER TO app", "ALTER TABLE country OWNER TO postgres",
     [("table public.country", "owner is app, on the home postgres"),
      ("table public.country", "privileges of app is DELETE, INSERT, REFERENCES, SELECT, TRIGGER, TRUNCATE, UPDATE, on the "
       "home none"), ("table public.country", None)]),
    ("GRANT UPDATE ON shop.customer TO app", "REVOKE UPDATE ON shop.customer FROM app",
     [("table shop.customer", "privileges of app is SELECT, UPDATE, on the home SELECT")]),
    ("GRANT UPDATE (name) ON country TO app", "REVOKE UPDATE (name) ON country FROM app",
     [("column public.country.name", "privileges of app is UPDATE, on the home none")]),
    ("REVOKE USAGE ON SCHEMA shop FROM app", "GRANT USAGE ON SCHEMA shop TO app",
     [("schema shop", "privileges of app is none, on the home USAGE")]),
    ("CREATE SCHEMA more", "DROP SCHEMA more", [("schema more", "is not on the home")]),
    ("ALTER POLICY mine ON note USING (false)", "ALTER POLICY mine ON note USING (true)",
     [("policy mine on public.note", "condition is false, on the home true")]),
    ("ALTER TABLE note DISABLE ROW LEVEL SECURITY", "ALTER TABLE note ENABLE ROW LEVEL SECURITY",
     [("table public.note", "row security is none, on the home on")]),
    ("CREATE STATISTICS st ON code, name FROM country", "DROP STATISTICS st",
     [("statistics object public.st", "is not on the home")]),
    ("ALTER TABLE visit DETACH PARTITION visit_26",
     "ALTER TABLE visit ATTACH PARTITION visit_26 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
     [("table public.visit_26", None), ("table public.visit_26", None)]),
    ("INSERT INTO note VALUES (1, 'x')", "DELETE FROM note", [("table public.note", "has rows here, which belong to another group")]),
    ("INSERT INTO visit VALUES ('2026-05-05')", "DELETE FROM visit",
     [("table public.visit_26", "has rows here, which belong to another group")]),
]


def rounds():
    """Damage that does not touch the same objects is done together."""
    current, touched = [], set()
    for damage in DAMAGE:
        objects = {each[0] for each in damage[2]}
        if objects & touched:
            yield current
            current, touched = [], set()
        current.append(damage)
        touched |= objects
    yield current


@pytest.mark.parametrize("group", ["g1", "g2"])
def test_what_is_done_to_a_group_is_named(router, sites, group):
    for damages in rounds():
        sites[group].run(*[damage for damage, _, _ in damages])
        said = found(router)
        sites[group].run(*[repair for _, repair, _ in reversed(damages)])
        expected = [each for _, _, differences in damages for each in differences]
        assert sorted(each[:2] for each in said) == sorted((group, each[0]) for each in expected), said
        assert {(group, *each) for each in expected if each[1]} <= set(said)
    assert found(router) == []


def test_leaves(router, sites):
    mine, other = leaf(sites, "g1", "shop.customer"), leaf(sites, "g2", "quick")
    bound = sites["g1"].run(f"SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = '{mine}'::regclass")[0][0]
    name, other_name = (f'shard pgmosaic_shards."{each.split(".")[1]}"' for each in (mine, other))
    damages = [
        ("g1", f"ALTER TABLE shop.customer DETACH PARTITION {mine}",
         f"ALTER TABLE shop.customer ATTACH PARTITION {mine} {bound}",
         [(name, "is a partition of none, must be of shop.customer")]),
        ("g2", f"CREATE TABLE {mine} PARTITION OF shop.customer {bound}", f"DROP TABLE {mine}",
         [(name, "belongs to g1, which has one, too")]),
        ("g1", f"ALTER TABLE {mine} RENAME TO other", f"ALTER TABLE pgmosaic_shards.other RENAME TO {mine.split('.')[1]}",
         [('shard pgmosaic_shards."other"', "is not in the catalog"), (name, "is missing")]),
        ("g1", f"ALTER TABLE {mine} OWNER TO app", f"ALTER TABLE {mine} OWNER TO postgres",
         [(name, "owner is app, that of its table postgres")]),
        ("g1", f"ALTER TABLE {mine} SET UNLOGGED", f"ALTER TABLE {mine} SET LOGGED",
         [(name, "is unlogged, its table is not")]),
        ("g2", f"ALTER TABLE quick DETACH PARTITION {other}; "
               f"ALTER TABLE quick ATTACH PARTITION {other} FOR VALUES WITH (modulus 4, remainder 3)",
         f"ALTER TABLE quick DETACH PARTITION {other}; "
         f"ALTER TABLE quick ATTACH PARTITION {other} FOR VALUES WITH (modulus 2, remainder 1)",
         [(other_name, "is FOR VALUES WITH (modulus 4, remainder 3), must be FOR VALUES WITH (modulus 2, remainder 1)")]),
    ]
    wrong = []
    for group, damage, repair, expected in damages:
        sites[group].run(damage)
        said = found(router)
        sites[group].run(repair)
        if sorted(said) != sorted((group, *each) for each in expected):
            wrong.append(f"{damage}: {said}")
    assert wrong == []
    assert found(router) == []


def test_rows_of_a_sharded_table_at_home(router, sites):
    sites["home"].run("INSERT INTO shop.customer (id, name) VALUES (9, 'nine')")
    assert found(router) == [("home", "table shop.customer", "is sharded, and has rows here")]
    sites["home"].run("DELETE FROM shop.customer")
    assert found(router) == []


def test_a_table_that_was_dropped_behind_the_router(router, sites):
    router.endpoint.run("CREATE TABLE lost (id int) SHARD BY (id) WITH (shard_count = 2)")
    sites["home"].run("DROP TABLE lost")
    said = found(router)
    assert [each[2] for each in said if each[0] == "catalog"] == ["the table is gone"]
    assert {each for each in said if each[1] == "table public.lost"} == {
        (group, "table public.lost", "is not on the home") for group in ("g1", "g2")}
    for group in ("g1", "g2"):
        sites[group].run("DROP TABLE lost")
    assert [each[0] for each in found(router)] == ["catalog"]
    router.endpoint.run("CREATE TABLE found (id int)", "DROP TABLE found")  # so the router looks at the schema
    assert found(router) == []


def test_the_command(router, sites):
    router.endpoint.run("CREATE DATABASE second")
    second = router.endpoint.change(database="second")
    sites["g2"].change(database="second").run("CREATE SCHEMA more")
    line = "second\tg2\tschema more\tis not on the home\n"
    assert run(second.url()) == (1, line, "")
    assert run(router.endpoint.url().removesuffix("/postgres")) == (1, line, "")
    assert run(router.endpoint.url()) == (0, "", "")
    code, out, said = run(router.endpoint.change(database="nowhere").url())
    assert (code, out) == (2, "") and 'database "nowhere" does not exist' in said
    assert run(router.endpoint.change(password="wrong").url())[0] == 2
    for wrong in (["--what"], ["mysql://x"], [router.endpoint.url(), "more"], [router.endpoint.url() + "?a=b"]):
        code, out, said = run(*wrong)
        assert (code, out) == (2, "") and "hint" in said, wrong
    assert run("--help")[0] == 0 and "Exit status" in run("--help")[1]


def test_in_both_protocols(router, sites):
    sites["g1"].run("CREATE SCHEMA more")
    session = Session(router.endpoint.change(database="pgmosaic"))
    for answers in (session.simple("FSCK postgres"), session.extended("FSCK postgres")):
        assert answers[0].rows == [(b"postgres", b"g1", b"schema more", b"is not on the home")]
        assert answers[0].names == ("database", "group", "object", "difference") and answers[0].tag == "FSCK"
    assert session.simple("FSCK nowhere")[0].sqlstate == "3D000"
    session.close()
    sites["g1"].run("DROP SCHEMA more")
    assert found(router) == []


def test_only_for_superusers(router, servers):
    router.endpoint.run(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        fsck.differences(router.endpoint.change(user="plain"))


def test_a_group_that_does_not_answer(make_server, make_router):
    group = make_server("fsck-lost")
    router = make_router([make_server("fsck-kept"), group])
    assert found(router) == []
    group.stop()
    code, out, said = run(router.endpoint.url())
    assert (code, out) == (2, "") and "g2" in said


def test_schema_changes_meanwhile_are_no_differences(router):
    with router.endpoint.connect() as connection:
        connection.execute("SELECT 1")
        for number in range(6):
            connection.execute(f"CREATE TABLE passing_{number} (id int PRIMARY KEY) SHARD BY (id) WITH (shard_count = 4)")
            connection.execute("BEGIN; CREATE SCHEMA passing; CREATE TABLE passing.t (id int) SHARD BY (id)")
            assert found(router) == []
            connection.execute(f"ROLLBACK; DROP TABLE passing_{number}")
    assert found(router) == []
