"""Rows by primary key are read from their leaf by prepared statements; nobody can tell from the answers."""
import threading

import pytest

from harness.pair import databases
from harness.processes import wait_until
from harness.raw import SYNC, RawClient, bind, describe, execute, parse, query
from harness.wire import Session

TABLE = "CREATE TABLE item (id int PRIMARY KEY, name text) SHARD BY (id)"
ROWS = "INSERT INTO item VALUES " + ", ".join(f"({i}, 'item {i}')" for i in range(1, 41))


@pytest.fixture
def endpoint(router):
    with databases("points", router) as made:
        made[0].run(TABLE, ROWS)
        yield made[0]




def leaf_statements(servers):
    return sum(server.endpoint.run("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%FROM pgmosaic_shards.%' "
                                   "AND pid <> pg_backend_pid()")[0][0] for server in servers)


@pytest.mark.parametrize("wanted", [True, False])
def test_leaves_are_read_where_configured(make_server, make_router, wanted):
    servers = [make_server(f"g{number}") for number in (1, 2)]
    router = make_router(servers, settings={"pool": {"leaf_statements": wanted}})
    router.endpoint.run(TABLE, ROWS)
    session = Session(router.endpoint)
    for run in (lambda key: session.simple(f"SELECT name FROM item WHERE id = {key}"),
                lambda key: session.extended("SELECT name FROM item WHERE id = $1", [str(key)])):
        for key in range(1, 21):
            answer, = run(key)
            assert answer.rows == [(f"item {key}".encode(),)]
        assert (leaf_statements(servers) > 0) == wanted
    session.close()


def test_a_backend_full_of_statements_still_answers(make_server, make_router):
    servers = [make_server("g1")]
    router = make_router(servers, settings={"pool": {"prepared_statements": 3}})
    router.endpoint.run(TABLE, ROWS)
    session = Session(router.endpoint)
    for turn in range(200):
        key = turn % 40 + 1
        answer, = session.simple(f"SELECT name AS c{turn % 5} FROM item WHERE id = {key}")
        assert answer.rows == [(f"item {key}".encode(),)] and answer.names == (f"c{turn % 5}",)
    session.close()


def test_a_table_that_changes_meanwhile(endpoint):
    """Columns come and go under readers of two protocols: no read fails, none shows other columns than some version."""
    over = threading.Event()
    problems, reads = [], []

    def read(extended):
        session = Session(endpoint)
        count = 0
        while not over.is_set():
            key = count % 40 + 1
            answer, = (session.extended("SELECT * FROM item WHERE id = $1", [str(key)]) if extended else
                       session.simple(f"SELECT * FROM item WHERE id = {key}"))
            names, values = answer.names, answer.rows[0] if answer.rows else None
            expected = (str(key).encode(), f"item {key}".encode())
            if answer.sqlstate or names not in (("id", "name"), ("id", "name", "extra")) or \
                    values not in (expected, (*expected, b"5")) or len(names) != len(values):
                problems.append(answer)
                break
            count += 1
        reads.append(count)
        session.close()

    threads = [threading.Thread(target=read, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        endpoint.run("ALTER TABLE item ADD COLUMN extra int DEFAULT 5")
        endpoint.run("ALTER TABLE item DROP COLUMN extra")
    over.set()
    for thread in threads:
        thread.join(timeout=60)
    assert problems == []
    assert min(reads) > 10


def test_keys_that_the_router_cannot_hash(make_server, make_router):
    """One group holds all shards, so the group is certain and the leaf is not."""
    router = make_router([make_server("g1")])
    router.endpoint.run("CREATE TABLE word (k text PRIMARY KEY, v int) SHARD BY (k)",
                        "INSERT INTO word VALUES ('é', 1), ('ü', 2), ('ö', 3)",
                        "CREATE TABLE day (d date PRIMARY KEY, v int) SHARD BY (d)",
                        "INSERT INTO day VALUES ('today', 1)")
    session = Session(router.endpoint)
    session.simple("SET client_encoding = 'LATIN1'")
    for _ in range(3):
        for number, letter in enumerate("éüö", 1):
            answer, = session.extended("SELECT v FROM word WHERE k = $1", [letter.encode("latin1")])
            assert answer.rows == [(str(number).encode(),)]
        answer, = session.extended("SELECT v FROM day WHERE d = $1", ["today"])
        assert answer.rows == [(b"1",)]
    session.close()


def test_nobody_reads_more_than_by_the_tables_name(endpoint):
    endpoint.run("DROP ROLE IF EXISTS point_reader", "CREATE ROLE point_reader LOGIN PASSWORD 'reads'",
                 "CREATE SCHEMA closed", "CREATE TABLE closed.item (id int PRIMARY KEY, name text) SHARD BY (id)",
                 "INSERT INTO closed.item VALUES (1, 'one'), (2, 'two')",
                 "GRANT SELECT ON closed.item, item TO point_reader")
    leaf = "pgmosaic_shards.item_" + str(endpoint.run("SELECT 'item'::regclass::oid::int8")[0][0]) + "_0"
    session = Session(endpoint, user="point_reader", password="reads")
    try:
        for sql in ["SELECT name FROM closed.item WHERE id = 1"] * 3 + [f"SELECT count(*) FROM {leaf}"]:
            answer, = session.simple(sql)
            assert answer.sqlstate == ("42P01" if leaf in sql else "42501"), sql
        for _ in range(3):
            answer, = session.simple("SELECT name FROM item WHERE id = 1")
            assert answer.rows == [(b"item 1",)]
    finally:
        session.close()
        endpoint.run("DROP TABLE closed.item", "DROP SCHEMA closed", "REVOKE ALL ON item FROM point_reader",
                     "DROP ROLE point_reader")


def test_an_owner_without_the_right_to_read(endpoint):
    endpoint.run("DROP ROLE IF EXISTS point_owner", "CREATE ROLE point_owner LOGIN PASSWORD 'owns'",
                 "ALTER TABLE item OWNER TO point_owner")
    session = Session(endpoint, user="point_owner", password="owns")
    try:
        for _ in range(3):
            assert session.simple("SELECT name FROM item WHERE id = 1")[0].rows == [(b"item 1",)]
        endpoint.run("REVOKE SELECT ON item FROM point_owner")
        for _ in range(3):
            assert session.simple("SELECT name FROM item WHERE id = 1")[0].sqlstate == "42501"
    finally:
        session.close()
        endpoint.run("DROP TABLE item", "DROP ROLE point_owner")


@pytest.mark.parametrize("change", ["ALTER TABLE item ADD COLUMN more int", "DROP TABLE item; " + TABLE,
                                    "DROP TABLE item"])
@pytest.mark.parametrize("setting", [b"", b"SET statement_timeout = '1h'"])
def test_a_read_that_waits_for_a_change(endpoint, change, setting):
    """By the table's name, and each message once."""
    batch = parse("SELECT * FROM item WHERE id = $1") + bind(["5"]) + describe("P") + execute() + SYNC
    reader, other = RawClient(endpoint), RawClient(endpoint)
    for client in (reader, other):
        client.login()
        for _ in range(3):
            client.ask(batch)
    if setting:
        reader.ask(query(setting.decode()))
    with endpoint.connect() as changer:
        with changer.transaction():
            for statement in change.split("; "):
                changer.execute(statement)
            reader.send(batch)
            wait_until(lambda: waits_for_lock(endpoint), "the read to wait")
        kinds = "".join(kind for kind, _ in reader.read_until("Z") if kind not in "SN")
    if change == "DROP TABLE item":
        assert kinds in ("1EZ", "EZ")
    else:
        assert kinds in ("12TDCZ", "12TCZ")
    for client in (reader, other):
        client.close()


def waits_for_lock(endpoint):
    return endpoint.run("SELECT count(*) FROM pgmosaic.activity WHERE wait_event_type = 'Lock'") != [(0,)]


def test_few_backends_under_changes(make_server, make_router):
    """Who waits for a backend and finds the catalog changed must not hold one and wait for another."""
    router = make_router([make_server("g1"), make_server("g2")], settings={"pool": {"size_per_group": 2}})
    router.endpoint.run(TABLE, ROWS)
    over = threading.Event()
    problems = []

    def read(number):
        session = Session(router.endpoint)
        while not over.is_set() and not problems:
            answer, = session.simple(f"SELECT id FROM item WHERE id = {number}")
            if answer.rows != [(str(number).encode(),)]:
                problems.append(answer)
        session.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for number in range(6):
        router.endpoint.run(f"ALTER TABLE item ADD COLUMN c{number} int")
    over.set()
    for thread in threads:
        thread.join(timeout=60)
    assert problems == []
